"""`finalize`: make deliverables of a run without running the network again.

    python run_stream.py finalize out/ --preset nle --preset cryptomatte

A run that died is first turned into the results it would have left, as far as it got.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from configs.console import Console
from configs.schema import ConfigError

if TYPE_CHECKING:
    from stream.finalize import Wishes

TEXT = """\
presets:
  nle          ProRes 4444 with alpha, a MOV per person      (Resolve, Premiere, Final Cut, AE)
  matte        luma matte, an MP4 per person                 (track mattes, anywhere)
  comp         the composite with sound, in any look         (to watch)
  disco        mattes of three people in R, G and B          (Resolve)
  web          VP9 with alpha, per person and together       (browsers, OBS)
  archive      the source and lossless mattes in one MKV     (to keep)
  png          RGBA pictures, a folder per person            (anything)
  exr          a layer per person, linear                    (Nuke, Fusion, Blender; needs OpenEXR)
  cryptomatte  everyone's matte by name, exact               (the same; needs OpenEXR)

examples:
  python run_stream.py finalize out/                          what a crash left behind
  python run_stream.py finalize out/ --preset nle --people 1,3 --name 1=Anna
  python run_stream.py finalize out/ --preset comp --background beach.jpg --person 2=remove
  python run_stream.py finalize out/ --preset png --start 12.5 --end 900f

names are made of {source} {preset} {person} {id} {codec} {start} {end} {date}
docs/outputs.md says, program by program, which preset to take and how to import it
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; python run_stream.py finalize --help lists the options")


def main(words: Sequence[str], console: Console) -> int:
    """Run the command and return its exit code."""
    said = _parser().parse_args(list(words))
    from stream.decode import InputError
    from stream.encode import composes, recover, unfinished
    from stream.register import read, read_document

    left = unfinished(said.out)
    if left is not None:
        source = said.source or (said.out / left.head["input"]["path"])
        if composes(left) and not source.exists():
            console.warning(
                f"{source} is not there: the composite is without sound; --source names the input"
            )
        report = recover(said.out, str(source) if source.exists() else None)
        console.note(f"{report.frames} frames of {len(report.people)} people recovered")
        for path in report.paths:
            console.note(f"  {path}")
    if not said.preset:
        if left is None and not (said.out / "people.json").exists():
            raise InputError(f"{said.out} holds neither results nor an unfinished run")
        if left is None:
            if read_document(said.out)["kind"] == "video":
                read(said.out, "")
            console.note(f"{said.out} is finished; --preset makes more of it")
        return 0
    return _deliver(said, console)


def _deliver(said: argparse.Namespace, console: Console) -> int:
    from stream.finalize import WishError, deliver

    try:
        wishes = _wishes(said)
        console.note(f"{said.out}: {', '.join(wishes.presets)}")
        made = deliver(
            said.out, wishes, source=str(said.source) if said.source else None,
            progress=console.progress,
        )  # fmt: skip
    except WishError as error:
        raise ConfigError(str(error)) from None
    for note in made.notes:
        console.note(f"note: {note}")
    console.done(made.frames, made.people, [str(path) for path in made.paths], damaged=False)
    return 0


def _wishes(said: argparse.Namespace) -> Wishes:
    from stream.finalize import DEFAULT_NAME, Wishes

    return Wishes(
        presets=tuple(dict.fromkeys(name for word in said.preset for name in word.split(","))),
        people=tuple(_number(word, "--people") for word in (said.people or "").split(",") if word),
        names=dict(_pair(word, "--name") for word in said.name),
        template=said.template or DEFAULT_NAME,
        codec=said.codec,
        alpha_mode=said.alpha_mode,
        blend=said.blend,
        background=said.background,
        treatments=dict(_pair(word, "--person") for word in said.person),
        start=said.start,
        end=said.end,
        cfr=_rate(said.cfr),
        overwrite=said.overwrite,
    )


def _number(word: str, option: str) -> int:
    if not word.strip().isdecimal() or int(word) < 1:
        raise ConfigError(f"{option}: a person's number is expected, got {word!r}")
    return int(word)


def _pair(word: str, option: str) -> tuple[int, str]:
    number, equals, text = word.partition("=")
    if not equals or not text.strip():
        raise ConfigError(f"{option} {word}: expected NUMBER=TEXT, such as 2=Anna")
    return _number(number, option), text.strip()


def _rate(word: str | None) -> Fraction | None:
    if word is None:
        return None
    try:
        return Fraction(word)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"--cfr: a frame rate such as 25 or 30000/1001, got {word!r}") from None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run_stream.py finalize",
        description="Make deliverables of a run without running the network again.",
        epilog=TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="the folder of the run")
    add("--preset", action="append", default=[], metavar="NAME", help="may be repeated")
    add("--source", type=Path, metavar="FILE", help="the input, where it is not where it was")
    add("--people", metavar="ID[,ID]", help="only these people; default: everyone")
    add("--name", action="append", default=[], metavar="ID=NAME", help="what a person is called")
    add("--template", metavar="PATH", help="names of files, default {preset}/{source}_{person}")
    add("--start", metavar="WHEN", help="first frame: seconds, h:mm:ss.s, or a number such as 300f")
    add("--end", metavar="WHEN", help="last frame, included")
    add("--cfr", metavar="RATE", help="constant frames per second, such as 25 or 30000/1001")
    add("--codec", metavar="NAME", help="another codec of the preset, such as png for disco")
    add("--alpha-mode", choices=("straight", "premultiplied"), help="of colours beside alpha")
    add("--blend", choices=("display", "linear"), default="display", help="how comp mixes")
    add("--background", default="marks", metavar="BACKGROUND", help="of comp, as for a run")
    add("--person", action="append", default=[], metavar="ID=TREATMENT", help="of comp, likewise")
    add("--overwrite", action="store_true", help="replace files of the same name")
    add("--json", action="store_true", help="events as one JSON object per line on stdout")
    add("--quiet", action="store_true", help="say nothing on stderr but errors")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser
