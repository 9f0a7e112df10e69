"""What a long run has freed goes back to the system."""

import gc
import sys

import numpy as np
import pytest

from stream import heap
from tests.stream.leaks import resident_bytes

BLOCK, COUNT = 100_000, 1600  # small enough to lie in a heap, not in pages of their own

glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not heap.ctypes.CDLL(None).malloc_trim,
    reason="glibc keeps holes, others do not",
)


@glibc
def test_holes_between_what_is_still_held_are_given_back():
    held = [np.ones(BLOCK, np.uint8) for _ in range(COUNT)]
    full = resident_bytes()
    held = held[::2]
    gc.collect()
    assert heap.give_back()
    assert full - resident_bytes() > 0.6 * BLOCK * COUNT / 2
    assert all(block.all() for block in held)


def test_it_is_done_once_a_minute(monkeypatch):
    now, done = [100.0], []
    monkeypatch.setattr(heap.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heap, "give_back", lambda: done.append(now[0]) or True)
    tidy = heap.Tidy()
    for now[0] in (100.1, 159.0, 160.0, 160.1, 219.0, 220.5):
        tidy()
    assert done == [160.0, 220.5]
