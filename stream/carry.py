"""Mattes carried from one picture of a video to another by the motion between the two.

Dense optical flow (Kroeger et al., "Fast optical flow using dense inverse search", 2016), measured
on small copies of the pictures, almost as fine as the network sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from matting.frames import Mattes

WIDE = 384  # pixels of the longer side of a small copy
BROAD = 64  # pixels of the shorter side: in narrow strips OpenCV reads what is not there, and dies
NOISE = 0.6  # of the difference in the middle of a picture's pixels is not taken for a change
SAME_SCENE = 0.4  # share of a picture that must look the same, or nothing is carried across

Part = tuple[slice, slice]  # rows and columns of a picture


def small(picture: np.ndarray) -> np.ndarray:
    """A copy of a picture (H, W) or (H, W, 3) with `WIDE` pixels on the longer side, if it has
    more."""
    height, width = picture.shape[:2]
    scale = min(1.0, WIDE / max(height, width))
    size = max(16, round(width * scale)), max(16, round(height * scale))
    while picture.shape[1] >= 2 * size[0] and picture.shape[0] >= 2 * size[1]:
        half = picture.shape[1] // 2, picture.shape[0] // 2  # a seventh of the time of one step
        picture = cv2.resize(picture, half, interpolation=cv2.INTER_AREA)
    return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)


def gray(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def small_alphas(mattes: Mattes) -> dict[int, np.ndarray]:
    """Everyone's matte (h, w) float32 in 0..1, as large as `small` makes the picture, by id."""
    return {
        number: small(codes) * np.float32(1 / 255)
        for number, codes in zip(mattes.ids.tolist(), mattes.codes, strict=True)
    }


def motion(here: np.ndarray, there: np.ndarray, *, finely: bool = False) -> np.ndarray:
    """(h, w, 2) float32: from each pixel `here` to where it is `there`; both (h, w) gray.
    `finely` takes ten times as long, and bears being put together over several frames."""
    height, width = here.shape
    if min(height, width) < BROAD:
        more = 0, max(0, BROAD - height), 0, max(0, BROAD - width), cv2.BORDER_REPLICATE
        here, there = (cv2.copyMakeBorder(one, *more) for one in (here, there))
    vision: Any = cv2  # its stubs miss this one
    medium, fast = vision.DISOPTICAL_FLOW_PRESET_MEDIUM, vision.DISOPTICAL_FLOW_PRESET_ULTRAFAST
    flow = vision.DISOpticalFlow_create(medium if finely else fast).calc(here, there, None)
    return flow[:height, :width]


def carried(picture: np.ndarray, flow: np.ndarray, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    """What the picture `there` of a flow (h, w, 2) shows, `here`; `border` is what lies outside."""
    height, width = flow.shape[:2]
    x = (np.arange(width, dtype=np.float32) + flow[..., 0]).astype(np.float32)
    y = (np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]).astype(np.float32)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=border)


def along(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The same; what comes in at the rim looks like the rim."""
    return carried(picture, flow, cv2.BORDER_REPLICATE)


def alike(here: np.ndarray, there: np.ndarray, flow: np.ndarray, levels: float) -> np.ndarray:
    """(h, w) float32, 1 where the picture `there` (h, w, 3), carried here, shows the same as the
    one here, 0.37 where they are so many levels of colour further apart than a dark camera's noise
    has them everywhere, 0 where they are far apart."""
    red, green, blue = cv2.split(cv2.absdiff(along(there, flow), here))
    apart = cv2.blur(cv2.max(cv2.max(red, green), blue).astype(np.float32), (3, 3))
    apart -= min(NOISE * float(np.median(apart[::4, ::4])), levels)
    np.maximum(apart, 0, out=apart)
    return np.exp(-np.square(apart / np.float32(levels)))


def box_around(alpha: np.ndarray) -> np.ndarray | None:
    """(4,) float32: x0 y0 x1 y1 around alpha > 0.5, or codes > 127; None where there is none."""
    half = 127 if alpha.dtype == np.uint8 else 0.5
    x, y, width, height = cv2.boundingRect((alpha > half).view(np.uint8))
    return np.array([x, y, x + width, y + height], np.float32) if width else None


def changed(mattes: Mattes, changes: Mapping[int, np.ndarray]) -> Mattes:
    """The mattes with small changes (h, w) in -1..1 added to those of some people, by id."""
    height, width = mattes.size
    codes, box = mattes.codes.copy(), mattes.box.copy()
    places = []
    for row, number in enumerate(mattes.ids.tolist()):
        if number not in changes:
            continue
        levels = np.rint(255 * changes[number]).astype(np.int16)
        part, place = _where(levels != 0, (height, width))
        size = place[1].stop - place[1].start, place[0].stop - place[0].start
        if not min(size):
            continue
        mine = codes[row][place].copy()
        # in eight bits, so never below 0 or above 255
        codes[row][place] = cv2.add(mine, cv2.resize(levels[part], size), dtype=cv2.CV_8U)
        around = box_around(codes[row])
        if around is None:  # nobody would be left where the network saw somebody
            codes[row][place] = mine
            continue
        box[row] = around
        places.append(place)
    for place in places:  # once everyone has what they keep
        _share_out(codes[(slice(None), *place)])
    return Mattes(codes, mattes.coarse, mattes.score, box, mattes.code, mattes.ids)


def _where(mask: np.ndarray, size: tuple[int, int]) -> tuple[Part, Part]:
    """The part of a small mask (h, w) in which it is set, two cells more on every side, and the
    same part of a picture of `size` (H, W)."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    rows, tall = _axis(y, height, mask.shape[0], size[0])
    columns, broad = _axis(x, width, mask.shape[1], size[1])
    return (rows, columns), (tall, broad)


def _axis(start: int, length: int, cells: int, pixels: int) -> tuple[slice, slice]:
    first, last = max(0, start - 2), min(cells, start + length + 2) if length else 0
    return slice(first, last), slice(round(first * pixels / cells), round(last * pixels / cells))


def _share_out(codes: np.ndarray) -> None:
    """A pixel is shared, not owned twice: codes (N, h, w) that sum to more than 255 become less."""
    here = [one for one in codes if cv2.countNonZero(one)]
    if len(here) < 2:
        return
    total = here[0].astype(np.uint16)
    for other in here[1:]:
        total = cv2.add(total, other, dtype=cv2.CV_16U)
    if total.max() > 255:
        y, x = np.nonzero(total > 255)
        codes[:, y, x] = codes[:, y, x].astype(np.uint32) * 255 // total[y, x]
