"""How far a predicted matte is from the true one, by the measures the matting literature shares.

Shapes: mattes are (H, W) float in [0, 1]; sequences of one person are (T, H, W).  `where` is an
optional boolean mask of the pixels that count (a trimap's unknown band, or everything but an
`ignore` label); without it every pixel counts.  Each function names its unit, because the
literature scales the same sums differently.

Sources: SAD, MSE, Grad and Conn are the four measures of Rhemann et al., "A perceptually motivated
online benchmark for image matting", CVPR 2009; dtSSD and MESSDdt are from Erofeev et al.,
"Perceptually motivated benchmark for video matting", BMVC 2015.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

GRADIENT_SIGMA = 1.4  # pixels; Rhemann et al. 2009
CONNECTIVITY_STEP = 0.1  # spacing of the thresholds; Rhemann et al. 2009
CONNECTIVITY_TOLERANCE = 0.15  # theta: a smaller gap in connectedness is not seen by people


def sad(predicted: np.ndarray, true: np.ndarray, where: np.ndarray | None = None) -> float:
    """Sum of absolute differences, in thousands (Rhemann et al. 2009)."""
    return float(_difference(predicted, true, where, "sad").sum() / 1e3)


def mad(predicted: np.ndarray, true: np.ndarray, where: np.ndarray | None = None) -> float:
    """Mean absolute difference over the pixels that count, in thousandths."""
    return _mean(_difference(predicted, true, where, "mad")) * 1e3


def mse(predicted: np.ndarray, true: np.ndarray, where: np.ndarray | None = None) -> float:
    """Mean squared difference over the pixels that count, in thousandths (Rhemann et al. 2009)."""
    return _mean(_difference(predicted, true, where, "mse") ** 2) * 1e3


def grad(predicted: np.ndarray, true: np.ndarray, where: np.ndarray | None = None) -> float:
    """Squared difference of gradient magnitudes, summed, in thousands (Rhemann et al. 2009).

    The gradient is the response to first-order Gaussian derivatives (sigma 1.4) of unit energy,
    truncated where the Gaussian falls below 1 %, with the border repeated.
    """
    return float(_select(gradient_error(predicted, true), where).sum() / 1e3)


def gradient_error(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(H, W): what each pixel adds to `grad`, before it is divided by 1,000."""
    predicted, true = _pair(predicted, true, "grad")
    return (_gradient(predicted) - _gradient(true)) ** 2


def conn(predicted: np.ndarray, true: np.ndarray, where: np.ndarray | None = None) -> float:
    """Difference in connectedness to the body both mattes agree on, in thousands (ibid., 2009).

    For rising thresholds the largest 4-connected region where both mattes reach the threshold is
    the body; a pixel's level is the last threshold at which it still belonged to it.  Alpha above
    that level by 0.15 or more is unconnected, and counts.
    """
    return float(_select(connectivity_error(predicted, true), where).sum() / 1e3)


def connectivity_error(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(H, W): what each pixel adds to `conn`, before it is divided by 1,000."""
    predicted, true = _pair(predicted, true, "conn")
    steps = np.arange(1, round(1 / CONNECTIVITY_STEP) + 1) * CONNECTIVITY_STEP
    level = np.ones_like(true)
    attached = np.ones(true.shape, bool)
    for step in steps:
        # the tolerance keeps 0.3 >= 3 * 0.1 true in floating point
        body = _largest_region((predicted >= step - 1e-9) & (true >= step - 1e-9))
        level[attached & ~body] = step - CONNECTIVITY_STEP
        attached &= body
    return np.abs(_connectedness(predicted, level) - _connectedness(true, level))


def iou(
    predicted: np.ndarray,
    true: np.ndarray,
    where: np.ndarray | None = None,
    threshold: float = 0.5,
) -> float:
    """Intersection over union of the pixels above `threshold`; 1 where both are empty."""
    predicted, true = _pair(predicted, true, "iou")
    ours, theirs = _select(predicted > threshold, where), _select(true > threshold, where)
    union = np.count_nonzero(ours | theirs)
    return np.count_nonzero(ours & theirs) / union if union else 1.0


def dtssd(predicted: np.ndarray, true: np.ndarray) -> float:
    """How differently two sequences (T, H, W) flicker, in hundredths (Erofeev et al. 2015).

    Per pair of consecutive frames the root of the mean squared difference between the two temporal
    derivatives, averaged over the pairs.  A constant error does not count; one frame has no
    derivative, and scores 0.
    """
    _check_sequence(predicted, true, "dtssd")
    total = 0.0
    frames = len(true)
    for t in range(1, frames):  # frame by frame: a sequence in float64 need not fit in memory
        ours = np.asarray(predicted[t], np.float64) - predicted[t - 1]
        theirs = np.asarray(true[t], np.float64) - true[t - 1]
        total += float(np.sqrt(_mean((ours - theirs) ** 2)))
    return total / max(frames - 1, 1) * 1e2


def messddt(predicted: np.ndarray, true: np.ndarray) -> float:
    """How the squared error changes along the motion, (T, H, W) each, in hundredths.

    MESSDdt of Erofeev et al. 2015: the mean over pixels of |e_t(p) - e_{t+1}(p + v(p))|, with e the
    squared error and v the motion from t to t + 1.  An error that travels with the person does
    not count; one that appears or vanishes does.  As in the public programs that report it, v is
    Farneback's optical flow between the true mattes (five levels, window 10, two iterations, a
    neighbourhood of 7), rounded to pixels and held inside the picture.  One frame scores 0.
    """
    _check_sequence(predicted, true, "messddt")
    total, frames = 0.0, len(true)
    errors = [np.zeros(0)] * 2
    for t in range(frames):
        now = np.asarray(true[t], np.float64)
        errors = [errors[1], (np.asarray(predicted[t], np.float64) - now) ** 2]
        if t:
            rows, columns = _followed(np.asarray(true[t - 1], np.float64), now)
            total += _mean(np.abs(errors[0] - errors[1][rows, columns]))
    return total / max(frames - 1, 1) * 1e2


def _followed(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column in `after` of every pixel of `before`, (H, W) int each."""
    first, second = ((matte * 255).astype(np.uint8) for matte in (before, after))
    flow = cv2.calcOpticalFlowFarneback(
        first, second, None, 0.5, 5, 10, 2, 7, 1.5, cv2.OPTFLOW_FARNEBACK_GAUSSIAN
    )
    height, width = before.shape
    away = np.rint(flow).astype(int)
    rows = (np.arange(height)[:, None] + away[..., 1]).clip(0, height - 1)
    columns = (np.arange(width) + away[..., 0]).clip(0, width - 1)
    return rows, columns


def _check_sequence(predicted: np.ndarray, true: np.ndarray, measure: str) -> None:
    if np.ndim(predicted) != 3 or np.shape(predicted) != np.shape(true):
        raise ValueError(
            f"{measure} compares two sequences (T, H, W) of one shape, "
            f"got {np.shape(predicted)} and {np.shape(true)}"
        )


def _pair(predicted: np.ndarray, true: np.ndarray, measure: str) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if predicted.ndim != 2 or predicted.shape != true.shape:
        raise ValueError(
            f"{measure} compares two mattes (H, W) of one shape, "
            f"got {predicted.shape} and {true.shape}"
        )
    for name, matte in (("predicted", predicted), ("true", true)):
        # 0..255 instead of 0..1 is the classic mistake, and would silently scale every figure;
        # NaN fails the comparison too
        if matte.size and not (matte.min() >= -1e-6 and matte.max() <= 1 + 1e-6):
            raise ValueError(
                f"{measure}: the {name} matte should lie in [0, 1], "
                f"its range is {matte.min():g} to {matte.max():g}"
            )
    return predicted, true


def _select(values: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    if where is None:
        return values.ravel()
    if where.shape != values.shape or where.dtype != bool:
        raise ValueError(
            f"`where` should be a boolean mask {values.shape}, got {where.dtype} {where.shape}"
        )
    return values[where]


def _difference(
    predicted: np.ndarray, true: np.ndarray, where: np.ndarray | None, measure: str
) -> np.ndarray:
    predicted, true = _pair(predicted, true, measure)
    return _select(np.abs(predicted - true), where)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0


def _gradient(matte: np.ndarray) -> np.ndarray:
    """(H, W) magnitude of the Gaussian gradient."""
    sigma = GRADIENT_SIGMA
    reach = int(np.ceil(sigma * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * sigma * 0.01))))
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    bell = np.exp(-(x**2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))
    slope = -x * bell / sigma**2
    slope /= np.sqrt(np.sum(np.outer(bell, slope) ** 2))  # the 2-D kernel has unit energy
    across = ndimage.convolve1d(matte, slope, axis=1, mode="nearest")
    across = ndimage.convolve1d(across, bell, axis=0, mode="nearest")
    down = ndimage.convolve1d(matte, slope, axis=0, mode="nearest")
    down = ndimage.convolve1d(down, bell, axis=1, mode="nearest")
    return np.hypot(across, down)


def _largest_region(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected region of `mask`; the first in reading order among equals."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return np.zeros_like(mask)
    sizes = np.bincount(labels.ravel())[1:]
    return labels == 1 + int(np.argmax(sizes))


def _connectedness(matte: np.ndarray, level: np.ndarray) -> np.ndarray:
    gap = matte - level
    return 1 - gap * (gap >= CONNECTIVITY_TOLERANCE)
