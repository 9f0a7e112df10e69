"""From what the network says to the mattes of the people in the picture, in NumPy and OpenCV.

Common to every backend that runs without torch, and the twin of `matting/network/detail.py`
(a test holds the two together).  The network speaks of all its codes at a fraction of the
picture's size; only the people chosen here cost work at full size, and only where they are
(drawing.py).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from engines.areas import by_areas
from engines.base import AREA, PictureError
from engines.drawing import EVERYWHERE, Drawing, Source
from matting.frames import MOST_ASPECT, UNTRACKED, Mattes, no_one

SURE = 8.0  # matting/network/detail.py
SAME = 0.7  # overlap of two location maps above which they are one person said twice
FAR = 60.0  # a logit this far above another is certain; e to the 88 is the largest there is
SURE_SCORE = 0.5  # from here on the network is sure of a person
OWN = 0.3  # share of a place that somebody doubted has to have to themself, to be treated alike
LEAST = 1.5e-4  # of the picture's area: less alpha than this is nobody (1,000 of 2560 x 2560)
STEP = 32  # and its sides are multiples of this


class Answer(NamedTuple):
    """What the network says of one picture: N codes, h = height of its input."""

    score: np.ndarray  # (N,) float32, 0..1
    code: np.ndarray  # (N, D) float32
    location: np.ndarray  # (N, h/8, w/8) float32, 0..1
    trimap: np.ndarray  # (N, 3, h/8, w/8) float32 logits: background, unknown, foreground
    kernels: np.ndarray  # (N, 4, F + 1) float32
    fine: np.ndarray  # (F, h/2, w/2) float32


def working_size(size: tuple[int, int], area: int = AREA) -> tuple[int, int]:
    """The (H, W) the network sees of a picture of `size`: same shape to the nearest multiple."""
    height, width = size
    if max(size) > MOST_ASPECT * min(size):
        raise PictureError(
            f"the picture is {width} x {height}; a side more than {MOST_ASPECT} times the other is "
            "not matted"
        )
    scale = (area / (height * width)) ** 0.5
    return max(STEP, round(height * scale / STEP) * STEP), max(
        STEP, round(width * scale / STEP) * STEP
    )


def shrink(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 -> (1, h, w, 3) uint8, the network's input."""
    if rgb.shape[0] > size[0] and rgb.shape[1] > size[1]:
        made = by_areas(rgb, size)
        if made is not None:
            return made[None]
    how = cv2.INTER_AREA if rgb.shape[0] > size[0] else cv2.INTER_LINEAR
    return cv2.resize(rgb, size[::-1], interpolation=how)[None]


def choose(answer: Answer, threshold: float) -> np.ndarray:
    """Rows of the codes that are people, by falling score, each person once."""
    order = np.argsort(-answer.score, kind="stable")
    order = order[answer.score[order] >= threshold]
    overlap = overlaps(answer.location[order], answer.location[order])
    kept: list[int] = []
    for i in range(len(order)):
        if all(overlap[i, j] < SAME for j in kept):
            kept.append(i)
    return order[kept]


def equals(answer: Answer, rows: np.ndarray) -> np.ndarray:
    """(n,) bool: which of these codes share a pixel alike.  The others get what is left.

    Those are all the network is sure of, and whoever it doubts but who is somewhere else: half
    hidden, say.  A doubtful second answer for somebody would take half of them, and be dropped.
    """
    sure = answer.score[rows] >= SURE_SCORE
    inside = within(answer.location[rows])[:, sure]
    return sure | (inside.max(1, initial=0.0) <= 1 - OWN)


def overlaps(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """(n, m): soft IoU, product form, of location maps (n, h, w) with others (m, h, w)."""
    a, b = (maps.reshape(len(maps), maps.shape[1] * maps.shape[2]) for maps in (these, those))
    common = a @ b.T
    own, others = (np.einsum("np,np->n", maps, maps) for maps in (a, b))
    return common / np.maximum(own[:, None] + others - common, 1e-6)


def within(maps: np.ndarray) -> np.ndarray:
    """(n, n): how firmly what each of the location maps (n, h, w) claims is claimed by each other,
    1 where as firmly as by itself."""
    flat = maps.reshape(len(maps), maps.shape[1] * maps.shape[2])
    own = np.einsum("np,np->n", flat, flat)
    return flat @ flat.T / np.maximum(own, 1e-6)[:, None]


def people(
    answer: Answer, rgb: np.ndarray, threshold: float, seen: np.ndarray | None = None
) -> Mattes:
    """The mattes of everyone in the picture rgb (H, W, 3) uint8, at its own size; `seen`
    (h, w, 3) uint8 is what the network saw of it, if it is at hand.

    They are drawn when somebody looks (drawing.py).  What is known before, box and whether there
    is enough of a person at all, is read off a preview of the network's 1/2 grid.
    """
    size, grid = rgb.shape[:2], answer.fine.shape[1:]
    rows = choose(answer, threshold)
    boxes = np.zeros((len(rows), 4), np.float32)
    kept = np.zeros(len(rows), bool)
    if len(rows):
        coefficient = coefficients(answer, rows)
        location = np.stack([cv2.resize(m, grid[::-1]) for m in answer.location[rows]])
        alike = equals(answer, rows)
        preview = previewed(coefficient, location, alike, rgb if seen is None else seen)
        scale = np.array([size[1] / grid[1], size[0] / grid[0]] * 2)
        for i, matte in enumerate(preview):
            x, y, w, h = cv2.boundingRect((matte > 0.5).astype(np.uint8))
            boxes[i] = np.array([x, y, x + w, y + h]) * scale
            kept[i] = w and matte.mean() >= LEAST
    if not kept.any():
        return no_one(size, answer.location.shape[1:], answer.code.shape[1])
    rows = rows[kept]
    coarse = answer.location[rows].copy()
    share_out(coarse, alike[kept], coarse.copy())
    return Mattes(
        alpha=Drawing(Source(rgb, coefficient, location, alike), np.flatnonzero(kept)),
        coarse=coarse, score=answer.score[rows], box=boxes[kept], code=answer.code[rows],
        ids=np.full(len(rows), UNTRACKED, np.int64),
    )  # fmt: skip


def previewed(
    coefficient: np.ndarray, location: np.ndarray, alike: np.ndarray, rgb: np.ndarray
) -> np.ndarray:
    """(n, h/2, w/2) float32: the mattes as they are at the size of the network's 1/2 grid."""
    grid = location.shape[1:]
    shrunk = cv2.resize(rgb, grid[::-1], interpolation=cv2.INTER_AREA)
    colour = shrunk.transpose(2, 0, 1).astype(np.float32)
    alpha = np.empty_like(location)
    for z, (*slopes, offset) in zip(alpha, coefficient, strict=True):
        z[...] = offset
        for slope, plane in zip(slopes, colour, strict=True):
            z += slope * plane
        z[...] = 1.02 / (1 + cv2.exp(-z)) - 0.01
        np.clip(z, 0, 1, out=z)
    share_out(alpha, alike, location)
    return alpha


def share_out(alpha: np.ndarray, alike: np.ndarray, location: np.ndarray) -> None:
    """Make the alphas (n, H, W) of one picture sum to at most 1, in place.

    Where several people claim a pixel, what they claim together is divided by their claims times
    the square of their locations (n, H, W): alpha knows edges, location knows who is where.
    Those who are `alike`, as `equals` has them, go first, and the others get what is left.
    """
    free: np.ndarray | float = 1.0
    for rows in (np.flatnonzero(alike), np.flatnonzero(~alike)):
        if not len(rows):
            continue
        claimed = np.minimum(np.add.reduce(alpha[rows]), free)
        weight = alpha[rows] * (np.square(location[rows]) + EVERYWHERE)
        scale = claimed / np.maximum(np.add.reduce(weight), 1e-9)
        for row, mine in zip(rows, weight, strict=True):
            np.multiply(mine, scale, out=alpha[row])
        free = free - claimed


def coefficients(answer: Answer, rows: np.ndarray) -> np.ndarray:
    """(n, 4, h/2, w/2) float32: slopes for R, G, B in 0..255 and the offset, as in detail.py."""
    features, height, width = answer.fine.shape
    kernels = answer.kernels[rows]
    made = np.empty((len(rows), 4, height, width), np.float32)
    # a product for each line of the grid: it stays in the cache, and is too small for BLAS to wake
    # its threads, which would then spin for 25 ms, every frame (bench/scaling.py shows them)
    np.matmul(
        kernels[:, :, :-1].reshape(-1, features), answer.fine.transpose(1, 0, 2),
        out=made.reshape(-1, height, width).transpose(1, 0, 2),
    )  # fmt: skip
    for head, bias, logits in zip(made, kernels[:, :, -1], answer.trimap[rows], strict=True):
        head += bias[:, None, None]
        # shares of the three, from how far background and foreground lie above unknown
        above = np.ascontiguousarray((logits[::2] - logits[1]).transpose(1, 2, 0))
        above = np.minimum(cv2.resize(above, (width, height)), FAR)
        background, foreground = cv2.split(cv2.exp(above))
        unknown = 1 / (1 + background + foreground)
        head *= unknown
        # colour counts from -1 to 1 in the network and from 0 to 255 here
        head[3] += SURE * (foreground - background) * unknown - head[:3].sum(0)
        head[:3] *= 2 / 255
    return made
