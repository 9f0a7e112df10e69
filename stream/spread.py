"""Colours carried from where they are known to where they are not: push-pull."""

from __future__ import annotations

import cv2
import numpy as np


def spread(colours: np.ndarray, known: np.ndarray, otherwise: float) -> np.ndarray:
    """(h, w, 3) float32: what is known of colours (h, w, 3), carried smoothly into the rest.

    Known colours are averaged into ever coarser pictures, then flow back into the holes from the
    finest one that has something there.  Where `known` (h, w) is true nowhere, it is `otherwise`.
    """
    if not known.any():
        return np.full(colours.shape, otherwise, np.float32)
    level = weighted(colours, known)
    levels = [level]
    while max(level.shape[:2]) > 1 and level[:, :, 3].min() == 0:
        level = halved(even(level))
        levels.append(level)
    filled = level[:, :, :3] / np.maximum(level[:, :, 3:], 1e-6)
    for level in reversed(levels[:-1]):
        height, width = level.shape[:2]
        coarse = 2 * filled.shape[1], 2 * filled.shape[0]
        filled = cv2.resize(filled, coarse, interpolation=cv2.INTER_LINEAR)[:height, :width]
        weight = level[:, :, 3:]
        sure = np.minimum(weight * 2, 1)  # half a cell of known pixels is enough to be trusted
        filled = filled * (1 - sure) + level[:, :, :3] * (sure / np.maximum(weight, 1e-6))
    return filled


def weighted(colours: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(h, w, 4) float32: colour times weight, and the weight: 1 where known, else 0."""
    level = np.empty((*known.shape, 4), np.float32)
    np.multiply(colours, known[:, :, None], out=level[:, :, :3])
    level[:, :, 3] = known
    return level


def even(level: np.ndarray) -> np.ndarray:
    """The same with even sides; what is added weighs nothing."""
    height, width = level.shape[:2]
    if height % 2 == width % 2 == 0:
        return level
    return cv2.copyMakeBorder(level, 0, height % 2, 0, width % 2, cv2.BORDER_CONSTANT)


def halved(picture: np.ndarray) -> np.ndarray:
    """Averages of 2 x 2 pixels.  OpenCV is ten times as fast at this as at any factor near it."""
    height, width = picture.shape[:2]
    half = max(1, width // 2), max(1, height // 2)
    return cv2.resize(picture, half, interpolation=cv2.INTER_AREA)
