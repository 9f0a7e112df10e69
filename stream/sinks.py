"""Where a live picture goes: a stream or file, a recording with everyone's alpha, a virtual camera,
a window.  Any number at once.

Every sink has a thread of its own and a place for the newest picture, so none can hold up the
picture or another sink, and one that dies takes nobody with it: it says why, and sinks that lead
out of the program try again after 1, 2, 4, ... at most 30 seconds.  A recording keeps every picture
in order, up to `BACKLOG` of them in memory; what does not fit is counted as dropped.
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from matting.frames import Frame, Mattes
from stream import identities
from stream.camera import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, LiveSource, redacted, secrets_of
from stream.decode import BT709, Colour, InputError, Source
from stream.encode import Deliverables, OutputError
from stream.newest import Newest
from stream.send import NOMINAL_RATE, TIME_BASE, Encoder, Order

BACKLOG = 60  # pictures of a recording that may wait for the disk: two seconds
KEEP_FEEDING_SECONDS = 0.2  # a virtual camera gets the last picture again after this
STALLED_SECONDS = 8.0  # a server that takes no picture for so long is given up
PIPED_BYTES = 1 << 18
ROOT = Path(__file__).resolve().parent.parent
FORMATS = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp", "srt": "mpegts", "udp": "mpegts",
           "tcp": "mpegts", "http": "mpegts", "https": "mpegts"}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One picture on its way out."""

    frame: Frame
    mattes: Mattes  # confirmed people only, with the network's own edges
    composite: np.ndarray  # (H, W, 3) uint8
    arrived: float  # time.monotonic() when the picture reached the program
    ready: float  # and when its composite was done
    slate: bool = False
    # Everyone without background: straight colour (H, W, 3) and alpha (H, W), if a sink asked.
    cut_out: tuple[np.ndarray, np.ndarray] | None = None


class Sink(ABC):
    """A sink on a thread of its own, with the newest-picture policy."""

    retries = True  # whether a failure may pass
    wants_cut_out = False

    def __init__(self, shown: str) -> None:
        self.shown = shown  # what people are told it is; no password in it
        self.state = "waiting"  # "running", "retrying", "failed", "closed"
        self.problem = ""
        self.frames = 0
        self._place: Newest[Shown] = Newest()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink {shown}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._place.dropped

    def put(self, shown: Shown) -> None:
        """Leave the newest picture; never waits."""
        self._place.put(shown)

    def ask_to_close(self) -> None:
        self._stop.set()
        self._place.close()

    def close(self, timeout_seconds: float = 10.0) -> None:
        self.ask_to_close()
        self._thread.join(timeout_seconds)

    def status(self) -> dict[str, Any]:
        return {"sink": self.shown, "state": self.state, "problem": self.problem,
                "frames": self.frames, "dropped": self.dropped}  # fmt: skip

    # -- what a sink is

    @abstractmethod
    def _open(self, size: tuple[int, int]) -> None:
        """Get ready for pictures of (H, W).  May raise anything."""

    @abstractmethod
    def _write(self, shown: Shown) -> None: ...

    @abstractmethod
    def _shut(self) -> None: ...

    def _connected(self) -> bool:
        """Whether what was written has arrived somewhere."""
        return True

    def _idle(self, last: Shown) -> None:
        """Nothing new has come for a while."""

    def _reason(self, error: Exception) -> str:
        return str(error) or type(error).__name__

    # -- its thread

    def _run(self) -> None:
        wait = FIRST_WAIT_SECONDS
        size: tuple[int, int] | None = None
        last: Shown | None = None
        while True:
            shown = self._place.take(KEEP_FEEDING_SECONDS)
            if shown is None and self._stop.is_set():
                break
            try:
                if shown is None:
                    if last is not None and size is not None:
                        self._idle(last)
                        if self._connected():
                            self.state, self.problem = "running", ""
                    continue
                last = shown
                if size != shown.frame.size:
                    if size is not None:
                        self._shut()
                        size = None
                    self._open(shown.frame.size)
                    size = shown.frame.size
                self._write(shown)
                self.frames += 1
                if self._connected():
                    self.state, self.problem = "running", ""
                    wait = FIRST_WAIT_SECONDS
            except Exception as error:  # a sink that dies says so, and nobody else notices
                self.problem = self._reason(error)
                with suppress(Exception):
                    self._shut()
                size = None
                if not self.retries:
                    self.state = "failed"
                    return
                self.state = "retrying"
                if self._stop.wait(wait):
                    break
                wait = min(LONGEST_WAIT_SECONDS, wait * 2)
        if size is not None:
            try:
                self._shut()
            except Exception as error:
                self.problem = self._reason(error)
        self.state = "closed"


class StreamSink(Sink):
    """The composite as H.264: to `rtmp://`, `srt://`, `rtsp://`, `tcp://`, `udp://`, or a file.

    Raises InputError for an address of another kind.  A file is never replaced.
    """

    def __init__(self, uri: str, *, preset: str = "veryfast", kilobits: int | None = None) -> None:
        scheme = uri.partition("://")[0].lower() if "://" in uri else ""
        if scheme and scheme not in FORMATS:
            raise InputError(
                f"{redacted(uri)}: cannot send to {scheme}://; {', '.join(FORMATS)} or a file can"
            )
        if not scheme:
            path = Path(uri)
            if path.exists():
                raise OutputError(f"{uri} exists already; a live sink never replaces a file")
            if not path.parent.is_dir():
                raise OutputError(f"{uri}: there is no folder {path.parent}")
            if path.suffix.lower() not in (".mkv", ".ts"):
                # the end of a live file is never certain, and an MP4 without its end is lost
                raise OutputError(f"{uri}: record into .mkv or .ts, which survive a sudden end")
            self.retries = False
        self._uri, self._scheme = uri, scheme
        self._preset, self._kilobits = preset, kilobits
        self._encoder: Encoder | None = None  # of a file
        self._child: subprocess.Popen[bytes] | None = None  # of an address
        self._sent = False
        super().__init__(redacted(uri))

    def _open(self, size: tuple[int, int]) -> None:
        options: dict[str, str] = {}
        if not self._scheme:
            if self._uri.lower().endswith(".mkv"):
                options = {"live": "1", "flush_packets": "1", "cluster_time_limit": "500"}
        elif self._scheme == "rtsp":
            options = {"rtsp_transport": "tcp"}
        else:
            options = {"rw_timeout": "5000000", "flush_packets": "1"}
        target = self._uri if self._scheme else f"file:{self._uri}"
        order = Order(
            target, FORMATS.get(self._scheme), *size, self._preset, self._kilobits, options
        )
        if not self._scheme:
            self._encoder = Encoder(order)
            return
        self._child = subprocess.Popen(
            [sys.executable, "-m", "stream.send"], cwd=ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            start_new_session=True,  # Ctrl-C is for us: the stream is finished properly
        )  # fmt: skip
        if os.name == "posix":
            os.set_blocking(self._child.stdin.fileno(), False)  # type: ignore[union-attr]
        self._sent = False
        self._pour(order.line())

    def _connected(self) -> bool:
        if self._child is not None and not self._sent and os.name == "posix":
            self._sent = bool(select.select([self._child.stdout], [], [], 0)[0]) and (
                self._child.poll() is None
            )
            return self._sent
        return True

    def _write(self, shown: Shown) -> None:
        if self._encoder is not None:
            self._encoder.write(shown.composite, shown.frame.pts)
            return
        self._pour(struct.pack("<q", shown.frame.pts))
        self._pour(np.ascontiguousarray(shown.composite).data.cast("B"))

    def _pour(self, data: bytes | memoryview) -> None:
        """To the other process; OSError with its reason when it ends or takes no more."""
        assert self._child is not None and self._child.stdin is not None
        left, pipe = memoryview(data), self._child.stdin.fileno()
        end = time.monotonic() + STALLED_SECONDS
        try:
            while left:
                if os.name != "posix" or select.select([], [pipe], [], 0.2)[1]:
                    left = left[os.write(pipe, left[:PIPED_BYTES]) :]
                elif self._child.poll() is not None:
                    raise BrokenPipeError
                elif time.monotonic() > end:
                    raise TimeoutError("it takes no more pictures")
        except BrokenPipeError:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(2)
            said = self._child.stderr.read() if self._child.stderr else b""
            lines = said.decode(errors="replace").strip().splitlines()
            raise OSError(lines[-1] if lines else "the connection was lost") from None

    def _shut(self) -> None:
        encoder, self._encoder = self._encoder, None
        child, self._child = self._child, None
        if encoder is not None:
            encoder.close()
        if child is None:
            return
        with suppress(OSError):
            child.stdin.close()  # type: ignore[union-attr]
        try:
            child.wait(3)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe:
                pipe.close()

    def _reason(self, error: Exception) -> str:
        text = super()._reason(error)
        for secret in sorted(secrets_of(self._uri), key=len, reverse=True):
            text = text.replace(secret, "***")
        return redacted(text)


class VirtualCamera(Sink):
    """The composite as a camera for meetings (pyvirtualcam: v4l2loopback, or OBS's camera).

    The last picture is sent again while nothing new comes: browsers drop a camera that is silent.
    """

    def __init__(self, device: str | None = None) -> None:
        try:
            import pyvirtualcam  # GPL-2.0, installed by choice only
        except ImportError:
            raise InputError(
                "the virtual camera needs pyvirtualcam (GPL-2.0): pip install '.[live]'"
            ) from None
        self._package, self._device = pyvirtualcam, device
        self._camera: Any = None
        super().__init__(f"virtual camera {device or ''}".strip())

    def _open(self, size: tuple[int, int]) -> None:
        self._camera = self._package.Camera(
            width=size[1], height=size[0], fps=NOMINAL_RATE, device=self._device,
            fmt=self._package.PixelFormat.RGB,
        )  # fmt: skip

    def _write(self, shown: Shown) -> None:
        self._camera.send(np.ascontiguousarray(shown.composite))

    def _idle(self, last: Shown) -> None:
        self._write(last)

    def _shut(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()


class Window(Sink):
    """The composite in a window of its own; Escape or q closes it."""

    retries = False

    def __init__(self) -> None:
        import cv2

        gui = [line for line in cv2.getBuildInformation().splitlines() if "GUI:" in line]
        if not gui or "NONE" in gui[0].upper():
            raise InputError(
                "this OpenCV has no windows (opencv-python-headless is installed, so that servers "
                "need no display); use --serve and open the page, or install opencv-python in "
                "place of the headless package"
            )
        self._cv2 = cv2
        self._title = "Troupe"
        super().__init__("window")

    def _open(self, size: tuple[int, int]) -> None:
        self._cv2.namedWindow(self._title, self._cv2.WINDOW_NORMAL)
        self._cv2.resizeWindow(self._title, size[1], size[0])

    def _write(self, shown: Shown) -> None:
        self._cv2.imshow(self._title, shown.composite[:, :, ::-1])
        if self._cv2.waitKey(1) & 0xFF in (27, ord("q")):
            raise InputError("the window was closed")

    def _idle(self, last: Shown) -> None:
        self._cv2.waitKey(1)

    def _shut(self) -> None:
        with suppress(self._cv2.error):
            self._cv2.destroyWindow(self._title)


# ------------------------------------------------------------------------------------ recording


class LiveVideo(Source):
    """What a recording says of its source, which cannot be read again."""

    kind = "video"

    def __init__(self, uri: str, size: tuple[int, int]) -> None:
        super().__init__(uri)
        self.size = size
        self.rate = Fraction(NOMINAL_RATE)
        self.time_base = TIME_BASE
        self.colour = Colour(matrix=BT709)

    def _read(self) -> Generator[Frame, None, None]:
        raise InputError(f"{self.uri} was live, and cannot be read again")
        yield


class Recording(Sink):
    """Composite, everyone's alpha and people.json in a folder: what an offline run leaves.

    Pictures wait in line instead of replacing each other.  Times begin at the first one.
    """

    retries = False

    def __init__(self, folder: Path, source: LiveSource, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self.names: dict[int, str] = {}
        self.paths: list[Path] = []
        self.people: list[int] = []
        self.begun = time.monotonic()
        self._source, self._about = source, dict(about)
        self._line: deque[Shown] = deque()
        self._more = threading.Condition()
        self._lost = 0
        self._files: Deliverables | None = None
        self._video: LiveVideo | None = None
        self._origin = 0
        super().__init__(f"recording {folder.name}")

    @property
    def dropped(self) -> int:
        return self._lost

    def put(self, shown: Shown) -> None:
        with self._more:
            if self._stop.is_set() or self.state == "failed":
                return
            if len(self._line) >= BACKLOG:
                self._lost += 1
                return
            self._line.append(shown)
            self._more.notify()

    def ask_to_close(self) -> None:
        with self._more:
            self._stop.set()
            self._more.notify_all()

    def close(self, timeout_seconds: float = 120.0) -> None:
        super().close(timeout_seconds)

    def _run(self) -> None:
        try:
            while True:
                with self._more:
                    self._more.wait_for(lambda: self._line or self._stop.is_set())
                    if not self._line:
                        break
                    shown = self._line.popleft()
                if self._video is None:
                    self._open(shown.frame.size)
                    self._origin = shown.frame.pts
                    self.state = "running"
                if shown.frame.size == self._video.size:  # type: ignore[union-attr]
                    self._write(shown)
                    self.frames += 1
                else:
                    self._lost += 1
            self._shut()
            self.state = "closed"
        except Exception as error:
            self.problem, self.state = self._reason(error), "failed"
            with suppress(Exception):
                if self._files:
                    self._files.finish(complete=False)
            with self._more:
                self._line.clear()

    def _open(self, size: tuple[int, int]) -> None:
        self._video = LiveVideo(f"live:{self._source.shown}", size)
        self._about["names"] = self.names  # as they were typed; the same mapping, filled at the end
        self._files = Deliverables(self.folder, self._video, about=self._about)

    def _write(self, shown: Shown) -> None:
        assert self._files
        frame = Frame(shown.frame.rgb, shown.frame.pts - self._origin, shown.frame.time_base)
        self._files.write(frame, shown.mattes, shown.composite)

    def _shut(self) -> None:
        if self._files is None:
            return
        assert self._video
        if self._lost:
            self._video.notes.append(f"{self._lost} pictures were not recorded: the disk or the "
                                     "encoder was too slow")  # fmt: skip
        report = self._files.finish()
        self.paths, self.people = list(report.paths), list(report.people)
        given = {number: self.names[number] for number in self.people if number in self.names}
        if called := identities.usable(given):
            try:
                identities.rename(self.folder, called)
            except (OutputError, InputError) as error:  # the recording itself is whole
                self.problem = f"recorded, but without the names: {error}"
