"""Pictures made smaller by averaging areas: OpenCV's INTER_AREA, in about half of its time.

An output pixel is the mean of the rectangle it covers, so lines can be summed first and columns
then.  Where the sides are in the ratio of small whole numbers (1280 x 720 to 512 x 288 is 5 to 2),
the shares are whole numbers too: sums of bytes in 16 bits, with nothing rounded before the end.
Columns are summed as lines of the picture turned on its side, a band at a time, so that what is
turned lies in the processor's cache.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import cv2
import numpy as np

LARGEST = 257  # shares of a pixel: 257 times 255 is the largest number of 16 bits
BAND = 768 << 10  # bytes of the picture worked on at once (AMD EPYC, 1 MB of cache, 2026-11-22)


def by_areas(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """(H, W, 3) uint8 -> (h, w, 3) uint8 of `size`, not larger either way; None where that
    is not quicker than OpenCV: where a side has no small ratio, or both have a whole one."""
    (height, width), (rows, columns) = rgb.shape[:2], size
    tall, broad = height // gcd(height, rows), width // gcd(width, columns)
    whole = height % rows == 0 and width % columns == 0  # OpenCV has a quick way of its own
    if whole or tall * broad > LARGEST:
        return None
    out = np.empty((*size, 3), np.uint8)
    step = max(1, BAND // (tall * width * 3))  # of `tall` lines
    lines, made = step * tall, step * (rows * tall // height)
    for start in range(-(-height // lines)):
        part = rgb[start * lines : (start + 1) * lines]
        summed = _summed(part.reshape(len(part), -1), tall, rows * tall // height)
        turned = cv2.transpose(summed.reshape(-1, width, 3)).reshape(width, -1)
        summed = _summed(turned, broad, columns * broad // width)
        codes = cv2.convertScaleAbs(summed, alpha=1 / (tall * broad)).reshape(columns, -1, 3)
        out[start * made : (start + 1) * made] = cv2.transpose(codes)
    return out


def _summed(lines: np.ndarray, many: int, few: int) -> np.ndarray:
    """(g * many, K) uint8 or uint16 -> (g * few, K) uint16: every `many` lines as `few`, each the
    sum of its share of them, counted in 1 / few of a line."""
    groups = lines.reshape(-1, many, lines.shape[1])
    out = np.empty((len(groups), few, lines.shape[1]), np.uint16)
    for row, parts in enumerate(_shares(many, few)):
        total = out[:, row]
        for turn, (share, those) in enumerate(parts):
            part = np.empty(total.shape, np.uint16) if turn else total
            np.multiply(groups[:, those[0]], np.uint16(share if len(those) == 1 else 1), out=part)
            for line in those[1:]:
                np.add(part, groups[:, line], out=part)
            if len(those) > 1 and share > 1:
                np.multiply(part, np.uint16(share), out=part)
            if turn:
                np.add(total, part, out=total)
    return out.reshape(-1, lines.shape[1])


@lru_cache(maxsize=64)
def _shares(many: int, few: int) -> list[list[tuple[int, list[int]]]]:
    """For each of `few` lines: a share, and which of `many` lines it has that share of."""
    made = []
    for row in range(few):
        low, high = row * many, (row + 1) * many  # in 1 / few of a line
        parts: dict[int, list[int]] = {}
        for line in range(low // few, -(-high // few)):
            share = min(high, (line + 1) * few) - max(low, line * few)
            parts.setdefault(share, []).append(line)
        made.append(sorted(parts.items(), reverse=True))
    return made
