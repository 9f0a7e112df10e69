"""How fast each engine is here, side by side: python -m bench.engines [--rounds N]

Every backend that can run takes the same frames of the demo clip in turns, in one process; what
counts is the ratio.  Times cover a whole step: shrinking the picture, the network, full-size
mattes.  Before that, each has to give the mattes of the first: to 0.02 in float32, and people who
overlap by 0.9 where numbers are rounded (bfloat16, int8); or the run stops.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median

import av
import numpy as np

from bench.machine import printed
from engines import Engine, EngineError, available, load_engine
from matting.frames import Mattes
from matting.metrics import match, overlap_matrix

ROOT = Path(__file__).resolve().parents[1]
ROUNDED = ("openvino-bf16", "openvino-int8")


def loaded(weights: Path, threads: int) -> dict[str, Engine]:
    """What can run here, by name; why not the rest is told."""
    engines = {}
    for name in [a.name for a in available(weights) if a.ok]:
        try:
            engines[name] = load_engine([name], weights, threads=threads)
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--frames", type=int, default=10, help="steps per round")
    parser.add_argument("--weights", type=Path, default=ROOT / "weights")
    args = parser.parse_args()
    with av.open(str(ROOT / "demo/bedroom.mp4")) as clip:
        frames = [
            frame.to_ndarray(format="rgb24")
            for frame, _ in zip(clip.decode(video=0), range(args.frames), strict=False)
        ]
    engines = loaded(args.weights, args.threads)
    first, *others = engines
    answers = {n: e.step(frames[0], e.start())[0] for n, e in engines.items()}
    for name in others:
        if not agree(answers[name], answers[first], name in ROUNDED):
            print(f"{name} does not give the mattes of {first}; not timed", file=sys.stderr)
            return 1
    wall: dict[str, list[float]] = {n: [] for n in engines}
    work: dict[str, list[float]] = {n: [] for n in engines}
    for _ in range(args.rounds):
        for name, engine in engines.items():
            began, used = time.perf_counter(), time.process_time()
            for rgb in frames:
                engine.step(rgb, None)
            wall[name].append((time.perf_counter() - began) / len(frames) * 1000)
            work[name].append((time.process_time() - used) / len(frames) * 1000)
    print(printed())
    print(f"frames     {frames[0].shape[1]} x {frames[0].shape[0]}, {args.threads} threads")
    for name in engines:
        ratio = median(a / b for a, b in zip(wall[name], wall[first], strict=True))
        print(f"{name:14} {median(wall[name]):7.1f} ms a frame, {median(work[name]):7.1f} CPU-ms, "
              f"{ratio:5.2f} x the time of {first}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
