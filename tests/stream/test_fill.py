"""Holes in a person's track: closed where they can be seen, left where they cannot."""

from __future__ import annotations

import numpy as np

from matting.frames import Mattes
from stream.fill import fill
from tests.fakes import Square, textured

RED, GREEN = 1, 2


def without(mattes: Mattes, number: int) -> Mattes:
    return mattes.pick(np.flatnonzero(mattes.ids != number))


def test_someone_missed_for_a_few_frames_is_carried_over_them():
    clip = textured([Square("red", (20, 20), (0, 1), side=40)])
    holed = [(f, without(m, RED) if 4 <= i <= 7 else m) for i, (f, m) in enumerate(clip)]

    filled = list(fill(holed, longest=5))

    assert [frame.pts for frame, _ in filled] == list(range(12))
    for (_, true), (_, got) in zip(clip, filled, strict=True):
        assert got.ids.tolist() == [RED]
        assert np.abs(true.alpha - got.alpha).mean() < 0.01
    assert filled[5][1].score.tolist() == [0]


def test_a_longer_hole_stays():
    clip = textured([Square("red", (20, 20), (0, 1), side=40)])
    holed = [(f, without(m, RED) if 3 <= i <= 8 else m) for i, (f, m) in enumerate(clip)]

    assert [len(m) for _, m in fill(holed, longest=5)] == [1] * 3 + [0] * 6 + [1] * 3


def test_nobody_is_invented_behind_somebody_else():
    """Green passes in front of red: where red is hidden there is nothing to fill."""
    red = Square("red", (20, 60), (0, 0), side=30)
    green = Square("green", (12, 0), (0, 10), side=50)
    clip = textured([red, green])
    hidden = [i for i, (_, m) in enumerate(clip) if RED not in m.ids]
    assert hidden

    filled = list(fill(clip, longest=5))

    for i in hidden:
        assert RED not in filled[i][1].ids


def test_what_is_filled_in_never_takes_from_others():
    red = Square("red", (20, 30), (0, 1), side=40)
    green = Square("green", (20, 66), (0, 1), side=30)
    clip = textured([red, green])
    holed = [(f, without(m, RED) if i == 5 else m) for i, (f, m) in enumerate(clip)]

    for _, mattes in fill(holed, longest=5):
        assert mattes.alpha.sum(0).max() <= 1 + 1e-6
        assert mattes.ids.tolist() == sorted(set(mattes.ids.tolist()))


def test_a_video_without_holes_comes_through_as_it_is():
    clip = textured([Square("red", (20, 20), (0, 1), side=40)])

    for (_, before), (_, after) in zip(clip, fill(iter(clip), longest=5), strict=True):
        assert after is before
