"""Work that needs no network: squares are people.  In a module of its own, so that a worker, which
is another process, can import it."""

import os
import signal
from contextlib import closing
from pathlib import Path

from cluster.chunk import packed
from cluster.work import Job
from stream.decode import open_source
from tests.fakes import SquaresEngine


def matte_squares(job: Job) -> bytes:
    until = None if job.last is None else f"{job.last}f"
    engine = SquaresEngine()
    found, state = [], engine.start()
    with open_source(
        job.uri, threads=1, start=f"{job.warm}f", end=until, door=job.door
    ) as source:
        with closing(source.frames()) as frames:
            for number, frame in enumerate(frames, job.warm):
                mattes, state = engine.step(frame.rgb, state)
                if number >= job.first:
                    found.append((frame.pts, mattes))
        return packed(source.size, found, source.rate)


def die_once(job: Job) -> bytes:
    """Killed in the middle of the second part, the first time somebody does it."""
    mark = Path(job.uri).with_suffix(".died")
    if job.first and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return matte_squares(job)


def die_always(job: Job) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("dead by now")
