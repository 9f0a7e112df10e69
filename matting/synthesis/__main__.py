"""`python -m matting.synthesis humans …` renders people; see `--help`."""

import sys

if __name__ == "__main__":
    from matting.synthesis.humans.command import main

    sys.exit(main(sys.argv[1:]))
