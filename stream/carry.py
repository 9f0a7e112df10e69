"""Mattes carried from one picture of a video to another by the motion between the two.

Dense optical flow (Kroeger et al., "Fast optical flow using dense inverse search", 2016), measured
on small copies of the pictures.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

WIDE = 320  # pixels of the longer side of a small copy


def small(rgb: np.ndarray) -> np.ndarray:
    """A copy of a picture (H, W, 3) with `WIDE` pixels on the longer side, if it has more."""
    height, width = rgb.shape[:2]
    scale = min(1.0, WIDE / max(height, width))
    size = max(16, round(width * scale)), max(16, round(height * scale))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def gray(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def motion(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(h, w, 2) float32: from each pixel `here` to where it is `there`; both (h, w) gray."""
    vision: Any = cv2  # its stubs miss this one
    return vision.DISOpticalFlow_create(vision.DISOPTICAL_FLOW_PRESET_FAST).calc(here, there, None)


def carried(picture: np.ndarray, flow: np.ndarray, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    """What the picture `there` of a flow (h, w, 2) shows, `here`; `border` is what lies outside."""
    height, width = flow.shape[:2]
    x = (np.arange(width, dtype=np.float32) + flow[..., 0]).astype(np.float32)
    y = (np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]).astype(np.float32)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=border)


def box_around(alpha: np.ndarray) -> np.ndarray | None:
    """(4,) float32: x0 y0 x1 y1 around alpha > 0.5; None where there is none."""
    rows, columns = (np.flatnonzero((alpha > 0.5).any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
