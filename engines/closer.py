"""A photograph seen twice: whole, and in more pixels.  Two answers of the network become one.

Who is small, or half hidden, is often found at one size only, and an outline that both agree on is
better than either (multi-scale testing).  Whoever both have is their mean, by how much either is
believed, before anything is drawn.  Everyone else is taken as they are, but for what only the
closer answer has and is no one more: from close by, a group can look like one person, and an arm
like somebody of its own.
docs/decisions/0016-photographs-twice.md.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from engines.people import SURE_SCORE, Answer, overlaps, within

CLOSER = 3  # times the pixels
SAME = 0.35  # overlap of the location maps of two answers from which they may be of one person
PART = 0.7  # of what somebody claims, claimed as firmly by another: then they are a part of them
LARGE = 0.1  # share of the picture from which nobody needs to be looked at more closely


def together(usual: Answer, closer: Answer) -> Answer:
    """One answer for both, on the grids of the closer one; codes of nobody are in it as well."""
    usual = _on_grids_of(closer, usual)
    one, two = _pairs(usual, closer)
    part = _parts(closer)
    part[two[usual.score[one] >= SURE_SCORE]] = False  # both answers have them
    believed, again = np.square(usual.score[one]), np.square(closer.score[two] * ~part[two])
    # rows of the result: pairs, then those of either answer alone
    alone_one = np.setdiff1d(np.arange(len(usual.score)), one)
    alone_two = np.setdiff1d(np.flatnonzero(~(_lumps(usual, closer) | part)), two)
    share = np.concatenate([
        believed / np.maximum(believed + again, 1e-9),
        np.ones_like(alone_one), np.zeros_like(alone_two),
    ]).astype(np.float32)  # fmt: skip
    one = np.concatenate([one, alone_one, np.zeros_like(alone_two)])
    two = np.concatenate([two, np.zeros_like(alone_one), alone_two])

    def mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        weight = share.reshape(-1, *[1] * (a.ndim - 1))
        return weight * a[one] + (1 - weight) * b[two]

    # kernels stand side by side, as the features they look at do, and only their bias is shared
    weight = share[:, None, None]
    kernels = np.concatenate([
        weight * usual.kernels[one, :, :-1], (1 - weight) * closer.kernels[two, :, :-1],
        mean(usual.kernels[..., -1:], closer.kernels[..., -1:]),
    ], -1)  # fmt: skip
    score = np.maximum(usual.score[one] * (share > 0), closer.score[two] * (share < 1))
    return Answer(
        score=score, code=mean(usual.code, closer.code),
        location=mean(usual.location, closer.location),
        trimap=mean(usual.trimap, closer.trimap), kernels=kernels,
        fine=np.concatenate([usual.fine, closer.fine]),
    )  # fmt: skip


def _on_grids_of(other: Answer, answer: Answer) -> Answer:
    """The same answer on the larger grids of another: all its maps are read between their cells
    anyway, and products with kernels are the same before and after."""
    small, fine = other.location.shape[1:], other.fine.shape[1:]
    return answer._replace(
        location=_resized(answer.location, small), trimap=_resized(answer.trimap, small),
        fine=_resized(answer.fine, fine),
    )  # fmt: skip


def _resized(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    flat = maps.reshape(-1, *maps.shape[-2:])
    made = np.stack([cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR) for m in flat])
    return made.reshape(*maps.shape[:-2], *size)


def _lumps(usual: Answer, closer: Answer) -> np.ndarray:
    """(N,) bool: the codes of the closer answer that are large, and where others already are."""
    known = usual.location[usual.score >= SURE_SCORE].max(0, initial=0.0)
    inside = (closer.location * known).sum((1, 2)) > 0.5 * closer.location.sum((1, 2))
    return inside & (closer.location.mean((1, 2)) > LARGE)


def _parts(answer: Answer) -> np.ndarray:
    """(N,) bool: the codes whose place is another's, who is believed more and sure."""
    more = (answer.score >= SURE_SCORE) & (answer.score > answer.score[:, None])
    return (within(answer.location) * more).max(1, initial=0.0) >= PART


def _pairs(usual: Answer, closer: Answer) -> tuple[np.ndarray, np.ndarray]:
    """Rows of either answer that are the same person's."""
    overlap = overlaps(usual.location, closer.location)
    # who is believed in finds their like first; doubtful codes take what is left
    believed = np.sqrt(usual.score[:, None] * closer.score)
    rows, columns = linear_sum_assignment(-overlap * believed)
    same = overlap[rows, columns] >= SAME
    return rows[same], columns[same]
