"""How good the mattes of a whole picture are, when every person has one of their own.

Shapes: `predicted` is (M, H, W) and `true` is (N, H, W), float in [0, 1]; M and N may differ, and
either may be 0.  Two mattes of a picture are compared only after they have been matched one to one
by the IoU of their supports (alpha > 0), with the Hungarian method.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from matting.metrics.alpha import connectivity_error, gradient_error

ERRORS = ("mad", "mse", "grad", "conn", "iou")  # what the quality of a pair can be made of
REACH = 5  # pixels from which a gradient at sigma 1.4 takes its value, and one more
Picture = tuple[np.ndarray, np.ndarray]  # predicted (M, H, W), true (N, H, W)


@dataclass(frozen=True)
class MattingQuality:
    """Instance matting quality of a data set, in hundredths; imq = mq * rq / 100."""

    imq: float
    mq: float  # how good the mattes of the people found are
    rq: float  # how well people are found at all (an F1)


@dataclass(frozen=True)
class InstanceErrors:
    """Mean error per person of a data set, in thousandths; someone missed or invented counts."""

    emse: float
    emad: float
    people: int  # true people plus invented ones: what the means are over


@dataclass(frozen=True)
class QualityCounts:
    """What one picture adds to the quality of a data set; these add up."""

    similarity: float  # summed over pairs
    hits: int
    invented: int
    missed: int


@dataclass(frozen=True)
class ErrorCounts:
    """What one picture adds to the errors of a data set; these add up."""

    squared: float  # summed over people: mean squared difference over the picture
    absolute: float
    people: int


def overlap_matrix(
    predicted: np.ndarray,
    true: np.ndarray,
    threshold: float = 0.0,
    where: np.ndarray | None = None,
) -> np.ndarray:
    """(M, N) IoU of the pixels above `threshold`; `where` (H, W) bool limits which pixels count."""
    _check(predicted, true)
    ours = _support(predicted, threshold, where)
    theirs = _support(true, threshold, where)
    both = ours @ theirs.T
    union = ours.sum(1)[:, None] + theirs.sum(1)[None] - both
    return both / np.maximum(union, 1)


def match(overlap: np.ndarray, minimum: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the one-to-one matching of greatest total overlap.

    Pairs that do not overlap, or overlap less than `minimum`, are left unmatched.
    """
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    kept = (overlap[rows, columns] >= minimum) & (overlap[rows, columns] > 0)
    return rows[kept], columns[kept]


def matting_quality(
    pictures: Iterable[Picture], error: str = "mad", tau: float = 0.5
) -> MattingQuality:
    """IMQ of Sun et al., "Human Instance Matting via Mutual Guidance and Multi-Instance
    Refinement" (InstMatt), CVPR 2022.

    A matched pair is a true positive where its supports overlap by `tau` or more; its similarity
    is 1 - min(10 * E, 1), with E the mean absolute (`mad`) or squared (`mse`) difference, or the
    mean gradient (`grad`) or connectivity (`conn`) error, inside the union of the two supports; or
    it is the IoU of the supports itself (`iou`).  IMQ is the sum of similarities over
    TP + FP / 2 + FN / 2, MQ over TP, both over the whole data set.
    """
    if error not in ERRORS:
        raise ValueError(f"error should be one of {', '.join(ERRORS)}, got {error!r}")
    return combined_quality(quality_counts(*picture, error, tau) for picture in pictures)


def quality_counts(
    predicted: np.ndarray, true: np.ndarray, error: str = "mad", tau: float = 0.5
) -> QualityCounts:
    """What one picture adds to `matting_quality`."""
    overlap = overlap_matrix(predicted, true)
    rows, columns = match(overlap, tau)
    similarity = sum(
        float(overlap[row, column])
        if error == "iou"
        else 1 - min(10 * pair_error(predicted[row], true[column], error), 1.0)
        for row, column in zip(rows, columns, strict=True)
    )
    hits = len(rows)
    return QualityCounts(float(similarity), hits, len(predicted) - hits, len(true) - hits)


def pair_error(predicted: np.ndarray, true: np.ndarray, error: str) -> float:
    """Mean per pixel of `mad`, `mse`, `grad` or `conn` inside the union of the two supports."""
    union = (predicted > 0) | (true > 0)
    if not union.any():
        return 0.0
    if error in ("grad", "conn"):  # nothing further away reaches the pixels that count
        window = _around(union, REACH)
        predicted, true, union = predicted[window], true[window], union[window]
    if error == "grad":
        return float(gradient_error(predicted, true)[union].mean())
    if error == "conn":
        return float(connectivity_error(predicted, true)[union].mean())
    difference = np.abs(predicted[union].astype(np.float64) - true[union])
    return float(difference.mean() if error == "mad" else (difference**2).mean())


def _around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The part of a picture that holds all of `mask`, with a margin."""
    found = []
    for axis in (1, 0):
        (places,) = np.nonzero(mask.any(axis))
        found.append(slice(max(0, int(places[0]) - margin), int(places[-1]) + 1 + margin))
    return found[0], found[1]


def combined_quality(counts: Iterable[QualityCounts]) -> MattingQuality:
    """Quality of a data set from what its pictures add."""
    similarity, hits, invented, missed = 0.0, 0, 0, 0
    for count in counts:
        similarity += count.similarity
        hits, invented = hits + count.hits, invented + count.invented
        missed += count.missed
    weight = hits + invented / 2 + missed / 2
    return MattingQuality(
        imq=100 * similarity / weight if weight else 100.0,
        mq=100 * similarity / hits if hits else (0.0 if weight else 100.0),
        rq=100 * hits / weight if weight else 100.0,
    )


def instance_errors(pictures: Iterable[Picture]) -> InstanceErrors:
    """EMSE and EMAD of Liu et al., "End-to-End Human Instance Matting" (E2E-HIM), TCSVT 2023.

    The authors published no program for them; this is our reading.  Within a picture, predicted
    and true mattes are matched one to one by the IoU of their supports.  A matched pair contributes
    its mean squared (absolute) difference over all pixels of the picture; a true matte without a
    partner contributes its error against an empty matte, and so does a predicted one.  The mean is
    over all contributions of the data set, times 1000.
    """
    return combined_errors(error_counts(*picture) for picture in pictures)


def error_counts(predicted: np.ndarray, true: np.ndarray) -> ErrorCounts:
    """What one picture adds to `instance_errors`."""
    rows, columns = match(overlap_matrix(predicted, true))
    differences = [
        np.abs(predicted[row].astype(np.float64) - true[column])
        for row, column in zip(rows, columns, strict=True)
    ]
    differences += [predicted[row].astype(np.float64) for row in _others(predicted, rows)]
    differences += [true[column].astype(np.float64) for column in _others(true, columns)]
    return ErrorCounts(
        sum(float((difference**2).mean()) for difference in differences),
        sum(float(difference.mean()) for difference in differences),
        len(differences),
    )


def combined_errors(counts: Iterable[ErrorCounts]) -> InstanceErrors:
    """Errors of a data set from what its pictures add."""
    squared, absolute, people = 0.0, 0.0, 0
    for count in counts:
        squared, absolute = squared + count.squared, absolute + count.absolute
        people += count.people
    return InstanceErrors(
        emse=1e3 * squared / max(people, 1), emad=1e3 * absolute / max(people, 1), people=people
    )


def _check(predicted: np.ndarray, true: np.ndarray) -> None:
    if predicted.ndim != 3 or true.ndim != 3 or predicted.shape[1:] != true.shape[1:]:
        raise ValueError(
            "predicted (M, H, W) and true (N, H, W) mattes should share H and W, "
            f"got {predicted.shape} and {true.shape}"
        )


def _support(mattes: np.ndarray, threshold: float, where: np.ndarray | None) -> np.ndarray:
    """(N, pixels) of 0 and 1: a product of two counts their common pixels (exact to 2**24)."""
    above = mattes > threshold
    if where is not None:
        above = above & where
    return above.reshape(len(mattes), mattes.shape[1] * mattes.shape[2]).astype(np.float32)


def _others(mattes: np.ndarray, matched: np.ndarray) -> list[int]:
    return sorted(set(range(len(mattes))) - set(matched.tolist()))
