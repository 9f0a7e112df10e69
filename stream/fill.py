"""Short holes in a person's track, where the network missed someone it saw before and after.

The matte before and the matte after are carried to the missing frames by the motion of the picture
itself (stream/carry.py).  Where the two agree on what the picture shows, their mean is the matte;
where the pixels they were carried to look different, somebody has stepped in front or the person is
gone, and the hole stays.  Nobody is invented who cannot be seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from matting.frames import Mattes
from stream.carry import box_around, carried, gray, motion, small
from stream.stages import Coming, Matted

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
        ends_here = [
            _carried(waiting[end][0].rgb, frame.rgb, alpha)
            for end, alpha in zip((first, last), ends, strict=True)
        ]
        if min(one.seen for one in ends_here) < SEEN:
            continue
        before, after = (one.alpha for one in ends_here)
        both = np.minimum(before, after).sum()
        if both < AGREE * np.maximum(before, after).sum():
            continue
        share = (index - first) / (last - first)
        alpha = (1 - share) * before + share * after
        # what others have is theirs
        alpha = np.minimum(alpha, 1 - np.minimum(mattes.alpha.sum(0), 1))
        box = box_around(alpha)
        if box is None:
            continue
        waiting[index] = frame, _with(mattes, alpha.astype(np.float32), box, number)


def _alpha(mattes: Mattes, number: int) -> np.ndarray:
    return mattes.alpha[int(np.flatnonzero(mattes.ids == number)[0])]


def _carried(there: np.ndarray, here: np.ndarray, alpha: np.ndarray) -> _Carried:
    """The matte of the picture `there` where the motion of the picture puts it `here`."""
    a, b = gray(small(there)), gray(small(here))
    flow = motion(b, a)
    (height, width), size = alpha.shape, a.shape[::-1]
    part = carried(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), flow)
    alike = cv2.absdiff(carried(a, flow), b) < DIFFERENT
    seen = float((part * alike).sum() / max(float(part.sum()), 1e-6))
    flow = cv2.resize(flow, (width, height)) * [width / size[0], height / size[1]]
    return _Carried(carried(alpha, flow), seen)


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
