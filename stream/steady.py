"""Mattes that flicker less: each is compared with those of the frames before and after it.

The network is told who was where, and still changes its mind about what it doubts: an arm comes
and goes, an edge trembles.  Here the mattes of the frames around are carried to each frame by the
motion of the picture itself (stream/carry.py) and have a say wherever the picture still looks the
same there.  Half of the answer is the median of all, which no single frame can move, half is their
mean, in which edges tremble least.  Where the picture has changed (somebody stepped in, a cut) a
frame stands alone.

This is worked out on a small copy, as coarse as the network sees the picture; what changes is added
to the mattes at full size, which keep their own detail.  The mattes that were there before are what
is compared, so nothing is smeared any further than `reach` frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from matting.frames import Frame, Mattes
from stream.carry import box_around, carried, gray, motion, small
from stream.stages import Coming, Matted

DIFFERENT = 24.0  # levels of colour by which a carried pixel has lost most of its say
SAME_SCENE = 0.4  # share of a picture that must look the same, or nothing is carried across
LEAST = 1 / 255  # of a change: what is less cannot be saved


def steady(followed: Iterable[Matted], reach: int) -> Iterator[Matted]:
    """Compare everyone's mattes with those of up to `reach` frames before and after.  Frames wait
    until those after them have come; where the stage before fails, the ones that wait still come,
    and then its failure."""
    if reach < 1:
        raise ValueError(f"reach should be 1 frame or more, got {reach}")
    window: deque[_Small] = deque()
    middle = 0  # of the window, the first that has not been given
    coming = Coming(followed)
    for frame, mattes in coming:
        window.append(_Small(frame, mattes, window[-1] if window else None))
        if len(window) - middle > reach:
            yield _steadied(window, middle, reach)
            middle += 1
        while middle > reach:
            window.popleft()
            window[0].before = None
            middle -= 1
    for index in range(middle, len(window)):
        yield _steadied(window, index, reach)
    coming.settle()


@dataclass(eq=False)
class _Small:
    """A frame, and small copies of what is compared."""

    frame: Frame
    mattes: Mattes
    before: _Small | None
    alpha: dict[int, np.ndarray] = field(init=False)  # id -> (h, w) float32

    def __post_init__(self) -> None:
        self.rgb = small(self.frame.rgb)
        self.gray = gray(self.rgb)
        size = self.gray.shape[::-1]
        self.alpha = {
            number: cv2.resize(codes, size, interpolation=cv2.INTER_AREA) / np.float32(255)
            for number, codes in zip(self.mattes.ids.tolist(), self.mattes.codes, strict=True)
        }

    @cached_property
    def back(self) -> np.ndarray | None:
        """(h, w, 2): from each pixel here to where it was in the frame before; None at a cut."""
        return None if self.before is None else _flow(self, self.before)

    @cached_property
    def forth(self) -> np.ndarray | None:
        """The same, from the frame before to here."""
        return None if self.before is None else _flow(self.before, self)


def _flow(here: _Small, there: _Small) -> np.ndarray | None:
    if here.gray.shape != there.gray.shape:
        return None
    flow = motion(here.gray, there.gray)
    return flow if _alike(here, there, flow).mean() >= SAME_SCENE else None


def _at(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The picture, carried along the flow; what comes in at the rim looks like the rim."""
    return carried(picture, flow, cv2.BORDER_REPLICATE)


def _alike(here: _Small, there: _Small, flow: np.ndarray) -> np.ndarray:
    """(h, w) float32, 1 where the other picture, carried here, shows the same, 0 where not."""
    red, green, blue = cv2.split(cv2.absdiff(_at(there.rgb, flow), here.rgb))
    apart = cv2.blur(cv2.max(cv2.max(red, green), blue).astype(np.float32), (3, 3))
    return np.exp(-np.square(apart / np.float32(DIFFERENT)))


def _steadied(window: deque[_Small], index: int, reach: int) -> Matted:
    """One frame of the window with its mattes compared."""
    here = window[index]
    if not len(here.mattes):
        return here.frame, here.mattes
    said = {number: [alpha] for number, alpha in here.alpha.items()}
    for step in (-1, 1):
        flow: np.ndarray | None = None
        for distance in range(1, reach + 1):
            near, at = index + step * (distance - 1), index + step * distance
            if not 0 <= at < len(window):
                break
            onward = window[near].back if step < 0 else window[at].forth
            if onward is None:
                break
            flow = onward if flow is None else flow + _at(onward, flow)
            there = window[at]
            if not said.keys() & there.alpha.keys():
                continue
            weight = _alike(here, there, flow)
            for number, others in said.items():
                if number in there.alpha:
                    own = here.alpha[number]
                    others.append(own + weight * (_at(there.alpha[number], flow) - own))
    changes = {
        number: _agreed(alphas) - alphas[0] for number, alphas in said.items() if len(alphas) > 1
    }
    return here.frame, _changed(here.mattes, changes)


def _agreed(alphas: list[np.ndarray]) -> np.ndarray:
    """Halfway between median and mean."""
    every = np.stack(alphas)
    return 0.5 * (np.median(every, 0) + every.mean(0))


def _changed(mattes: Mattes, changes: dict[int, np.ndarray]) -> Mattes:
    """The mattes with small changes (h, w) added to those of some people."""
    height, width = mattes.size
    alpha, box = mattes.alpha.copy(), mattes.box.copy()
    for row, number in enumerate(mattes.ids.tolist()):
        change = changes.get(number)
        if change is None or np.abs(change).max() < LEAST:
            continue
        mine = np.clip(alpha[row] + cv2.resize(change, (width, height)), 0, 1)
        around = box_around(mine)
        if around is not None:  # or nobody would be left where the network saw somebody
            alpha[row], box[row] = mine, around
    if len(mattes) > 1:  # a pixel is shared, not owned twice
        alpha /= np.maximum(alpha.sum(0), 1)
    return Mattes(alpha, mattes.coarse, mattes.score, box, mattes.code, mattes.ids)
