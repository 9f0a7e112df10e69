"""`ids`: who is who in the results of a run, put right by hand, without running the network.

    python run_stream.py ids list out/
    python run_stream.py ids merge out/ 2 5        person 5 was person 2 all the time
    python run_stream.py ids split out/ 2 12.5     from 12.5 seconds on, person 2 is someone else
    python run_stream.py ids rename out/ 2 anna
    python run_stream.py ids delete out/ 4 7
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from configs.console import Console
from configs.schema import ConfigError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; python run_stream.py ids --help lists the options")


def main(words: Sequence[str], console: Console) -> int:
    """Run the command and return its exit code."""
    said = _parser().parse_args(list(words))
    from stream import identities

    try:
        if said.action == "merge":
            identities.merge(said.out, said.into, said.others)
        elif said.action == "split":
            new = identities.split(said.out, said.person, said.seconds)
            console.note(f"from {said.seconds:g} s on, person {said.person} is person {new}")
        elif said.action == "rename":
            identities.rename(said.out, {said.person: said.name})
        elif said.action == "delete":
            identities.delete(said.out, said.people)
        people = identities.listed(said.out)
    except identities.IdentityError as error:
        raise ConfigError(str(error)) from None
    if said.json:
        print(json.dumps({"event": "people", "people": [person.__dict__ for person in people]}))
        return 0
    out = sys.stdout if said.action == "list" else sys.stderr
    if said.action == "list" or not said.quiet:
        for person in people:
            name = identities.title(person.id, person.name)
            print(
                f"{person.id:4}  {name:20} {person.frames:6} frames, "
                f"{person.first_seconds:.2f} s to {person.last_seconds:.2f} s",
                file=out,
            )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run_stream.py ids",
        description="Who is who in the results of a run: look, and put right.",
        epilog=(
            "Only people.json and alpha.mkv are rewritten; mattes stay the same to the bit. The "
            "composite and other deliverables stay as they are: make them again with `finalize`."
        ),
        allow_abbrev=False,
    )
    for option, text in (
        ("--json", "the people as one JSON object on stdout"),
        ("--quiet", "say nothing on stderr but errors"),
        ("--debug", "show the traceback of an error"),
    ):
        parser.add_argument(option, action="store_true", help=text)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.add_argument("out", type=Path, metavar="OUT", help="the folder of the run")
        for option in ("--json", "--quiet", "--debug"):  # welcome behind the action as well
            made.add_argument(option, action="store_true", default=argparse.SUPPRESS,
                              help=argparse.SUPPRESS)  # fmt: skip
        return made

    action("list", "everyone: number, name, and when they are there")
    one = action("merge", "several numbers were one person")
    one.add_argument("into", type=int, metavar="ID", help="the number that stays")
    one.add_argument("others", type=int, nargs="+", metavar="OTHER", help="numbers that become it")
    one = action("split", "from a moment on, a number is someone else")
    one.add_argument("person", type=int, metavar="ID")
    one.add_argument("seconds", type=float, metavar="SECONDS", help="the first moment of the other")
    one = action("rename", "give someone a name, in tracks, files and manifests")
    one.add_argument("person", type=int, metavar="ID")
    one.add_argument("name", metavar="NAME", help='"" takes a name away')
    one = action("delete", "take people out of the results")
    one.add_argument("people", type=int, nargs="+", metavar="ID")
    return parser
