"""Deliverables of a finished run: the source and its mattes once more, into whatever is wanted.

    deliver(Path("out"), Wishes(presets=("nle", "cryptomatte")))

The network is not run.  Source frames and matte tracks are read side by side, matched by their
times, and every wanted file is written in the same pass.  Nothing appears under its name before it
is whole, nothing is replaced unless that is allowed, and `manifest.json` says what made each file.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from matting.frames import Frame, Mattes
from stream import register
from stream.colour import HDR_TRANSFERS, PQ, SDR
from stream.compose import Composer, Look
from stream.decode import InputError, Source, Span, open_container, open_source
from stream.encode import OutputError, add_sound, identity
from stream.foreground import Foreground
from stream.store import AlphaDecoder
from stream.timecode import fits, later
from stream.writers import (
    PREMULTIPLIED,
    STRAIGHT,
    Archive,
    Cryptomatte,
    ExrLayers,
    Film,
    Movie,
    PngPerson,
    Shot,
    Writer,
    disco,
    disco_exact,
    exr_package,
    luma_matte,
    prores_person,
    silent_composite,
    web_person,
)


class WishError(ValueError):
    """What is asked for makes no sense; the message says why and what would."""


@dataclass(frozen=True)
class Preset:
    """A kind of deliverable."""

    what: str
    ext: str  # of its file; "" for a folder of pictures
    each: bool  # one for every person
    codecs: tuple[str, ...]  # that can carry it, the first by default
    alpha_modes: tuple[str, ...] = ()  # likewise; empty where there is no colour beside alpha


PRESETS = {
    "nle": Preset("ProRes 4444 with alpha, per person", "mov", True, ("prores4444",),
                  (STRAIGHT, PREMULTIPLIED)),
    "matte": Preset("luma matte video, per person", "mp4", True, ("h264",)),
    "comp": Preset("the composite with sound", "mp4", False, ("h264",)),
    "disco": Preset("mattes of three people in R, G, B", "mov", False, ("prores4444", "png")),
    "web": Preset("VP9 with alpha, per person and together", "webm", True, ("vp9",), (STRAIGHT,)),
    "archive": Preset("source and FFV1 mattes in one file", "mkv", False, ("ffv1",)),
    "png": Preset("RGBA pictures, per person", "", True, ("png",), (STRAIGHT,)),
    "exr": Preset("EXR, the plate and a layer per person", "", False, ("half",),
                  (PREMULTIPLIED, STRAIGHT)),
    "cryptomatte": Preset("EXR with everyone's matte by name", "", False, ("float",)),
}  # fmt: skip

LIVE = "live:"  # how the input of a live recording begins (stream/sinks.py)
WITHOUT_PICTURES = ("matte", "disco", "cryptomatte")  # presets that are made of mattes alone
TOKENS = ("source", "preset", "person", "id", "codec", "start", "end", "date")
SUBSAMPLED = {"h264": "4:2:0", "vp9": "4:2:0", "prores422": "4:2:2"}
DEFAULT_NAME = "{preset}/{source}_{person}"


@dataclass(frozen=True)
class Wishes:
    """What to make of a run."""

    presets: tuple[str, ...]
    people: tuple[int, ...] = ()  # none: everyone
    names: Mapping[int, str] = field(default_factory=dict)  # id -> name in files and manifests
    template: str = DEFAULT_NAME  # of a file's path in the folder of the run, without its extension
    codec: str | None = None  # instead of the preset's own
    alpha_mode: str | None = None
    blend: str = "display"  # how the composite mixes: as displayed, or in linear light
    background: str = "marks"
    treatments: Mapping[int, str] = field(default_factory=dict)
    start: str | None = None
    end: str | None = None
    cfr: Fraction | None = None  # frames per second, where uneven times are not wanted
    overwrite: bool = False
    missing_only: bool = False  # what is there already stays, and only the rest is made

    def __post_init__(self) -> None:
        if not self.presets:
            raise WishError(f"name a preset: {', '.join(PRESETS)}")
        for name in self.presets:
            if name not in PRESETS:
                raise WishError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
            preset = PRESETS[name]
            if self.codec and self.codec not in preset.codecs:
                raise WishError(_unfit(name, self.codec, preset))
            if self.alpha_mode and preset.alpha_modes and (
                self.alpha_mode not in preset.alpha_modes
            ):  # fmt: skip
                raise WishError(
                    f"{name} is {preset.alpha_modes[0]}: programs that open it take it for that, "
                    f"and {self.alpha_mode} colours would show rims"
                )
        if "archive" in self.presets and (self.start or self.end or self.cfr):
            raise WishError(
                "archive holds the source as it is: a part of it, or other times, it cannot have"
            )
        unknown = set(re.findall(r"{(.*?)}", self.template)) - set(TOKENS)
        if unknown:
            raise WishError(
                f"the template has no token {{{min(unknown)}}}; there are "
                + ", ".join(f"{{{token}}}" for token in TOKENS)
            )
        if Path(self.template).is_absolute() or ".." in Path(self.template).parts:
            raise WishError(f"the template {self.template} leads out of the folder of the run")
        if self.cfr is not None and self.cfr <= 0:
            raise WishError(f"a frame rate is more than 0, got {self.cfr}")


def _unfit(name: str, codec: str, preset: Preset) -> str:
    if name == "disco" and codec in SUBSAMPLED:
        return (
            f"disco in {codec} would store colour as {SUBSAMPLED[codec]}: red and blue lose half "
            "of their detail, and two people of three their hair; use prores4444, or png without "
            "loss"
        )
    return f"{name} cannot be {codec}; it can be {' or '.join(preset.codecs)}"


@dataclass(frozen=True)
class Delivered:
    """What was made."""

    paths: list[Path]
    frames: int
    people: int
    notes: list[str]


def deliver(
    out: Path,
    wishes: Wishes,
    *,
    source: str | None = None,
    progress: Callable[[int], None] = lambda people: None,
) -> Delivered:
    """Make what is wished for from the results in `out`.

    `source` is the input where it is not where people.json says.  Raises InputError where it is
    missing or is another file, WishError where a wish cannot be met, OutputError where a file
    exists or cannot be written; then nothing of this call is left.
    """
    run = _Run.read(out)
    Span.of(wishes.start, wishes.end)
    with _opened(run, wishes, source) as opened:
        run.check(opened)
        uri = opened.uri
        job = _Job(run, opened, wishes, uri)
        if not job.missing:
            return Delivered([], len(run.pts), len(job.numbers), [])
        try:
            frames = job.run(progress)
        except BaseException:
            job.discard()
            raise
        return Delivered(job.finish(), frames, len(job.numbers), job.notes)


def _opened(run: _Run, wishes: Wishes, source: str | None) -> Source:
    """The input of the run; of a live recording, what stands in for the pictures of its camera."""
    told = run.document["input"]["path"]
    if source is None and told.startswith(LIVE):
        if seen := [name for name in wishes.presets if name not in WITHOUT_PICTURES]:
            raise InputError(
                f"{run.out} was recorded live and holds everyone's mattes and the composite, but "
                f"not the camera's pictures, which {' and '.join(seen)} would be made of; "
                f"{', '.join(WITHOUT_PICTURES)} can be made"
            )
        return _Unseen(run)
    uri = source or str(run.out / told)
    _same_input(uri, run.document)
    return open_source(uri, deep=True, video_stream=run.document.get("video_stream"))


def _same_input(uri: str, document: Mapping[str, Any]) -> None:
    known = document["input"]
    try:
        if not Path(uri).is_file():
            raise InputError(f"{uri} is not there: name the input of this run with --source")
        found = identity(uri, Path())
    except OSError as error:
        raise InputError(f"{uri} cannot be read ({error.strerror or error})") from None
    if any(known[key] != found[key] for key in ("bytes", "edges_sha256")):
        raise InputError(
            f"{uri} is not the file this run was made of ({found['bytes']} bytes, expected "
            f"{known['bytes']}, or other contents)"
        )


class _Run:
    """A finished run: people.json and alpha.mkv."""

    def __init__(self, out: Path, document: dict[str, Any]) -> None:
        self.out, self.document = out, document
        self.people = {person["id"]: person for person in document["people"]}
        self.time_base = Fraction(document["time_base"])
        self.rate = Fraction(document["rate"]) if document["rate"] else None
        self.trimmed = bool(document.get("trimmed"))
        height, width = document["size"]
        self.size = height, width
        self.pts = register.frame_times(out, document)

    @classmethod
    def read(cls, out: Path) -> _Run:
        document = register.read(out, "deliverables are made of videos")
        if "input" not in document:
            raise InputError(f"{out} is of an earlier version; run it again")
        return cls(out, document)

    def check(self, source: Source) -> None:
        if source.size != self.size or source.time_base != self.time_base:
            raise InputError(f"{source.uri} does not fit this run (size or clock differ)")

    def mattes(self, numbers: Sequence[int]) -> Iterator[dict[int, np.ndarray]]:
        """Per frame, the codes of these people; only frames they are in are decoded."""
        present = {n: set(self.people[n]["present"]) for n in numbers}
        blank = np.zeros(self.size, np.uint8)
        with open_container(str(self.out / "alpha.mkv")) as file:
            track_of = {}
            for stream in file.streams.video:
                number = int(stream.metadata.get("PERSON_ID", 0))
                if number in present:
                    track_of[stream.index] = number
            if not numbers:
                yield from ({} for _ in self.pts)
                return
            wanted = [file.streams[index] for index in track_of]
            decoder = AlphaDecoder(wanted[0].codec_context.extradata)
            counts = dict.fromkeys(numbers, 0)
            here: dict[int, np.ndarray] = {}
            for packet in file.demux(wanted):
                if not packet.size:
                    continue
                number = track_of[packet.stream_index]
                there = counts[number] in present[number]
                counts[number] += 1
                here[number] = decoder.decoded(bytes(packet)) if there else blank
                if len(here) == len(numbers):
                    yield here
                    here = {}


class _Unseen(Source):
    """The camera of a live recording: when its pictures came is known, and not what they showed."""

    kind = "video"

    def __init__(self, run: _Run) -> None:
        super().__init__("live")
        self.size, self.rate, self.time_base = run.size, run.rate, run.time_base
        self.colour = self.deep_colour = SDR
        self._pts = run.pts

    def _read(self) -> Generator[Frame, None, None]:
        black = np.zeros((*self.size, 3), np.uint8)
        for pts in self._pts:
            yield Frame(black, pts, self.time_base)


class _Job:
    """One pass over a run."""

    def __init__(self, run: _Run, source: Source, wishes: Wishes, uri: str) -> None:
        self._run, self._source, self._wishes, self._uri = run, source, wishes, uri
        missing = set(wishes.people) - run.people.keys()
        if missing:
            raise WishError(
                f"there is no person {min(missing)} in this run; there are "
                f"{', '.join(map(str, run.people)) or 'none'}"
            )
        self.numbers = list(wishes.people or run.people)
        self.notes: list[str] = []
        if isinstance(source, _Unseen) and "cryptomatte" in wishes.presets:
            self.notes.append("recorded live: behind the mattes of cryptomatte, the plate is black")
        self._fronts: dict[tuple[int, bool], Foreground] = {}
        self._writers: list[tuple[str, Writer]] = []
        self._files: dict[str, list[str]] = {}
        self._first_pts: int | None = None
        self._film: Film | None = None
        self._composer: Composer | None = None
        told = {n: person.get("name") or f"person_{n:04}" for n, person in run.people.items()}
        names = told | {n: name for n, name in wishes.names.items() if n in told}
        if len(set(names.values())) < len(names):
            raise WishError("two people have the same name")
        self._names = names
        if any(name in ("exr", "cryptomatte") for name in wishes.presets):
            try:
                exr_package()
            except ImportError as error:
                raise WishError(str(error)) from None
        self._plan()

    # -------------------------------------------------------------------------------- names

    def _plan(self) -> None:
        """Every path of every preset; collisions are found before anything is written."""
        self._paths: list[tuple[str, Path, list[int]]] = []
        self._kept: list[tuple[str, Path, list[int]]] = []  # what is there, and stays
        for name in self._wishes.presets:
            preset = PRESETS[name]
            groups: list[tuple[str, list[int]]]
            if preset.each:
                groups = [(self._names[n], [n]) for n in self.numbers]
                if len(groups) > 1 and not re.search(r"{(person|id)}", self._wishes.template):
                    raise WishError(
                        f"{name} makes a file per person, and {len(groups)} people would share the "
                        f"name {self._wishes.template}; put {{person}} or {{id}} into it"
                    )
                if name == "web" and len(self.numbers) > 1:
                    groups.append(("everyone", self.numbers))
            elif name == "disco":
                thirds = [self.numbers[i : i + 3] for i in range(0, len(self.numbers), 3)]
                groups = [("-".join(str(n) for n in third), third) for third in thirds]
            else:
                groups = [("everyone", self.numbers)]
            for who, numbers in groups:
                self._paths.append((name, self._path(name, who, numbers), numbers))
        planned, self._paths = self._paths, []
        taken: set[str] = set()
        for name, path, numbers in planned:
            if path.as_posix().casefold() in taken:
                raise WishError(
                    f"two files would be called {path.name}; put {{preset}} and {{person}} into "
                    "the template"
                )
            taken.add(path.as_posix().casefold())
            there = path.exists() and not self._wishes.overwrite
            if there and not self._wishes.missing_only:
                raise OutputError(
                    f"{path} exists already; choose another template, or allow it to be replaced "
                    "with --overwrite"
                )
            (self._kept if there else self._paths).append((name, path, numbers))

    @property
    def missing(self) -> bool:
        """Whether there is anything to make."""
        return bool(self._paths)

    def _path(self, name: str, who: str, numbers: Sequence[int]) -> Path:
        preset, wishes = PRESETS[name], self._wishes
        values = {
            "source": Path(self._uri).stem,
            "preset": name,
            "person": who,
            "id": "-".join(str(n) for n in numbers) if preset.each and len(numbers) == 1 else who,
            "codec": wishes.codec or preset.codecs[0],
            "start": (wishes.start or "start").replace(":", "-"),
            "end": (wishes.end or "end").replace(":", "-"),
            "date": datetime.date.today().isoformat(),
        }
        safe = {key: re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", text) for key, text in values.items()}
        relative = wishes.template.format(**safe)
        return self._run.out / (f"{relative}.{preset.ext}" if preset.ext else relative)

    # ------------------------------------------------------------------------------ writers

    def _begin(self, first: int, frames_before: int) -> None:
        """Open every writer, once the first frame is known."""
        source, wishes = self._source, self._wishes
        rate = wishes.cfr or self._run.rate
        timecode = None
        if source.timecode:
            if fits(source.timecode, rate):
                assert rate is not None
                timecode = later(source.timecode, frames_before, rate)
            else:
                self.notes.append(
                    f"the timecode {source.timecode} does not fit {rate} frames a second; left out"
                )
        self._film = film = Film(
            size=self._run.size,
            time_base=1 / wishes.cfr if wishes.cfr else self._run.time_base,
            rate=rate,
            colour=source.deep_colour if source.bits > 8 else source.colour,
            proxy=source.colour,
            pixel_aspect=source.pixel_aspect,
            timecode=timecode,
            names=self._names,
            trimmed=bool(wishes.start or wishes.end or source.trimmed or self._run.trimmed),
            comment="Troupe: " + str(self._run.document.get("about", {}).get("engine", "")),
        )
        if "comp" in wishes.presets:
            look = Look.of(wishes.background, wishes.treatments)
            look = replace(look, linear=wishes.blend == "linear")
            self._composer = Composer(look, self._run.size)
        for name, path, numbers in self._paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writers.append((name, self._writer(name, path, film, numbers)))

    def _writer(self, name: str, path: Path, film: Film, numbers: list[int]) -> Writer:
        preset, wishes = PRESETS[name], self._wishes
        mode = wishes.alpha_mode or (preset.alpha_modes or (STRAIGHT,))[0]
        stem = Path(self._uri).stem
        match name:
            case "nle":
                return prores_person(path, film, numbers[0], mode)
            case "matte":
                return luma_matte(path, film, numbers[0])
            case "disco":
                return (disco_exact if wishes.codec == "png" else disco)(path, film, numbers)
            case "web":
                return web_person(path, film, numbers)
            case "archive":
                return Archive(path, film, self._uri, numbers, self._source.video_stream)
            case "png":
                return PngPerson(path, film, numbers[0])
            case "exr":
                return ExrLayers(path, film, numbers, stem, mode)
            case "cryptomatte":
                return Cryptomatte(path, film, numbers, stem)
        return silent_composite(path, film)

    # --------------------------------------------------------------------------------- pass

    def run(self, progress: Callable[[int], None]) -> int:
        frames = 0
        for frame, alphas in self._timed(self._matched()):
            shot = self._shot(frames, frame, alphas)
            for _, writer in self._writers:
                try:
                    writer.write(shot)
                except (OSError, ValueError) as error:  # FFmpeg's errors are both
                    raise OutputError(f"{writer.path} cannot be written ({error})") from error
            frames += 1
            progress(sum(bool(alpha.any()) for alpha in alphas.values()))
        if not frames:
            raise InputError("no frame of this run lies between the given start and end")
        return frames

    def _matched(self) -> Iterator[tuple[Frame, dict[int, np.ndarray]]]:
        """Source frames and their mattes, side by side by their times, within the span."""
        span = Span.of(self._wishes.start, self._wishes.end)
        mattes = self._run.mattes(self.numbers)
        wanted = iter(self._run.pts)
        coming = next(wanted, None)
        for index, frame in enumerate(self._source.frames()):
            if coming is None:
                break
            if frame.pts < coming:
                continue
            if frame.pts > coming:
                raise InputError(f"{self._uri} has no frame at {coming}: not what the run was of")
            alphas = next(mattes)
            coming = next(wanted, None)
            if span.over(index, frame.pts * frame.time_base):
                return
            if span.begun(index, frame.pts * frame.time_base):
                if self._film is None:
                    self._first_pts = frame.pts
                    self._begin(frame.pts, index)
                yield frame, alphas
        if coming is not None:
            raise InputError(f"{self._uri} ends before the mattes of this run do")

    def _timed(
        self, matched: Iterator[tuple[Frame, dict[int, np.ndarray]]]
    ) -> Iterator[tuple[Frame, dict[int, np.ndarray]]]:
        """The same at a constant rate, where that is wished for: a tick shows the latest frame."""
        rate = self._wishes.cfr
        if rate is None:
            yield from matched
            return
        tick = 0
        last = None
        origin = Fraction(0)
        for frame, alphas in matched:
            seconds = frame.pts * frame.time_base
            if last is None:
                origin = seconds
            while last is not None and origin + (tick + Fraction(1, 2)) / rate < seconds:
                yield self._at(last[0], tick, origin), last[1]
                tick += 1
            last = frame, alphas
        if last is not None:
            yield self._at(last[0], tick, origin), last[1]

    def _at(self, frame: Frame, tick: int, origin: Fraction) -> Frame:
        assert self._wishes.cfr is not None
        start = round(origin * self._wishes.cfr)
        return Frame(frame.rgb, start + tick, 1 / self._wishes.cfr, frame.deep)

    def _shot(self, index: int, frame: Frame, alphas: dict[int, np.ndarray]) -> Shot:
        kept: dict[tuple[int, bool], np.ndarray] = {}
        hdr = self._source.deep_colour.transfer in HDR_TRANSFERS
        pictures: dict[bool, np.ndarray] = {}

        def freed(number: int, eight: bool) -> np.ndarray:
            eight = eight and hdr  # otherwise the deep picture serves both
            if (number, eight) not in kept:
                if eight not in pictures:
                    deep = None if eight else frame.deep
                    scale = 255 if deep is None else 65535
                    given = frame.rgb if deep is None else deep
                    pictures[eight] = given.astype(np.float32) * np.float32(1 / scale)
                front = self._fronts.setdefault((number, eight), Foreground())
                kept[number, eight] = front.of(pictures[eight], alphas[number])
            return kept[number, eight]

        composite: list[np.ndarray] = []

        def composed() -> np.ndarray:
            if not composite:
                assert self._composer is not None
                composite.append(self._composer.compose(frame, self._mattes(frame, alphas)))
            return composite[0]

        return Shot(
            index, frame.pts, frame.rgb, frame.deep, alphas,
            lambda number: freed(number, False), lambda number: freed(number, True), composed,
        )  # fmt: skip

    def _mattes(self, frame: Frame, alphas: dict[int, np.ndarray]) -> Mattes:
        """Everyone in a frame as the composer takes them."""
        here = [number for number, alpha in alphas.items() if alpha.any()]
        alpha = np.zeros((len(here), *frame.size), np.float32)
        boxes = np.zeros((len(here), 4), np.float32)
        for row, number in enumerate(here):
            np.multiply(alphas[number], np.float32(1 / 255), out=alpha[row])
            rows = np.flatnonzero((alphas[number] > 127).any(axis=1))
            columns = np.flatnonzero((alphas[number] > 127).any(axis=0))
            if len(rows):
                boxes[row] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        many = len(here)
        return Mattes(
            alpha, np.zeros((many, 1, 1), np.float32), np.ones(many, np.float32), boxes,
            np.zeros((many, 1), np.float32), np.array(here, np.int64),
        )  # fmt: skip

    # ------------------------------------------------------------------------------- finish

    def discard(self) -> None:
        for _, writer in self._writers:
            writer.discard()
        self._close()

    def _close(self) -> None:
        if self._composer is not None:
            self._composer.close()
            self._composer = None

    def finish(self) -> list[Path]:
        """Put everything under its name, and say in manifest.json what made it."""
        self._close()
        try:
            for name, writer in self._writers:
                if name == "comp":
                    self._with_sound(writer)
                writer.finish()
                self.notes += writer.notes
        except (OSError, ValueError) as error:
            self.discard()
            raise OutputError(f"{writer.path} cannot be finished ({error})") from error
        self._manifest()
        return [writer.path for _, writer in self._writers]

    def _with_sound(self, writer: Writer) -> None:
        """The composite's picture and the source's sound in one MP4."""
        assert isinstance(writer, Movie) and self._film is not None
        writer.close()
        silent = writer.partial.with_name(writer.partial.name + ".silent")
        os.replace(writer.partial, silent)
        try:
            sound = self._uri if self._source.has_audio else None
            add_sound(silent, writer.partial, self._film, writer.pts, sound, self.notes)
        finally:
            silent.unlink(missing_ok=True)

    def _manifest(self) -> None:
        """One entry per preset; those of other presets are kept."""
        path = self._run.out / "manifest.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            document = {}
        document = document if isinstance(document, dict) else {}
        film, run, wishes = self._film, self._run.document, self._wishes
        assert film is not None
        treatments = {str(number): text for number, text in wishes.treatments.items()}
        look = {"background": wishes.background, "people": treatments}
        for name in wishes.presets:
            preset = PRESETS[name]
            files = [(path, numbers) for kind, path, numbers in [*self._kept, *self._paths]
                     if kind == name]  # fmt: skip
            if name in document and name not in {kind for kind, _, _ in self._paths}:
                continue  # all of it is as it was
            eight = name in ("comp", "web")
            colour = film.proxy if eight else film.colour
            document[name] = {
                "files": [
                    {
                        "path": path.relative_to(self._run.out).as_posix(),
                        "people": {str(n): self._names[n] for n in numbers},
                    }
                    for path, numbers in files
                ],
                "codec": wishes.codec or preset.codecs[0],
                "alpha_mode": wishes.alpha_mode or (preset.alpha_modes or (None,))[0],
                "blend": wishes.blend if name == "comp" else None,
                "look": look if name == "comp" else None,
                "colour": asdict(colour),
                "tone_mapped": eight and self._source.deep_colour.transfer in HDR_TRANSFERS,
                "source_bits": self._source.bits,
                "linear": {PQ: "1.0 is 203 nits"}.get(colour.transfer, "1.0 is white")
                if name in ("exr", "cryptomatte")
                else None,
                "start": wishes.start,
                "end": wishes.end,
                "cfr": str(wishes.cfr) if wishes.cfr else None,
                "timecode": film.timecode,
                "input": run["input"] | {"name": run["source"]},
                "run": run["about"],
                "complete": run["complete"],
                "notes": self.notes,
                "versions": {"python": platform.python_version(), **_versions()},
            }
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)


def _versions() -> dict[str, str]:
    found = {}
    for name in ("av", "numpy", "opencv-python-headless", "OpenEXR"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
