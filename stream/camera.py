"""Live sources: a camera, a network stream, the screen, a file in real time, a browser's camera.

A reader thread decodes and leaves each picture in a place for one (`newest.py`), so whoever works
on the pictures always gets the latest and the rest is counted as dropped.  A live source does not
fail: when pictures stop, for whatever reason, `take` hands out a slate that says why within
`STALL_SECONDS`, and the reader connects again after 1, 2, 4, ... at most 30 seconds.

The size is fixed by the first picture, because recordings and virtual cameras cannot change
theirs; a camera that comes back with another size is fitted into it.  `Frame.pts` is the moment of
arrival on this machine's steady clock, since the first picture: clocks of cameras jump.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from matting.frames import Frame
from stream.compose import write_text
from stream.decode import (
    CONTAINERS,
    MAX_PIXELS,
    InputError,
    _orientation,
    _ToRgb,
    turned,
)
from stream.newest import Newest

STALL_SECONDS = 1.2  # without a picture for this long, the slate is shown
SLATE_RATE = 5.0  # slates per second: sinks want to be fed
SLATE_SIZE = (720, 1280)  # while nothing is known of the camera yet
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0  # before connecting again
OPEN_SECONDS, READ_SECONDS = 10.0, 3.0  # how long a connection may take, and then say nothing
STUCK_SECONDS = 20.0  # a driver that does not return for so long is left alone and opened anew
TICKS = 90_000  # of pts, per second
ALONE = ("mjpeg", "rawvideo")  # codecs of cameras whose pictures do not lean on one another
NETWORK = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "http", "https", "tcp", "udp", "rtp")

# What an address may open by itself: a playlist from the network must not read local files.
PROTOCOLS = (
    "tcp,udp,udplite,rtp,srtp,tls,dtls,http,https,httpproxy,crypto,rtmp,rtmps,rtmpt,rtmpts,srt"
)


def redacted(uri: str) -> str:
    """The address without name, password and query: what may be shown and logged."""
    uri = re.sub(r"(?<=://)[^/@\s]*@", "***@", uri)
    return re.sub(r"(?<=://)([^\s?#]*)[?#]\S*", r"\1?***", uri)


def secrets_of(uri: str) -> list[str]:
    """The parts of an address that must not be repeated by an error message either."""
    found = re.findall(r"://([^/@\s]*)@", uri) + re.findall(r"://[^\s?#]*[?#](\S+)", uri)
    return [
        part for whole in found for part in (whole, *re.split(r"[:&=]", whole)) if len(part) > 2
    ]


@dataclass(frozen=True)
class Wanted:
    """What is asked of a source.  Cameras take what they have nearest to it."""

    size: tuple[int, int] | None = None  # (H, W)
    rate: float | None = None  # pictures per second
    coding: str | None = None  # how a camera sends them: mjpeg, yuyv422, h264
    loop: bool = False  # files: start over at the end


@dataclass(frozen=True)
class Address:
    """What FFmpeg is told to open for a source."""

    kind: str  # "camera" | "screen" | "network" | "file" | "test" | "browser"
    file: str
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)


def address_of(uri: str, wanted: Wanted = Wanted(), platform: str = sys.platform) -> Address:
    """Read `0`, `/dev/video0`, `screen`, `test`, `browser`, an address or the path of a file.

    Raises InputError where it can be known at once that nothing will come of it.
    """
    size = f"{wanted.size[1]}x{wanted.size[0]}" if wanted.size else None
    rate = f"{wanted.rate:g}" if wanted.rate else None
    grab = {k: v for k, v in {"video_size": size, "framerate": rate}.items() if v}
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    if uri == "browser":
        return Address("browser", uri)
    if uri == "test":
        picture = f"testsrc2=size={size or '1280x720'}:rate={rate or '30'}"
        return Address("test", picture, "lavfi")
    if uri == "screen" or uri.startswith("screen:"):
        return _screen(uri.partition(":")[2], grab, platform)
    if uri.isdecimal() or uri.startswith(("/dev/video", "camera:")):
        return _camera(uri.removeprefix("camera:"), grab, wanted.coding, platform)
    if scheme in NETWORK:
        return Address("network", uri, None, _network_options(scheme))
    if scheme:
        raise InputError(
            f"{redacted(uri)}: cannot open {scheme}:// as a live source; {', '.join(NETWORK)} can"
        )
    if not os.path.isfile(uri):
        raise InputError(
            f"{uri}: no such file, and not a live source; those are a camera (0, /dev/video0, "
            "camera:NAME), screen, test, browser, or an address such as rtsp://…"
        )
    return Address("file", f"file:{uri}", None,
                   {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"})  # fmt: skip


def _camera(name: str, grab: dict[str, str], coding: str | None, platform: str) -> Address:
    options = dict(grab)
    if (
        platform == "darwin"
    ):  # names or numbers of `ffmpeg -f avfoundation -list_devices true -i ""`
        options.setdefault("framerate", "30")  # AVFoundation has no default that cameras accept
        return Address("camera", f"{name}:none", "avfoundation", options)
    if platform == "win32":  # names of `ffmpeg -f dshow -list_devices true -i dummy`
        if name.isdecimal():
            raise InputError(
                f"camera {name}: cameras have names on Windows; say camera:NAME, with a name of "
                "ffmpeg -f dshow -list_devices true -i dummy"
            )
        return Address("camera", f"video={name}", "dshow", {"rtbufsize": "64M", **options})
    options.setdefault("video_size", "1280x720")
    # USB has no room for 30 uncompressed HD pictures a second; nearly every webcam has MJPEG.
    options["input_format"] = coding or "mjpeg"
    path = f"/dev/video{name}" if name.isdecimal() else name
    if not os.path.exists(path):
        there = sorted(str(p) for p in Path("/dev").glob("video*"))
        raise InputError(
            f"there is no camera {path}; "
            + (
                f"there are {', '.join(there)}"
                if there
                else "this machine shows none (/dev/video*)"
            )
        )
    return Address("camera", path, "v4l2", options)


def _screen(which: str, grab: dict[str, str], platform: str) -> Address:
    if platform == "darwin":
        return Address("screen", f"Capture screen {which or 0}:none", "avfoundation", grab)
    if platform == "win32":
        return Address("screen", "desktop", "gdigrab", grab)
    display = which or os.environ.get("DISPLAY", "")
    if not display:
        raise InputError(
            "there is no X display to take the screen from (DISPLAY is not set); on Wayland, share "
            "the screen through the page instead: --source browser"
        )
    return Address("screen", display, "x11grab", grab)


def _network_options(scheme: str) -> dict[str, str]:
    options = {"protocol_whitelist": PROTOCOLS, "fflags": "nobuffer", "flags": "low_delay",
               "analyzeduration": "1000000", "probesize": "1000000"}  # fmt: skip
    if scheme.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # pictures torn by lost UDP packets look like people
    if scheme == "srt":
        options["latency"] = "120000"  # microseconds
    return options


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """What a live source gives: a picture, or the slate that stands in for it."""

    frame: Frame
    arrived: float  # time.monotonic() when the picture was there
    slate: bool = False


class LiveSource:
    """One live source, read on a thread of its own.  `take` may be called from one thread.

    Raises InputError when the address cannot mean anything; a camera that does not answer is no
    error but a slate.  A file ends (`ended`); nothing else does.
    """

    def __init__(
        self,
        uri: str,
        wanted: Wanted = Wanted(),
        *,
        size: tuple[int, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self.uri = uri
        self.shown = redacted(uri)
        self._wanted = wanted
        self.kind = address_of(uri, wanted).kind
        self._clock = clock
        self._first_wait = first_wait_seconds
        self.size = size  # (H, W) of every frame, once known
        self.rate: Fraction | None = None  # what the source says of itself
        self.state = "connecting"  # or "playing", "lost", "ended"
        self.problem = ""  # why there is no picture
        self.reconnects = 0
        self.damaged = 0  # packets or pictures that could not be decoded
        self.received = 0  # pictures
        self._begun = clock()
        self._last_pts = -1
        self._last_picture = clock()
        self._last_slate = -1.0
        self._retry_at = 0.0
        self._stop = threading.Event()
        self._place: Newest[tuple[Any, float]] = Newest()
        self._to_rgb = _ToRgb()
        self._turned_like: tuple[int, int, int] | None = None  # what `_upright` was read from
        self._upright = "same"
        self._reader: _Reader | None = None
        if self.kind != "browser":
            self._reader = _Reader(self)
        else:
            self.problem = "waiting for a browser to share its camera"

    @property
    def dropped(self) -> int:
        return self._place.dropped

    @property
    def ended(self) -> bool:
        return self.state == "ended"

    def take(self, timeout_seconds: float = 0.1) -> Shot | None:
        """The newest picture; a slate when there has been none for a while; None otherwise."""
        found = self._place.take(timeout_seconds)
        now = self._clock()
        if found is not None:
            picture, arrived = found
            try:
                if isinstance(picture, _Undecoded):
                    picture = picture.decoded()
                rgb = picture if isinstance(picture, np.ndarray) else self._rgb(picture)
            except (ValueError, MemoryError, av.error.FFmpegError):
                self.damaged += 1
                return None
            self._last_picture = now
            return Shot(self._stamped(self._fitted(rgb), arrived), arrived)
        if self.ended or self._stop.is_set():
            return None
        if now - self._last_picture > STUCK_SECONDS and self._reader and self._reader.stuck(now):
            self._reader.leave()
            self.reconnects += 1
            self._reader = _Reader(self)
        silent = now - self._last_picture
        if silent >= STALL_SECONDS and now - self._last_slate >= 1 / SLATE_RATE:
            self._last_slate = now
            if self.state == "playing":
                self.state, self.problem = "lost", "the source has stopped sending pictures"
            return Shot(self._stamped(self._slate(now), now), now, slate=True)
        return None

    def wait(self, timeout_seconds: float) -> bool:
        """Whether a picture is there for `take`, or comes within the time given."""
        return self._place.wait(timeout_seconds)

    def push(self, rgb: np.ndarray) -> None:
        """A picture from outside, (H, W, 3) uint8 RGB: how a browser's camera comes in."""
        self._arrived(rgb)

    def lose(self, problem: str) -> None:
        """The one who pushed has gone."""
        self.state, self.problem = "lost", problem

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Stop reading.  A reader inside a driver that does not return is left behind."""
        self._stop.set()
        self._place.close()
        if self._reader:
            self._reader.join(timeout_seconds)

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- called by the reader ------------------------------------------------------------

    def _arrived(self, picture: Any) -> None:
        if self.state != "playing":
            self.state, self.problem = "playing", ""
            self._turned_like = None  # another connection may be another camera
        self.received += 1
        self._place.put((picture, self._clock()))

    # -- making frames -------------------------------------------------------------------

    def _rgb(self, picture: av.VideoFrame) -> np.ndarray:
        # A frame whose side data were read is kept by PyAV until Python looks for reference cycles,
        # which can be a hundred pictures later; so they are read when something else has changed.
        like = picture.rotation, picture.height, picture.width
        if like != self._turned_like:
            self._turned_like, self._upright = like, _orientation(picture)[0]
        return turned(self._to_rgb(picture, (picture.height, picture.width)), self._upright)

    def _stamped(self, rgb: np.ndarray, arrived: float) -> Frame:
        pts = max(self._last_pts + 1, round((arrived - self._begun) * TICKS))
        self._last_pts = pts
        return Frame(rgb, pts, Fraction(1, TICKS))

    def _fitted(self, rgb: np.ndarray) -> np.ndarray:
        """In the size of the first picture, whole, with black beside it where its shape differs."""
        if self.size is None:
            height, width = rgb.shape[:2]
            # 4:2:0 codecs and virtual cameras have no odd sizes; a row or column less is not seen.
            self.size = max(2, height & ~1), max(2, width & ~1)
        if rgb.shape[:2] == self.size:
            return rgb
        height, width = self.size
        if rgb.shape[0] - height in (0, 1) and rgb.shape[1] - width in (0, 1):
            return np.ascontiguousarray(rgb[:height, :width])
        scale = min(height / rgb.shape[0], width / rgb.shape[1])
        rows = max(1, min(height, round(rgb.shape[0] * scale)))
        columns = max(1, min(width, round(rgb.shape[1] * scale)))
        out = np.zeros((height, width, 3), np.uint8)
        top, left = (height - rows) // 2, (width - columns) // 2
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        out[top : top + rows, left : left + columns] = cv2.resize(
            rgb, (columns, rows), interpolation=how
        )
        return out

    def _slate(self, now: float) -> np.ndarray:
        size = self.size or self._wanted.size or SLATE_SIZE
        lines = ["No picture", self.problem or "connecting"]
        if self.kind != "browser" and self._retry_at > now:
            lines.append(f"trying again in {self._retry_at - now:.0f} s")
        return slate(size, lines)


def slate(size: tuple[int, int], lines: list[str]) -> np.ndarray:
    """(H, W, 3) uint8: a dark card with the lines on it, the first one larger."""
    height, width = size
    out = np.full((height, width, 3), (24, 26, 30), np.uint8)
    y = height * 0.42
    for index, line in enumerate(lines):
        text = line.encode("ascii", "replace").decode()  # the font has no more
        scale = height / (360 if index == 0 else 720)
        long, _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, round(scale)))[0]
        scale *= min(1.0, 0.92 * width / max(long, 1))
        long, _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, round(scale)))[0]
        write_text(out, text, (round((width - long) / 2), round(y)), scale)
        y += height * 0.08
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Undecoded:
    """A coded picture that needs no other: decoded only if it is still the newest when wanted."""

    codec: Any
    packet: av.Packet

    def decoded(self) -> av.VideoFrame:
        pictures = self.codec.decode(self.packet)
        if not pictures:
            raise ValueError("nothing came out of the decoder")
        if pictures[-1].height * pictures[-1].width > MAX_PIXELS:
            raise ValueError("the picture is too large")
        return pictures[-1]


class _Reader:
    """The thread that connects, decodes, and connects again; it belongs to one source."""

    def __init__(self, source: LiveSource) -> None:
        self._source = source
        self._left = False
        self._busy_since = time.monotonic()  # in one call to FFmpeg
        self._thread = threading.Thread(target=self._run, name=f"read {source.shown}", daemon=True)
        self._thread.start()

    def stuck(self, now: float) -> bool:
        return self._thread.is_alive() and now - self._busy_since > STUCK_SECONDS

    def leave(self) -> None:
        self._left = True

    def join(self, timeout_seconds: float) -> None:
        self._thread.join(timeout_seconds)

    @property
    def _over(self) -> bool:
        return self._left or self._source._stop.is_set()

    def _run(self) -> None:
        source = self._source
        wait = source._first_wait
        while not self._over:
            before = source.received
            problem = ""
            try:
                for picture in self._pictures():
                    if self._over:
                        return
                    source._arrived(picture)
                if source.kind == "file" and not source._wanted.loop:
                    source.state = "ended"
                    source._place.close()
                    return
                problem = "the source ended its stream"
            except Exception as error:  # whatever a driver or a server does is a reason to retry
                problem = _said(error, source)
            if source.received > before:
                wait = source._first_wait
            if self._over or (source.kind == "file" and source.received > before):
                continue
            source.state, source.problem = "lost", problem
            source._retry_at = source._clock() + wait
            source._stop.wait(wait)
            wait = min(LONGEST_WAIT_SECONDS, wait * 2)
            source.reconnects += 1

    def _pictures(self) -> Iterator[av.VideoFrame | _Undecoded]:
        source = self._source
        self._busy_since = time.monotonic()
        with open_live(address_of(source.uri, source._wanted)) as container:
            if not container.streams.video:
                raise InputError("there is sound but no picture in it")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise InputError("its video codec is unknown here")
            source.rate = stream.average_rate or stream.guessed_rate or source.rate
            stream.thread_type = "SLICE"  # threads per frame would each hold a picture back
            stream.codec_context.thread_count = 2
            pace = _Pace(source) if source.kind in ("file", "test") else None
            packets = container.demux(stream)
            with closing(packets):
                while not self._over:
                    self._busy_since = time.monotonic()
                    packet = next(packets, None)
                    if packet is None:
                        return
                    if pace is None and stream.codec_context.name in ALONE:
                        if packet.size:
                            yield _Undecoded(stream.codec_context, packet)
                        continue
                    try:
                        pictures = stream.codec_context.decode(packet)
                    except EOFError:
                        return
                    except (av.error.FFmpegError, ValueError, MemoryError):
                        source.damaged += 1
                        continue
                    for picture in pictures:
                        if picture.height * picture.width > MAX_PIXELS:
                            raise InputError(f"pictures of {picture.width} x {picture.height}")
                        if pace and not pace.wait(picture):
                            return
                        self._busy_since = time.monotonic()
                        yield picture


class _Pace:
    """Holds the pictures of a file back until it is their time."""

    def __init__(self, source: LiveSource) -> None:
        self._source = source
        self._begun: float | None = None
        self._count = 0

    def wait(self, picture: av.VideoFrame) -> bool:
        """Wait for the picture's moment; False when the source is being closed."""
        rate = float(self._source.rate or 25)
        seconds = picture.time if picture.time is not None else self._count / rate
        self._count += 1
        now = time.monotonic()
        if self._begun is None or seconds - (now - self._begun) > 5:  # a gap in a file is cut
            self._begun = now - seconds
        late = self._begun + seconds - now
        return not self._source._stop.wait(late) if late > 0 else not self._source._stop.is_set()


def open_live(address: Address) -> av.container.InputContainer:
    """FFmpeg's view of a live source, with an end to every wait."""
    return av.open(
        address.file,
        format=address.format,
        options={"max_pixels": str(MAX_PIXELS), **address.options},
        timeout=(OPEN_SECONDS, READ_SECONDS),
        metadata_errors="replace",
    )


def _said(error: Exception, source: LiveSource) -> str:
    """One line for people, with no password in it."""
    kinds: list[tuple[type[Exception], str]] = [
        (av.error.ExitError, "it does not answer"),
        (av.error.ProtocolNotFoundError, "this build of FFmpeg does not know such addresses"),
        (av.error.InvalidDataError, "it sends something that is not video"),
        (av.error.ConnectionRefusedError, "connection refused"),
    ]
    for kind, text in kinds:
        if isinstance(error, kind):
            return text
    if isinstance(error, InputError):
        text = str(error)
    else:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    for secret in sorted(secrets_of(source.uri), key=len, reverse=True):
        text = text.replace(secret, "***")
    return redacted(text)
