"""The matte measures against figures worked out by hand."""

import numpy as np
import pytest

from matting.metrics import conn, dtssd, grad, iou, mad, mse, sad


def test_sums_and_means_of_a_known_difference():
    """10 of 200 pixels are wrong by 0.5: sum 5, mean 0.025, mean square 0.0125."""
    true = np.zeros((10, 20), np.float32)
    predicted = true.copy()
    predicted[0, :10] = 0.5

    assert sad(predicted, true) == pytest.approx(5 / 1000)
    assert mad(predicted, true) == pytest.approx(25.0)
    assert mse(predicted, true) == pytest.approx(12.5)


def test_only_the_pixels_asked_for_count():
    true = np.zeros((4, 4))
    predicted = np.eye(4)
    where = np.zeros((4, 4), bool)
    where[0] = True  # one wrong pixel of four

    assert sad(predicted, true, where) == pytest.approx(1 / 1000)
    assert mad(predicted, true, where) == pytest.approx(250.0)
    assert mse(predicted, true, np.zeros((4, 4), bool)) == 0.0


@pytest.mark.parametrize("measure", [sad, mad, mse, grad, conn])
def test_a_perfect_matte_has_no_error(measure):
    matte = np.clip(np.add.outer(np.arange(12), np.arange(12)) / 20, 0, 1)

    assert measure(matte, matte) == pytest.approx(0, abs=1e-12)


def test_gradient_ignores_a_constant_offset_and_sees_an_edge():
    flat = np.zeros((30, 30))
    edge = flat.copy()
    edge[:, 15:] = 1

    assert grad(flat + 0.3, flat) == pytest.approx(0, abs=1e-12)
    # Derivative of a unit step: the slope kernel summed up to the pixel.  With g the truncated
    # Gaussian (sum s) and d its derivative, |response(x)| = s * sum_{u > x} d(u) / |g x d|.
    u = np.arange(-4, 5)
    g = np.exp(-(u**2) / (2 * 1.4**2)) / (1.4 * np.sqrt(2 * np.pi))
    d = u * g / 1.4**2
    norm = np.sqrt((g**2).sum() * (d**2).sum())
    profile = g.sum() * np.array([d[k:].sum() for k in range(1, 9)]) / norm
    assert grad(edge, flat) == pytest.approx(30 * (profile**2).sum() / 1000, rel=1e-9)


def test_connectivity_counts_what_has_come_loose():
    """A block of 4 opaque pixels both agree on, and a stray opaque pixel in the prediction."""
    true = np.zeros((6, 6))
    true[:2, :2] = 1
    predicted = true.copy()
    predicted[5, 5] = 1

    # the stray pixel is connected to the body at no threshold: it counts in full
    assert conn(predicted, true) == pytest.approx(1 / 1000)


def test_connectivity_forgives_what_nobody_sees_and_halves_what_is_half_attached():
    true = np.zeros((1, 4))
    true[0] = [1, 1, 1, 0]
    soft = true.copy()
    soft[0, 2] = 0.9  # 0.1 below: within theta = 0.15

    assert conn(soft, true) == pytest.approx(0, abs=1e-12)
    # at 0.4 it stays attached up to 0.4; the truth rises 0.6 above that level, ours not at all
    soft[0, 2] = 0.4
    assert conn(soft, true) == pytest.approx(0.6 / 1000)


def test_overlap_of_supports():
    ours, theirs = np.zeros((4, 4)), np.zeros((4, 4))
    ours[:, :2] = 1  # 8 pixels
    theirs[:, 1:3] = 0.6  # 8 pixels, 4 in common

    assert iou(ours, theirs) == pytest.approx(4 / 12)
    assert iou(ours, theirs, threshold=0.7) == 0.0
    assert iou(np.zeros((2, 2)), np.zeros((2, 2))) == 1.0


def test_flicker_is_seen_and_a_constant_error_is_not():
    true = np.zeros((3, 2, 2))
    steady = true + 0.4
    flicker = true.copy()
    flicker[1] = 0.4  # up and down again: two derivatives wrong by 0.4 everywhere

    assert dtssd(steady, true) == pytest.approx(0)
    assert dtssd(flicker, true) == pytest.approx(40)
    assert dtssd(true[:1], true[:1]) == 0.0


@pytest.mark.parametrize("measure", [sad, mad, mse, grad, conn, iou])
def test_bytes_and_wrong_shapes_are_refused(measure):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        measure(np.full((2, 2), 255), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(2, 3\)"):
        measure(np.zeros((2, 2)), np.zeros((2, 3)))
