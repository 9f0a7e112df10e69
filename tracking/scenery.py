"""What happens behind the people: how the camera moved, and whether the film was cut.

Both are read off a small gray copy of each picture, so that the cost does not depend on its size.
Camera motion: points of the background on a grid are followed by optical flow (Lucas and Kanade,
"An iterative image registration technique", 1981; pyramids by Bouguet), and a similarity is fitted
to most of them (RANSAC, whose random numbers OpenCV seeds the same every time).
A cut: what the picture shows is neither where it was, nor a little aside, nor of the same tones.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

WIDE = 192  # pixels of the gray copy's longer side
GRID = 13  # points along the longer side
LEAST_POINTS = 16  # that must agree on the camera's motion, and
LEAST_SHARE = 0.5  # which share of those that were followed
NEAR = 1.0  # pixels of the gray copy within which a point agrees
LARGEST_STEP = 0.35  # of the longer side; a camera that moves further is not compensated
LARGEST_ZOOM = 1.3
BINS = 32  # of the histogram of tones
LOOK = (40, 24)  # (w, h) of the copy in which a shifted picture is looked for
ASIDE = (5, 3)  # cells it may have shifted, x and y
# Measured, see docs/decisions/0006-tracker.md
CUT = 0.42  # difference from which a picture is another shot
CUT_AFTER_PAUSE = 0.55  # the same where frames are missing between: people and camera went on
PAUSE = 2.5  # times the usual time between frames that makes a pause
JUMP = 0.15  # share of the picture that changes at once where the film jumps within one room,
JUMP_RATIO = 1.6  # and how much more that is than in the frames before
DOUBT = 0.12  # the share from which nobody should be recognised by their place alone
RECENT = 8  # frames that say how much usually changes


@dataclass(frozen=True, eq=False)
class Change:
    """From the previous picture to this one."""

    cut: bool
    doubtful: bool  # perhaps a cut: where someone stands does not say who they are
    camera: np.ndarray | None  # (2, 3) in pixels of the picture; None where it cannot be told


class Scenery:
    """Looks at the pictures of one video, in order."""

    def __init__(self) -> None:
        self._gray: np.ndarray | None = None  # (h, w) uint8 of the previous picture
        self._look: np.ndarray | None = None  # (h, w) float32, blurred to LOOK
        self._tones: np.ndarray | None = None  # (BINS,) shares
        self._background: np.ndarray | None = None  # (h, w) bool on the gray copy; None: everywhere
        self._usual: float | None = None  # seconds between frames
        self._changing: list[float] = []  # share of the picture that changed, of late

    def change(self, rgb: np.ndarray, coarse: np.ndarray, elapsed: float) -> Change:
        """rgb (H, W, 3) uint8; coarse (N, h, w) mattes of its people; seconds since the last."""
        gray, scale = _small(rgb)
        look = cv2.resize(gray, LOOK, interpolation=cv2.INTER_AREA).astype(np.float32)
        tones = cv2.calcHist([gray], [0], None, [BINS], [0, 256]).reshape(-1) / gray.size
        found = Change(False, False, None)
        if self._gray is not None and self._gray.shape == gray.shape:
            assert self._look is not None and self._tones is not None
            pause = self._usual is not None and elapsed > PAUSE * self._usual
            camera, followed = self._camera(gray)
            other = _difference(self._look, look, self._tones, tones)
            moving = _moving(self._gray, gray, camera)
            usual = max(self._changing, default=1.0)
            cut = other > (CUT_AFTER_PAUSE if pause else CUT)
            cut |= moving > JUMP and moving > JUMP_RATIO * usual and not pause
            cut &= not followed  # a background that can be followed is not another shot
            doubtful = cut or (moving > DOUBT and moving > JUMP_RATIO * usual)
            if camera is not None:
                camera[:, 2] = _in_pixels(camera, scale)
            found = Change(cut, doubtful, None if cut else camera)
            self._changing = [] if cut else [*self._changing[1 - RECENT :], moving]
        elif self._gray is not None:
            found = Change(True, True, None)  # another size is another source
        if elapsed > 0:
            usual = elapsed if self._usual is None else self._usual
            self._usual = usual + 0.1 * (min(elapsed, 2 * usual) - usual)
        self._gray, self._look, self._tones = gray, look, tones
        self._background = _background(coarse, gray.shape)
        return found

    def state(self, arrays: dict[str, np.ndarray]) -> list[float | None]:
        """What is needed to go on: arrays are added to `arrays`, numbers returned."""
        for name in ("gray", "look", "tones", "background"):
            if (value := getattr(self, f"_{name}")) is not None:
                arrays[f"scenery.{name}"] = value
        return [self._usual, *self._changing]

    def restore(self, numbers: list[float | None], arrays: dict[str, np.ndarray]) -> None:
        for name, value in arrays.items():
            setattr(self, f"_{name}", value)
        self._usual, *self._changing = numbers  # type: ignore[assignment]

    def _camera(self, gray: np.ndarray) -> tuple[np.ndarray | None, bool]:
        """The camera's motion in pixels of the gray copy, and whether most of the background could
        be followed."""
        assert self._gray is not None
        points = _grid(gray.shape)
        if self._background is not None:
            x, y = points.T.astype(int)
            points = points[self._background[y, x]]
        if len(points) < LEAST_POINTS:
            return None, False
        moved, status, _ = cv2.calcOpticalFlowPyrLK(
            self._gray, gray, points[:, None], None, winSize=(11, 11), maxLevel=2,
            criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 8, 0.05),
            minEigThreshold=2e-3,
        )  # fmt: skip
        kept = status[:, 0] > 0
        before, after = points[kept], moved[kept, 0]
        if len(before) < LEAST_POINTS:
            return None, False
        matrix, inliers = cv2.estimateAffinePartial2D(
            before, after, method=cv2.RANSAC, ransacReprojThreshold=NEAR, maxIters=200
        )
        if matrix is None:
            return None, False
        agree = int(inliers.sum())
        zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
        steady = (
            agree >= max(LEAST_POINTS, LEAST_SHARE * len(before))
            and 1 / LARGEST_ZOOM < zoom < LARGEST_ZOOM
            and np.abs(matrix[:, 2]).max() < LARGEST_STEP * WIDE
        )
        if not steady:
            return None, False
        return matrix, agree >= 0.7 * len(before)


def _small(rgb: np.ndarray) -> tuple[np.ndarray, float]:
    """The gray copy (h, w) uint8, and how many pixels of the picture one of its own is."""
    height, width = rgb.shape[:2]
    scale = max(1.0, max(height, width) / WIDE)
    size = max(8, round(width / scale)), max(8, round(height / scale))
    if scale > 2:  # every so many pixels first: averaging all of them costs most of a millisecond
        rgb = cv2.resize(rgb, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_NEAREST)
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA), width / size[0]


def _grid(shape: tuple[int, ...]) -> np.ndarray:
    """(n, 2) float32 points x, y, evenly spread."""
    height, width = shape
    step = max(height, width) / GRID
    x = np.arange(step / 2, width - 1, step)
    y = np.arange(step / 2, height - 1, step)
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float32)


def _background(coarse: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    if not len(coarse) or coarse.shape[1:] == (1, 1):
        return None
    someone = coarse.sum(0) > 0.2
    someone = cv2.dilate(someone.astype(np.uint8), np.ones((3, 3), np.uint8))
    return cv2.resize(someone, shape[::-1], interpolation=cv2.INTER_NEAREST) == 0


def _in_pixels(matrix: np.ndarray, scale: float) -> np.ndarray:
    """(2,) shift of an affine between gray copies, for the pictures: pixel centres lie at whole
    numbers in the copies and (p + 0.5) / scale - 0.5 joins the two."""
    half = np.array([0.5, 0.5])
    return scale * (matrix[:, 2] + half - matrix[:, :2] @ half)


def _difference(
    before: np.ndarray, after: np.ndarray, tones_before: np.ndarray, tones: np.ndarray
) -> float:
    """0 the same picture, about 1 another: half by tones, half by place."""
    by_tone = 0.5 * float(np.abs(np.cumsum(tones_before - tones)).sum()) / 4
    dx, dy = ASIDE
    inner = before[dy:-dy, dx:-dx]
    alike = cv2.matchTemplate(after, inner, cv2.TM_CCOEFF_NORMED).max()
    return 0.35 * min(by_tone, 1.0) + 0.65 * float(np.clip(1 - alike, 0, 1))


def _moving(before: np.ndarray, after: np.ndarray, camera: np.ndarray | None) -> float:
    """Share of the picture that changed, once the camera's motion and the light are taken out."""
    if camera is not None:
        before = cv2.warpAffine(before, camera, before.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    a, b = (cv2.blur(gray, (5, 5)).astype(np.float32) for gray in (before, after))
    for gray in (a, b):
        mean, spread = cv2.meanStdDev(gray)
        gray -= np.float32(mean[0, 0])
        gray /= np.float32(spread[0, 0] + 4)
    return float((cv2.absdiff(a, b) > 0.4).mean())
