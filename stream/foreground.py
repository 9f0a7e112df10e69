"""The colours of one person, freed of what was behind them, so that edges look right on anything.

A soft pixel is I = alpha F + (1 - alpha) B.  Straight-alpha files carry F, and F has to be guessed
where alpha is neither 0 nor 1.  Smooth guesses of F and B are spread from where each is seen alone,
then refined twice from close by and moved along alpha until the two explain the pixel: "Approximate
Fast Foreground Colour Estimation" (M. Forte, ICIP 2021), with a multi-level first guess in place of
its widest blur.  Where alpha is 1, F is the picture itself, code for code; where it is 0, F goes on
smoothly, so that scaling in another program draws no rim.

Pictures are (H, W, 3) float32 in [0, 1], alphas (H, W) uint8 codes.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from stream.spread import spread

SOLID, CLEAR = 250, 3  # codes at which a cell of the small picture is all person, or no one
SMALL_ROWS = 270  # about the height of the picture the first guess is made on
CLOSE = (
    41,
    11,
)  # pixels across of the two refining blurs at 1080 rows; scaled with the picture
LEAST = 7  # pixels across, however small the picture
STILL = 0.02  # a change of colour, of 1, at which a pixel no longer counts as resting
INERTIA = 0.6  # of what was guessed for a resting pixel a frame ago
EPSILON = 1e-4


class Foreground:
    """The foreground of one person of a video, frame after frame in order of time.

    Soft pixels that rest keep most of the colour they had, so that a guess does not flicker; pixels
    that move forget at once.
    """

    def __init__(self) -> None:
        self._before: tuple[np.ndarray, np.ndarray] | None = None  # picture and its foreground

    def of(self, rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """(H, W, 3) float32 of a picture and one person's alpha."""
        if not alpha.any():
            self._before = None
            return np.zeros(rgb.shape, np.float32)
        freed = estimated(rgb, alpha)
        before, self._before = self._before, None
        soft = (alpha > 0) & (alpha < 255)
        if not soft.any():
            return freed
        if before is not None and before[0].shape == rgb.shape:
            now = rgb[soft]
            moved = np.abs(now - before[0][soft]).max(axis=1, keepdims=True)
            keep = INERTIA * np.exp(-((moved / STILL) ** 2), dtype=np.float32)
            freed[soft] += keep * (before[1][soft] - freed[soft])
        self._before = rgb, freed
        return freed


def estimated(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32: the foreground of one picture."""
    height, width = alpha.shape
    steps = max(0, round(math.log2(max(1.0, height / SMALL_ROWS))))
    cell = 1 << steps
    rows, columns = -(-height // cell) * cell, -(-width // cell) * cell
    small, small_alpha = rgb, alpha
    if steps:
        edge = cv2.BORDER_REPLICATE
        wide = cv2.copyMakeBorder(rgb, 0, rows - height, 0, columns - width, edge)
        wide_alpha = cv2.copyMakeBorder(alpha, 0, rows - height, 0, columns - width, edge)
        for _ in range(steps):
            half = wide.shape[1] // 2, wide.shape[0] // 2
            wide = cv2.resize(wide, half, interpolation=cv2.INTER_AREA)
            wide_alpha = cv2.resize(wide_alpha, half, interpolation=cv2.INTER_AREA)
        small, small_alpha = wide, wide_alpha
    front = _spread(small, small_alpha >= SOLID, small_alpha)
    x, y, box_width, box_height = cv2.boundingRect(alpha)
    out = _grown(front, (rows, columns))[:height, :width]
    if not box_width:
        return np.ascontiguousarray(out)
    margin = 4 * cell + CLOSE[0]
    top, left = max(0, y - margin), max(0, x - margin)
    part = np.s_[top : y + box_height + margin, left : x + box_width + margin]
    back = _grown(_spread(small, small_alpha <= CLEAR, 255 - small_alpha), (rows, columns))
    image, share = rgb[part], alpha[part].astype(np.float32)[:, :, None] * np.float32(1 / 255)
    guess, behind = out[part], back[:height, :width][part]
    guess = _explained(image, share, guess, behind)
    for across in CLOSE:
        side = max(LEAST, round(across * height / 1080) | 1)
        guess, behind = _closer(image, share, guess, behind, side)
    result = np.ascontiguousarray(out)
    freed = np.where(share == 1, image, guess)
    # Beyond the person the refined guess goes over into the smooth one without a step.
    near = cv2.blur((share[:, :, 0] > 0).astype(np.float32), (9, 9))[:, :, None]
    result[part] = np.where(share > 0, freed, result[part] + np.minimum(near * 4, 1)
                            * (freed - result[part]))  # fmt: skip
    return result


def _explained(
    image: np.ndarray, share: np.ndarray, front: np.ndarray, back: np.ndarray
) -> np.ndarray:
    """The foreground moved along alpha until it and the background make the pixel."""
    return np.clip(front + share * (image - share * front - (1 - share) * back), 0, 1)


def _closer(
    image: np.ndarray, share: np.ndarray, front: np.ndarray, back: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """One round of blur fusion: both colours from their neighbourhoods, then explained."""
    around = (side, side)
    weight = cv2.blur(share, around)[:, :, None]
    smooth = cv2.blur(front * share, around) / (weight + EPSILON)
    smooth_back = cv2.blur(back * (1 - share), around) / (1 - weight + EPSILON)
    trust = np.minimum(weight * 8, 1)  # where hardly anything of the person is near, the old guess
    smooth = front + trust * (smooth - front)
    trust = np.minimum((1 - weight) * 8, 1)
    smooth_back = back + trust * (smooth_back - back)
    return _explained(image, share, smooth, smooth_back), np.clip(smooth_back, 0, 1)


def _spread(colours: np.ndarray, known: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32: what is known, carried smoothly to where it is not.

    Where nothing is known for sure, as of someone who is a blur all over, the pixels with the
    largest share speak.
    """
    if not known.any():
        known = (share == share.max()) & (share > 0)
    return spread(colours, known, otherwise=0)


def _grown(small: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)
