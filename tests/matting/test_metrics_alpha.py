"""The matte measures against figures worked out by hand."""

import numpy as np
import pytest

from matting.metrics import conn, dtssd, grad, iou, mad, messddt, mse, sad


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


def test_an_error_that_travels_with_the_person_does_not_count():
    """A textured square moves 4 pixels a frame; one corner of it is off by 0.5 all the time."""
    rng = np.random.default_rng(3)
    texture = np.kron(0.5 + 0.5 * rng.random((10, 10)), np.ones((3, 3)))
    true = np.zeros((3, 64, 96))
    steady = np.zeros_like(true)
    for t in range(3):
        true[t, 16:46, 20 + 4 * t : 50 + 4 * t] = texture
        steady[t] = true[t]
        steady[t, 20:30, 24 + 4 * t : 34 + 4 * t] -= 0.5
    flicker = true.copy()
    flicker[1, 20:30, 28:38] -= 0.5

    # it appears and vanishes: 100 of 6,144 pixels, 0.25 each time
    assert messddt(flicker, true) == pytest.approx(100 * 0.25 / (64 * 96) * 100, rel=0.25)
    assert messddt(steady, true) < 0.25 * messddt(flicker, true)
    assert messddt(true, true) == 0
    assert messddt(true[:1], true[:1]) == 0


def test_sums_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(4)
    ours, theirs = rng.random((2, 20, 30))

    assert mad(ours, theirs) == pytest.approx(
        1e3 * metrics.mean_absolute_error(theirs.ravel(), ours.ravel())
    )
    assert mse(ours, theirs) == pytest.approx(
        1e3 * metrics.mean_squared_error(theirs.ravel(), ours.ravel())
    )
    assert iou(ours, theirs) == pytest.approx(
        metrics.jaccard_score(theirs.ravel() > 0.5, ours.ravel() > 0.5)
    )


def test_gradients_agree_with_scipy():
    """SciPy's Gaussian derivatives reach further and are not of unit energy: one factor, to 2 %."""
    from scipy import ndimage

    rng = np.random.default_rng(5)
    ours, theirs = (ndimage.gaussian_filter(rng.random((60, 80)), 3) for _ in range(2))
    magnitude = [
        ndimage.gaussian_gradient_magnitude(m, 1.4, mode="nearest") for m in (ours, theirs)
    ]
    x = np.arange(-4, 5)
    bell = np.exp(-(x**2) / (2 * 1.4**2)) / (1.4 * np.sqrt(2 * np.pi))
    energy = (bell**2).sum() * ((x * bell / 1.4**2) ** 2).sum()
    expected = ((magnitude[0] - magnitude[1]) ** 2).sum() / energy / 1e3

    assert grad(ours, theirs) == pytest.approx(expected, rel=0.02)
