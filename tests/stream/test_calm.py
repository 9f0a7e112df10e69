"""Calm mattes keep a share of the one before; what has really changed is there at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from matting.metrics import dtssd
from stream.calm import Calm, calm
from tests.fakes import Square, textured
from tests.stream.test_steady import Clip, alphas, trembling

DRIFTING = [Square("red", (20, 20), (0, 1), side=40)]
STANDING = [Square("red", (20, 20), (0, 0), side=40)]


def calmer(clip: Clip, share: float = 0.4) -> Clip:
    return list(calm(clip, Calm(share)))


@pytest.mark.parametrize(("people", "most"), [(STANDING, 0.6), (DRIFTING, 0.85)])
def test_what_trembles_is_calmer_and_nearer_to_the_truth(people, most):
    true = textured(people)
    before = trembling(true)

    after = calmer(before)

    assert [frame.pts for frame, _ in after] == list(range(12))
    truth, worse, better = alphas(true), alphas(before), alphas(after)
    assert dtssd(better, truth) < most * dtssd(worse, truth)
    assert np.square(better - truth).mean() < np.square(worse - truth).mean()


def test_a_dark_cameras_noise_is_not_taken_for_motion():
    rng = np.random.default_rng(3)
    true = textured(STANDING)
    grain = [rng.normal(0, 9, f.rgb.shape) for f, _ in true]
    noisy = [
        (replace(f, rgb=np.clip(f.rgb + g, 0, 255).astype(np.uint8)), m)
        for (f, m), g in zip(trembling(true), grain, strict=True)
    ]

    assert dtssd(alphas(calmer(noisy)), alphas(true)) < 0.75 * dtssd(alphas(noisy), alphas(true))


def test_an_arm_that_is_lost_for_a_frame_stays_by_its_share_and_is_whole_soon_after():
    clip = textured(STANDING)
    cut = clip[6][1].alpha.copy()
    cut[:, 40:] = 0  # its lower half
    lost = [*clip[:6], (clip[6][0], clip[6][1].with_alpha(cut)), *clip[7:]]

    after = alphas(calmer(lost))

    arm = (slice(44, 56), slice(24, 56))
    assert after[6][arm].mean() == pytest.approx(0.4, abs=0.04)
    assert after[7][arm].mean() == pytest.approx(1 - 0.4 * 0.6, abs=0.04)
    assert after[9][arm].mean() > 0.95


def test_somebody_who_moves_leaves_no_trail():
    clip = textured([Square("red", (20, 10), (0, 6), side=40)])

    assert np.abs(alphas(calmer(clip)) - alphas(clip)).mean() < 0.004


def test_nothing_is_carried_over_a_cut():
    one = textured([Square("red", (20, 20), (0, 0), side=40)], 6)
    other = textured([Square("red", (30, 40), (0, 0), side=40)], 6, seed=5)
    other = [(replace(f, rgb=255 - f.rgb), m) for f, m in other]

    after = calmer([*one, *other])

    assert np.abs(alphas(after) - alphas([*one, *other])).max() < 0.02


def test_whoever_steps_in_front_is_in_front_at_once():
    red = Square("red", (20, 60), (0, 0), side=40)
    green = Square("green", (12, 0), (0, 9), side=50)
    clip = textured([red, green])

    for (_, true), (_, got) in zip(clip, calmer(clip), strict=True):
        assert got.ids.tolist() == true.ids.tolist()
        assert np.abs(got.alpha - true.alpha).mean() < 0.01
        assert got.codes.sum(0, dtype=int).max() <= 255


def test_two_who_each_want_a_pixel_of_the_past_share_it():
    """In the frame before red had what is green's now, and the pictures are the same."""
    clip = textured([Square("red", (20, 20), side=30), Square("green", (20, 50), side=30)], 2)
    clip = [(replace(f, rgb=clip[0][0].rgb), m.with_alpha(clip[0][1].alpha)) for f, m in clip]
    swapped = clip[1][1].with_alpha(clip[1][1].alpha[::-1])

    (_, _), (_, got) = calmer([clip[0], (clip[1][0], swapped)], 0.9)

    both = got.codes.sum(0, dtype=int)
    assert both.max() <= 255
    assert both[25:45, 25:75].min() > 240
    assert got.codes[0][25:45, 25:45].mean() == pytest.approx(0.9 * 255, abs=6)


def test_whoever_is_gone_is_gone_and_comes_back_whole():
    clip = textured(DRIFTING)
    gone = [(f, m.pick([]) if i == 5 else m) for i, (f, m) in enumerate(clip)]

    after = calmer(gone)

    assert [len(m) for _, m in after] == [1] * 5 + [0] + [1] * 6
    assert np.abs(after[6][1].alpha - clip[6][1].alpha).max() < 0.01


def test_no_share_leaves_mattes_as_they_are():
    clip = textured(DRIFTING, 3)

    assert all(a is b for (_, a), (_, b) in zip(calmer(clip, 0.0), clip, strict=True))


def test_it_goes_on_from_the_last_frame_that_was_shown_as_if_it_had_not_stopped():
    clip = trembling(textured(DRIFTING))
    whole = calmer(clip)
    later = Calm(0.4)
    later.after(*whole[5])

    for (_, wanted), (_, got) in zip(whole[6:], calm(clip[6:], later), strict=True):
        assert np.array_equal(wanted.codes, got.codes)


def test_what_comes_after_a_gap_is_another_scene():
    clip = trembling(textured(DRIFTING))
    one = Calm(0.4)
    list(calm(clip[:6], one))

    one.forget()

    frame, mattes = clip[6]
    assert one.of(frame, mattes) is mattes
