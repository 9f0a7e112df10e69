"""Where a video is cut, and how one part of it is matted.  Runs on any worker.

A part is named by numbers of frames, which is exact in every file.  Where the file's packets tell
their times and which of them stand alone, a worker enters it just before its part; every other
file is decoded from its start.  The network sees `overlap_seconds` before its part, so that its
memory holds what it would have held, if it has one; what it says of those frames is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.chunk import packed
from matting.frames import Mattes

if TYPE_CHECKING:
    from engines.base import Engine
    from stream.decode import Door


@dataclass(frozen=True)
class Job:
    """One part of one video; all a worker needs to know, and cheap to send."""

    uri: str
    warm: int  # first frame the network sees
    first: int  # first frame that is kept
    last: int | None  # the last; None: to the end, however long the file turns out to be
    weights: str
    engine: tuple[tuple[str, Any], ...]  # what else `engines.load_engine` is told, by name
    video_stream: int | None = None  # of the file; None: the one marked as default
    door: Door | None = None  # where the file is entered; None: at its start
    times: tuple[int, int] | None = None  # pts of `first` and `last` by the file's packets

    def borne_out(self, pts: list[int]) -> bool:
        """Whether the frames that came are those that the file's packets promised.  In a damaged
        file they may not be, and numbers that count from a door are then wrong."""
        if self.times is None:
            return True
        if self.last is None:  # the file may end sooner
            return pts[:1] == [self.times[0]]
        whole = len(pts) == self.last - self.first + 1
        return whole and (pts[0], pts[-1]) == self.times


def cut(
    frames: int, rate: float, seconds: float, overlap: float
) -> list[tuple[int, int, int | None]]:
    """(warm, first, last) of every part of a video of about so many frames.

    The last part is open: `frames` may be what a header claims.
    """
    length, before = max(1, round(seconds * rate)), round(overlap * rate)
    starts = list(range(0, max(frames, 1), length))
    if len(starts) > 1 and frames - starts[-1] < length / 4:
        starts.pop()  # a short rest goes with the part before it
    ends: list[int | None] = [start - 1 for start in starts[1:]]
    return [
        (max(0, first - before), first, last)
        for first, last in zip(starts, [*ends, None], strict=True)
    ]


def matte_part(job: Job) -> bytes:
    """The chunk of a job: the same whoever does it, however often."""
    from engines.guard import GuardedEngine
    from stream.decode import open_source

    lost: list[str] = []
    engine = GuardedEngine(_engine(job.weights, job.engine), lost.append, lost.append)
    until = None if job.last is None else f"{job.last}f"
    with open_source(
        job.uri, threads=1, start=f"{job.warm}f", end=until,
        video_stream=job.video_stream, door=job.door,
    ) as source:  # fmt: skip

        def found() -> Iterator[tuple[int, Mattes]]:
            state, remembers = engine.start(), True
            with closing(source.frames()) as frames:
                for number, frame in enumerate(frames, job.warm):
                    if number < job.first and not remembers:
                        continue  # it would learn nothing from this one
                    mattes, state = engine.step(frame.rgb, state)
                    remembers = engine.remembers(state)
                    if number >= job.first:
                        yield frame.pts, mattes

        return packed(source.size, found(), source.rate)


@cache
def _engine(weights: str, told: tuple[tuple[str, Any], ...]) -> Engine:
    """Loaded once per worker; it goes when the worker does."""
    import cv2

    from engines import load_engine

    cv2.setNumThreads(int(dict(told).get("threads") or 0))  # drawing, too, keeps to its share
    return load_engine(weights=Path(weights), log=_quiet, **dict(told))


def _quiet(_: str) -> None:
    """The process that asked for the work has told already which engine runs."""
