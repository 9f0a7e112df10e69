"""The command line: arguments in, inputs, settings and wishes out.

Only the standard library and PyYAML are imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from configs.schema import ConfigError, Settings, load

EXAMPLES = """\
examples:
  python run_stream.py clip.mp4 -o out/
  python run_stream.py clip.mp4 -o out/ --background beach.jpg --person 2=blur --person 3=remove
  python run_stream.py photos/ portrait.jpg -o out/ --background "#00b140"
  python run_stream.py clip.mp4 -o out/ --enroll anna=anna.jpg --enroll bert=12.5@640,360
  python run_stream.py clip.mp4 -o out/ --set tracking.memory_seconds=4

what is written:
  one input goes straight into OUT; several go into OUT/<name of the input>/
  video     alpha.mkv (one lossless gray track per person), composite.mp4, people.json
  pictures  <name of the picture>/person_0001.png, ..., composite.png, and one people.json
  with --tracks-only nothing is composed, and there is no composite

BACKGROUND  marks (who is who), keep, blur, a colour ("#00b140", green), or a picture or video file
TREATMENT   keep, remove, blur (the person), or a colour or file to stand behind this person

commands:
  doctor         what this machine can do, and what is missing
  finalize OUT   deliverables of a run, or the results of one that died, without the network
  ids ACTION OUT list, merge, split, rename or delete the people of a finished run
  live           a camera, stream or screen in; a page, OBS, meetings or a stream out

exit codes:
  0 done   1 our mistake   2 usage or settings   3 input   4 finished with damage
  5 output   6 engine   130 interrupted (Ctrl-C)   143 terminated
"""


@dataclass(frozen=True)
class Request:
    """What one call of the program asks for."""

    inputs: tuple[str, ...]
    out: Path
    settings: Settings
    json: bool  # events as NDJSON on stdout
    quiet: bool  # nothing but errors on stderr
    log_format: str  # "text" or "json": the lines on stderr
    metrics: int | None  # the port on this machine where figures can be asked for
    debug: bool  # a traceback with an error
    engines: bool  # say what this machine can run, and stop

    @property
    def places(self) -> list[tuple[str, Path]]:
        """Each input and where its results go: one straight into OUT, several into OUT/<stem>."""
        if len(self.inputs) == 1:
            return [(self.inputs[0], self.out)]
        places: list[tuple[str, Path]] = []
        for uri in self.inputs:
            stem = Path(uri).resolve().stem or "input"
            taken = {out.name.casefold() for _, out in places}  # a disk may not tell A from a
            name, again = stem, 2
            while name.casefold() in taken:
                name, again = f"{stem}_{again}", again + 1
            places.append((uri, self.out / name))
        return places


class _Parser(argparse.ArgumentParser):
    """argparse that reports a wrong call like every other mistake: one sentence, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; python run_stream.py --help lists the options")


def parse(argv: Sequence[str] | None = None) -> Request:
    """The request of a command line.  Raises ConfigError where it does not make sense."""
    words = list(sys.argv[1:] if argv is None else argv)
    plain = words[words.index("--") + 1 :] if "--" in words else []  # all inputs
    said = _parser().parse_intermixed_args(words[: len(words) - len(plain)])
    said.inputs = [word for word in said.inputs if word != "--"] + plain
    if not said.engines:
        if not said.inputs:
            raise ConfigError(
                "nothing to do: name a video, a picture or a folder of pictures, such as\n"
                "  python run_stream.py clip.mp4 -o out/"
            )
        if said.out is None:
            raise ConfigError("where should the results go? name a folder with -o, such as -o out/")
    settings = load(said.config, said.set, _options(said))
    output = settings.output
    composed = output.composite or "comp" in output.presets
    if not composed and (said.person or said.background is not None):
        raise ConfigError(
            "--background and --person say how the composite looks, and none is made: ask for "
            "--preset comp as well, or give them to finalize OUT --preset comp later"
        )
    return Request(
        inputs=tuple(said.inputs),
        out=said.out or Path(),
        settings=settings,
        json=said.json,
        quiet=said.quiet,
        log_format=said.log_format,
        metrics=said.metrics,
        debug=said.debug,
        engines=said.engines,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run_stream.py",
        description="People in video, each with an alpha track of their own.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a later option must not change what a short form means today
    )
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="a video, a picture, or a folder of pictures")
    add("-o", "--out", type=Path, metavar="OUT", help="folder for the results; made if missing")
    add("--config", type=Path, metavar="YAML", help="settings file; presets lie in configs/")
    add("--set", action="append", default=[], metavar="KEY=VALUE",
        help="one setting by its path, such as engine.threads=2; may be repeated")  # fmt: skip
    add("--background", metavar="BACKGROUND", help="what is behind everyone in the composite")
    add("--person", action="append", default=[], metavar="ID=TREATMENT",
        help="what happens to one person, such as 2=blur; may be repeated")  # fmt: skip
    add("--enroll", action="append", default=[], metavar="NAME=PICTURE",
        help="someone's name: a picture, or SECONDS@X,Y of the input; may be repeated")  # fmt: skip
    add("--max-people", metavar="N", help="how many people there are, where that is known")
    add("--roster", metavar="JSON", help="file of names, read and written: who was enrolled before")
    add("--engine", metavar="NAME[,NAME]", help="what runs the network, in order of preference")
    add("--weights", metavar="PATH", help="trained weights to use instead of the shipped ones")
    add("--threads", metavar="N", help="CPU threads of the network; default: all cores")
    add("--start", metavar="WHEN", help="first frame: seconds, h:mm:ss.s, or a number such as 300f")
    add("--end", metavar="WHEN", help="last frame, included")
    add("--video-stream", metavar="N",
        help="which video, in a file with several: its stream's number")  # fmt: skip
    add("--tracks-only", action="store_true",
        help="make no composite: sooner done, and finalize --preset comp makes it later")
    add("--preset", action="append", default=[], metavar="NAME",
        help="also make this deliverable, such as nle: see finalize --help")  # fmt: skip
    add("--workers", metavar="N", help="matte parts of the videos in N processes at once")
    add("--cluster", metavar="ADDRESS", help="the same on a Ray cluster: local, or ray://host:port")
    add("--overwrite", action="store_true", help="replace the results of an earlier run in OUT")
    add("--resume", action="store_true",
        help="go on with a run that was broken off in OUT; what is done stays")  # fmt: skip
    add("--json", action="store_true", help="events as one JSON object per line on stdout")
    add("--log-format", choices=("text", "json"), default="text",
        help="how lines on stderr look; json: one object per line with time and level")  # fmt: skip
    add("--metrics", type=int, metavar="PORT",
        help="figures for Prometheus at http://127.0.0.1:PORT/metrics while running")  # fmt: skip
    add("--quiet", action="store_true", help="say nothing on stderr but errors")
    add("--debug", action="store_true", help="show the traceback of an error")
    add("--engines", action="store_true", help="list the engines of this machine, and stop")
    return parser


def _options(said: argparse.Namespace) -> dict[str, Any]:
    """The options that are settings, in the shape of the YAML; only those that were given."""
    options = engine_and_look(said)
    wishes = {"overwrite": said.overwrite, "resume": said.resume}
    output: dict[str, Any] = {name: True for name, wished in wishes.items() if wished}
    if said.preset:
        output["presets"] = [name for word in said.preset for name in word.split(",") if name]
    if said.tracks_only:
        output["composite"] = False
    part: dict[str, Any] = {
        name: text for name, text in (("start", said.start), ("end", said.end)) if text
    }
    if said.video_stream is not None:
        if not said.video_stream.isdecimal():
            raise ConfigError(
                f"--video-stream is the number of a stream, got {said.video_stream!r}"
            )
        part["video_stream"] = int(said.video_stream)
    cluster: dict[str, Any] = {}
    if said.workers is not None:
        if not said.workers.isdecimal():
            raise ConfigError(f"--workers should be a whole number, got {said.workers!r}")
        cluster["workers"] = int(said.workers)
    if said.cluster is not None:
        cluster["address"] = said.cluster
    if cluster:
        options["cluster"] = cluster
    if said.max_people is not None:
        if not said.max_people.isdecimal() or int(said.max_people) < 1:
            raise ConfigError(f"--max-people should be a number from 1, got {said.max_people!r}")
        options["tracking"] = {"max_people": int(said.max_people)}
    return options | {"output": output, "input": part}


def engine_and_look(said: argparse.Namespace) -> dict[str, Any]:
    """The same for what every command that mattes has: --engine, --background and their like."""
    engine: dict[str, Any] = {}
    look: dict[str, Any] = {}
    if said.engine is not None:
        engine["backends"] = [name.strip() for name in said.engine.split(",") if name.strip()]
        if not engine["backends"]:
            raise ConfigError("--engine should name an engine, such as --engine onnxruntime")
    if said.weights is not None:
        engine["weights"] = said.weights
    if said.threads is not None:
        if not said.threads.isdecimal():
            raise ConfigError(f"--threads should be a whole number, got {said.threads!r}")
        engine["threads"] = int(said.threads)
    if said.background is not None:
        look["background"] = _treatment(said.background, "--background")
    if said.person:
        look["people"] = dict(_person(text) for text in said.person)
    people: dict[str, Any] = {}
    if said.enroll:
        people["enroll"] = dict(_enrolled(text) for text in said.enroll)
    if said.roster is not None:
        people["roster"] = said.roster
    return {"engine": engine, "look": look, "people": people}


def _person(text: str) -> tuple[int, str]:
    number, equals, treatment = text.partition("=")
    if not equals or not number.strip().isdecimal() or int(number) < 1:
        raise ConfigError(
            f"--person {text}: expected ID=TREATMENT with the person's number, such as 2=blur"
        )
    return int(number), _treatment(treatment, f"--person {text}")


def _enrolled(text: str) -> tuple[str, str]:
    name, equals, how = text.partition("=")
    if not equals or not name.strip() or not how.strip():
        raise ConfigError(
            f"--enroll {text}: expected NAME=PICTURE, such as anna=anna.jpg, or NAME=SECONDS@X,Y"
        )
    return name.strip(), how.strip()


def _treatment(text: str, option: str) -> str:
    if not text.strip():
        raise ConfigError(
            f'{option}: no treatment given; say keep, remove, blur, a colour in quotes ("#00b140") '
            "or a file"
        )
    return text.strip()
