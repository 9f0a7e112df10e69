"""Engines are timed side by side only if they give the same people."""

from concurrent.futures import Future
from fractions import Fraction

import numpy as np
import pytest

from bench.engines import IN_FLIGHT, agree, ways
from matting.frames import Frame, Mattes


def people(*left: int, shade: float = 1.0) -> Mattes:
    """Somebody 20 pixels wide from each of these columns on."""
    alpha = np.zeros((len(left), 30, 100), np.float32)
    for matte, x in zip(alpha, left, strict=True):
        matte[5:25, x : x + 20] = shade
    n = len(left)
    return Mattes(alpha, np.zeros((n, 1, 1), np.float32), np.full(n, 0.9, np.float32),
                  np.zeros((n, 4), np.float32), np.zeros((n, 1), np.float32),
                  np.full(n, -1))  # fmt: skip


@pytest.mark.parametrize("rounded", [False, True])
def test_others_nobody_or_one_more_do_not_agree(rounded):
    assert agree(people(10, 60), people(10, 60), rounded)
    assert not agree(people(10, 63), people(10, 60), rounded)
    assert not agree(people(10), people(10, 60), rounded)
    assert agree(people(), people(), rounded)


def test_rounded_numbers_may_differ_a_little_and_exact_ones_not():
    assert agree(people(10, shade=0.95), people(10), rounded=True)
    assert not agree(people(10, shade=0.95), people(10), rounded=False)
    assert agree(people(60, 10), people(10, 60), rounded=True)  # in whatever order


def test_an_engine_that_overlaps_is_timed_in_both_ways_and_each_takes_every_frame():
    class Steps:
        def __init__(self):
            self.stepped = self.submitted = 0

        def start(self):
            return None

        def step(self, rgb, state):
            self.stepped += 1
            return people(10), state

    class Overlaps(Steps):
        in_flight = 3

        def submit(self, rgb, state):
            self.submitted += 1
            pending = Future()
            pending.set_result(people(10))
            return pending, state

    engines = {"plain": Steps(), "quick": Overlaps()}
    frames = [Frame(np.zeros((30, 100, 3), np.uint8), i, Fraction(1)) for i in range(5)]
    timed = ways(engines, frames)
    for run in timed.values():
        run()

    assert list(timed) == ["plain", "quick", f"quick, {IN_FLIGHT} under way"]
    assert engines["plain"].stepped == engines["quick"].stepped == engines["quick"].submitted == 5
