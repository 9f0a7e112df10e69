"""Case 29: how long a run lasts must not show in its memory, its threads or its open files."""

import ctypes
import gc
import os
import resource
import threading
from fractions import Fraction

import numpy as np
import pytest

from matting.frames import Frame
from stream.encode import Deliverables
from stream.overlap import ahead
from stream.stages import follow, matte
from tests.fakes import Square, SquaresEngine, picture, write_clip
from tests.faults.builders import run
from tracking import Tracker


def resident() -> float:
    """MB held now, less what malloc holds for later: it takes several MB at once now and then."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc has it
        libc.malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")


class Endless:
    """A small camera that never stops: people walk through, and no one comes twice."""

    colours = ("red", "green", "blue")

    def __init__(self, frames):
        self.count = frames
        self.pictures = [
            picture(i, [Square(c, at=(2 + 10 * n, -8 - 9 * n), step=(0, 1), side=8)
                        for n, c in enumerate(self.colours)], size=(32, 48))
            for i in range(90)
        ]  # fmt: skip

    def __iter__(self):
        for index in range(self.count):
            yield Frame(self.pictures[index % 90], index, Fraction(1, 25))


@needs_proc
def test_a_day_of_frames_takes_no_more_than_an_hour(tmp_path):
    """A day at one frame in 24 s, through threads, network and tracker: memory after each hour."""
    hours, engine, held, open_files = 24, SquaresEngine(), [], []
    tracker, per_hour = Tracker(), 150
    with ahead(Endless(hours * per_hour), depth=4, name="decode") as frames:
        followed = follow(matte(frames, engine), tracker)
        for index, (_, mattes) in enumerate(followed):
            del mattes
            if index % per_hour == per_hour - 1:
                gc.collect()
                held.append(resident())
                open_files.append(handles())
        assert threading.active_count() <= 3
    settled = held[4:]
    slope = np.polyfit(np.arange(len(settled)), settled, 1)[0]
    assert slope < 0.25, f"{slope:.2f} MB an hour: {held}"
    assert max(open_files[1:]) == min(open_files[1:])


@needs_proc
def test_what_is_written_does_not_pile_up_in_memory(tmp_path):
    """Files of a long video: what is kept per frame is its time and 24 bytes a person."""
    clip = write_clip(tmp_path / "a.mkv", frames=5, size=(32, 48), codec="ffv1")
    from stream.decode import open_source

    engine, tracker, held = SquaresEngine(), Tracker(), []
    with open_source(clip) as source, Deliverables(tmp_path / "out", source) as files:
        for index, (frame, mattes) in enumerate(
            follow(matte(iter(Endless(2400)), engine), tracker)
        ):
            files.write(Frame(frame.rgb, index * 40, source.time_base), mattes, frame.rgb)
            if index % 300 == 299:
                gc.collect()
                held.append(resident())
                assert handles() < 64
    settled = held[3:]
    slope = np.polyfit(np.arange(len(settled)), settled, 1)[0] / 300
    assert slope < 2e-3, f"{1000 * slope:.1f} kB a frame: {held}"


@needs_proc
def test_many_runs_in_one_process_leave_nothing_behind(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=5, size=(32, 48), audio="aac")
    before = threads = files = None
    for turn in range(40):
        assert run(clip, "-o", tmp_path / "out", "--overwrite", "--quiet") == 0
        if turn == 9:
            gc.collect()
            before, threads, files = resident(), threading.active_count(), handles()
    gc.collect()
    assert resident() - before < 12  # MB in 30 runs
    assert (threading.active_count(), handles()) == (threads, files)
