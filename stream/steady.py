"""Mattes that flicker less: each is compared with those of the frames before and after it.

The network is told who was where, and still changes its mind about what it doubts: an arm comes
and goes, an edge trembles.  Here the mattes of the frames around are carried to each frame by the
motion of the picture itself (stream/carry.py) and have a say wherever the picture still looks the
same there.  Half of the answer is the median of all, which no single frame can move, half is their
mean, in which edges tremble least.  Where the picture has changed (somebody stepped in, a cut) a
frame stands alone.

This is worked out on a small copy, almost as fine as the network sees the picture; what changes is
added to the mattes at full size, which keep their own detail.  The mattes that were there before
are what is compared, so nothing is smeared any further than `reach` frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from matting.frames import Frame, Mattes
from stream.carry import SAME_SCENE, alike, along, changed, gray, motion, small, small_alphas
from stream.stages import Coming, Matted

DIFFERENT = 25.0  # levels of colour by which a carried pixel has lost most of its say


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
        self.alpha = small_alphas(self.mattes)

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
    flow = motion(here.gray, there.gray, finely=True)
    return flow if alike(here.rgb, there.rgb, flow, DIFFERENT).mean() >= SAME_SCENE else None


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
            flow = onward if flow is None else flow + along(onward, flow)
            there = window[at]
            if not said.keys() & there.alpha.keys():
                continue
            weight = alike(here.rgb, there.rgb, flow, DIFFERENT)
            for number, others in said.items():
                if number in there.alpha:
                    own = here.alpha[number]
                    others.append(own + weight * (along(there.alpha[number], flow) - own))
    changes = {
        number: _agreed(alphas) - alphas[0] for number, alphas in said.items() if len(alphas) > 1
    }
    return here.frame, changed(here.mattes, changes)


def _agreed(alphas: list[np.ndarray]) -> np.ndarray:
    """Halfway between median and mean."""
    every = np.stack(alphas)
    return 0.5 * (np.median(every, 0) + every.mean(0))
