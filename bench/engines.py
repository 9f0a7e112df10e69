"""How fast each engine is here, side by side: python -m bench.engines [--rounds N]

Every backend that can run takes the same frames of the demo clip in turns, in one process; what
counts is the ratio.  Times cover a whole step: shrinking the picture, the network, full-size
mattes.  Results agree with torch before they are timed, or the run stops.
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
from engines import available, load_engine

ROOT = Path(__file__).resolve().parents[1]


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
    names = [a.name for a in available() if a.ok]
    engines = {n: load_engine([n], args.weights, threads=args.threads) for n in names}
    answers = {n: e.step(frames[0], e.start())[0] for n, e in engines.items()}
    if "torch" in answers:
        for name, mattes in answers.items():
            if len(mattes) != len(answers["torch"]) or (
                np.abs(mattes.alpha - answers["torch"].alpha).max(initial=0) > 0.02
            ):
                print(f"{name} does not give torch's mattes; not timed", file=sys.stderr)
                return 1
    wall: dict[str, list[float]] = {n: [] for n in names}
    work: dict[str, list[float]] = {n: [] for n in names}
    for _ in range(args.rounds):
        for name, engine in engines.items():
            began, used = time.perf_counter(), time.process_time()
            for rgb in frames:
                engine.step(rgb, None)
            wall[name].append((time.perf_counter() - began) / len(frames) * 1000)
            work[name].append((time.process_time() - used) / len(frames) * 1000)
    print(printed())
    print(f"frames     {frames[0].shape[1]} x {frames[0].shape[0]}, {args.threads} threads")
    first = names[0]
    for name in names:
        ratio = median(a / b for a, b in zip(wall[name], wall[first], strict=True))
        print(f"{name:12} {median(wall[name]):7.1f} ms a frame, {median(work[name]):7.1f} CPU-ms, "
              f"{ratio:5.2f} x the time of {first}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
