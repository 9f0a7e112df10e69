"""Mattes that change their minds less, without waiting for anything: each keeps a share of the one
before.

The network looks at every frame for itself.  What it doubts it sees now this way and now that: an
arm comes and goes, an edge trembles.  Here everyone's matte of the frame before, as it was shown,
is carried to this one by the motion of the picture (stream/carry.py), and keeps a share wherever
the picture still looks the same there.  So what was seen once fades within two or three frames, and
where the picture has changed (somebody stepped in, a cut) a matte stands alone.

This is worked out on a small copy, almost as fine as the network sees the picture; what changes is
added to the mattes at full size, which keep their own detail.  Nothing is remembered but the last
frame and its mattes, so a run that was broken off goes on from those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from matting.frames import Frame, Mattes
from stream.carry import SAME_SCENE, alike, along, changed, gray, motion, small, small_alphas
from stream.stages import Matted

# Levels of colour by which a carried pixel has lost most of its say.  With twice as many, several
# times as much of what lies behind a moving hand keeps a trace of it.
DIFFERENT = 12.0


class Calm:
    """One video's.  `share`, in 0..1, is what a matte keeps of the one before."""

    def __init__(self, share: float) -> None:
        self._share = np.float32(share)
        self._before: tuple[np.ndarray, dict[int, np.ndarray]] | None = None

    def after(self, frame: Frame, mattes: Mattes) -> None:
        """What comes next comes after this frame with these mattes, as they were shown."""
        if self._share:
            self._before = small(frame.rgb), small_alphas(mattes)

    def forget(self) -> None:
        """What comes next is another scene."""
        self._before = None

    def of(self, frame: Frame, mattes: Mattes) -> Mattes:
        """The mattes of the next frame."""
        if not self._share:
            return mattes
        rgb, own = small(frame.rgb), small_alphas(mattes)
        before, self._before = self._before, (rgb, own)
        if before is None or before[0].shape != rgb.shape or not own.keys() & before[1].keys():
            return mattes
        there, earlier = before
        flow = motion(gray(rgb), gray(there))
        same = alike(rgb, there, flow, DIFFERENT)
        if same.mean() < SAME_SCENE:
            return mattes
        same *= self._share
        calmer = changed(mattes, {
            number: same * (along(earlier[number], flow) - alpha)
            for number, alpha in own.items() if number in earlier
        })  # fmt: skip
        self._before = rgb, small_alphas(calmer)
        return calmer


def calm(followed: Iterable[Matted], calmer: Calm) -> Iterator[Matted]:
    """The same frames with calmer mattes."""
    for frame, mattes in followed:
        yield frame, calmer.of(frame, mattes)
