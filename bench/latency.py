"""Added latency of live, end to end: `python -m bench.latency`.

A camera stands at the far end of a TCP connection on this machine.  It sends 720p pictures of the
demo clip, each with its number burned in as black and white fields, and notes when it sent which.
The pictures go the whole way: decoder, network, tracker, composite (the first person blurred), JPEG
over a WebSocket to a page in this process, which decodes it, reads the number back from the pixels
and looks at the clock.  Coding before it is sent is the camera's and not counted.  Prints the
latency of the pictures that arrived (median, 95 %), of the loop alone, the rate, what was dropped,
the drift (how much later pictures are in the last third than in the first), and the processor time
a picture takes, without the camera's and the page's own: that says something on a busy machine too.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np

from bench.machine import printed
from configs.schema import Settings
from run_stream import WEIGHTS, new_tracker
from stream.camera import LiveSource
from stream.live import Live, Wishes
from web.hub import Hub
from web.server import Desk, Page, application
from web.uploads import Library

SIZE = (720, 1280)
BITS, FIELD = 16, 24  # of the number; pixels of a field's side


def burned(rgb: np.ndarray, number: int) -> np.ndarray:
    """The picture with `number` in its upper left corner, a marker field before and after it."""
    for place in range(BITS + 2):
        on = place == 0 or (place <= BITS and number >> (place - 1) & 1)
        rgb[4 : 4 + FIELD, 4 + place * FIELD : 4 + (place + 1) * FIELD] = 235 if on else 20
    return rgb


def read_back(rgb: np.ndarray) -> int | None:
    """The burned-in number; None where there is none (a slate)."""
    middles = 4 + FIELD // 2 + FIELD * np.arange(BITS + 2)
    row = rgb[4 + FIELD // 2 - 3 : 4 + FIELD // 2 + 4, : middles[-1] + 1].mean(axis=(0, 2))[middles]
    on = row > 128
    if not on[0] or on[-1] or (np.abs(row - 128) < 40).any():
        return None
    return int((on[1:-1] * (1 << np.arange(BITS))).sum())


class NumberedCamera(threading.Thread):
    """Sends the clip over and over at `rate`; `sent` is when each number left."""

    def __init__(self, clip: str, rate: float) -> None:
        super().__init__(daemon=True)
        with av.open(clip) as container:
            self._pictures = [
                cv2.resize(frame.to_ndarray(format="rgb24"), SIZE[::-1])
                for _, frame in zip(range(90), container.decode(video=0), strict=False)
            ]
        self._rate = rate
        self.sent: dict[int, float] = {}
        self.busy_seconds = 0.0  # processor time of this thread
        self.over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.uri = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        connection, _ = self._server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("wb", buffering=0) as file:
            out = av.open(file, "w", format="mjpeg")
            stream = out.add_stream("mjpeg", rate=round(self._rate))
            stream.height, stream.width = SIZE
            stream.pix_fmt = "yuvj420p"
            stream.codec_context.qmin = stream.codec_context.qmax = 4
            stream.codec_context.thread_count = 1
            begun, number = time.monotonic(), 0
            try:
                while not self.over.is_set():
                    number += 1
                    rgb = burned(self._pictures[number % len(self._pictures)].copy(), number)
                    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                    frame.pts, frame.time_base = number, Fraction(1, round(self._rate))
                    packets = stream.encode(frame)
                    time.sleep(max(0.0, begun + number / self._rate - time.monotonic()))
                    self.sent[number] = time.monotonic()
                    self.busy_seconds = time.thread_time()
                    out.mux(packets)
            except OSError:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clip", default="demo/bedroom.mp4")
    parser.add_argument("--rate", type=float, default=25.0, help="of the camera, per second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--threads", type=int, default=None)
    said = parser.parse_args()
    import engines

    engine = engines.load_engine([said.engine], WEIGHTS, threads=said.threads)
    camera = NumberedCamera(said.clip, said.rate)
    hub, library = Hub(SIZE[0], 80), Library(10)
    live = Live(
        LiveSource(camera.uri), engine, lambda: new_tracker(Settings()),
        wishes=Wishes("keep", {1: "blur"}), sinks=[hub],
    )  # fmt: skip
    page = Page(application(Desk(live, hub, library, WEIGHTS)), "127.0.0.1", 0)
    arrived: list[tuple[float, float]] = []  # when, and how late
    people = 0
    with live:
        from websockets.sync.client import connect

        with connect(f"ws://127.0.0.1:{page.port}/api/live", compression=None, max_size=None) as it:
            it.recv(60)
            while live.shown < 3:  # the first ones compile the network for this size
                time.sleep(0.05)
            shown, own = live.shown, time.process_time() - camera.busy_seconds - time.thread_time()
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
                number = None if header["slate"] or bgr is None else read_back(bgr)
                if number in camera.sent:
                    arrived.append((now, now - camera.sent[number]))
                    people = max(people, len(header["people"]))
        own = time.process_time() - camera.busy_seconds - time.thread_time() - own
        shown = live.shown - shown
        figures = live.figures()
    camera.over.set()
    page.close()
    library.close()
    engine.close()
    if len(arrived) < 10:
        raise SystemExit(f"only {len(arrived)} pictures came; give it more --seconds")
    late = np.array([delay for _, delay in arrived[3:]]) * 1000
    third = len(late) // 3
    span = arrived[-1][0] - arrived[0][0]
    print(printed())
    middle, most = np.median(late), np.percentile(late, 95)
    print(f"{SIZE[1]} x {SIZE[0]}, camera {said.rate:g}/s, {said.engine}, up to {people} people")
    print(f"camera to page     median {middle:6.1f} ms   95 % {most:6.1f} ms")
    middle, most = figures["latency_ms"], figures["latency_p95_ms"]
    print(f"picture to result  median {middle:6.1f} ms   95 % {most:6.1f} ms")
    print(f"pictures shown     {len(arrived) / span:.1f}/s, {figures['dropped']} of "
          f"{figures['received']} left out")  # fmt: skip
    print(f"processor time     {own / max(1, shown) * 1000:.0f} ms a picture")
    drift = np.median(late[-third:]) - np.median(late[:third])
    print(f"drift              {drift:+.1f} ms from the first third to the last")


if __name__ == "__main__":
    main()
