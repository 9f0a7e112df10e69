"""An engine that hands out what workers found: the rest of the run does not know the difference.

Its state is the number of the frame, so a broken-off run goes on where it stood; parts that were
finished then are not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster.chunk import Chunk, ChunkError
from cluster.work import Job
from cluster.workers import Workers
from matting.frames import Mattes, no_one

FOLDER = ".parts"  # in the output folder; gone when the run is done


class GatheredEngine:
    """The contract of engines/base.py over the parts of one video, frames in order."""

    def __init__(self, name: str, jobs: Sequence[Job], workers: Workers, out: Path) -> None:
        self.name = name
        self.jobs, self._workers = list(jobs), workers
        self._folder = out / FOLDER
        self._paths = [self._path(i, job) for i, job in enumerate(jobs)]
        self._folder.mkdir(parents=True, exist_ok=True)
        for stale in set(self._folder.iterdir()) - set(self._paths):
            stale.unlink()  # of another input, or cut otherwise
        self._tickets = {
            i: workers.submit(job)
            for i, (job, path) in enumerate(zip(jobs, self._paths, strict=True))
            if not path.exists()
        }
        self._open: tuple[int, Chunk] | None = None

    def _path(self, part: int, job: Job) -> Path:
        return self._folder / f"{part:05d}_{_digest(job)}.npz"

    @property
    def parts_waiting(self) -> int:
        return len(self._tickets)

    def wait(self) -> None:
        """Until every part is there."""
        for part in range(len(self.jobs)):
            self._chunk(part)

    def start(self) -> int:
        return 0

    def step(self, rgb: np.ndarray, state: Any) -> tuple[Mattes, int]:
        """`rgb` is not looked at but for its size; `state` is the number of the frame."""
        part = max(i for i, job in enumerate(self.jobs) if job.first <= state)
        chunk, row = self._chunk(part), state - self.jobs[part].first
        if row >= len(chunk):  # a damaged file gave the worker fewer frames than us
            return no_one(rgb.shape[:2]), state + 1
        if chunk.size != rgb.shape[:2]:
            raise ChunkError(f"frame {state} is {rgb.shape[:2]}, a worker saw it as {chunk.size}")
        return chunk.mattes(row), state + 1

    def _chunk(self, part: int) -> Chunk:
        if self._open is None or self._open[0] != part:
            chunk = self._fetched(part)
            if not self.jobs[part].borne_out(chunk.pts):
                self._without_doors(part)
                chunk = self._fetched(part)
            self._open = part, chunk
        return self._open[1]

    def _fetched(self, part: int) -> Chunk:
        path = self._paths[part]
        if part in self._tickets:
            partial = path.with_suffix(".partial")
            partial.write_bytes(self._workers.chunk(self._tickets.pop(part)))
            os.replace(partial, path)
        return Chunk(path)

    def _without_doors(self, part: int) -> None:
        """The file is not what its packets promise: from this part on, frames are counted from its
        start, as this run counts them."""
        for i in range(part, len(self.jobs)):
            self.jobs[i] = job = replace(self.jobs[i], door=None, times=None)
            self._paths[i].unlink(missing_ok=True)
            self._paths[i] = self._path(i, job)
            self._tickets[i] = self._workers.submit(job)

    def finish(self) -> None:
        """The run is done: the parts are not needed any more."""
        self._open = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        self._open = None


def _digest(job: Job) -> str:
    """Of everything that decides what comes of it."""
    told = asdict(job)
    told["engine"] = [pair for pair in told["engine"] if pair[0] != "threads"]
    for name in ("uri", "weights"):
        path = Path(told[name])
        paths = sorted(path.iterdir()) if path.is_dir() else [path]
        told[name] = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
