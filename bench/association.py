"""How long does who-is-who take?  The tracker alone, with mattes and codes, nothing drawn.

    OPENBLAS_NUM_THREADS=1 python -m bench.association --max-ms 0.5

People walk to and fro across each other in a picture of 720 lines: boxes, mattes on the grid the
network gives (36 x 64), codes of 64 numbers, now and then one is not found, and others are
remembered who have left.  Detections are made beforehand; what is timed is `Tracker.update`
without the picture (cuts and the camera's motion are read off it, and timed beside).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import numpy as np

from bench.machine import described
from bench.wiring import MISSED, missed
from matting.frames import UNTRACKED, Mattes
from tracking import Tracker

SIZE, GRID, CODES = (720, 1280), (36, 64), 64
RATE = 30
FOUND = 0.97  # how often somebody who is there is found
WARM_UP = 30  # frames that are not timed
KNOWN_BEFORE = 30  # people who have left


class Crowd:
    """`people` who walk to and fro, frame by frame."""

    def __init__(self, people: int, seed: int) -> None:
        self._rng = rng = np.random.default_rng(seed)
        self._height = rng.uniform(150, 450, people)
        self._x = rng.uniform(0, SIZE[1], people)
        self._foot = rng.uniform(500, 715, people)
        self._speed = rng.uniform(60, 240, people) * rng.choice([-1, 1], people)
        self._look = rng.normal(size=(people, CODES))

    def frame(self) -> Mattes:
        rng = self._rng
        self._x += self._speed / RATE
        self._speed = np.where(self._x < 0, abs(self._speed), self._speed)
        self._speed = np.where(self._x > SIZE[1], -abs(self._speed), self._speed)
        found = np.flatnonzero(rng.random(len(self._x)) < FOUND)
        x, foot = self._x[found], self._foot[found]
        height = self._height[found] * rng.uniform(0.98, 1.02, len(found))
        half = height / 6
        box = np.stack([x - half, foot - height, x + half, foot], 1)
        rows = (np.arange(GRID[0]) + 0.5)[:, None] * SIZE[0] / GRID[0]
        columns = (np.arange(GRID[1]) + 0.5) * SIZE[1] / GRID[1]
        coarse = np.zeros((len(found), *GRID), np.float32)
        free = np.ones(GRID, np.float32)
        for i in np.argsort(-foot):  # the nearer hides the farther
            away = ((columns - x[i]) / half[i]) ** 2
            away = away + ((rows - foot[i] + height[i] / 2) / (height[i] / 2)) ** 2
            coarse[i] = np.clip(2 - 2 * away, 0, 1) * free
            free -= coarse[i]
        code = self._look[found] + 0.2 * rng.normal(size=(len(found), CODES))
        return Mattes(
            np.broadcast_to(np.float32(0), (len(found), *SIZE)), coarse,
            rng.uniform(0.8, 1.0, len(found)).astype(np.float32), box.astype(np.float32),
            code.astype(np.float32), np.full(len(found), UNTRACKED, np.int64),
        )  # fmt: skip


def timed(people: int, frames: int, seed: int = 0) -> np.ndarray:
    """(frames,) milliseconds of the processor an update took: other programs do not count."""
    tracker = Tracker()
    earlier = Crowd(KNOWN_BEFORE, seed + 1)
    for step in range(20):
        tracker.update(earlier.frame(), step / RATE)
    crowd = Crowd(people, seed)
    begin = 20 / RATE + 2 * tracker.settings.coast_seconds
    spent = []
    for step in range(WARM_UP + frames):
        mattes = crowd.frame()
        started = time.thread_time()
        tracker.update(mattes, begin + step / RATE)
        spent.append(1000 * (time.thread_time() - started))
    return np.array(spent[WARM_UP:])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.association", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--people", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument(
        "--max-ms", type=float, help="fail where the median of the most people is longer"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    said = parser.parse_args(argv)
    table = {}
    for people in said.people:
        spent = timed(people, said.frames)
        table[people] = {
            name: float(np.percentile(spent, share))
            for name, share in (("fastest", 0), ("median", 50), ("p95", 95))
        }
    most = max(said.people)
    name = f"median of {most} people, ms"
    short = missed([(name, said.max_ms, True)], {name: table[most]["median"]})
    if said.json:
        print(json.dumps({"machine": described(), "ms": table, "missed": short}))
        return MISSED if short else 0
    for key, value in described().items():
        print(f"{key:<10} {value}")
    print(f"{'people':>8}{'fastest':>10}{'median':>10}{'p95':>10}  CPU-ms a frame")
    for people, row in table.items():
        print(f"{people:8}" + "".join(f"{row[k]:10.3f}" for k in ("fastest", "median", "p95")))
    for line in short:
        print(f"MISSED: {line}")
    return MISSED if short else 0


if __name__ == "__main__":
    sys.exit(main())
