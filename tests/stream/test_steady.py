"""Mattes that flicker are compared with their neighbours; what has really changed stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from matting.frames import Frame, Mattes
from matting.metrics import dtssd
from stream.fill import fill
from stream.steady import steady
from tests.fakes import Square, textured

RED, GREEN = 1, 2
Clip = list[tuple[Frame, Mattes]]


def trembling(clip: Clip) -> Clip:
    """The same, as by a network that doubts: every frame's mattes are off by something else."""
    rng = np.random.default_rng(1)
    return [
        (f, m.with_alpha(m.alpha * (1 - 0.5 * rng.random(m.alpha.shape, np.float32))))
        for f, m in clip
    ]


def alphas(clip: Clip, number: int = RED) -> np.ndarray:
    return np.stack([m.alpha[m.ids.tolist().index(number)] for _, m in clip])


def test_what_trembles_is_steadier_and_nearer_to_the_truth():
    true = textured([Square("red", (20, 20), (0, 1), side=40)])
    before = trembling(true)

    after = list(steady(before, reach=2))

    assert [frame.pts for frame, _ in after] == list(range(12))
    truth, worse, better = alphas(true), alphas(before), alphas(after)
    assert dtssd(better, truth) < 0.7 * dtssd(worse, truth)
    assert np.square(better - truth).mean() < np.square(worse - truth).mean()


def test_an_arm_that_is_lost_for_a_frame_comes_back():
    clip = textured([Square("red", (20, 20), (0, 1), side=40)])
    frame, mattes = clip[6]
    cut = mattes.alpha.copy()
    cut[:, 40:] = 0  # its lower half
    lost = [*clip[:6], (frame, mattes.with_alpha(cut)), *clip[7:]]

    after = list(steady(lost, reach=2))

    truth = alphas(clip)[6]
    assert np.abs(alphas(lost)[6] - truth).sum() > 700
    assert np.abs(alphas(after)[6] - truth).sum() < 250
    assert after[6][1].box[0].tolist() == pytest.approx(clip[6][1].box[0].tolist(), abs=1)


def test_somebody_who_moves_leaves_no_trail():
    clip = textured([Square("red", (20, 10), (0, 6), side=40)])

    after = list(steady(clip, reach=2))

    assert np.abs(alphas(after) - alphas(clip)).mean() < 0.004


def test_nothing_is_carried_over_a_cut():
    """Red sits where red sat in the scene before, and half of it is hidden there."""
    one = textured([Square("red", (20, 20), (0, 0), side=40)], 6)
    other = textured([Square("red", (20, 20), (0, 0), side=40),
                      Square("green", (0, 40), (0, 0), side=60)], 6, seed=5)  # fmt: skip
    other = [(replace(f, rgb=255 - f.rgb), m) for f, m in other]

    after = list(steady([*one, *other], reach=2))

    assert np.abs(alphas(after[:6]) - alphas(one)).max() < 0.02
    assert np.abs(alphas(after[6:]) - alphas(other)).max() < 0.02


def test_whoever_steps_in_front_is_in_front_at_once():
    red = Square("red", (20, 60), (0, 0), side=40)
    green = Square("green", (12, 0), (0, 9), side=50)
    clip = textured([red, green])

    for (_, true), (_, got) in zip(clip, steady(clip, reach=2), strict=True):
        assert got.ids.tolist() == true.ids.tolist()
        assert np.abs(got.alpha - true.alpha).mean() < 0.01
        assert got.alpha.sum(0).max() <= 1 + 1e-6


def test_a_frame_that_somebody_is_not_in_stays_without_them():
    clip = textured([Square("red", (20, 20), (0, 1), side=40)])
    gone = [(f, m.pick([]) if i == 5 else m) for i, (f, m) in enumerate(clip)]

    assert [len(m) for _, m in steady(gone, reach=2)] == [1] * 5 + [0] + [1] * 6


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_a_video_shorter_than_what_is_compared_comes_whole(frames):
    clip = textured([Square("red", (20, 20), (0, 1), side=40)], frames)

    assert [f.pts for f, _ in steady(clip, reach=4)] == list(range(frames))


@pytest.mark.parametrize("stage", [lambda clip: steady(clip, 2), lambda clip: fill(clip, 5)])
def test_frames_that_wait_come_before_the_failure_of_the_stage_before(stage):
    clip = textured([Square("red", (20, 20), (0, 1), side=40)], 5)

    def failing():
        yield from clip
        raise OSError("the disk is gone")

    given = []
    with pytest.raises(OSError, match="the disk is gone"):
        for frame, _ in stage(failing()):
            given.append(frame.pts)
    assert given == [0, 1, 2, 3, 4]
