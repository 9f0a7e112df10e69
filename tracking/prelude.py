"""Who comes into view is half seen for a few frames before anybody believes it.

Output is held back until the tentative are confirmed, so what was seen in those frames can still be
named.  Detections that nobody was paired with are kept that long; when somebody is confirmed, or
comes back, those of the frames just before that lie where they were become theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tracking.similarity import box_overlap, matte_overlap


@dataclass(eq=False)
class _Frame:
    """The m detections of one frame."""

    number: int
    name: np.ndarray  # (m,) int64: what `Tracker.update` named them
    free: np.ndarray  # (m,) bool: paired with nobody, claimed by nobody
    box: np.ndarray  # (m, 4) xyxy
    coarse: np.ndarray  # (m, h, w) thumbnails


class Prelude:
    def __init__(self, frames: int) -> None:
        """Remembers the latest `frames` frames."""
        self._frames: deque[_Frame] = deque(maxlen=frames)

    def add(
        self, number: int, name: np.ndarray, free: np.ndarray, box: np.ndarray, coarse: np.ndarray
    ) -> None:
        self._frames.append(_Frame(number, name, free, box, coarse))

    def clear(self) -> None:
        """Another shot: nothing before it belongs to anybody after it."""
        self._frames.clear()

    def before(self, number: int, name: int, identity: int, overlap: float) -> Iterator[int]:
        """The names of what was seen of `identity` in the frames before `number`, in which they are
        named `name`, down to one in which they have their own number.  From frame to frame boxes or
        mattes have to overlap more than `overlap`."""
        last: tuple[np.ndarray, np.ndarray] | None = None
        for frame in reversed(self._frames):
            if frame.number == number:
                here = np.flatnonzero(frame.name == name)
                if not len(here):
                    return
                last = frame.box[here], frame.coarse[here]
            elif last is not None and frame.number < number:
                if identity in frame.name or not frame.free.any():
                    return
                box, coarse = last
                same = box_overlap(box, frame.box)[0]
                if coarse.shape[1:] == frame.coarse.shape[1:] != (1, 1):
                    same = np.maximum(same, matte_overlap(coarse, frame.coarse)[0])
                best = int(np.argmax(np.where(frame.free, same, -1.0)))
                if not same[best] > overlap:
                    return
                frame.free[best] = False
                yield int(frame.name[best])
                last = frame.box[best : best + 1], frame.coarse[best : best + 1]

    def state(self, arrays: dict[str, np.ndarray]) -> list[int]:
        """What `restore` needs; arrays are added to `arrays`."""
        for i, frame in enumerate(self._frames):
            for part in ("name", "free", "box", "coarse"):
                arrays[f"prelude.{i}.{part}"] = getattr(frame, part)
        return [frame.number for frame in self._frames]

    def restore(self, numbers: list[int], arrays: dict[str, np.ndarray]) -> None:
        for i, number in enumerate(numbers):
            parts = (arrays[f"{i}.{part}"] for part in ("name", "free", "box", "coarse"))
            self._frames.append(_Frame(number, *parts))
