"""Foreground colours: exact where nothing is guessed, close to the truth where it is known."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from stream.foreground import Foreground, estimated


def texture(seed, cells, size):
    """Smooth random colours."""
    small = np.random.default_rng(seed).random((*cells, 3)).astype(np.float32)
    return np.clip(cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)


def scene(size=(270, 480), seed=0):
    """A hairy disc in warm colours before a busy wall: picture, alpha codes and the truth."""
    rng = np.random.default_rng(seed)
    height, width = size
    centre, radius = np.array([width / 2, height * 0.55]), height * 0.28
    alpha = np.zeros(size, np.float32)
    cv2.circle(alpha, tuple(centre.astype(int)), round(radius), 1, -1)
    for turn in rng.random(250) * 2 * np.pi:
        far = radius * (1 + 0.4 * rng.random())
        ends = [centre + r * np.array([np.cos(turn + t), np.sin(turn + t)])
                for r, t in ((radius, 0), (far, 0.1))]  # fmt: skip
        cv2.line(alpha, *(tuple(end.astype(int)) for end in ends), 1, 1, cv2.LINE_AA)
    codes = np.rint(cv2.GaussianBlur(alpha, (0, 0), 0.8) * 255).astype(np.uint8)
    front = 0.3 + 0.4 * texture(seed + 1, (5, 8), size) * np.array([1, 0.5, 0.3], np.float32)
    back = texture(seed + 2, (7, 12), size)
    share = codes[:, :, None] / np.float32(255)
    picture = np.rint((share * front + (1 - share) * back) * 255).astype(np.float32) / 255
    return picture, codes, front, back


def error(found, codes, front, background):
    """Mean error, in codes, of soft pixels put over a plain background."""
    soft = (codes > 0) & (codes < 255)
    share = codes[soft][:, None] / 255
    ours = share * found[soft] + (1 - share) * background
    truth = share * front[soft] + (1 - share) * background
    return 255 * float(np.abs(ours - truth).mean())


@pytest.mark.parametrize("background", [(0, 0, 0), (1, 1, 1), (0, 0.7, 0.25)])
def test_edges_are_clean_on_any_background(background):
    picture, codes, front, _ = scene()

    found = estimated(picture, codes)

    ours = error(found, codes, front, np.array(background))
    assert ours < 6
    assert ours < 0.65 * error(picture, codes, front, np.array(background))  # the rim of the wall


def test_it_is_nearly_as_good_as_the_slow_method():
    """PyMatting's multi-level estimation solves for every pixel at every level (Germer 2020); it is
    wrong by 1.93 here, by `pymatting.estimate_foreground_ml(picture.astype(float), codes / 255)` of
    PyMatting 1.1.16 in the place of `estimated`."""
    picture, codes, front, _ = scene()
    black = np.zeros(3)
    assert error(estimated(picture, codes), codes, front, black) < 1.7 * 1.93


@pytest.mark.parametrize("size", [(270, 480), (65, 49), (3, 5), (1, 1), (1081, 700)])
def test_what_is_solid_stays_as_it_was(size):
    picture, codes, _, _ = scene(size)

    found = estimated(picture, codes)

    np.testing.assert_array_equal(found[codes == 255], picture[codes == 255])
    assert found.shape == (*size, 3) and found.dtype == np.float32
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


def test_the_colour_goes_on_beyond_the_edge():
    """A program that scales a straight picture mixes pixels across the edge."""
    picture, codes, front, back = scene()

    found = estimated(picture, codes)

    beyond = (codes == 0) & (cv2.dilate(codes, np.ones((7, 7))) > 128)
    to_front = np.abs(found[beyond] - front[beyond]).mean()
    to_back = np.abs(found[beyond] - back[beyond]).mean()
    assert to_front < 0.5 * to_back


def test_a_person_who_is_nowhere_solid_still_has_a_colour():
    picture, codes, front, _ = scene()
    faint = (codes // 3).astype(np.uint8)  # motion blur: never more than a third
    share = faint[:, :, None] / np.float32(255)
    picture = share * front + (1 - share) * 0.5

    found = estimated(picture.astype(np.float32), faint)

    assert error(found, faint, front, np.zeros(3)) < error(picture, faint, front, np.zeros(3))


def test_edges_that_rest_do_not_flicker_and_those_that_move_are_not_dragged():
    picture, codes, front, _ = scene()
    rng = np.random.default_rng(5)
    soft = (codes > 20) & (codes < 235)

    def flicker(pictures, colours):
        frames = [colours(p) for p in pictures]
        return np.mean([np.abs(a - b)[soft].mean() for a, b in pairwise(frames)])

    noisy = [np.clip(picture + rng.normal(0, 0.008, picture.shape), 0, 1).astype(np.float32)
             for _ in range(6)]  # fmt: skip
    video = Foreground()
    steady = flicker(noisy, lambda p: video.of(p, codes))
    assert steady < 0.75 * flicker(noisy, lambda p: estimated(p, codes))

    video = Foreground()
    for step in range(4):
        rolled = np.roll(picture, 9 * step, axis=1), np.roll(codes, 9 * step, axis=1)
        moving = video.of(*rolled)
    alone = error(estimated(*rolled), rolled[1], np.roll(front, 27, axis=1), np.zeros(3))
    assert error(moving, rolled[1], np.roll(front, 27, axis=1), np.zeros(3)) < 1.1 * alone


def test_nobody_has_no_colour():
    picture, codes, _, _ = scene((40, 60))

    assert not Foreground().of(picture, np.zeros_like(codes)).any()
