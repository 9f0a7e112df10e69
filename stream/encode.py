"""Finished work out to disk: a lossless alpha track per person, the composite, and who was when.

A video leaves `alpha.mkv`, `composite.mp4` and `people.json`.  Pictures leave a folder each, with
`person_0001.png`, ... and `composite.png`, and one `people.json`.  Composites may be left out.

While a video is under way, what is known of it lies in a hidden folder of the output folder: the
working store (`stream/store.py`), which a crash cannot take, and the composite so far.  `finish`
turns the two into results without coding anything again; `recover` does so for a run that died.
Results appear under their names only when whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np

from matting.frames import Frame, Mattes
from stream import hardware
from stream.colour import yuv_matrix
from stream.decode import Source, open_container
from stream.resume import Begun
from stream.store import (
    STORE,
    AlphaCoder,
    Register,
    Store,
    StoreError,
    StoreWriter,
    alpha_template,
)
from stream.timecode import fits

# H.264 yuv420p, 960x540, one thread: ultrafast 4.0 ms and 28 kB, superfast 6.4 ms and 19 kB,
# veryfast 10 ms and 13 kB per frame (same machine and day).  No B-frames: decode order is time
# order, so times need no edit list and a broken-off file loses nothing but its end.
COMPOSITE_OPTIONS = {"preset": "superfast", "crf": "18", "bf": "0"}
KEYFRAME_SECONDS = 2

MP4_SOUND = ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac")  # what players expect in an MP4

RESULTS = ("alpha.mkv", "composite.mp4", "people.json")
UNFINISHED = ".unfinished"  # the folder of a run that is under way, or of one that died
SILENT = "composite.mkv"  # in it: the composite so far, without sound
EDGE = 1 << 20  # bytes at either end of an input by which it is known again


class OutputError(OSError):
    """Results cannot be written; the message says what, why, and what is left."""


@dataclass(frozen=True)
class Report:
    """What was written."""

    paths: list[Path]
    frames: int
    people: list[int]
    complete: bool  # False after a failure: the files end where the work ended
    notes: list[str] = field(default_factory=list)


class Deliverables:
    """The results of one source, as a context manager.

    `write` takes the frames in order; `finish` makes the results whole and is called by the block's
    end if nobody did.  When the block ends in an exception, what was written so far is finished
    just the same, and people.json says `"complete": false`.  `about` is kept in people.json as it
    is: the engine, the weights, the settings.  Raises OutputError before anything is created when
    results of the same name exist and `overwrite` is not set.  `encoder` of the composite is the
    `cpu`, `nvenc` on an NVIDIA GPU, or `auto`: that where there is one.  Without `composite` none
    is made, and one that an earlier run has left goes with that run's other results.
    """

    def __init__(
        self,
        out_dir: str | os.PathLike[str],
        source: Source,
        *,
        overwrite: bool = False,
        about: Mapping[str, Any] | None = None,
        begun: Begun | None = None,
        encoder: str = "cpu",
        composite: bool = True,
    ) -> None:
        self._out = Path(out_dir)
        self._source = source
        self._composite = composite
        self._about = dict(about or {})
        self._report: Report | None = None
        results = _PictureFiles if source.kind == "images" else _VideoFiles
        wanted = [self._out / name for name in results.names(source)]
        taken = [path for path in wanted if path.exists()]
        if taken and not overwrite:
            more = f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""
            raise OutputError(
                f"{taken[0]} exists already{more}; choose another output folder, or allow it to be "
                "replaced with --overwrite"
            )
        h264 = _encoder(self._out, encoder, begun) if composite else None
        with _said(f"{self._out}: results cannot be written there"):
            self._out.mkdir(parents=True, exist_ok=True)
            self.working = working = self._out / UNFINISHED
            if begun is None or begun.state is None:
                _clear(working, overwrite or begun is not None)
                _refuse_without_room(self._out, source, composite)
                working.mkdir()
                self._files = results(self._out, working, source, self._about, h264)
            else:
                self._files = _VideoFiles(self._out, working, source, self._about, h264, begun)

    def __enter__(self) -> Deliverables:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._report is not None:
            return
        if error is None:
            self.finish()
            return
        try:
            self._report = self._files.finish(complete=False)
        except Exception as second:  # the first failure is the one to tell
            error.add_note(f"finishing what was written failed too: {second}")

    def write(self, frame: Frame, mattes: Mattes, composite: np.ndarray | None) -> None:
        """Add one frame: everyone in it under their ids, and its composite (H, W, 3) uint8 RGB;
        None where no composite is made."""
        if self._report is not None:
            raise ValueError("these results are finished; nothing can be added")
        ids = mattes.ids
        if len(set(ids.tolist())) < len(ids) or (len(ids) and ids.min() < 1):
            raise ValueError(f"people need ids of their own, 1 or more, got {ids.tolist()}")
        if (composite is not None) != self._composite:
            raise ValueError(f"a composite is {'needed' if self._composite else 'not wanted'} here")
        if composite is not None and (
            composite.shape != frame.rgb.shape or composite.dtype != np.uint8
        ):
            raise ValueError(
                f"composite should be {frame.rgb.shape} uint8, got {composite.shape} "
                f"{composite.dtype}"
            )
        self._files.write(frame, mattes, composite)

    @property
    def frames(self) -> int:
        """How many are on the disk."""
        return self._files.frames

    def keep(self, note: bytes) -> None:
        """What is needed to go on after the frames so far, should the process die."""
        self._files.keep(note)

    @property
    def composed(self) -> int:
        """Of how many frames of a run that is gone on with the composite is there."""
        return self._files.composed

    def recompose(self, frame: Frame, composite: np.ndarray) -> None:
        """Add the composite of the next frame whose mattes are on the disk, and it is not."""
        self._files.recompose(frame, composite)

    def leave(self) -> None:
        """Let go of everything as it is: there are no results, and the run can be gone on with."""
        if self._report is None:
            self._files.close()
            self._report = Report([], 0, [], False)

    def finish(self, complete: bool = True) -> Report:
        """Make the results whole and put them in place.  A second call changes nothing.

        `complete=False` says that the source had more: a run that was asked to stop.
        """
        if self._report is None:
            self._report = self._files.finish(complete)
        return self._report


def _encoder(out: Path, choice: str, begun: Begun | None) -> hardware.Encoder:
    """The composite's encoder; a run that is gone on with keeps the one it began with, because the
    parts of its composite become one film, which is described once."""
    kept = choice
    if begun is not None and begun.state is not None:
        kept = hardware.again(begun.store.head.get("encoder"), choice)
    try:
        found = hardware.h264(kept, COMPOSITE_OPTIONS)
    except hardware.HardwareError as error:
        if kept == choice:
            raise OutputError(str(error)) from None
        raise OutputError(
            f"{out}: the broken-off run was encoded by NVENC, which cannot be used now "
            f"({hardware.without_nvenc()}); go on where it can, make results of what there is "
            "(finalize), or start over with --overwrite"
        ) from None
    if kept == "cpu" and choice == "nvenc":
        return found._replace(note="encoded on the CPU, as the broken-off run was")
    return found


class _said:
    """Turns a failure of the file system or of FFmpeg into an OutputError that says where."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OutputError):
            return
        if isinstance(error, (OSError, av.error.FFmpegError)):
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(f"{self._what} ({reason})") from error


def unfinished(out_dir: str | os.PathLike[str]) -> Store | None:
    """The working store that a run left in this folder, if there is one that can be read."""
    path = Path(out_dir) / UNFINISHED / STORE
    try:
        return Store(path) if path.exists() else None
    except StoreError:
        return None  # it died before its first record: nothing is in it


def composes(left: Store) -> bool:
    """Whether the run that left this store was making a composite."""
    return bool(_parts(left.path.parent))


def _clear(working: Path, overwrite: bool) -> None:
    """Make room for a new run; work that someone may still want is not thrown away unasked."""
    left = unfinished(working.parent)
    if left is not None:
        StoreWriter.resume(left.path).close()  # says so where its run is still alive
        register, _ = left.walk()
        if register.pts and not overwrite:
            raise OutputError(
                f"{working.parent} holds an unfinished run of {len(register.pts)} frames; make its "
                f"results with: python run_stream.py finalize {working.parent}, or start over with "
                "--overwrite"
            )
    shutil.rmtree(working, ignore_errors=True)


# ---------------------------------------------------------------------------------------- video


def run_head(source: Source, about: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """What a run is known by: its input, its engine, weights and settings."""
    return {**_head(source, about, False, []), "input": identity(source.uri, out)}


LEAST_BYTES = 0.03  # a pixel, store and composite together: half of what quiet footage takes
LEAST_STORED = 0.012  # of it the store


def _refuse_without_room(out: Path, source: Source, composite: bool) -> None:
    """Refuse what obviously cannot fit, before hours are spent on it."""
    if source.kind != "video" or not source.frames_estimate:
        return
    least = LEAST_BYTES if composite else LEAST_STORED
    needed = source.frames_estimate * source.size[0] * source.size[1] * least
    free = shutil.disk_usage(out).free
    if needed > free:
        with suppress(OSError):
            out.rmdir()
        raise OutputError(
            f"{out}: at least {needed / 1e9:.1f} GB are needed for about "
            f"{source.frames_estimate} frames, {free / 1e9:.1f} GB are free"
        )


class _VideoFiles:
    def __init__(
        self,
        out: Path,
        working: Path,
        source: Source,
        about: Mapping[str, Any],
        h264: hardware.Encoder | None,
        begun: Begun | None = None,
    ) -> None:
        self._out, self._working, self._source, self._about = out, working, source, about
        self._notes = [h264.note] if h264 and h264.note else []
        self.composed = 0  # frames whose composite is in earlier parts
        if begun is None:
            head = run_head(source, about, out) | {"encoder": h264.codec if h264 else None}
            self._store = StoreWriter(working / STORE, head)
            part = working / SILENT
        else:
            self._store = StoreWriter.resume(working / STORE, begun.frames)
            self.composed = min(begun.frames, max(0, _composed(working) - 1)) if h264 else 0
            part = _next_part(working, self.composed)
        self._composite = _Composite(part, source, h264) if h264 else None

    @property
    def frames(self) -> int:
        return self._store.frames

    def keep(self, note: bytes) -> None:
        with _said(f"{self._out}: writing failed"):
            self._store.checkpoint(note)

    def recompose(self, frame: Frame, composite: np.ndarray) -> None:
        assert self._composite is not None
        with _said(f"{self._out}: writing failed at {frame.seconds:.2f} s"):
            self._composite.write(frame, composite)

    @staticmethod
    def names(source: Source) -> list[str]:
        return list(RESULTS)

    def write(self, frame: Frame, mattes: Mattes, composite: np.ndarray | None) -> None:
        if frame.size != self._source.size:
            raise ValueError(f"frames should be {self._source.size}, got {frame.size}")
        with _said(f"{self._out}: writing failed at {frame.seconds:.2f} s"):
            self._store.add(frame.pts, mattes)
            if self._composite is not None and composite is not None:
                self._composite.write(frame, composite)

    def close(self) -> None:
        if self._composite is not None:
            self._composite.close()
        self._store.close()

    def finish(self, complete: bool) -> Report:
        self.close()
        source = self._source
        head = run_head(source, self._about, self._out) | {"complete": complete}
        head["notes"] = [*head["notes"], *self._notes]
        sound = source.uri if source.has_audio else None
        report = _finished(self._out, self._working, head, self._store.register, sound)
        return replace(report, notes=[*self._notes, *report.notes])


def recover(out_dir: str | os.PathLike[str], source: str | None = None) -> Report:
    """Make the results of a run that died from what it left behind, as far as it got.

    `source` is the input, for its sound.  Raises OutputError where there is nothing to recover or
    the run is still alive.
    """
    out = Path(out_dir)
    left = unfinished(out)
    if left is None:
        raise OutputError(f"{out} holds no unfinished run")
    with _said(f"{out}: the unfinished run cannot be recovered"):
        StoreWriter.resume(left.path).close()  # nobody else is writing, and the torn end is gone
    register, _ = left.walk()
    return _finished(out, left.path.parent, {**left.head, "complete": False}, register, source)


def _finished(
    out: Path, working: Path, head: Mapping[str, Any], register: Register, sound: str | None
) -> Report:
    """Both tracks and register, each on its own: one that fails does not take the others.

    What a run coded of its composite says whether it made one.
    """
    notes: list[str] = []
    clock = _Clock.of(head)
    composed = bool(_parts(working))
    steps: list[tuple[str, Callable[[Path], None]]] = [
        ("alpha.mkv", lambda path: _remux_alphas(Store(working / STORE), path, clock, register)),
        ("people.json", lambda path: _save_register(path, head, register, notes, composed)),
    ]
    if composed:  # before the register, which has its notes
        steps.insert(0, (
            "composite.mp4",
            lambda path: _remux_composite(
                working / SILENT, path, clock, register.pts, sound, head["complete"], notes
            ),
        ))  # fmt: skip
    done, failures = [], []
    for name, step in steps if register.pts else []:
        path = working / name
        try:
            with _said(f"{out / name}: cannot be finished"):
                step(path)
                os.replace(path, out / name)
            done.append(out / name)
        except OutputError as error:
            failures.append(str(error))
    if failures:
        raise OutputError(
            f"{'; '.join(failures)}; what was written until then lies in {working} "
            f"(python run_stream.py finalize {out})"
        )
    if register.pts and not composed:  # what lies there is of a run whose tracks are gone
        with suppress(OSError):
            (out / "composite.mp4").unlink(missing_ok=True)
    shutil.rmtree(working, ignore_errors=True)
    if not register.pts:
        with suppress(OSError):
            out.rmdir()  # an empty folder says nothing
    return Report(done, len(register.pts), register.people, head["complete"], notes)


@dataclass(frozen=True)
class _Clock:
    """Sizes and times of a video, as people.json and the store have them."""

    size: tuple[int, int]
    time_base: Fraction
    rate: Fraction | None
    trimmed: bool = False  # a part of the source: it starts at zero
    timecode: str | None = None  # of the first frame

    @classmethod
    def of(cls, head: Mapping[str, Any]) -> _Clock:
        rate = Fraction(head["rate"]) if head["rate"] else None
        height, width = head["size"]
        return cls(
            (height, width),
            Fraction(head["time_base"]),
            rate,
            head.get("trimmed", False),
            head.get("timecode"),
        )

    @property
    def step(self) -> int:
        """Ticks of one frame at the nominal rate."""
        return max(1, round(1 / ((self.rate or Fraction(25)) * self.time_base)))


def _remux_alphas(store: Store, path: Path, clock: _Clock, register: Register) -> None:
    """One file with everyone, from the first frame to the last.

    Matroska counts milliseconds, so the exact times are attached to it as times.json.
    """
    blank = AlphaCoder(clock.size, clock.rate).blank
    with (
        alpha_template(store.parameters, blank) as template,
        av.open(f"file:{path}", "w", format="matroska") as out,
    ):
        tracks = {}
        for number in register.people or [0]:  # one blank track is easier to handle than none
            stream = out.add_stream_from_template(template.streams.video[0])
            stream.time_base = clock.time_base
            stream.metadata["title"] = f"Person {number}" if number else "no one"
            stream.metadata["PERSON_ID"] = str(number)
            tracks[number] = stream
        times = {"time_base": str(clock.time_base), "pts": register.pts.tolist()}
        out.add_attachment("times.json", "application/json", json.dumps(times).encode())
        for frame in store.frames():
            here = {person.id: person.packet for person in frame.people}
            for number, stream in tracks.items():
                packet = av.Packet(here.get(number, blank))
                packet.is_keyframe = True
                packet.pts = packet.dts = frame.pts
                packet.time_base = clock.time_base
                packet.stream = stream
                out.mux(packet)


class _Composite:
    """The composite as H.264, first without sound in a working file, then in an MP4 with it."""

    def __init__(self, path: Path, source: Source, h264: hardware.Encoder) -> None:
        self._path, self._source = path, source
        self._padded = padded(source.size)
        matrix = source.colour.matrix
        self._tags = source.colour.tags
        self._planes = np.empty((self._padded[0] * 3 // 2, self._padded[1]), np.uint8)
        self._to_yuv = yuv_matrix(matrix)
        self._container = _crash_safe(path)
        self._stream = self._container.add_stream(h264.codec, rate=source.rate or 25)
        codec = self._stream.codec_context
        codec.height, codec.width = self._padded
        codec.pix_fmt = "yuv420p"
        self._stream.time_base = codec.time_base = source.time_base
        codec.gop_size = max(1, round(KEYFRAME_SECONDS * float(source.rate or 25)))
        codec.thread_count = 1
        codec.sample_aspect_ratio = source.pixel_aspect
        codec.options = h264.options
        for tag, value in self._tags.items():
            setattr(codec, tag, value)
        self._broken = False

    def write(self, frame: Frame, rgb: np.ndarray) -> None:
        picture = av.VideoFrame.from_ndarray(self._yuv(rgb), format="yuv420p")
        picture.pts, picture.time_base = frame.pts, frame.time_base
        for tag, value in self._tags.items():  # on each frame: some muxers look only there
            setattr(picture, tag, value)
        self._mux(self._stream.encode(picture))

    def _yuv(self, rgb: np.ndarray) -> np.ndarray:
        """(3 H / 2, W) planes of Y, U, V; rounded, where FFmpeg's own conversion cuts off."""
        height, width = self._padded
        if rgb.shape[:2] != self._padded:
            below, right = height - rgb.shape[0], width - rgb.shape[1]
            rgb = cv2.copyMakeBorder(rgb, 0, below, 0, right, cv2.BORDER_REPLICATE)
        half = cv2.resize(rgb, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        chroma = self._planes[height:].reshape(2, *half.shape[:2])
        # Only 3 x 3 products are vectorised: cheaper to throw two thirds of them away.
        cv2.extractChannel(cv2.transform(rgb, self._to_yuv), 0, dst=self._planes[:height])
        half = cv2.transform(half, self._to_yuv)
        cv2.extractChannel(half, 1, dst=chroma[0])
        cv2.extractChannel(half, 2, dst=chroma[1])
        return self._planes

    def _mux(self, packets: list[av.Packet]) -> None:
        try:
            self._container.mux(packets)
        except (OSError, av.error.FFmpegError):
            self._broken = True
            raise

    def close(self) -> None:
        """Flush the encoder.  After a failed write the file is left as it is: readable so far."""
        with suppress(OSError, av.error.FFmpegError):
            if not self._broken:
                self._mux(self._stream.encode(None))
        with suppress(OSError, av.error.FFmpegError):
            self._container.close()


def _remux_composite(
    silent: Path, path: Path, clock: _Clock, pts: Sequence[int], sound: str | None, complete: bool,
    notes: list[str],
) -> None:  # fmt: skip
    """An MP4 with the exact times and the source's sound, its packets untouched if MP4 may.

    The sound of a run that ended early ends with its picture; that of a part of the source also
    begins with it, at zero.
    """
    time_base = clock.time_base
    # An MP4 cannot start before zero: sound and picture move together.
    shift = pts[0] if clock.trimmed else min(0, pts[0])
    options = {"movflags": "faststart", "movie_timescale": str(_timescale(time_base))}
    with (
        open_container(str(silent)) as given,
        av.open(f"file:{path}", "w", format="mp4", options=options) as out,
    ):
        if clock.timecode and fits(clock.timecode, clock.rate):
            out.metadata["timecode"] = clock.timecode
        elif clock.timecode:
            notes.append(f"the timecode {clock.timecode} does not fit {clock.rate} frames a second")
        coded = given.streams.video[0]
        video = out.add_stream_from_template(coded)
        video.time_base = time_base
        video.codec_context.framerate = clock.rate or Fraction(25)  # a timecode track asks for it
        heard = _Sound(sound, out, -shift * time_base, notes)
        packets = _composite_packets(silent.parent) if silent.name == SILENT else _packets(silent)
        for index, (when, packet) in enumerate(zip(pts, packets, strict=False)):
            packet.pts = packet.dts = when - shift
            packet.duration = pts[index + 1] - when if index + 1 < len(pts) else clock.step
            packet.time_base = time_base
            packet.stream = video
            heard.until(float((when - shift) * time_base))
            out.mux(packet)
        heard.until(float((pts[-1] + clock.step - shift) * time_base))
        if complete and not clock.trimmed:
            heard.rest()


def add_sound(
    silent: Path, path: Path, film: Any, pts: Sequence[int], sound: str | None, notes: list[str]
) -> None:
    """An MP4 of a coded video and the sound of the file `sound`; `film` is a `writers.Film`."""
    clock = _Clock(film.size, film.time_base, film.rate, film.trimmed, film.timecode)
    with _said(f"{path}: cannot be finished"):
        _remux_composite(silent, path, clock, pts, sound, True, notes)


def _packets(path: Path) -> Iterator[av.Packet]:
    with open_container(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                yield packet


def _parts(working: Path) -> list[tuple[int, Path]]:
    """The working files of the composite: the frame each begins with, and where it lies.

    A run that goes on begins a new one, because nothing can be added to the old: composite.mkv,
    composite.00000120.mkv, ...  Each counts up to where the next begins.
    """
    found = []
    for path in working.glob("composite*.mkv"):
        start = path.name.removeprefix("composite").removesuffix(".mkv").strip(".")
        found.append((int(start or 0), path))
    return sorted(found)


def _next_part(working: Path, start: int) -> Path:
    for begins, path in _parts(working):
        if begins >= start:
            path.unlink()
    return working / (f"composite.{start:08d}.mkv" if start else SILENT)


def _composite_packets(working: Path) -> Iterator[av.Packet]:
    """Those of all parts, in the order of the frames; of a torn part, up to the tear."""
    parts = _parts(working)
    ends = [*(begins for begins, _ in parts[1:]), None]
    for (start, path), end in zip(parts, ends, strict=False):  # a run of tracks alone has none
        with suppress(av.error.FFmpegError, OSError, IndexError):
            yield from islice(_packets(path), None if end is None else end - start)


def _composed(working: Path) -> int:
    return sum(1 for _ in _composite_packets(working))


def padded(size: Sequence[int]) -> tuple[int, int]:
    """The even size into whose top left a picture goes: 4:2:0 has no odd ones."""
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def _timescale(time_base: Fraction) -> int:
    """Ticks per second in which a whole MP4 counts; at least 10000, as FFmpeg has it for tracks."""
    scale = time_base.denominator
    while scale < 10000:
        scale *= 2
    return min(scale, 2**31 - 1)


class _Sound:
    """The source's sound on its way into the MP4, never further along than the picture."""

    def __init__(
        self,
        uri: str | None,
        out: av.container.OutputContainer,
        shift_seconds: Fraction,
        notes: list[str],
    ) -> None:
        self._out, self._shift, self._notes = out, shift_seconds, notes
        self._targets: dict[int, av.AudioStream] = {}
        self._resamplers: dict[int, av.AudioResampler] = {}
        self._waiting: av.Packet | None = None
        self._packets: Iterator[av.Packet] = iter(())
        if uri is None:
            return
        container = open_container(uri)
        for stream in container.streams.audio:
            name = stream.codec_context.name if stream.codec_context else "unknown"
            if name in MP4_SOUND:
                target = out.add_stream_from_template(stream)
            elif stream.codec_context is None:
                notes.append("a sound track of unknown kind is left out of the composite")
                continue
            else:
                rate = min(stream.codec_context.sample_rate, 96000)
                layout = "mono" if stream.codec_context.layout.nb_channels == 1 else "stereo"
                target = out.add_stream("aac", rate=rate)
                target.codec_context.layout = layout
                self._resamplers[stream.index] = av.AudioResampler("fltp", layout, rate, 1024)
                notes.append(f"the sound is {name}, which MP4 does not carry; converted to AAC")
            self._targets[stream.index] = target
        if self._targets:
            self._packets = self._ready(container)
        else:
            container.close()

    def _ready(self, container: av.container.InputContainer) -> Iterator[av.Packet]:
        """Packets for the MP4 in the order of the file."""
        with container:
            streams = [container.streams[index] for index in self._targets]
            try:
                for packet in container.demux(*streams):
                    index = packet.stream_index
                    if index in self._resamplers:
                        yield from self._converted(packet, index)
                    elif packet.size and packet.dts is not None:
                        shift = round(self._shift / packet.time_base)
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        if self._shift < 0 and packet.pts < 0:
                            continue  # before the part that is wanted
                        packet.stream = self._targets[index]
                        yield packet
            except (av.error.FFmpegError, ValueError) as error:
                self._notes.append(f"the sound breaks off: {error}")
            for index, resampler in self._resamplers.items():
                target = self._targets[index]
                for chunk in resampler.resample(None):
                    yield from target.encode(chunk)
                yield from target.encode(None)

    def _converted(self, packet: av.Packet, index: int) -> Iterator[av.Packet]:
        try:
            pieces = packet.decode()
        except (av.error.FFmpegError, ValueError):
            return  # a damaged packet is a moment of silence
        for piece in pieces:
            if piece.pts is not None:
                piece.pts += round(self._shift / piece.time_base)
                if self._shift < 0 and piece.pts < 0:
                    continue
            for chunk in self._resamplers[index].resample(piece):
                yield from self._targets[index].encode(chunk)

    def until(self, seconds: float) -> None:
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None:
                return
            if packet.dts is not None and float(packet.dts * packet.time_base) > seconds:
                return
            self._waiting = None
            self._out.mux(packet)

    def rest(self) -> None:
        self.until(float("inf"))


def _crash_safe(path: Path) -> av.container.OutputContainer:
    """A Matroska file that can be read while it is written, up to the last fifth of a second."""
    options = {"live": "1", "flush_packets": "1", "cluster_time_limit": "200"}
    return av.open(f"file:{path}", "w", format="matroska", options=options)


# ------------------------------------------------------------------------------------- pictures


class _PictureFiles:
    frames = composed = 0  # photographs are not gone on with: each is finished at once

    def keep(self, note: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def recompose(self, frame: Frame, composite: np.ndarray) -> None:
        pass

    def __init__(
        self, out: Path, working: Path, source: Source, about: Mapping[str, Any],
        h264: hardware.Encoder | None,
    ) -> None:  # fmt: skip
        self._out, self._working, self._source = out, working, source
        self._about = about
        self._pictures: list[dict[str, Any]] = []
        self._people: set[int] = set()

    @staticmethod
    def names(source: Source) -> list[str]:
        return ["people.json", *(f"{name}/composite.png" for name in source.names)]

    def write(self, frame: Frame, mattes: Mattes, composite: np.ndarray | None) -> None:
        name = self._source.names[frame.pts]
        folder = self._working / name
        people = []
        with _said(f"{self._out / name}: cannot be written"):
            folder.mkdir()
            for person in mattes:
                file = f"person_{person.id:04d}.png"
                _save_png(folder / file, person.codes)
                people.append({"file": f"{name}/{file}", **_described(person)})
            if composite is not None:
                _save_png(folder / "composite.png", cv2.cvtColor(composite, cv2.COLOR_RGB2BGR))
            self._place(folder, self._out / name)
        self._people.update(int(number) for number in mattes.ids)
        self._pictures.append({"name": name, "size": list(frame.size), "people": people})

    def _place(self, made: Path, final: Path) -> None:
        """Put a picture's folder in place; of an earlier run only our own files are replaced."""
        final.mkdir(exist_ok=True)
        for stale in (*final.glob("person_[0-9][0-9][0-9][0-9]*.png"), final / "composite.png"):
            stale.unlink(missing_ok=True)
        for file in made.iterdir():
            os.replace(file, final / file.name)
        made.rmdir()

    def finish(self, complete: bool) -> Report:
        paths = [self._out / picture["name"] for picture in self._pictures]
        if self._pictures:
            with _said(f"{self._out / 'people.json'}: cannot be written"):
                made = self._working / "people.json"
                document = {
                    **_head(self._source, self._about, complete, []),
                    "pictures": self._pictures,
                }
                made.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
                os.replace(made, self._out / "people.json")
            paths.append(self._out / "people.json")
        shutil.rmtree(self._working, ignore_errors=True)
        if not self._pictures:
            with suppress(OSError):
                self._out.rmdir()
        return Report(paths, len(self._pictures), sorted(self._people), complete)


def _save_png(path: Path, picture: np.ndarray) -> None:
    ok, data = cv2.imencode(".png", picture)
    if not ok:
        raise OutputError(f"{path}: the picture cannot be coded as PNG")
    path.write_bytes(data.tobytes())


# ------------------------------------------------------------------------------ who was when


def _save_register(
    path: Path, head: Mapping[str, Any], register: Register, notes: list[str], composed: bool
) -> None:
    """people.json, written piece by piece: it can be long."""
    size = head["size"]
    whole = {
        **head,
        "notes": [*head["notes"], *notes],
        "frames": len(register.pts),
        "composite": {"size": list(padded(size)), "picture": list(size)} if composed else None,
        "alpha": {"codec": "h264", "tracks": register.people, "times": "attached as JSON"},
    }
    for private in ("codec", "parameters", "encoder"):  # of the working store alone
        whole.pop(private, None)
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(whole, indent=1)[:-2] + ',\n "people": [')
        for place, number in enumerate(register.people):
            said = _seen(number, register, Fraction(head["time_base"]))
            file.write(("," if place else "") + "\n  " + json.dumps(said))
        file.write("\n ]\n}\n")


def _seen(number: int, register: Register, time_base: Fraction) -> dict[str, Any]:
    indices = register.indices[number]
    rows = np.asarray(register.numbers[number], np.float32).reshape(-1, 5)
    first, last = register.pts[indices[0]], register.pts[indices[-1]]
    return {
        "id": number,
        "first_pts": first,
        "last_pts": last,
        "first_seconds": round(float(first * time_base), 6),
        "last_seconds": round(float(last * time_base), 6),
        "frames": len(indices),
        "present": indices.tolist(),  # indices of frames, from 0
        "boxes": np.round(rows[:, :4].astype(float), 1).tolist(),  # x0 y0 x1 y1, pixels
        "scores": np.round(rows[:, 4].astype(float), 3).tolist(),
    }


def identity(uri: str, out: Path) -> dict[str, Any]:
    """By what an input is known again: its size, and a digest of its first and last mebibyte."""
    path = Path(uri)
    if uri.startswith("live:"):  # a camera cannot be read a second time
        return {"path": uri, "bytes": 0, "edges_sha256": ""}
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(EDGE))
        file.seek(max(0, size - EDGE))
        digest.update(file.read(EDGE))
    try:
        place = os.path.relpath(path.resolve(), out.resolve())  # both may move together
    except ValueError:  # another drive
        place = str(path.resolve())
    return {"path": Path(place).as_posix(), "bytes": size, "edges_sha256": digest.hexdigest()}


def _head(
    source: Source, about: Mapping[str, Any], complete: bool, notes: list[str]
) -> dict[str, Any]:
    head: dict[str, Any] = {
        "source": Path(source.uri).name,
        "kind": source.kind,
        "complete": complete,
        "size": list(source.size),
        "damage": list(source.damage),
        "notes": [*source.notes, *notes],
        "about": dict(about),
    }
    if source.kind == "video":
        head["pixel_aspect"] = str(source.pixel_aspect)  # width of a pixel over its height
        head["time_base"] = str(source.time_base)
        head["trimmed"] = source.trimmed
        head["video_stream"] = source.video_stream
        head["timecode"] = source.timecode
        head["rate"] = str(source.rate) if source.rate else None
    return head


def _described(person: Any) -> dict[str, Any]:
    return {
        "id": person.id,
        "box": [round(float(edge), 1) for edge in person.box],
        "score": round(person.score, 3),
    }
