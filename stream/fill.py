"""Short holes in a person's track, where the network missed someone it saw before and after.

The matte before and the matte after are carried to the missing frames by the motion of the picture
itself (dense optical flow: Kroeger et al., "Fast optical flow using dense inverse search", 2016).
Where the two agree on what the picture shows, their mean is the matte; where the pixels they were
carried to look different, somebody has stepped in front or the person is gone, and the hole stays.
Nobody is invented who cannot be seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from matting.frames import Mattes
from stream.stages import Coming, Matted

WIDE = 320  # pixels of the longer side at which motion is measured
DIFFERENT = 24  # levels of gray from which a carried pixel shows something else
SEEN = 0.7  # share of a carried matte that must look the same
AGREE = 0.5  # overlap the mattes from before and after must have


@dataclass(frozen=True, eq=False)
class _Carried:
    alpha: np.ndarray  # (H, W) float32
    seen: float  # share of it that looks as it did


def fill(followed: Iterable[Matted], longest: int) -> Iterator[Matted]:
    """Close holes of up to `longest` frames.  Frames wait until their holes are closed or too long;
    scores of what is filled in are 0, so that nobody takes it for a detection.  Where the stage
    before fails, the frames that wait still come, and then its failure."""
    waiting: deque[Matted] = deque()
    coming = Coming(followed)
    for frame, mattes in coming:
        waiting.append((frame, mattes))
        for number in mattes.ids.tolist():
            _close(waiting, number)
        if len(waiting) > longest + 1:
            yield waiting.popleft()
    yield from waiting
    coming.settle()


def _close(waiting: deque[Matted], number: int) -> None:
    """Fill the hole of this person that the last of the waiting frames ends, if there is one."""
    last = len(waiting) - 1
    first = last - 1
    while first >= 0 and number not in waiting[first][1].ids:
        first -= 1
    if first < 0 or first == last - 1:
        return
    ends = [_alpha(waiting[index][1], number) for index in (first, last)]
    for index in range(first + 1, last):
        frame, mattes = waiting[index]
        carried = [
            _carried(waiting[end][0].rgb, frame.rgb, alpha)
            for end, alpha in zip((first, last), ends, strict=True)
        ]
        if min(one.seen for one in carried) < SEEN:
            continue
        before, after = (one.alpha for one in carried)
        both = np.minimum(before, after).sum()
        if both < AGREE * np.maximum(before, after).sum():
            continue
        share = (index - first) / (last - first)
        alpha = (1 - share) * before + share * after
        # what others have is theirs
        alpha = np.minimum(alpha, 1 - np.minimum(mattes.alpha.sum(0), 1))
        rows = np.flatnonzero((alpha > 0.5).any(1))
        columns = np.flatnonzero((alpha > 0.5).any(0))
        if not len(rows):
            continue
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
        waiting[index] = frame, _with(mattes, alpha.astype(np.float32), box, number)


def _alpha(mattes: Mattes, number: int) -> np.ndarray:
    return mattes.alpha[int(np.flatnonzero(mattes.ids == number)[0])]


def _carried(there: np.ndarray, here: np.ndarray, alpha: np.ndarray) -> _Carried:
    """The matte of the picture `there` where the motion of the picture puts it `here`."""
    height, width = alpha.shape
    scale = min(1.0, WIDE / max(height, width))
    size = max(16, round(width * scale)), max(16, round(height * scale))
    a, b = (
        cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        for rgb in (there, here)
    )
    vision: Any = cv2  # its stubs miss this one
    finder = vision.DISOpticalFlow_create(vision.DISOPTICAL_FLOW_PRESET_FAST)
    flow = finder.calc(b, a, None)  # from each pixel here to where it was there
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    was = cv2.remap(a, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
    small = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    small = cv2.remap(small, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
    alike = cv2.absdiff(was, b) < DIFFERENT
    seen = float((small * alike).sum() / max(float(small.sum()), 1e-6))
    flow = cv2.resize(flow, (width, height)) * [width / size[0], height / size[1]]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        alpha, (x + flow[..., 0]).astype(np.float32), (y + flow[..., 1]).astype(np.float32),
        cv2.INTER_LINEAR,
    )  # fmt: skip
    return _Carried(moved, seen)


def _with(mattes: Mattes, alpha: np.ndarray, box: np.ndarray, number: int) -> Mattes:
    """The mattes and one more person, people in order of their numbers."""
    grid = mattes.coarse.shape[:0:-1]
    coarse = cv2.resize(alpha, grid, interpolation=cv2.INTER_AREA)
    whole = Mattes(
        alpha=np.concatenate([mattes.alpha, alpha[None]]),
        coarse=np.concatenate([mattes.coarse, coarse.reshape(1, *mattes.coarse.shape[1:])]),
        score=np.append(mattes.score, np.float32(0)),
        box=np.concatenate([mattes.box, box[None]]),
        code=np.concatenate([mattes.code, np.zeros((1, mattes.code.shape[1]), np.float32)]),
        ids=np.append(mattes.ids, number),
    )
    return whole.pick(np.argsort(whole.ids, kind="stable"))
