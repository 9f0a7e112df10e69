"""How fast each engine is here, side by side: python -m bench.engines [--rounds N]

Every backend that can run takes the same frames of the demo clip in turns, in one process; what
counts is the ratio.  Times cover shrinking the picture, the network and full-size mattes: picture
by picture and, where an engine overlaps, with several under way.  Before that, each has to give the
mattes of the first: to 0.02 in float32, and people who overlap by 0.9 where numbers are rounded
(bfloat16, int8); or the run stops.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median

import av
import numpy as np

from bench.machine import printed
from configs.schema import EngineSettings
from engines import Engine, EngineError, available, load_engine
from matting.frames import Frame, Mattes
from matting.metrics import match, overlap_matrix
from stream.stages import matte

ROOT = Path(__file__).resolve().parents[1]
ROUNDED = ("openvino-bf16", "openvino-int8")
IN_FLIGHT = EngineSettings().in_flight


def loaded(weights: Path, threads: int) -> dict[str, Engine]:
    """What can run here, by name; why not the rest is told."""
    engines = {}
    for name in [a.name for a in available(weights) if a.ok]:
        try:
            engines[name] = load_engine([name], weights, threads=threads, in_flight=IN_FLIGHT)
        except EngineError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return engines


def agree(ours: Mattes, theirs: Mattes, rounded: bool) -> bool:
    """Whether two engines gave the same people the same mattes."""
    if not rounded:
        same = len(ours) == len(theirs)
        return same and bool(np.abs(ours.alpha - theirs.alpha).max(initial=0) <= 0.02)
    one, other = (mattes.alpha[mattes.score >= 0.6] for mattes in (ours, theirs))
    pairs, _ = match(overlap_matrix(one, other, 0.5), 0.9)
    return len(one) == len(other) == len(pairs)


def ways(engines: dict[str, Engine], frames: list[Frame]) -> dict[str, Callable[[], None]]:
    """What is timed, by name: the frames through each engine, in each way it has."""

    def one_by_one(engine: Engine) -> None:
        for frame in frames:
            engine.step(frame.rgb, engine.start())[0].codes.any()

    def overlapped(engine: Engine) -> None:
        for _, mattes in matte(frames, engine):
            mattes.codes.any()

    found: dict[str, Callable[[], None]] = {}
    for name, engine in engines.items():
        found[name] = partial(one_by_one, engine)
        if hasattr(engine, "submit"):
            found[f"{name}, {IN_FLIGHT} under way"] = partial(overlapped, engine)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--frames", type=int, default=10, help="steps per round")
    parser.add_argument("--weights", type=Path, default=ROOT / "weights")
    args = parser.parse_args()
    with av.open(str(ROOT / "demo/bedroom.mp4")) as clip:
        frames = [
            Frame(frame.to_ndarray(format="rgb24"), i, Fraction(1, 25))
            for i, frame in zip(range(args.frames), clip.decode(video=0), strict=False)
        ]
    engines = loaded(args.weights, args.threads)
    first, *others = engines
    answers = {n: e.step(frames[0].rgb, e.start())[0] for n, e in engines.items()}
    for name in others:
        if not agree(answers[name], answers[first], name in ROUNDED):
            print(f"{name} does not give the mattes of {first}; not timed", file=sys.stderr)
            return 1
    timed = ways(engines, frames)
    for run in timed.values():  # what is compiled once is not a frame's
        run()
    wall: dict[str, list[float]] = {n: [] for n in timed}
    work: dict[str, list[float]] = {n: [] for n in timed}
    for _ in range(args.rounds):
        for name, run in timed.items():
            began, used = time.perf_counter(), time.process_time()
            run()
            wall[name].append((time.perf_counter() - began) / len(frames) * 1000)
            work[name].append((time.process_time() - used) / len(frames) * 1000)
    print(printed())
    height, width = frames[0].size
    print(f"frames     {width} x {height}, {args.threads} threads")
    for name in timed:
        ratio = median(a / b for a, b in zip(wall[name], wall[first], strict=True))
        print(f"{name:28} {median(wall[name]):7.1f} ms a frame, {median(work[name]):7.1f} CPU-ms, "
              f"{ratio:5.2f} x the time of {first}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
