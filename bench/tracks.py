"""What the codec of the alpha tracks costs: processor time and bytes a frame, and blank frames.

    python -m bench.tracks

Mattes of the bundled clip through the shipped network, each frame coded alone, every codec in turn
in one process; then what a frame of one and of six people costs the working store.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

import run_stream
from bench.machine import described
from bench.wiring import guarded
from configs.console import Console
from configs.schema import load
from matting.frames import Mattes
from stream.decode import open_source
from stream.stages import matte
from stream.store import STORE, StoreWriter

CLIP = Path(__file__).resolve().parent.parent / "demo" / "bedroom.mp4"
CODECS = {
    "H.264 qp 0 ultrafast, CABAC": (
        "libx264", {"preset": "ultrafast", "qp": "0", "tune": "zerolatency",
                    "x264-params": "sliced-threads=0:cabac=1"}),
    "H.264 qp 0 ultrafast, CAVLC": (
        "libx264", {"preset": "ultrafast", "qp": "0", "tune": "zerolatency",
                    "x264-params": "sliced-threads=0"}),
    "FFV1 level 3, Golomb-Rice": (
        "ffv1", {"level": "3", "coder": "0", "context": "0", "slices": "4", "slicecrc": "1"}),
}  # fmt: skip


def coder(name: str, options: dict[str, str], size: tuple[int, int]) -> Callable[[np.ndarray], int]:
    """A function that codes one matte and returns its bytes."""
    context = av.CodecContext.create(name, "w")
    context.height, context.width = size
    context.pix_fmt, context.time_base = "gray", Fraction(1, 25)
    context.gop_size = context.thread_count = 1
    context.flags |= av.codec.context.Flags.global_header
    context.options = options
    clock = itertools.count()

    def coded(alpha: np.ndarray) -> int:
        picture = av.VideoFrame.from_ndarray(alpha, format="gray")
        picture.pts, picture.time_base = next(clock), Fraction(1, 25)
        return sum(packet.size for packet in context.encode(picture))

    coded(np.zeros(size, np.uint8))
    return coded


def spent(coded: Callable[[np.ndarray], int], alphas: Sequence[np.ndarray]) -> tuple[float, float]:
    """CPU-ms and bytes a frame."""
    begun = time.process_time()
    size = sum(coded(alpha) for alpha in alphas)
    return 1000 * (time.process_time() - begun) / len(alphas), size / len(alphas)


def six_beside_one(mattes: Sequence[Mattes]) -> dict[int, float]:
    """CPU-ms a frame of the store with one person, and with the same person six times."""
    found = {}
    for people in (1, 6):
        with tempfile.TemporaryDirectory() as folder:
            head = {"size": list(mattes[0].size), "time_base": "1/25", "rate": "25"}
            store = StoreWriter(Path(folder) / STORE, head)
            begun = time.process_time()
            for index, found_here in enumerate(mattes):  # drawn already
                store.add(index, found_here.pick([0] * people).named(np.arange(1, people + 1)))
            found[people] = 1000 * (time.process_time() - begun) / len(mattes)
            store.close()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tracks", description=__doc__)
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--frames", type=int, default=30)
    said = parser.parse_args(argv)

    def work() -> int:
        engine = run_stream.ready_engine(load(), Console(quiet=True).note)
        with open_source(said.clip) as source:
            frames = list(itertools.islice(source.frames(), said.frames))
        mattes = []
        begun = time.process_time()
        for _, found in matte(frames, engine):
            mattes.append(found)
        network = 1000 * (time.process_time() - begun) / len(frames)
        engine.close()
        alphas = [person.codes for found in mattes for person in found]
        blanks = [np.zeros_like(alphas[0])] * len(alphas)
        for name, value in described().items():
            print(f"{name:<10} {value}")
        print(f"\n{len(alphas)} mattes of {frames[0].size[1]} x {frames[0].size[0]}, one thread\n")
        print(f"{'':<30}{'CPU-ms':>8}{'kB':>8}{'blank ms':>10}{'blank kB':>10}")
        for name, (codec, options) in CODECS.items():
            coded = coder(codec, options, frames[0].size)
            ms, size = spent(coded, alphas)
            blank_ms, blank = spent(coded, blanks)
            print(f"{name:<30}{ms:8.2f}{size / 1000:8.1f}{blank_ms:10.2f}{blank / 1000:10.2f}")
        drawn = [found.with_alpha(found.alpha) for found in mattes if len(found)]
        one, six = six_beside_one(drawn).values()
        print(
            f"\nstore, a frame of one person {one:.2f} CPU-ms, of six {six:.2f}; the network takes "
            f"{network:.0f}, so six cost {(network + six) / (network + one):.2f} of one"
        )
        return 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
