"""Mattes made a little larger or smaller, and softer: what people ask for at the edge.

Only what is shown changes.  Recorded alpha tracks stay what the network said.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from matting.frames import Mattes

LARGEST_PIXELS = 50.0


@dataclass(frozen=True)
class Edges:
    """In pixels of the picture."""

    expand_pixels: float = 0.0  # > 0 grows a person, < 0 takes a rim away
    feather_pixels: float = 0.0  # half-width of the blur of the edge

    def __post_init__(self) -> None:
        if not abs(self.expand_pixels) <= LARGEST_PIXELS:
            raise ValueError(f"expand should be -50 to 50 pixels, got {self.expand_pixels}")
        if not 0 <= self.feather_pixels <= LARGEST_PIXELS:
            raise ValueError(f"feather should be 0 to 50 pixels, got {self.feather_pixels}")


def edged(mattes: Mattes, edges: Edges) -> Mattes:
    """The same people with other edges; together they still claim no pixel more than once."""
    if not len(mattes) or edges == Edges():
        return mattes
    alpha = np.zeros_like(mattes.alpha)
    height, width = alpha.shape[1:]
    margin = 2 + int(np.ceil(max(edges.expand_pixels, 0) + 3 * edges.feather_pixels))
    for own, out in zip(mattes.alpha, alpha, strict=True):
        x, y, w, h = cv2.boundingRect(cv2.convertScaleAbs(own, alpha=255.0))
        if not w:
            continue
        top, left = max(0, y - margin), max(0, x - margin)
        part = slice(top, min(height, y + h + margin)), slice(left, min(width, x + w + margin))
        piece = np.ascontiguousarray(own[part])
        if edges.expand_pixels:
            side = 2 * max(1, round(abs(edges.expand_pixels))) + 1
            pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
            piece = (cv2.dilate if edges.expand_pixels > 0 else cv2.erode)(piece, pen)
        if edges.feather_pixels:
            piece = cv2.GaussianBlur(
                piece, (0, 0), edges.feather_pixels / 2, borderType=cv2.BORDER_REPLICATE
            )
        out[part] = piece
    if len(alpha) > 1:
        total = alpha.sum(axis=0)
        if total.max() > 1:
            alpha /= np.maximum(total, 1)
    return mattes.with_alpha(alpha)
