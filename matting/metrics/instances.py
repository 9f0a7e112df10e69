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
    is 1 - min(10 * E, 1), with E the mean absolute (`mad`) or squared (`mse`) difference inside the
    union of the two supports, or the IoU of the supports itself (`iou`).  IMQ is the sum of
    similarities over TP + FP / 2 + FN / 2, MQ over TP, both over the whole data set.
    """
    if error not in ("mad", "mse", "iou"):
        raise ValueError(f"error should be 'mad', 'mse' or 'iou', got {error!r}")
    similarity, hits, invented, missed = 0.0, 0, 0, 0
    for predicted, true in pictures:
        overlap = overlap_matrix(predicted, true)
        rows, columns = match(overlap, tau)
        hits += len(rows)
        invented += len(predicted) - len(rows)
        missed += len(true) - len(rows)
        for row, column in zip(rows, columns, strict=True):
            if error == "iou":
                similarity += float(overlap[row, column])
                continue
            union = (predicted[row] > 0) | (true[column] > 0)
            difference = np.abs(predicted[row][union].astype(np.float64) - true[column][union])
            distance = difference.mean() if error == "mad" else (difference**2).mean()
            similarity += 1 - min(10 * float(distance), 1.0)
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
    squared, absolute, people = 0.0, 0.0, 0
    for predicted, true in pictures:
        rows, columns = match(overlap_matrix(predicted, true))
        differences = [
            np.abs(predicted[row].astype(np.float64) - true[column])
            for row, column in zip(rows, columns, strict=True)
        ]
        differences += [predicted[row].astype(np.float64) for row in _others(predicted, rows)]
        differences += [true[column].astype(np.float64) for column in _others(true, columns)]
        squared += sum(float((difference**2).mean()) for difference in differences)
        absolute += sum(float(difference.mean()) for difference in differences)
        people += len(differences)
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
