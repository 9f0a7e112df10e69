"""Added latency of live, end to end: `python -m bench.latency`.

A camera stands at the far end of a TCP connection on this machine.  It sends 720p pictures of the
demo clip, each with its number burned in as black and white fields, and notes when it sent which.
The pictures go the whole way: decoder, network, tracker, composite (the first person blurred), JPEG
over a WebSocket to a page in this process, which decodes it, reads the number back from the pixels
and looks at the clock.  Two people are always there (bench/crowd.py).  Prints the latency of the
pictures that arrived (median, 95 %), of the loop alone, the rate, what was dropped, the drift (how
much later pictures are in the last third than in the first), and the processor time a picture takes
by thread: that says something on a busy machine too.  The page's thread stands for a browser;
whatever else it takes is the program's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from bench.crowd import Crowd
from bench.machine import printed
from configs.console import Console
from configs.schema import load
from engines.guard import GuardedEngine
from run_stream import WEIGHTS, new_tracker, ready_engine
from stream.camera import LiveSource
from stream.live import Live, Wishes
from web.hub import Hub
from web.server import Desk, Page, application
from web.uploads import Library

SIZE = (720, 1280)
BITS, FIELD = 16, 24  # of the number; pixels of a field's side
WARM_UP = 10  # pictures before anything is measured
HELPERS = "helpers"  # threads that Python did not start
PARTS = {
    "live": "the loop: decode, network, tracker, drawing, composite",
    HELPERS: "other threads of the network and of OpenCV",
    "sink page": "JPEG and map for the page",
    "page": "server",
    "read": "reader of the source",
    "camera": "the bench's camera, sending",
    "MainThread": "the bench's page, decoding",
}
CODED = 300  # pictures of the camera, each with a number of its own


def burned(rgb: np.ndarray, number: int) -> np.ndarray:
    """The picture with `number` in its upper left corner, a marker field before and after it."""
    for place in range(BITS + 2):
        on = place == 0 or (place <= BITS and number >> (place - 1) & 1)
        rgb[4 : 4 + FIELD, 4 + place * FIELD : 4 + (place + 1) * FIELD] = 235 if on else 20
    return rgb


def read_back(rgb: np.ndarray, size: Sequence[int] = SIZE) -> int | None:
    """The burned-in number; None where there is none (a slate).  `size` is the camera's: the page
    may be sent smaller pictures."""
    if rgb.shape[:2] != tuple(size):
        rgb = cv2.resize(rgb, tuple(size)[::-1], interpolation=cv2.INTER_LINEAR)
    middles = 4 + FIELD // 2 + FIELD * np.arange(BITS + 2)
    row = rgb[4 + FIELD // 2 - 3 : 4 + FIELD // 2 + 4, : middles[-1] + 1].mean(axis=(0, 2))[middles]
    on = row > 128
    if not on[0] or on[-1] or (np.abs(row - 128) < 40).any():
        return None
    return int((on[1:-1] * (1 << np.arange(BITS))).sum())


class NumberedCamera(threading.Thread):
    """Sends the clip over and over at `rate`; `sent` is when each number left.

    Pictures are coded before the first one is sent: a real camera does it with circuits of its own.
    They go as a network camera sends them (multipart JPEG), each with its length, so that whoever
    reads knows at once that a picture is whole.  After `CODED` of them the numbers begin anew.
    """

    def __init__(self, clip: str, rate: float) -> None:
        super().__init__(daemon=True)
        with av.open(clip) as container:
            shown = [
                cv2.resize(frame.to_ndarray(format="rgb24"), SIZE[::-1])
                for _, frame in zip(range(90), container.decode(video=0), strict=False)
            ]
        codec = av.CodecContext.create("mjpeg", "w")
        codec.height, codec.width = SIZE
        codec.pix_fmt, codec.time_base = "yuvj420p", Fraction(1, 25)
        codec.qmin = codec.qmax = 4
        codec.thread_count = 1
        self._coded = []
        for number in range(1, CODED + 1):
            rgb = burned(shown[number % len(shown)].copy(), number)
            (packet,) = codec.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24"))
            self._coded.append(bytes(packet))
        self._rate = rate
        self.sent: dict[int, float] = {}
        self.over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.uri = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self.name = "camera"
        self.start()

    def run(self) -> None:
        connection, _ = self._server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            begun = time.monotonic()
            for count in itertools.count():
                number, jpeg = count % CODED + 1, self._coded[count % CODED]
                head = f"--next\r\nContent-type: image/jpeg\r\nContent-length: {len(jpeg)}\r\n\r\n"
                time.sleep(max(0.0, begun + count / self._rate - time.monotonic()))
                if self.over.is_set():
                    return
                self.sent[number] = time.monotonic()
                try:
                    connection.sendall(head.encode() + jpeg + b"\r\n")
                except OSError:
                    return


def threads() -> dict[int, tuple[str, float]]:
    """Processor milliseconds of every thread of this process so far, by number, with its name."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    spent = {}
    for folder in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            busy = int((folder / "schedstat").read_text(encoding="ascii").split()[0]) / 1e6
            spent[int(folder.name)] = names.get(int(folder.name), HELPERS), busy
    return spent


def shares(
    before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]]
) -> dict[str, float]:
    """Processor milliseconds between the two, by what the threads are there for."""
    parts: dict[str, float] = {}
    for number, (name, busy) in after.items():
        part = PARTS.get(name.partition(" tcp")[0], name)
        parts[part] = parts.get(part, 0.0) + busy - before.get(number, ("", 0.0))[1]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clip", default="demo/bedroom.mp4")
    parser.add_argument("--rate", type=float, default=25.0, help="of the camera, per second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--people", type=int, default=2, help="scripted, always in view; 0: "
                        "those whom the network finds")  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings, as `live` has them")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    said = parser.parse_args()

    settings = load(said.config, said.set)
    console = Console(quiet=True)
    loaded = ready_engine(settings, console.note, in_flight=1)
    finds = Crowd(loaded, said.people) if said.people else loaded
    engine = GuardedEngine(finds, tell=console.warning, note=console.note)
    camera = NumberedCamera(said.clip, said.rate)
    hub, library = Hub(settings.live.preview_rows, settings.live.preview_quality), Library(10)
    live = Live(
        LiveSource(camera.uri), engine, lambda: new_tracker(settings),
        wishes=Wishes("keep", {1: "blur"}), sinks=[hub], calm=settings.people.calm,
    )  # fmt: skip
    page = Page(application(Desk(live, hub, library, WEIGHTS)), "127.0.0.1", 0)
    arrived: list[tuple[float, float]] = []  # when, and how late
    people: list[int] = []
    with live:
        from websockets.sync.client import connect

        with connect(f"ws://127.0.0.1:{page.port}/api/live", compression=None, max_size=None) as it:
            it.recv(60)
            while live.shown < WARM_UP:  # the first ones compile the network for this size
                time.sleep(0.05)
            shown, before = live.shown, threads()
            end = time.monotonic() + said.seconds
            while time.monotonic() < end:
                told = it.recv(30)
                if isinstance(told, str):
                    continue
                length = int.from_bytes(told[:4], "little")
                header = json.loads(told[4 : 4 + length])
                jpeg = told[4 + length + header["map"][0] * header["map"][1] :]
                bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                now = time.monotonic()
                it.send(json.dumps({"drawn": header["sequence"]}))
                number = None if header["slate"] or bgr is None else read_back(bgr, header["size"])
                if number in camera.sent:
                    arrived.append((now, now - camera.sent[number]))
                    people.append(len(header["people"]))
        parts = shares(before, threads())
        shown = live.shown - shown
        figures = live.figures()
    camera.over.set()
    page.close()
    library.close()
    loaded.close()
    if len(arrived) < 10:
        raise SystemExit(f"only {len(arrived)} pictures came; give it more --seconds")
    late = np.array([delay for _, delay in arrived[3:]]) * 1000
    third = len(late) // 3
    span = arrived[-1][0] - arrived[0][0]
    print(printed())
    middle, most = np.median(late), np.percentile(late, 95)
    print(f"{SIZE[1]} x {SIZE[0]}, camera {said.rate:g}/s, {engine.name}, {np.mean(people):.1f} "
          f"people, up to {max(people)}")  # fmt: skip
    print(f"camera to page     median {middle:6.1f} ms   95 % {most:6.1f} ms")
    middle, most = figures["latency_ms"], figures["latency_p95_ms"]
    print(f"picture to result  median {middle:6.1f} ms   95 % {most:6.1f} ms")
    print(f"pictures shown     {len(arrived) / span:.1f}/s, {figures['dropped']} of "
          f"{figures['received']} left out")  # fmt: skip
    each = {name: busy / max(1, shown) for name, busy in parts.items()}
    print(f"processor time     {sum(each.values()):.0f} CPU-ms a picture:")
    for name, busy in sorted(each.items(), key=lambda part: -part[1]):
        print(f"    {busy:5.1f}  {name}")
    drift = np.median(late[-third:]) - np.median(late[:third])
    print(f"drift              {drift:+.1f} ms from the first third to the last")


if __name__ == "__main__":
    main()
