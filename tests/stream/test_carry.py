"""Motion between two pictures, of whatever shape."""

from __future__ import annotations

import numpy as np
import pytest

from stream.carry import motion, small


@pytest.mark.parametrize("finely", [False, True])
@pytest.mark.parametrize("size", [(240, 3840), (3840, 240), (256, 4096), (20, 300), (16, 16)])
def test_the_motion_of_a_strip_is_measured_as_well(size, finely):
    rough = np.random.default_rng(1).integers(0, 255, size, dtype=np.uint8)
    there = small(rough)
    here = np.roll(there, 1, 1)  # a column to the right

    flow = motion(here, there, finely=finely)

    assert flow.shape == (*there.shape, 2)
    assert np.isfinite(flow).all()
    still = motion(there, there, finely=finely)
    assert np.abs(still).max() == 0


def test_small_copies_keep_the_shape_and_never_grow():
    assert small(np.zeros((1080, 1920, 3), np.uint8)).shape == (216, 384, 3)
    assert small(np.zeros((90, 160), np.uint8)).shape == (90, 160)
