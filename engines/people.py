"""From what the network says to the mattes of the people in the picture, in NumPy and OpenCV.

Common to every backend that runs without torch, and the twin of `matting/network/detail.py`
(a test holds the two together).  The network speaks of all its codes at a fraction of the
picture's size; only the people chosen here cost work at full size, and only around themselves.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import cv2
import numpy as np

from engines.base import PictureError
from matting.frames import UNTRACKED, Mattes, no_one

SURE = 8.0  # matting/network/detail.py
SAME = 0.7  # overlap of two location maps above which they are one person said twice
SURE_SCORE = 0.5  # from here on a person does not yield to another
EVERYWHERE = 1e-4  # so that claims alone decide where no location map speaks
NOWHERE = 0.03  # location below which a person is not
LEAST = 1.5e-4  # of the picture's area: less alpha than this is nobody (1,000 of 2560 x 2560)
AREA = 288 * 512  # pixels of the picture the network works on, whatever its shape
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
    if not 1 / 16 <= height / width <= 16:
        raise PictureError(
            f"the picture is {width} x {height}; a side more than 16 times the other is not matted"
        )
    scale = (area / (height * width)) ** 0.5
    return max(STEP, round(height * scale / STEP) * STEP), max(
        STEP, round(width * scale / STEP) * STEP
    )


def shrink(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 -> (1, h, w, 3) uint8, the network's input."""
    how = cv2.INTER_AREA if rgb.shape[0] > size[0] else cv2.INTER_LINEAR
    return cv2.resize(rgb, size[::-1], interpolation=how)[None]


def choose(answer: Answer, threshold: float) -> np.ndarray:
    """Rows of the codes that are people, by falling score, each person once."""
    order = np.argsort(-answer.score, kind="stable")
    order = order[answer.score[order] >= threshold]
    maps = answer.location.reshape(len(answer.score), -1)[order]
    common, own = maps @ maps.T, np.einsum("np,np->n", maps, maps)
    overlap = common / np.maximum(own[:, None] + own - common, 1e-6)  # soft IoU, product form
    kept: list[int] = []
    for i in range(len(order)):
        if all(overlap[i, j] < SAME for j in kept):
            kept.append(i)
    return order[kept]


def people(answer: Answer, rgb: np.ndarray, threshold: float) -> Mattes:
    """The mattes of everyone in the picture rgb (H, W, 3) uint8, at its own size."""
    size = rgb.shape[:2]
    empty = no_one(size, answer.location.shape[1:], answer.code.shape[1])
    rows = choose(answer, threshold)
    if not len(rows):
        return empty
    coefficient = coefficients(answer, rows)
    alpha = np.zeros((len(rows), *size), np.float32)
    boxes = np.zeros((len(rows), 4), np.float32)
    windows: list[tuple[slice, slice] | None] = []
    colour = cv2.merge([*cv2.split(rgb), np.full(size, 255, np.uint8)]).astype(np.float32)
    for i, row in enumerate(rows):
        window = where(answer.location[row], answer.trimap[row], coefficient[i].shape[:2], size)
        windows.append(window)
        if window is not None:
            alpha[i][window] = matte(coefficient[i], colour, window)
    if part := contested(windows):
        location = np.stack([cv2.resize(m, size[::-1])[part] for m in answer.location[rows]])
        shared = np.ascontiguousarray(alpha[:, part[0], part[1]])
        share_out(shared, answer.score[rows], location)
        alpha[:, part[0], part[1]] = shared
    kept = []
    for i, window in enumerate(windows):
        if window is None or alpha[i][window].sum() < LEAST * size[0] * size[1]:
            continue
        x, y, w, h = cv2.boundingRect((alpha[i][window] > 0.5).astype(np.uint8))
        if w:
            boxes[i] = np.array([x, y, x + w, y + h]) + [window[1].start, window[0].start] * 2
            kept.append(i)
    if not kept:
        return empty
    rows = rows[kept]
    coarse = answer.location[rows].copy()
    share_out(coarse, answer.score[rows], coarse.copy())
    return Mattes(
        alpha=alpha if len(kept) == len(alpha) else alpha[kept], coarse=coarse,
        score=answer.score[rows], box=boxes[kept], code=answer.code[rows],
        ids=np.full(len(rows), UNTRACKED, np.int64),
    )  # fmt: skip


def share_out(alpha: np.ndarray, score: np.ndarray, location: np.ndarray) -> None:
    """Make the alphas (n, H, W) of one picture sum to at most 1, in place.

    Where several people claim a pixel, what they claim together is divided by their claims times
    the square of their locations (n, H, W): alpha knows edges, location knows who is where.
    People the network is sure of go first and those it doubts get what is left; a doubtful second
    answer for somebody would otherwise take half of them, and be dropped later.
    """
    sure = score >= SURE_SCORE
    free: np.ndarray | float = 1.0
    for rows in (np.flatnonzero(sure), np.flatnonzero(~sure)):
        if not len(rows):
            continue
        claimed = np.minimum(np.add.reduce(alpha[rows]), free)
        weight = alpha[rows] * (np.square(location[rows]) + EVERYWHERE)
        scale = claimed / np.maximum(np.add.reduce(weight), 1e-9)
        for row, mine in zip(rows, weight, strict=True):
            np.multiply(mine, scale, out=alpha[row])
        free = free - claimed


def contested(windows: list[tuple[slice, slice] | None]) -> tuple[slice, slice] | None:
    """The smallest part of the picture with every pixel that two people can touch."""
    parts = []
    for i, one in enumerate(windows):
        for other in windows[:i]:
            if one and other:
                low = [max(a.start, b.start) for a, b in zip(one, other, strict=True)]
                high = [min(a.stop, b.stop) for a, b in zip(one, other, strict=True)]
                if low[0] < high[0] and low[1] < high[1]:
                    parts.append((*low, *high))
    if not parts:
        return None
    top, left, bottom, right = np.array(parts).T
    return slice(int(top.min()), int(bottom.max())), slice(int(left.min()), int(right.max()))


def coefficients(answer: Answer, rows: np.ndarray) -> np.ndarray:
    """(n, h/2, w/2, 4): slopes for R, G, B in 0..255 and the offset, as in detail.py, folded so
    that z = c . (R, G, B, 255) / 255."""
    features, height, width = answer.fine.shape
    kernels = answer.kernels[rows]
    heads = kernels[:, :, :-1].reshape(-1, features) @ answer.fine.reshape(features, -1)
    heads = heads.reshape(len(rows), 4, height, width) + kernels[:, :, -1:, None]
    made = np.empty((len(rows), height, width, 4), np.float32)
    for i, row in enumerate(rows):
        tri = cv2.resize(answer.trimap[row].transpose(1, 2, 0), (width, height))
        tri = cv2.exp(tri - tri.max(2, keepdims=True))
        tri /= tri.sum(2, keepdims=True)
        unknown = tri[..., 1]
        slopes = heads[i, :3] * unknown
        offset = heads[i, 3] * unknown + SURE * (tri[..., 2] - tri[..., 0]) - slopes.sum(0)
        # colour counts from -1 to 1 in the network and from 0 to 255 here
        made[i, ..., :3] = slopes.transpose(1, 2, 0) * (2 / 255)
        made[i, ..., 3] = offset / 255
    return made


def where(
    location: np.ndarray, trimap: np.ndarray, grid: tuple[int, int], size: tuple[int, int]
) -> tuple[slice, slice] | None:
    """Rows and columns of the picture that one person can touch.

    The cuts fall where the 1/2 grid and the picture's pixels meet exactly, so that a part is
    interpolated as the whole would have been.
    """
    here = (location > NOWHERE) | (trimap[0] < trimap[1:].max(0))
    x, y, w, h = cv2.boundingRect(here.astype(np.uint8))
    if not w:
        return None
    window = []
    for low, high, cells, fine, pixels in (
        (y - 1, y + h + 1, here.shape[0], grid[0], size[0]),
        (x - 1, x + w + 1, here.shape[1], grid[1], size[1]),
    ):
        block = pixels // gcd(pixels, fine)
        start = int(max(0, low) * pixels / cells) // block * block
        stop = -(-int(min(cells, high) * pixels / cells) // block) * block
        window.append(slice(start, min(pixels, stop)))
    return window[0], window[1]


def matte(coefficient: np.ndarray, colour: np.ndarray, window: tuple[slice, slice]) -> np.ndarray:
    """Alpha of one person in a window of the picture: colour is (H, W, 4), R, G, B and 255."""
    cuts, grid, inner = [], [], []
    for part, fine, pixels in zip(window, coefficient.shape[:2], colour.shape[:2], strict=True):
        common = gcd(pixels, fine)
        block, cells = pixels // common, fine // common  # this many pixels are this many cells
        # a block more on either side: interpolation looks one cell past the cut
        start, stop = max(0, part.start - block), min(pixels, part.stop + block)
        cuts.append(stop - start)
        grid.append(slice(start // block * cells, stop // block * cells))
        inner.append(slice(part.start - start, part.stop - start))
    wide = cv2.resize(coefficient[grid[0], grid[1]], (cuts[1], cuts[0]))[inner[0], inner[1]]
    z = cv2.transform(cv2.multiply(wide, colour[window]), np.ones((1, 4), np.float32))
    alpha = 1.02 / (1 + cv2.exp(-z)) - 0.01
    return np.clip(alpha, 0, 1, out=alpha)
