"""Starting and stopping a live session, over and over, and counting what is left."""

import os
import time

from stream.camera import LiveSource, Wanted
from stream.live import Live
from stream.sinks import StreamSink
from tests.fakes import ColourTracker, SquaresEngine


def handles() -> int:
    """Open files of this process; 0 where the system does not tell."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def started_and_stopped(clip, times: int, folder=None) -> None:
    """`times` whole sessions: source, loop, a stream into a file where a folder is given."""
    for number in range(times):
        sinks = [StreamSink(str(folder / f"{number}.ts"))] if folder else []
        source = LiveSource(str(clip), Wanted(loop=True))
        with Live(source, SquaresEngine(), ColourTracker, sinks=sinks) as live:
            end = time.monotonic() + 60  # seconds, on a machine that others keep busy
            while live.shown < 2 and time.monotonic() < end:
                time.sleep(0.005)
            assert live.shown >= 2
        if folder:
            (folder / f"{number}.ts").unlink(missing_ok=True)
