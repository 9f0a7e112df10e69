"""Engines are timed side by side only if they give the same people."""

import numpy as np
import pytest

from bench.engines import agree
from matting.frames import Mattes


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
