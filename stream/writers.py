"""One writer per kind of deliverable: what an editor, a compositor or a browser opens.

A writer gets every frame once, in order, as a `Shot`, and makes one file, or one folder with a file
per frame.  It writes to `NAME.partial`; `finish` puts the whole thing under its name, `discard`
takes it away.  docs/outputs.md says which program wants which.
"""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import cv2
import numpy as np

from stream.colour import SDR, Colour, picture_of, tagged, to_linear, yuv_matrix, yuv_planes
from stream.cryptomatte import header, ranked
from stream.decode import open_container

STRAIGHT, PREMULTIPLIED = "straight", "premultiplied"


@dataclass
class Shot:
    """One frame, for every writer: the picture, everyone's matte, and their colours on request."""

    index: int  # from 0, of the deliverable
    pts: int
    rgb: np.ndarray  # (H, W, 3) uint8
    deep: np.ndarray | None  # (H, W, 3) uint16 where the source holds more
    alphas: dict[int, np.ndarray]  # id -> (H, W) uint8, everyone who is chosen, blank or not
    # id -> (H, W, 3) float32, their foreground; and the same of the 8-bit picture
    freed: Callable[[int], np.ndarray]
    freed_eight: Callable[[int], np.ndarray]
    composed: Callable[[], np.ndarray]  # (H, W, 3) uint8, the composite

    @property
    def best(self) -> np.ndarray:
        """The picture with all the depth there is."""
        return self.rgb if self.deep is None else self.deep


@dataclass(frozen=True)
class Film:
    """What all frames of a deliverable share."""

    size: tuple[int, int]
    time_base: Fraction
    rate: Fraction | None
    colour: Colour  # of the pictures as they are written
    proxy: Colour  # of the 8-bit ones
    pixel_aspect: Fraction = Fraction(1)
    timecode: str | None = None
    names: Mapping[int, str] = field(default_factory=dict)  # id -> person_0001
    comment: str = ""
    trimmed: bool = False  # a part of the source: its files start at zero


class Writer(ABC):
    """One deliverable under way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.notes: list[str] = []

    @abstractmethod
    def write(self, shot: Shot) -> None:
        """Add one frame."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file itself."""

    def finish(self) -> None:
        """Close it and put it under its name."""
        self.close()
        if self.path.is_dir() and self.partial.is_dir():
            shutil.rmtree(self.path)
        os.replace(self.partial, self.path)

    def discard(self) -> None:
        """Leave nothing behind."""
        with suppress(Exception):  # the failure that led here is the one to tell
            self.close()
        if self.partial.is_dir():
            shutil.rmtree(self.partial, ignore_errors=True)
        else:
            self.partial.unlink(missing_ok=True)


# -------------------------------------------------------------------------------------- movies


class Movie(Writer):
    """A file with one video track; `planes` makes the codec's planes of a shot."""

    def __init__(
        self, path: Path, film: Film, *, muxer: str, codec: str, form: str,
        planes: Callable[[Shot], list[np.ndarray]], options: Mapping[str, str],
        tags: Mapping[str, int], gop: int | None = None, title: str | None = None,
        mux_options: Mapping[str, str] | None = None, even: bool = False,
        blank: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__(path)
        self._film, self._form, self._planes = film, form, planes
        self._people = blank  # in a codec whose frames stand alone, a frame without these is one
        self._nobody: bytes | None = None  # packet, coded once
        self._tags = dict(tags)
        self._out = av.open(
            f"file:{self.partial}", "w", format=muxer, options=dict(mux_options or {})
        )
        if film.timecode:
            self._out.metadata["timecode"] = film.timecode
        if title:
            self._out.metadata["title"] = title
        if film.comment:
            self._out.metadata["comment"] = film.comment
        self._stream = self._out.add_stream(codec, rate=film.rate or 25)
        context = self._stream.codec_context
        height, width = film.size
        context.height = height + height % 2 if even else height
        context.width = width + width % 2 if even else width
        context.pix_fmt = form
        self._stream.time_base = context.time_base = film.time_base
        context.sample_aspect_ratio = film.pixel_aspect
        context.thread_count = 2
        if gop:
            context.gop_size = gop
        context.options = dict(options)
        tagged(context, self._tags)
        self._shift = 0
        self.pts: list[int] = []
        self._closed = False

    def write(self, shot: Shot) -> None:
        if not self.pts:  # a container does not start before zero
            self._shift = shot.pts if self._film.trimmed else min(0, shot.pts)
        self.pts.append(shot.pts)
        nobody = bool(self._people) and not any(shot.alphas[n].any() for n in self._people)
        if nobody and self._nobody is not None:
            packet = av.Packet(self._nobody)
            packet.pts = packet.dts = shot.pts - self._shift
            packet.time_base, packet.stream = self._film.time_base, self._stream
            packet.is_keyframe = True
            self._out.mux(packet)
            return
        planes = self._planes(shot)
        picture = picture_of(planes, self._form)
        picture.pts, picture.time_base = shot.pts - self._shift, self._film.time_base
        tagged(picture, self._tags)  # on each frame: some muxers look only there
        packets = self._stream.encode(picture)
        if nobody and len(packets) == 1:
            self._nobody = bytes(packets[0])
        self._out.mux(packets)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._out.mux(self._stream.encode(None))
        finally:
            self._out.close()


# 8-bit codes as the 10-bit codes nearest to the same share.
_TEN = np.rint(np.arange(256) * (1023 / 255)).astype(np.uint16)


def _over_black(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return rgb * (alpha.astype(np.float32) * np.float32(1 / 255))[:, :, None]


def _movie_scale(film: Film) -> dict[str, str]:
    """A MOV's or MP4's own clock, fine enough for the exact times of the track."""
    scale = film.time_base.denominator
    while scale < 10000:
        scale *= 2
    return {"movie_timescale": str(min(scale, 2**31 - 1)), "movflags": "write_colr"}


def _prores(film: Film) -> str:
    """FFmpeg has two ProRes encoders; the one of a third of the time refuses odd widths."""
    return "prores_ks" if film.size[1] % 2 else "prores"


def prores_person(path: Path, film: Film, number: int, alpha_mode: str) -> Movie:
    """ProRes 4444 with one person: 10-bit Y'CbCr of their own colours, and their matte."""

    def planes(shot: Shot) -> list[np.ndarray]:
        alpha, freed = shot.alphas[number], shot.freed(number)
        if alpha_mode == PREMULTIPLIED:
            freed = _over_black(freed, alpha)
        return [*yuv_planes(freed, film.colour.matrix, 10), _TEN[alpha]]

    return Movie(
        path, film, muxer="mov", codec=_prores(film), form="yuva444p10le", planes=planes,
        options={"profile": "4", "vendor": "apl0"}, tags=film.colour.tags,
        title=film.names[number], mux_options=_movie_scale(film), blank=[number],
    )  # fmt: skip


def luma_matte(path: Path, film: Film, number: int) -> Movie:
    """A person's matte as brightness: H.264 that every editor opens, near enough to lossless."""
    height, width = film.size
    even = height + height % 2, width + width % 2
    chroma = np.full((even[0] // 2, even[1] // 2), 128, np.uint8)
    levels = np.rint(np.arange(256) * (219 / 255) + 16).astype(np.uint8)

    def planes(shot: Shot) -> list[np.ndarray]:
        return [_evened(levels[shot.alphas[number]]), chroma, chroma]

    return Movie(
        path, film, muxer="mp4", codec="libx264", form="yuv420p", planes=planes, even=True,
        options={"preset": "veryfast", "crf": "1", "bf": "0"}, tags=SDR.tags,
        title=film.names[number], gop=_gop(film), mux_options=_movie_scale(film),
    )  # fmt: skip


def disco(path: Path, film: Film, numbers: Sequence[int]) -> Movie:
    """Up to three people's mattes in red, green and blue, in a codec with whole chroma."""

    def planes(shot: Shot) -> list[np.ndarray]:
        empty = np.zeros(film.size, np.uint8)
        packed = [shot.alphas[n] for n in numbers] + [empty] * (3 - len(numbers))
        return yuv_planes(cv2.merge(packed), SDR.matrix, 10)

    return Movie(
        path, film, muxer="mov", codec=_prores(film), form="yuv444p10le", planes=planes,
        options={"profile": "4", "vendor": "apl0"}, tags=SDR.tags,
        title=", ".join(f"{film.names[n]} {c}" for n, c in zip(numbers, "RGB", strict=False)),
        mux_options=_movie_scale(film), blank=numbers,
    )  # fmt: skip


def disco_exact(path: Path, film: Film, numbers: Sequence[int]) -> Movie:
    """The same as PNG in a MOV: no matrix and no loss, where larger files do not matter."""

    def planes(shot: Shot) -> list[np.ndarray]:
        empty = np.zeros(film.size, np.uint8)
        packed = [shot.alphas[n] for n in numbers] + [empty] * (3 - len(numbers))
        return [cv2.merge(packed)]

    return Movie(
        path, film, muxer="mov", codec="png", form="rgb24", planes=planes, options={}, tags={},
        title=", ".join(f"{film.names[n]} {c}" for n, c in zip(numbers, "RGB", strict=False)),
        mux_options=_movie_scale(film),
    )  # fmt: skip


def web_person(path: Path, film: Film, numbers: Sequence[int]) -> Movie:
    """VP9 with alpha, straight, for one person or several together."""
    matrix = film.proxy.matrix

    def planes(shot: Shot) -> list[np.ndarray]:
        if len(numbers) == 1:
            alpha, freed = shot.alphas[numbers[0]], shot.freed_eight(numbers[0])
        else:
            alpha, freed = together(shot, numbers)
        y, *chroma = yuv_planes(freed, matrix, 8)
        half = (alpha.shape[1] + 1) // 2, (alpha.shape[0] + 1) // 2
        small = [cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in chroma]
        return [y, *small, alpha]

    return Movie(
        path, film, muxer="webm", codec="libvpx-vp9", form="yuva420p", planes=planes,
        options={"crf": "15", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1",
                 "auto-alt-ref": "0", "lag-in-frames": "0"},
        tags=film.proxy.tags, gop=_gop(film),
        title=", ".join(film.names[n] for n in numbers),
    )  # fmt: skip


def together(shot: Shot, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Alpha and straight foreground of several people as one."""
    total = np.zeros(shot.rgb.shape[:2], np.float32)
    colours = np.zeros(shot.rgb.shape, np.float32)
    below: np.ndarray | None = None
    for number in numbers:
        alpha = shot.alphas[number]
        if not alpha.any():
            continue
        share = alpha.astype(np.float32)
        freed = shot.freed_eight(number)
        colours += freed * share[:, :, None]
        total += share
        below = freed if below is None else below
    if below is None:
        return np.zeros(total.shape, np.uint8), colours
    freed = np.where(total[:, :, None] > 0, colours / np.maximum(total, 1)[:, :, None], below)
    return np.minimum(total, 255).astype(np.uint8), freed


def _gop(film: Film) -> int:
    return max(1, round(2 * float(film.rate or 25)))


def _evened(plane: np.ndarray) -> np.ndarray:
    """A plane with even sides, its edge repeated."""
    height, width = plane.shape
    if height % 2 == width % 2 == 0:
        return plane
    return cv2.copyMakeBorder(plane, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)


def _yuv420(rgb: np.ndarray, matrix: int) -> list[np.ndarray]:
    even = cv2.copyMakeBorder(rgb, 0, rgb.shape[0] % 2, 0, rgb.shape[1] % 2, cv2.BORDER_REPLICATE)
    half = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
    luma = cv2.extractChannel(cv2.transform(even, yuv_matrix(matrix)), 0)
    small = cv2.transform(half, yuv_matrix(matrix))
    return [luma, cv2.extractChannel(small, 1), cv2.extractChannel(small, 2)]


def silent_composite(path: Path, film: Film) -> Movie:
    """The composite as H.264, its sound still to come."""

    def planes(shot: Shot) -> list[np.ndarray]:
        return _yuv420(shot.composed(), film.proxy.matrix)

    return Movie(
        path, film, muxer="matroska", codec="libx264", form="yuv420p", planes=planes, even=True,
        options={"preset": "medium", "crf": "16", "bf": "0"}, tags=film.proxy.tags,
        gop=_gop(film),
    )  # fmt: skip


# ------------------------------------------------------------------------------------- archive


class Archive(Writer):
    """A Matroska file with the source's own video and sound, and an FFV1 track per person."""

    OPTIONS: ClassVar = {"level": "3", "coder": "0", "context": "0", "slices": "4", "slicecrc": "1"}

    def __init__(
        self, path: Path, film: Film, source: str, numbers: Sequence[int],
        video_stream: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(path)
        self._film, self._numbers, self._video_stream = film, list(numbers), video_stream
        self._pts: list[int] = []
        self._silent = self.partial.with_name(self.partial.name + ".mattes")
        self._source = source
        self._mattes = av.open(f"file:{self._silent}", "w", format="matroska")
        self._tracks = {}
        for number in self._numbers:
            stream = self._mattes.add_stream("ffv1", rate=film.rate or 25)
            context = stream.codec_context
            context.height, context.width = film.size
            context.pix_fmt = "gray"
            stream.time_base = context.time_base = film.time_base
            context.gop_size = context.thread_count = 1
            context.color_range = 2
            context.options = self.OPTIONS
            self._tracks[number] = stream
        self._closed = False

    def write(self, shot: Shot) -> None:
        self._pts.append(shot.pts)
        shift = min(0, self._pts[0])
        for number, stream in self._tracks.items():
            picture = picture_of([shot.alphas[number]], "gray")
            picture.pts, picture.time_base = shot.pts - shift, self._film.time_base
            picture.color_range = 2
            self._mattes.mux(stream.encode(picture))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for stream in self._tracks.values():
            self._mattes.mux(stream.encode(None))
        self._mattes.close()
        if self._pts:
            self._join()
        self._silent.unlink(missing_ok=True)

    def discard(self) -> None:
        self._pts.clear()
        super().discard()

    def _join(self) -> None:
        """Source and mattes in one file, packets in the order of their times."""
        film = self._film
        with (
            open_container(self._source) as given,
            # with nobody in it, FFmpeg has not even begun the file of mattes
            (open_container(str(self._silent)) if self._numbers else nullcontext()) as mattes,
            av.open(f"file:{self.partial}", "w", format="matroska") as out,
        ):
            if film.timecode:
                out.metadata["timecode"] = film.timecode
            targets: dict[int, Any] = {}
            video = next(
                stream for stream in given.streams.video
                if self._video_stream in (None, stream.index)
            )  # fmt: skip
            for stream in [video, *given.streams.audio]:
                if stream.codec_context is None:
                    self.notes.append(f"stream {stream.index} of the source is of unknown kind")
                    continue
                targets[stream.index] = out.add_stream_from_template(stream)
            targets[video.index].metadata["title"] = "source"
            tracks = []
            streams = mattes.streams.video if mattes else ()
            for number, stream in zip(self._numbers, streams, strict=True):
                track = out.add_stream_from_template(stream)
                track.time_base = film.time_base
                track.metadata["title"] = film.names[number]
                track.metadata["PERSON_ID"] = str(number)
                tracks.append(track)
            times = {"time_base": str(film.time_base), "pts": self._pts}
            out.add_attachment("times.json", "application/json", json.dumps(times).encode())
            waiting = self._source_packets(given, targets)
            coming = next(waiting, None)
            count = len(tracks)
            frame = 0
            for packet in mattes.demux() if mattes else ():
                if not packet.size:
                    continue
                which, index = packet.stream_index, frame // max(1, count)
                frame += 1
                when = float(self._pts[index] * film.time_base)
                while coming is not None and coming[0] <= when:
                    out.mux(coming[1])
                    coming = next(waiting, None)
                packet.pts = packet.dts = self._pts[index] - min(0, self._pts[0])
                packet.time_base = film.time_base
                packet.stream = tracks[which]
                out.mux(packet)
            while coming is not None:
                out.mux(coming[1])
                coming = next(waiting, None)

    def _source_packets(self, given: Any, targets: Mapping[int, Any]) -> Any:
        last = 0.0
        for packet in given.demux([given.streams[i] for i in targets]):
            if not packet.size or packet.dts is None:
                continue
            last = float(packet.dts * packet.time_base)
            packet.stream = targets[packet.stream_index]
            yield last, packet


# ----------------------------------------------------------------------------------- sequences


class Sequence_(Writer):
    """A folder with a file per frame, `NAME.000001.ext`, numbered from 1."""

    def __init__(self, path: Path, stem: str, first: int = 1) -> None:
        super().__init__(path)
        self._stem, self._first = stem, first
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)

    def _file(self, shot: Shot, ext: str) -> Path:
        return self.partial / f"{self._stem}.{shot.index + self._first:06}.{ext}"

    def close(self) -> None:
        pass


class PngPerson(Sequence_):
    """RGBA of one person, straight as PNG has it; 16 bits where the source has more than 8."""

    def __init__(self, path: Path, film: Film, number: int) -> None:
        super().__init__(path, film.names[number])
        self._number = number

    def write(self, shot: Shot) -> None:
        freed, alpha = shot.freed(self._number), shot.alphas[self._number]
        if shot.deep is not None:
            rgb = np.clip(np.rint(freed * 65535), 0, 65535).astype(np.uint16)
            alpha = alpha.astype(np.uint16) * 257
        else:
            rgb = np.clip(np.rint(freed * 255), 0, 255).astype(np.uint8)
        bgra = cv2.merge([*cv2.split(rgb)[::-1], alpha])
        ok, data = cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        if not ok:
            raise OSError(f"frame {shot.index} cannot be coded as PNG")
        self._file(shot, "png").write_bytes(data.tobytes())


class ExrLayers(Sequence_):
    """The plate as bare RGBA, and a layer for each person, the same on every frame.

    Half floats in linear light; premultiplied, as OpenEXR has it, unless straight is asked for.
    """

    def __init__(
        self, path: Path, film: Film, numbers: Sequence[int], stem: str, alpha_mode: str
    ) -> None:
        super().__init__(path, stem)
        self._film, self._numbers, self._mode = film, list(numbers), alpha_mode
        self._exr = exr_package()

    def write(self, shot: Shot) -> None:
        transfer = self._film.colour.tags["color_trc"]
        plate = to_linear(shot.best, transfer).astype(np.float16)
        channels = {name: plate[:, :, i].copy() for i, name in enumerate("RGB")}
        for number in self._numbers:
            alpha = shot.alphas[number]
            share = alpha.astype(np.float32) / np.float32(255)
            freed = shot.freed(number)
            codes = np.clip(np.rint(freed * 65535), 0, 65535).astype(np.uint16)
            light = to_linear(codes, transfer)
            if self._mode == PREMULTIPLIED:
                light *= share[:, :, None]
            layer = self._film.names[number]
            for i, name in enumerate("RGB"):
                channels[f"{layer}.{name}"] = light[:, :, i].astype(np.float16)
            channels[f"{layer}.A"] = share.astype(np.float16)
        channels["A"] = np.ones(self._film.size, np.float16)  # the plate hides what is behind it
        head = exr_head(self._exr, self._film, shot.index)
        head["troupe/alpha"] = self._mode
        head["troupe/transfer"] = str(transfer)
        write_exr(self._exr, self._file(shot, "exr"), head, channels)


class Cryptomatte(Sequence_):
    """Everyone's matte by name, exact: float32 ranks, the same layers on every frame."""

    def __init__(self, path: Path, film: Film, numbers: Sequence[int], stem: str) -> None:
        super().__init__(path, stem)
        self._film, self._numbers = film, list(numbers)
        self._exr = exr_package()
        self._crowded = 0

    def write(self, shot: Shot) -> None:
        names = [self._film.names[number] for number in self._numbers]
        channels, left_out = ranked(
            names, [shot.alphas[number] for number in self._numbers], self._film.size
        )
        self._crowded += left_out
        rgb = to_linear(shot.best, self._film.colour.tags["color_trc"]).astype(np.float16)
        channels |= {name: rgb[:, :, i].copy() for i, name in enumerate("RGB")}
        head = exr_head(self._exr, self._film, shot.index) | header(names)
        write_exr(self._exr, self._file(shot, "exr"), head, channels)

    def close(self) -> None:
        if self._crowded:
            self.notes.append(
                f"{self._crowded} times a pixel held more people than Cryptomatte ranks; the "
                "smallest shares were left out"
            )


def exr_package() -> Any:
    """The OpenEXR package.  Raises ImportError that says how to install it."""
    try:
        import OpenEXR
    except ImportError:
        raise ImportError(
            'EXR files need the OpenEXR package: pip install "troupe[exr]", or pip install OpenEXR'
        ) from None
    return OpenEXR


def exr_head(exr: Any, film: Film, index: int) -> dict[str, Any]:
    return {
        "compression": exr.ZIPS_COMPRESSION,  # lossless, fast, and a line can be read alone
        "type": exr.scanlineimage,
        "pixelAspectRatio": float(film.pixel_aspect),
        "framesPerSecond": film.rate or Fraction(25),
        "comments": film.comment,
    }


def write_exr(exr: Any, path: Path, head: dict[str, Any], channels: dict[str, np.ndarray]) -> None:
    """One EXR.  Channels are 2-D arrays of one dtype each."""
    head = dict(head)
    rate = head.pop("framesPerSecond", None)
    if rate is not None:
        head["troupe/rate"] = str(rate)
    whole = {name: np.ascontiguousarray(channel) for name, channel in channels.items()}
    with exr.File(head, whole) as file:
        file.write(str(path))
