"""`finalize`: make deliverables of a run without running the network again.

    python run_stream.py finalize out/

A run that died is first turned into the results it would have left, as far as it got.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from configs.console import Console
from configs.schema import ConfigError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; python run_stream.py finalize --help lists the options")


def main(words: Sequence[str], console: Console) -> int:
    """Run the command and return its exit code."""
    said = _parser().parse_args(list(words))
    from stream.decode import InputError
    from stream.encode import recover, unfinished

    left = unfinished(said.out)
    if left is None:
        if not (said.out / "people.json").exists():
            raise InputError(f"{said.out} holds neither results nor an unfinished run")
        console.note(f"{said.out} is finished already")
        return 0
    source = said.source or (said.out / left.head["input"]["path"])
    heard = str(source) if source.exists() else None
    if heard is None:
        console.warning(f"{source} is not there: the composite is without sound; name it: --source")
    report = recover(said.out, heard)
    console.note(f"{report.frames} frames of {len(report.people)} people recovered")
    for path in report.paths:
        console.note(f"  {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run_stream.py finalize",
        description="Make deliverables of a run without running the network again.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="the folder of the run")
    add("--source", type=Path, metavar="FILE", help="the input, where it is not where it was")
    add("--json", action="store_true", help="events as one JSON object per line on stdout")
    add("--quiet", action="store_true", help="say nothing on stderr but errors")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser
