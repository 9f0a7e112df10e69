"""How alike a known person and a detection are: by box, by matte and by code.

Shapes: n known people, m detections; every measure is an (n, m) matrix, 0 for nothing in common and
1 for the same.  Boxes are xyxy in pixels, mattes (n, h, w) on the coarse grid, codes (n, D).
"""

from __future__ import annotations

import numpy as np

ENOUGH_CELLS = 1200  # of a matte that is compared with others


def box_overlap(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(n, m) intersection over union."""
    return _shared(ours, theirs, _common(ours, theirs, 1))


def box_and_height_overlap(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, m) intersection over union of the boxes, and of their vertical extents alone.

    Two people who cross differ in height and in where their feet are more than in x, so box overlap
    times that of heights tells them apart better (Yang et al., "Hybrid-SORT: weak cues matter for
    online multi-object tracking", AAAI 2024).
    """
    common = _common(ours, theirs, 1)
    lengths = (ours[:, 3] - ours[:, 1])[:, None] + (theirs[:, 3] - theirs[:, 1])
    return _shared(ours, theirs, common), common / np.maximum(lengths - common, 1e-9)


def matte_overlap(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(n, m) soft IoU in product form: <a, b> / (<a, a> + <b, b> - <a, b>).

    One matrix product instead of n * m minima and maxima.  Two mattes that share a person half and
    half still score 1, which is what finds duplicates.
    """
    a, b = _flat(ours), _flat(theirs)
    common = (a @ b.T).astype(np.float64)
    energy_a = np.einsum("ij,ij->i", a, a).astype(np.float64)
    energy_b = np.einsum("ij,ij->i", b, b).astype(np.float64)
    return common / np.maximum(energy_a[:, None] + energy_b - common, 1e-9)


def thumbnails(mattes: np.ndarray) -> np.ndarray:
    """Every second cell of mattes (n, h, w), and again, until they have at most `ENOUGH_CELLS`.

    Who overlaps whom shows on a small grid as well as on a large one, which costs four times more.
    The mattes are soft, so a cell that is left out has told its neighbours.
    """
    step = 1
    while (mattes.shape[1] // step) * (mattes.shape[2] // step) > ENOUGH_CELLS:
        step *= 2
    if step == 1:
        return mattes
    height, width = mattes.shape[1] // step * step, mattes.shape[2] // step * step
    return mattes[:, step // 2 : height : step, step // 2 : width : step].copy()


def shifted(mattes: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Mattes (n, h, w) moved by whole cells (n, 2) int, right and down; what leaves is gone."""
    height, width = mattes.shape[1:]
    moved = mattes.copy()
    for matte, source, (dx, dy) in zip(moved, mattes, cells.tolist(), strict=True):
        if dx == 0 and dy == 0:
            continue
        matte[:] = 0
        if abs(dx) < width and abs(dy) < height:
            matte[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = source[
                max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
            ]
    return moved


def code_cosine(ours: np.ndarray, theirs: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(n, m) cosine of unit codes once the mean code (D,), common to everyone, is taken off.

    Multiplied out, so that the difference is never formed: <a - m, b - m> = <a, b> - <a, m> - ...
    """
    a, b, both = ours @ mean, theirs @ mean, mean @ mean
    product = ours @ theirs.T - a[:, None] - b + both
    lengths = (1 - 2 * a + both)[:, None] * (1 - 2 * b + both)
    return product / np.sqrt(np.maximum(lengths, 1e-12))


def unit(codes: np.ndarray) -> np.ndarray:
    """Codes (n, D) of length 1; a code of zeros stays one."""
    length = np.sqrt(np.einsum("ij,ij->i", codes, codes))
    return codes / np.maximum(length, 1e-12)[:, None]


def _common(ours: np.ndarray, theirs: np.ndarray, axis: int) -> np.ndarray:
    """(n, m) length the boxes share along one axis."""
    high = np.minimum(ours[:, None, axis + 2], theirs[:, axis + 2])
    high -= np.maximum(ours[:, None, axis], theirs[:, axis])
    return np.maximum(high, 0, out=high)


def _shared(ours: np.ndarray, theirs: np.ndarray, height: np.ndarray) -> np.ndarray:
    """(n, m) intersection over union, where the boxes share (n, m) `height`."""
    common = _common(ours, theirs, 0) * height
    return common / np.maximum(_area(ours)[:, None] + _area(theirs) - common, 1e-9)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _flat(mattes: np.ndarray) -> np.ndarray:
    """(n, h * w), also where n is 0."""
    return mattes.reshape(len(mattes), mattes.shape[1] * mattes.shape[2])
