"""Files in, `Frame`s out: every decodable picture of a video or of photographs, at its own time.

What a file says about itself is believed and applied here, so that nobody downstream needs to know:
rotation and mirroring (pixels come out upright), the colour matrix and range (pixels come out as
full-range RGB), presentation times (carried as ticks, never rebuilt from a frame rate).  What a
file leaves out is filled by the usual convention, and said in `notes`; what a file has lost is
said in `damage`, and everything that can still be decoded comes out all the same.

Sizes are (H, W) of the upright picture.  Only this module and `encode` know FFmpeg.
"""

from __future__ import annotations

import os
import re
import struct
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import dropwhile, islice
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.codec.hwaccel import HWAccel
from av.stream import Disposition
from av.video.reformatter import ColorRange, VideoReformatter

from matting.frames import MOST_ASPECT, Frame
from stream import hardware
from stream.colour import (
    BT601,
    BT601_PAL,
    BT709,
    BT2020,
    FULL,
    HDR_TRANSFERS,
    LIMITED,
    LUMA,
    SDR,
    UNSPECIFIED,
    Colour,
    deep_rgb,
    is_full,
    rgb_matrix,
    tone_mapped,
)
from stream.timecode import later

__all__ = ["BT601", "BT601_PAL", "BT709", "BT2020", "FULL", "LIMITED", "LUMA", "UNSPECIFIED",
           "Colour", "Door", "Index", "InputError", "Source", "index_of", "open_container",
           "open_source", "read_picture"]  # fmt: skip

# Containers that hold pictures themselves.  Playlists (hls, concat, dash, sdp ...) are left out on
# purpose: they name other files and addresses, and a clip from a stranger must not choose those.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,"
    "asf,ogg,nut,mxf,dv,gif,wtv,rm,mjpeg,yuv4mpegpipe,apng,mp3,aac,wav,flac,mpegtsraw,amr,aiff,ac3"
)
# What a header promises is not believed beyond these: a few bytes could ask for all memory.
MAX_PIXELS = 1 << 26  # of a video's frame: 8192 x 8192
MAX_PICTURE_PIXELS = 1 << 28  # of a photograph: 16384 x 16384
MAX_STREAMS = 64  # of a file: each costs memory before anything is decoded

HD_ROWS, HD_COLUMNS = 576, 1280  # above either, untagged video is BT.709 by convention, else BT.601

# Containers whose times are absolute and who seek by them; others are read from their start.
SEEKABLE = ("mov", "matroska")

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class InputError(ValueError):
    """The source cannot be read; the message says what was found and what would work."""


@dataclass(frozen=True)
class Limits:
    """What is taken from a file before it is refused: tighter for media from strangers."""

    pixels: int = MAX_PICTURE_PIXELS  # of a picture; a video's has no more than MAX_PIXELS
    seconds: float | None = None  # of a video, by its header and by its pictures' own times
    aspect: float = MOST_ASPECT  # of a picture, the longer side over the other


class Source(ABC):
    """A video or a set of pictures, known to be readable.  `frames()` may be called again.

    `damage` lists what was lost (each line a sentence), `notes` what was assumed or worked round.
    Both are complete when `frames()` has run out.
    """

    kind: str  # "video" or "images"
    uri: str
    size: tuple[int, int]  # (H, W) of the first picture, upright
    rate: Fraction | None  # pictures per second, nominal; None where it has no meaning
    time_base: Fraction  # seconds per tick of every frame's pts
    frames_estimate: int | None
    duration_seconds: float | None
    colour: Colour  # of the frames' 8-bit rgb
    deep_colour: Colour  # of the file's own numbers, and of the frames' `deep`
    bits: int  # of a component in the file
    trimmed: bool  # only the part between a start and an end
    timecode: str | None  # of the first frame there is, such as 01:02:03;04
    pixel_aspect: Fraction  # width of one pixel over its height
    has_audio: bool
    video_stream: int | None  # the number of the stream in the file; None where there is no choice
    names: list[str]  # images only: the output name of the picture whose pts is the index

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.rate = None
        self.frames_estimate = None
        self.duration_seconds = None
        self.colour = self.deep_colour = Colour()
        self.bits = 8
        self.timecode = None
        self.trimmed = False
        self.pixel_aspect = Fraction(1)
        self.has_audio = False
        self.video_stream = None
        self.names = []
        self.damage: list[str] = []
        self.notes: list[str] = []
        self._reading: Generator[Frame, None, None] | None = None

    @abstractmethod
    def _read(self) -> Generator[Frame, None, None]:
        """The frames; opens the file when the first is asked for, and closes it at the end."""

    def frames(self) -> Generator[Frame, None, None]:
        """Every picture that can be decoded, in the order of its time.

        The latest reading is closed with the source.
        """
        self._reading = self._read()
        return self._reading

    def again(self) -> Source:
        """The same pictures of the same file, opened once more."""
        return open_source(self.uri)

    def close(self) -> None:
        """Close the file, also in mid-reading, but not while another thread is in it."""
        if self._reading is not None:
            self._reading.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_source(
    uri: str | os.PathLike[str],
    *,
    threads: int = 2,
    start: str | None = None,
    end: str | None = None,
    deep: bool = False,
    limits: Limits | None = None,
    decoder: str = "cpu",
    video_stream: int | None = None,
    door: Door | None = None,
) -> Source:
    """Open a video file, a picture, or a folder of pictures, and decode its first frame.

    `threads` bounds the decoder.  `start` and `end` keep the frames between, both included: moments
    of the file's own clock (`12.5`, `1:02:03.5`) or numbers of frames counted from 0 (`300f`).
    `deep` fills `Frame.deep` where the file has more than 8 bits.  `decoder` is the `cpu`, `nvdec`
    on an NVIDIA GPU, or `auto`: that where it works.  `video_stream` is the
    number of a stream of the file, where it is not to be the one marked as default.  Nothing before
    a `door` (`index_of`) is read, and frames count on from its own number; a file that cannot be
    entered there is read from its start.  Raises
    InputError where not one frame can be had, or where the file is beyond the `limits`.
    """
    limits = limits or Limits()
    uri = os.fspath(uri)
    path = Path(uri)
    try:
        if path.is_dir():
            return _Pictures(uri, _pictures_in(path), limits)
        if not path.exists():
            if "://" in uri:
                raise InputError(
                    f"{uri} is an address; a video file, picture or folder is expected"
                )
            raise InputError(f"{uri}: there is no such file or folder")
        if not path.is_file():  # reading one could wait for ever, or never end
            raise InputError(f"{uri} is a pipe or a device, not a file; save the video to a file")
        with path.open("rb") as file:
            head = file.read(32)
    except InputError:
        raise
    except PermissionError:
        raise InputError(f"{uri}: no permission to read it") from None
    except (OSError, ValueError) as error:  # a name too long, a NUL in it, a device that refuses
        raise InputError(f"{uri}: cannot be opened ({error})") from None
    if not head:
        raise InputError(f"{uri} is empty (0 bytes); a video or a picture is expected")
    if _is_picture(head):
        return _Pictures(uri, [path], limits)
    span = Span.of(start, end)
    return _Video(uri, head, threads, limits, span, deep, decoder, video_stream, door)


class Door(NamedTuple):
    """A picture that a decoder can begin with."""

    frame: int  # its number, counted from 0
    pts: int
    seek: int  # ticks to ask the file for


@dataclass(frozen=True)
class Index:
    """When the frames of a file are, as its packets say, and where it can be entered."""

    pts: list[int]  # of every frame, in order
    doors: list[Door]

    def before(self, frame: int) -> Door | None:
        """The last door at or before this frame; None: begin at the start of the file."""
        at = bisect_right(self.doors, frame, key=lambda door: door.frame) - 1
        return self.doors[at] if at >= 0 and self.doors[at].frame else None


def index_of(uri: str | os.PathLike[str], video_stream: int | None = None) -> Index | None:
    """The index of a video file, from its packets; nothing is decoded.  None where they do not say
    enough to number the frames by: read such a file from its start.  What a damaged file's
    packets promise may not be there, so compare.
    """
    found: list[tuple[int, int, bool]] = []
    try:
        with open_container(os.fspath(uri)) as container:
            videos = [s for s in container.streams.video if s.index == video_stream]
            if not set(SEEKABLE) & set(container.format.name.split(",")) or not videos:
                return None
            for packet in container.demux(videos[0]):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None or packet.is_corrupt:
                    return None
                enter = packet.pts if packet.dts is None else packet.dts  # Matroska seeks by pts
                found.append((packet.pts, enter, packet.is_keyframe))
    except (av.error.FFmpegError, OSError):
        return None
    found.sort()
    pts = [when for when, _, _ in found]
    if not pts or len(set(pts)) < len(pts):
        return None
    return Index(pts, [Door(i, *told[:2]) for i, told in enumerate(found) if told[2]])


@dataclass(frozen=True)
class Span:
    """The part of a video that is wanted; ends are included."""

    first_seconds: Fraction | None = None
    last_seconds: Fraction | None = None
    first_frame: int | None = None
    last_frame: int | None = None

    @classmethod
    def of(cls, start: str | None, end: str | None) -> Span:
        """Read moments and numbers of frames.  Raises InputError where they make no sense."""
        (first, first_frame), (last, last_frame) = (_moment(text) for text in (start, end))
        for low, high in ((first, last), (first_frame, last_frame)):
            if low is not None and high is not None and low > high:
                raise InputError(f"the start {start} lies behind the end {end}")
        return cls(first, last, first_frame, last_frame)

    def over(self, index: int, seconds: Fraction) -> bool:
        """Whether this frame, and with it all later ones, lies behind the end."""
        if self.last_frame is not None and index > self.last_frame:
            return True
        return self.last_seconds is not None and seconds > self.last_seconds

    def begun(self, index: int, seconds: Fraction) -> bool:
        if self.first_frame is not None and index < self.first_frame:
            return False
        return self.first_seconds is None or seconds >= self.first_seconds


def _moment(text: str | None) -> tuple[Fraction | None, int | None]:
    """Seconds, or the number of a frame."""
    if text is None:
        return None, None
    if re.fullmatch(r"\d+f", text.strip()):
        return None, int(text.strip()[:-1])
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text.strip()):
        raise InputError(
            f"{text!r} is no moment of a video; write seconds (12.5), a time (1:02:03.5) or the "
            "number of a frame (300f)"
        )
    seconds = Fraction(0)
    for part in text.strip().split(":"):
        seconds = seconds * 60 + Fraction(part)
    return seconds, None


def open_container(
    path: str, hwaccel: HWAccel | None = None, **options: str
) -> av.container.InputContainer:
    """FFmpeg's view of a local file, and of nothing that file might point to."""
    return av.open(
        f"file:{path}",  # the prefix keeps a name such as "a:b.mp4" from being read as a protocol
        hwaccel=hwaccel,
        metadata_errors="replace",
        options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file", **options},
    )


# ---------------------------------------------------------------------------------------- video


class _DamagedPacket(Exception):
    """The decoder refused a packet."""


class _ClosedDoor(Exception):
    """The file could not be entered at its door."""


class _Video(Source):
    kind = "video"

    def __init__(
        self, uri: str, head: bytes, threads: int, limits: Limits, span: Span, deep: bool,
        decoder: str, wanted_stream: int | None, door: Door | None,
    ) -> None:  # fmt: skip
        super().__init__(uri)
        self._door = door
        self._decoder, self._without_gpu = decoder, ""  # why not NVIDIA's decoder, once it is known
        self._wanted_stream = wanted_stream
        self._threads = threads
        self._limits = limits
        self._span = span
        self.trimmed = span != Span()
        self._deep = deep
        self._head = head
        self._upright = "same"
        self.size = (0, 0)
        self.time_base = Fraction(1, 1)
        with closing(self.frames()) as frames:
            first = next(frames, None)
        if first is None:
            why = f" ({self.damage[0]})" if self.damage else ""
            if span != Span():
                raise InputError(f"{uri} has no frame between the given start and end{why}")
            raise InputError(f"{uri} has a video stream, but no frame of it can be decoded{why}")
        self.damage.clear()

    def again(self) -> Source:
        return _Video(
            self.uri, self._head, self._threads, self._limits, self._span, self._deep,
            self._decoder, self.video_stream, self._door,
        )  # fmt: skip

    def _read(self) -> Generator[Frame, None, None]:
        self.damage.clear()
        self.notes.clear()
        container, stream = self._open()
        try:
            self._describe(container, stream)
            pictures = self._timed(self._decoded(container, stream), stream)
            yield from self._converted(self._wanted(pictures))
            return
        except _ClosedDoor:
            self._door = None  # before anything was given
        finally:
            container.close()
        yield from self._read()

    def _open(
        self, threads: int | None = None
    ) -> tuple[av.container.InputContainer, av.VideoStream]:
        try:
            container = self._container()
        except PermissionError:
            raise InputError(f"{self.uri}: no permission to read it") from None
        except (av.error.FFmpegError, OSError, MemoryError, IndexError, UnicodeError) as error:
            raise InputError(self._unreadable(error)) from None
        if len(container.streams) > MAX_STREAMS:
            count = len(container.streams)
            container.close()
            raise InputError(
                f"{self.uri} holds {count} streams; more than {MAX_STREAMS} are not opened"
            )
        videos = [
            stream
            for stream in container.streams.video
            if not stream.disposition & Disposition.attached_pic  # cover art is not a video
        ]
        if not videos:
            what = "sound but no video stream" if container.streams.audio else "no video stream"
            cover = " (a cover picture does not count)" if container.streams.video else ""
            container.close()
            raise InputError(f"{self.uri} has {what}{cover}; a video or a picture is expected")
        if self._wanted_stream is not None:
            chosen = [stream for stream in videos if stream.index == self._wanted_stream]
            if not chosen:
                there = ", ".join(str(stream.index) for stream in videos)
                container.close()
                raise InputError(
                    f"{self.uri} has no video stream {self._wanted_stream}; there are: {there} "
                    "(input.video_stream)"
                )
            videos = chosen
        marked = [stream for stream in videos if stream.disposition & Disposition.default]
        stream = (marked or videos)[0]
        self.video_stream = stream.index
        if len(videos) > 1:
            told = (
                f"the file holds {len(videos)} video streams; number {stream.index} is used "
                "(--video-stream takes another)"
            )
            if told not in self.notes:  # the file may be opened twice in a reading
                self.notes.append(told)
        if stream.codec_context is None:
            container.close()
            raise InputError(f"{self.uri}: {_undecodable(Path(self.uri))}")
        stream.thread_type = "AUTO"
        # a decoder on a GPU has few pictures of its own, and every thread would hold some
        stream.codec_context.thread_count = 1 if self._on_gpu else threads or self._threads
        context = stream.codec_context
        pixels, allowed = context.width * context.height, min(MAX_PIXELS, self._limits.pixels)
        if pixels > allowed:
            container.close()
            raise InputError(
                f"{self.uri}: the video says it is {context.width} x {context.height}, more than "
                f"{allowed / 2**20:.3g} megapixels; scale it down first"
            )
        context.options = {"max_pixels": str(allowed)}  # also where the size changes on the way
        if self._door:
            with suppress(av.error.FFmpegError):  # then the start is as good, only further away
                container.seek(self._door.seek, stream=stream)
        return container, stream

    @property
    def _on_gpu(self) -> bool:
        return self._decoder != "cpu" and not self._without_gpu

    def _container(self) -> av.container.InputContainer:
        """The file, with NVIDIA's decoder where that is wanted and there."""
        if self._on_gpu:
            try:
                return open_container(self.uri, hwaccel=hardware.decoder())
            except (av.error.FFmpegError, OSError) as error:
                # a machine without the decoder cannot open any file with it; is it the file?
                plain = open_container(self.uri)
                self._do_without_gpu(getattr(error, "strerror", None) or str(error), plain)
                return plain
        if self._without_gpu:
            self._note_decoder()  # a new reading has notes of its own
        return open_container(self.uri)

    def _do_without_gpu(self, why: str, opened: av.container.InputContainer | None = None) -> None:
        if self._decoder == "nvdec":
            if opened is not None:
                opened.close()
            raise InputError(
                f"{self.uri}: NVIDIA's decoder cannot be used ({why}); set pipeline.decoder to "
                "auto or cpu"
            )
        self._without_gpu = why
        self._note_decoder()

    def _note_decoder(self) -> None:
        told = f"decoded on the CPU: NVIDIA's decoder cannot be used ({self._without_gpu})"
        if told not in self.notes:
            self.notes.append(told)

    def _unreadable(self, error: Exception) -> str:
        text = self._head[:7].lower()
        if text == b"#extm3u" or self._head.startswith(b"ffconcat"):
            return f"{self.uri} is a playlist; name the video file itself"
        if self._head[4:8] == b"ftyp":
            return (
                f"{self.uri} is an MP4 without its index (moov): an unfinished recording or an "
                "incomplete copy; copy it again, or repair it with a tool such as untrunc"
            )
        told = getattr(error, "strerror", None) or type(error).__name__
        reason = "" if isinstance(error, av.error.InvalidDataError) else f" ({told})"
        return f"{self.uri} is not a video or picture that can be read{reason}"

    def _describe(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self.rate = stream.average_rate or stream.guessed_rate or None
        self.time_base = stream.time_base or (1 / self.rate if self.rate else Fraction(1, 25))
        if stream.duration:
            self.duration_seconds = float(stream.duration * self.time_base)
        elif container.duration:
            self.duration_seconds = container.duration / av.time_base
        self.frames_estimate = stream.frames or None
        if not self.frames_estimate and self.duration_seconds and self.rate:
            self.frames_estimate = max(1, round(self.duration_seconds * self.rate))
        self.has_audio = bool(container.streams.audio)
        self.pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)
        self._promised_seconds = _promised_seconds(container, stream)
        self.timecode = _timecode(container)
        self._refuse_beyond(self.duration_seconds or 0.0)

    def _refuse_beyond(self, seconds: float) -> None:
        if self._limits.seconds is not None and seconds > self._limits.seconds:
            raise InputError(
                f"{self.uri} is longer than {self._limits.seconds:g} s, the limit that is set "
                "(limits.max_seconds)"
            )

    def _decoded(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[av.VideoFrame]:
        """Frames out of the decoder.  Each packet is tried alone, so one bad packet costs one.

        Several threads decode faster, but FFmpeg loses what they hold when one of them fails.  So
        from the first failure on a single one reads the file again, up to there without use.
        """
        given = 0
        if self._threads > 1 or self._on_gpu:
            try:
                for picture in self._tried(container, stream, stop_at_damage=True):
                    given += 1
                    yield picture
                return
            except _DamagedPacket:
                if self._on_gpu:  # the file, or the decoder: the CPU tells
                    self._without_gpu = "it refused a part of the file"
            container, stream = self._open(threads=1)
        with container:
            yield from islice(self._tried(container, stream), given, None)

    def _tried(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        stop_at_damage: bool = False,
    ) -> Iterator[av.VideoFrame]:
        bad_packets = bad_frames = 0
        last_seconds = None
        broken_off = None
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (av.error.FFmpegError, OSError) as error:
                broken_off = getattr(error, "strerror", None) or str(error)
                packet = None  # no more can be read: let the decoder give what it still holds
            try:
                pictures = stream.codec_context.decode(packet)
                bad_packets += bool(packet is not None and packet.is_corrupt)
            except EOFError:  # flushed already
                break
            except (av.error.FFmpegError, ValueError, MemoryError):
                if stop_at_damage:
                    raise _DamagedPacket from None
                bad_packets += 1
                pictures = []
            for picture in pictures:
                bad_frames += picture.is_corrupt
                if picture.time is not None:
                    last_seconds = picture.time
                yield picture
            if packet is None or packet.size == 0:  # the flush
                break
        where = "" if last_seconds is None else f" after {last_seconds:.2f} s"
        if broken_off:
            self.damage.append(f"the file breaks off{where} ({broken_off})")
        elif self._promised_seconds and last_seconds is not None:
            missing = self._promised_seconds - last_seconds
            if missing > max(0.5, 5 / float(self.rate or 25)):
                self.damage.append(
                    f"the file ends{where}, {missing:.2f} s before the length its header states"
                )
        if bad_packets:
            self.damage.append(f"{bad_packets} damaged packet{'s' * (bad_packets > 1)}")
        if bad_frames:
            self.damage.append(f"{bad_frames} frame{'s' * (bad_frames > 1)} decoded with errors")

    def _timed(
        self, pictures: Iterator[av.VideoFrame], stream: av.VideoStream
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Give every picture a time later than the one before it; real times are left alone."""
        step = max(1, round(1 / ((self.rate or Fraction(25)) * self.time_base)))
        previous = None
        made_up = 0
        for picture in pictures:
            pts = picture.pts
            if pts is None:
                pts = 0 if previous is None else previous + step
                made_up += 1
            elif previous is not None and pts <= previous:
                # One tick is enough for a repeated time; a clock that went back starts over here.
                pts = previous + (1 if pts > previous - step else step)
                made_up += 1
            previous = pts
            yield pts, picture
        if made_up:
            self.notes.append(
                f"{made_up} frames had no time of their own, or one already past; "
                f"theirs were counted on at {float(self.rate or 25):g} frames per second"
            )

    def _wanted(
        self, pictures: Iterator[tuple[int, av.VideoFrame]]
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """The pictures within the span.  Those before it are decoded and thrown away: exact in
        every file, at a fraction of what matting a frame costs."""
        begun = False
        if door := self._door:
            pictures = dropwhile(lambda timed: timed[0] < door.pts, pictures)
        for index, (pts, picture) in enumerate(pictures, door.frame if door else 0):
            if door and index == door.frame and pts != door.pts:
                raise _ClosedDoor
            seconds = pts * self.time_base
            if self._span.over(index, seconds):
                return
            if not self._span.begun(index, seconds):
                continue
            if index and self.timecode and not begun:
                self.timecode = later(self.timecode, index, self.rate or Fraction(25))
            begun = True
            yield pts, picture

    def _converted(self, pictures: Iterator[tuple[int, av.VideoFrame]]) -> Iterator[Frame]:
        """Upright full-range RGB, all of the first picture's size."""
        to_rgb = _ToRgb()
        coded_size = None
        resized = 0
        began = None
        for pts, picture in pictures:
            began = pts if began is None else began
            self._refuse_beyond(float((pts - began) * self.time_base))  # headers may lie
            if coded_size is None:
                coded_size = picture.height, picture.width
                self._look_at(picture)
                hdr = self.deep_colour.transfer in HDR_TRANSFERS
            resized += coded_size != (picture.height, picture.width)
            deep = None
            if hdr or (self._deep and self.bits > 8):
                deep = deep_rgb(picture, coded_size, matrix_of(picture))
            if hdr and deep is not None:
                rgb = tone_mapped(deep, self.deep_colour)
            else:
                rgb = to_rgb(picture, coded_size)
            upright = turned(deep, self._upright) if deep is not None and self._deep else None
            yield Frame(turned(rgb, self._upright), pts, self.time_base, upright)
        if resized:
            self.notes.append(
                f"{resized} frames were of another size and were rescaled to the first frame's"
            )

    def _look_at(self, picture: av.VideoFrame) -> None:
        """What the first picture tells about all of them."""
        self._upright, odd_angle = _orientation(picture)
        turned_over = self._upright in ("transpose", "left", "right", "anti-transpose")
        height, width = picture.height, picture.width
        self.size = (width, height) if turned_over else (height, width)
        if turned_over:
            self.pixel_aspect = 1 / self.pixel_aspect
        self.colour = self.deep_colour = Colour(
            matrix=matrix_of(picture),
            primaries=int(picture.color_primaries or UNSPECIFIED),
            transfer=int(picture.color_trc or UNSPECIFIED),
            range=int(picture.color_range) or LIMITED,
        )
        self.bits = max(component.bits for component in picture.format.components)
        if odd_angle:
            self.notes.append("the file asks for a rotation that is no multiple of 90; not applied")
        if self.deep_colour.transfer in HDR_TRANSFERS:
            self.colour = SDR
            self.notes.append(
                f"the video is {HDR_TRANSFERS[self.deep_colour.transfer]}; the network and 8-bit "
                "results see it tone-mapped to BT.709, deep deliverables keep it as it is"
            )
        if picture.interlaced_frame:
            self.notes.append("the video is interlaced; fields are not separated")
        if any(component.is_alpha for component in picture.format.components):
            self.notes.append("the video's own transparency is ignored")


def _undecodable(path: Path) -> str:
    """Why FFmpeg has no decoder: the codec by the name the file itself gives it, where it does.

    An MP4 or MOV names it in its sample descriptions (ISO/IEC 14496-12, 8.5.2), before or after
    the pictures; Matroska as a text that begins with V_.
    """
    with path.open("rb") as file:
        head = file.read(1 << 20)
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        tail = file.read()
    for data in (head, tail):
        for found in re.finditer(rb"stsd.{12}([ -~]{4})", data, re.DOTALL):
            before = data[: found.start()]
            if before.rfind(b"vide") > before.rfind(b"soun"):
                kind = found[1].decode("ascii")
                if kind == "encv":
                    return "its video is encrypted; decrypt it first"
                return f"its video codec, {kind!r}, is unknown here; convert it to H.264"
    named = re.search(rb"V_[A-Z0-9_/]{2,30}", head)
    codec = f", {named[0].decode('ascii')!r}," if named else ""
    return f"its video codec{codec} is unknown here; convert it to H.264"


def _timecode(container: av.container.InputContainer) -> str | None:
    """The timecode of the first frame: a `tmcd` track in MOV and MP4, a tag elsewhere."""
    tags = [stream.metadata for stream in container.streams] + [container.metadata]
    for found in tags:
        for key, value in found.items():
            if key.lower() == "timecode" and re.fullmatch(
                r"\d{2}[:;.]?(\d{2}[:;.]){2}\d{2}", value
            ):
                return value
    return None


def _promised_seconds(
    container: av.container.InputContainer, stream: av.VideoStream
) -> float | None:
    """When the video should end by its header; None where the header does not speak of video."""
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    if stream.duration:
        return start + float(stream.duration * stream.time_base)
    stamp = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    if stamp:  # Matroska keeps a stream's own length in a tag
        hours, minutes, seconds = (float(part) for part in stamp.groups())
        return hours * 3600 + minutes * 60 + seconds
    if container.duration and not container.streams.audio and "matroska" in container.format.name:
        return container.duration / av.time_base
    return None


def matrix_of(picture: av.VideoFrame) -> int:
    """The H.273 code of the matrix that turns this picture into RGB, by tag or by convention."""
    tagged = int(picture.colorspace)
    if tagged in LUMA:
        return tagged
    hd = picture.height > HD_ROWS or picture.width >= HD_COLUMNS
    return BT709 if hd else BT601


class _ToRgb:
    """Decoded pictures as RGB.

    FFmpeg's own conversion to RGB cuts fractions off, which darkens a picture by one code on the
    way in and again at every later pass; this one rounds, and takes 0.8 ms for 960x540.
    """

    def __init__(self) -> None:
        self._reformat = VideoReformatter().reformat
        self._yuv = np.zeros((0, 0, 3), np.uint8)

    def __call__(self, picture: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
        """(H, W, 3) uint8 of `size`."""
        height, width = size
        full = is_full(picture)
        if picture.format.is_rgb or picture.format.name.startswith("pal"):
            same = self._reformat(picture, width, height, "rgb24", threads=1)
            return same.to_ndarray()
        if (picture.height, picture.width) != size or picture.format.name not in _PLAIN:
            kept = ColorRange.JPEG if full else ColorRange.MPEG
            form = picture.format
            shared = form.chroma_width(64), form.chroma_height(64)
            plain = {(32, 32): "yuv420p", (32, 64): "yuv422p"}.get(shared, "yuv444p")
            picture = self._reformat(
                picture, width, height, plain,
                src_color_range=kept, dst_color_range=kept, threads=1,
            )  # fmt: skip
        if self._yuv.shape[:2] != size:
            self._yuv = np.empty((*size, 3), np.uint8)
        planes = [_plane(plane) for plane in picture.planes[:3]]
        chroma = [
            plane if plane.shape == size
            else cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
            for plane in planes[1:]
        ]  # fmt: skip
        cv2.merge([planes[0], *chroma], dst=self._yuv)
        return cv2.transform(self._yuv, rgb_matrix(matrix_of(picture), full))


_PLAIN = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")


def _plane(plane: av.video.plane.VideoPlane) -> np.ndarray:
    """(h, w) uint8 over the decoder's own memory: valid as long as the picture is."""
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def _orientation(picture: av.VideoFrame) -> tuple[str, bool]:
    """How to turn the stored picture upright, and whether the file asks for a slanted angle.

    The display matrix (ISO 14496-12, 8.5.2) maps a stored point (x, y) to (a x + c y, b x + d y),
    y downwards.  Eight of them are turns by quarters and mirrors.
    """
    for data in picture.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(data), np.int32)[:5])
            break
    else:
        return "same", False
    if max(abs(b), abs(c)) * 100 < min(abs(a), abs(d)):
        names = {(0, 0): "same", (1, 0): "mirror", (0, 1): "flip", (1, 1): "half"}
        return names[a < 0, d < 0], False
    if max(abs(a), abs(d)) * 100 < min(abs(b), abs(c)):
        names = {(0, 0): "transpose", (1, 0): "right", (0, 1): "left", (1, 1): "anti-transpose"}
        return names[c < 0, b < 0], False
    return "same", True


def turned(rgb: np.ndarray, how: str) -> np.ndarray:
    """The picture after one of the eight turns; "left" and "right" are quarter turns."""
    match how:
        case "mirror":
            return cv2.flip(rgb, 1)
        case "flip":
            return cv2.flip(rgb, 0)
        case "half":
            return cv2.rotate(rgb, cv2.ROTATE_180)
        case "right":
            return cv2.rotate(rgb, cv2.ROTATE_90_CLOCKWISE)
        case "left":
            return cv2.rotate(rgb, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case "transpose":
            return cv2.transpose(rgb)
        case "anti-transpose":
            return cv2.flip(cv2.transpose(rgb), -1)
    return rgb


# ------------------------------------------------------------------------------------- pictures


class _Pictures(Source):
    """Photographs: pts counts them, and a tick of one second only keeps them apart."""

    kind = "images"

    def __init__(self, uri: str, files: list[Path], limits: Limits) -> None:
        super().__init__(uri)
        self._files = files
        self._limits = limits
        self.time_base = Fraction(1)
        self.names = _names(files)
        self.frames_estimate = len(files)
        with closing(self.frames()) as frames:
            first = next(frames, None)
        if first is None:
            raise InputError(f"{uri}: {self.damage[0]}")
        self.size = first.size
        self.damage.clear()

    def _read(self) -> Generator[Frame, None, None]:
        self.damage.clear()
        for index, file in enumerate(self._files):
            try:
                rgb = read_picture(file, self._limits)
                yield Frame(rgb, index, self.time_base)
            except InputError as error:
                self.damage.append(str(error))


def read_picture(file: Path, limits: Limits) -> np.ndarray:
    """(H, W, 3) uint8 RGB of one picture file, turned upright by its EXIF tag."""
    try:
        data = np.fromfile(file, np.uint8)
        height, width = _declared_size(data[:65536].tobytes())
        if height * width > limits.pixels:
            raise InputError(
                f"{file}: the picture says it is {width} x {height}, more than "
                f"{limits.pixels / 2**20:.3g} megapixels; scale it down first"
            )
        if _png_is_cut(data):
            raise InputError(f"{file}: the picture breaks off or is damaged; copy it again")
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, cv2.error, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) else "damaged, or far too large"
        raise InputError(f"{file}: the picture cannot be read ({reason})") from None
    if bgr is None:
        raise InputError(f"{file}: the picture cannot be decoded (damaged or of an unknown kind)")
    height, width = bgr.shape[:2]
    if max(height, width) > limits.aspect * min(height, width):  # or the engine would end the run
        raise InputError(
            f"{file}: the picture is {width} x {height}; a side more than {limits.aspect:g} times "
            "the other is not matted, so cut it into pieces"
        )
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _declared_size(head: bytes) -> tuple[int, int]:
    """(H, W) that a PNG or JPEG claims, before anything is allocated for it; (0, 0) if not told."""
    if head.startswith(b"\x89PNG") and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
        return height, width
    at = 2
    while head.startswith(b"\xff\xd8") and at + 9 <= len(head):
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if head[at] != 0xFF or marker == 0xFF:  # fill bytes
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return height, width
        else:
            at += 2 + length
    return 0, 0


def _png_is_cut(data: np.ndarray) -> bool:
    """Whether a PNG's pieces claim more bytes than there are; OpenCV would allocate the claim."""
    if data[:4].tobytes() != b"\x89PNG":
        return False
    at = 8
    while at + 12 <= len(data):  # length, name, contents, checksum
        length = int.from_bytes(data[at : at + 4].tobytes(), "big")
        if data[at + 4 : at + 8].tobytes() == b"IEND":
            return False
        at += 12 + length
    return True


def _is_picture(head: bytes) -> bool:
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return webp or head.startswith(
        (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")
    )


def _pictures_in(folder: Path) -> list[Path]:
    files = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in PICTURES and file.is_file() and not file.name.startswith(".")
    ]
    if not files:
        raise InputError(f"{folder} holds no pictures ({', '.join(PICTURES)})")
    return sorted(files, key=_counting)


def _counting(file: Path) -> list[tuple[bool, int, str]]:
    """A sort key under which 2.png comes before 10.png."""
    parts = re.split(r"(\d+)", file.name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _names(files: list[Path]) -> list[str]:
    """One output name per picture: its stem, with the suffix where two would collide."""
    stems = [file.stem for file in files]
    names = [
        file.name.replace(".", "_") if stems.count(file.stem) > 1 else file.stem for file in files
    ]
    return names
