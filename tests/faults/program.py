"""The program as users start it, but with the engine that finds squares: for tests of processes.

    python -m tests.faults.program ARGUMENTS

`SLOW` in the environment is how many seconds a step takes more, so that a test can come in between;
`GATE` is a file whose appearance it waits for before its tenth step.
"""

import os
import sys
import time
from pathlib import Path

import run_stream
from tests.fakes import SquaresEngine


class Paced(SquaresEngine):
    name = "squares"

    def step(self, rgb, state):
        time.sleep(float(os.environ.get("SLOW", "0")))
        gate = os.environ.get("GATE")
        while gate and state >= 10 and not Path(gate).exists():
            time.sleep(0.01)
        return super().step(rgb, state)


if __name__ == "__main__":
    sys.exit(run_stream.main(sys.argv[1:], load_engine=lambda *_, **__: Paced()))
