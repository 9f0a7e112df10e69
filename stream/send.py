"""Pictures to H.264, into a file or to a server; and the process that does it for a server.

`python -m stream.send` is the other half of a network sink.  FFmpeg connects, through PyAV, while
it holds Python's interpreter lock, and a server that takes its time would stop the whole program
with it; so what leads to the network runs in a process of its own, which can also be ended whatever
it waits for.  It reads one line of JSON (an `Order`, with the address: nothing secret is on the
command line), then pictures: 8 bytes of time, and H x W x 3 bytes of RGB.  It writes one `+` to
stdout when the first picture has left, and the reason for its end to stderr.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np

from stream.decode import BT709, LIMITED

NOMINAL_RATE = 30  # pictures per second that encoders are told; the times are the real ones
TIME_BASE = Fraction(1, 90_000)


@dataclass(frozen=True)
class Order:
    """What to open, and how to code."""

    target: str
    format: str | None
    height: int  # of the pictures that come; coded with even sides
    width: int
    preset: str = "veryfast"
    kilobits: int | None = None  # None: constant quality
    options: dict[str, str] = field(default_factory=dict)

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


class Encoder:
    """H.264 without a picture of delay.  Opens at the first picture; raises what FFmpeg raises."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._container: Any = av.open(
            order.target, "w", format=order.format, options=order.options, timeout=(10.0, 5.0)
        )
        self._stream = self._container.add_stream("libx264", rate=NOMINAL_RATE)
        codec = self._stream.codec_context
        codec.height, codec.width = order.height & ~1, order.width & ~1
        codec.pix_fmt = "yuv420p"
        self._stream.time_base = codec.time_base = TIME_BASE
        codec.gop_size = 2 * NOMINAL_RATE
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED
        codec.options = {"preset": order.preset, "tune": "zerolatency", "bf": "0"}
        if order.kilobits:
            codec.bit_rate = order.kilobits * 1000
        else:
            codec.options = {**codec.options, "crf": "21"}
        self._origin: int | None = None

    def write(self, rgb: np.ndarray, pts: int) -> None:
        """One picture, (H, W, 3) uint8, at `pts` ticks of 1/90000 s."""
        even = np.ascontiguousarray(rgb[: rgb.shape[0] & ~1, : rgb.shape[1] & ~1])
        picture = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED
        )
        self._origin = pts if self._origin is None else self._origin
        picture.pts, picture.time_base = pts - self._origin, TIME_BASE
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def main() -> int:
    come = sys.stdin.buffer
    order = Order(**json.loads(come.readline()))
    size = order.height * order.width * 3
    encoder = None
    try:
        while len(head := come.read(8)) == 8:
            data = come.read(size)
            if len(data) < size:
                break
            encoder = encoder or Encoder(order)
            rgb = np.frombuffer(data, np.uint8).reshape(order.height, order.width, 3)
            told = encoder._origin is not None
            encoder.write(rgb, struct.unpack("<q", head)[0])
            if not told:
                sys.stdout.write("+")
                sys.stdout.flush()
        if encoder:
            encoder.close()
    except av.error.ProtocolNotFoundError:
        print("this build of FFmpeg cannot send to such an address", file=sys.stderr)
        return 3
    except av.error.ExitError:
        print("it does not answer", file=sys.stderr)
        return 3
    except (av.error.FFmpegError, OSError, ValueError) as error:
        print(getattr(error, "strerror", None) or error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
