"""Mattes at the picture's own size, drawn when somebody looks at them, only where it matters.

The network gives every person four coefficients of colour per cell of its 1/2 grid; alpha at a
pixel is a logistic of the interpolated coefficients times the pixel's colour (as in
matting/network/detail.py).  Most of a picture is settled before any pixel is worked on: where the
coefficients cannot reach the logistic's slope for any colour there is, alpha is exactly 0 or 1.
So the picture is cut into small tiles, and only a person's unsettled tiles are drawn, all together,
as a batch of small matrix products.

Who the tracker drops is never drawn, except where they take part in sharing a pixel out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

EVERYWHERE = 1e-4  # so that claims alone decide where no location map speaks
SETTLED = 4.62  # from here on the stretched logistic is 1 (and 0 below its negative)
TILE = 16  # pixels; 32 from FULL_HD on
FULL_HD = 1_500_000  # pixels of a picture
BATCH = 1 << 15  # pixels worked on at once: they fit the processor's cache


class Source(NamedTuple):
    """What the mattes of a picture are drawn from: n people, the network's 1/2 grid of h x w."""

    rgb: np.ndarray  # (H, W, 3) uint8
    coefficient: np.ndarray  # (n, 4, h, w) float32: z = c0 R + c1 G + c2 B + c3, colours 0..255
    location: np.ndarray  # (n, h, w) float32, 0..1
    alike: np.ndarray  # (n,) bool: shares a pixel before those who are not (people.equals)


class Drawing:
    """The mattes of some people (`rows`) of one picture; see matting.frames.Alphas."""

    def __init__(self, source: Source, rows: np.ndarray | None = None) -> None:
        self._source = source
        self._rows = np.arange(len(source.alike)) if rows is None else rows
        self._tiles: _Tiles | None = None
        self._alpha: np.ndarray | None = None
        self._codes: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self._rows), *self._source.rgb.shape[:2]

    def pick(self, rows: np.ndarray) -> Drawing:
        """Fewer people, with the very mattes they have among everyone."""
        return Drawing(self._source, self._rows[rows])

    def alpha(self) -> np.ndarray:
        """(n, H, W) float32, 0..1."""
        if self._alpha is None:
            tiles = self._drawn()
            self._alpha = tiles.placed(tiles.alpha, np.float32(1), self.shape)
        return self._alpha

    def codes(self) -> np.ndarray:
        """(n, H, W) uint8, alpha times 255, rounded."""
        if self._codes is None:
            tiles = self._drawn()
            codes = np.zeros(tiles.alpha.shape, np.uint8)
            if len(codes):
                flat = tiles.alpha.reshape(len(codes), -1)
                cv2.convertScaleAbs(flat, dst=codes.reshape(len(codes), -1), alpha=255.0)
            self._codes = tiles.placed(codes, np.uint8(255), self.shape)
        return self._codes

    def finite(self) -> bool:
        # what is drawn is made of these by sums, products and a logistic
        return all(np.isfinite(part.sum()) for part in self._source[1:3])

    def _drawn(self) -> _Tiles:
        if self._tiles is None:
            self._tiles = _draw(self._source, self._rows)
        return self._tiles


class _Axis(NamedTuple):
    """One side of a picture in tiles of T pixels; the last overlaps the one before it.

    Cells count in the grid with one more cell on either side, as interpolation needs at the edge.
    """

    start: np.ndarray  # (t,) first pixel of each tile
    base: np.ndarray  # (t,) first cell it looks at
    weight: np.ndarray  # (t, T, C) float32: each of its pixels as a sum of those cells


class _Tiles(NamedTuple):
    """The tiles of the people drawn in which anything is: `alpha` at `at`, and 1 at `full`."""

    alpha: np.ndarray  # (m, T, T') float32
    at: tuple[np.ndarray, np.ndarray, np.ndarray]  # person, first row, first column, (m,) each
    full: tuple[np.ndarray, np.ndarray, np.ndarray]
    tile: tuple[int, int]  # T, T'

    def placed(
        self, values: np.ndarray, one: np.generic, shape: tuple[int, int, int]
    ) -> np.ndarray:
        made = np.zeros(shape, one.dtype)
        if shape[0]:
            where = sliding_window_view(made, self.tile, axis=(1, 2), writeable=True)
            where[self.full] = one
            where[self.at] = values
        return made


@lru_cache(maxsize=16)
def _axis(pixels: int, cells: int, tile: int) -> _Axis:
    """Bilinear interpolation with centres aligned at half cells, as cv2 and torch have it."""
    start = np.arange(0, pixels, tile)
    start = np.minimum(start, pixels - tile)
    place = (start[:, None] + np.arange(tile) + 0.5) * (cells / pixels) - 0.5 + 1  # in wider grid
    low = np.floor(place).astype(np.int64)
    reach = int((low[:, -1] + 2 - low[:, 0]).max())
    base = np.minimum(low[:, 0], cells + 2 - reach)
    share = (place - low).astype(np.float32)
    weight = np.zeros((len(start), tile, reach), np.float32)
    t, j = np.indices(low.shape)
    weight[t, j, low - base[:, None]] += 1 - share
    weight[t, j, low - base[:, None] + 1] += share
    return _Axis(start, base, weight)


def _draw(source: Source, rows: np.ndarray) -> _Tiles:
    rgb, coefficient, location, alike = source
    size, grid = rgb.shape[:2], coefficient.shape[2:]
    tile = TILE if size[0] * size[1] < FULL_HD else 2 * TILE
    down = _axis(size[0], grid[0], min(tile, size[0]))
    across = _axis(size[1], grid[1], min(tile, size[1]))

    wide = _wider(coefficient, location)
    some, full = _settled(rgb, wide[:, :4], down, across)  # (n, tiles down, tiles across)
    asked = np.isin(np.arange(len(alike)), rows)
    # where somebody asked for shares a tile with others, those who go before them count too
    claimed_by_any = (some & asked[:, None, None]).any(0)
    doubtful = (some & (asked & ~alike)[:, None, None]).any(0)
    crowded = some.sum(0) > 1
    wanted = some & asked[:, None, None]
    wanted |= some & crowded & alike[:, None, None] & claimed_by_any
    wanted |= some & crowded & ~alike[:, None, None] & doubtful

    alone_full = full & ~crowded & asked[:, None, None]
    person, y, x = np.nonzero(wanted & ~alone_full)
    order = np.argsort(y * len(across.start) + x, kind="stable")  # those who share a tile in a row
    person, y, x = person[order], y[order], x[order]
    alpha = np.empty((len(person), down.weight.shape[1], across.weight.shape[1]), np.float32)
    planes = [sliding_window_view(plane, alpha.shape[1:]) for plane in cv2.split(rgb)]
    # what is divided by is 1 + e to the -z; the fifth map is needed where people meet only
    np.negative(wide[:, :4], out=wide[:, :4])
    place = y * len(across.start) + x
    for part in _batches(place, max(1, BATCH // (alpha.shape[1] * alpha.shape[2]))):
        tiles = person[part], y[part], x[part]
        shared = np.flatnonzero(crowded[tiles[1:]])
        maps = _interpolated(wide[:, :4], down, across, *tiles)
        colours = [plane[down.start[tiles[1]], across.start[tiles[2]]] for plane in planes]
        _logistic(maps, colours, out=alpha[part])
        if len(shared):
            tiles = tiles[0][shared], tiles[1][shared], tiles[2][shared]
            where = _interpolated(wide[:, 4:], down, across, *tiles)[:, 0]
            those = shared + part.start
            alpha[those] = _shared(alpha[those], where, place[those], alike[tiles[0]])
    # from the picture's people to the places of `rows`
    index = np.full(len(alike), -1)
    index[rows] = np.arange(len(rows))
    own = np.flatnonzero(asked[person])
    if len(own) < len(person):
        alpha, person, y, x = alpha[own], person[own], y[own], x[own]
    who, fy, fx = np.nonzero(alone_full)
    return _Tiles(
        alpha, (index[person], down.start[y], across.start[x]),
        (index[who], down.start[fy], across.start[fx]),
        (down.weight.shape[1], across.weight.shape[1]),
    )  # fmt: skip


def _batches(place: np.ndarray, tiles: int) -> Iterator[slice]:
    """Parts of about that many; equal neighbours in `place`, which is sorted, stay together."""
    first = 0
    while first < len(place):
        last = min(first + tiles, len(place))
        last = int(np.searchsorted(place, place[last - 1], side="right"))
        yield slice(first, last)
        first = last


def _settled(
    rgb: np.ndarray, wide: np.ndarray, down: _Axis, across: _Axis
) -> tuple[np.ndarray, np.ndarray]:
    """(n, tiles down, tiles across) bool each: anything of the person may be there; all of it is.

    Interpolation mixes cells with weights that sum to 1, so z of a pixel lies between the extremes
    that the cells around it give the colours there are: first whatever the colours, which is
    cheap and rules most out, then with the darkest and lightest of the tile.
    """
    reach = down.weight.shape[2], across.weight.shape[2]
    some = np.empty((len(wide), len(down.base), len(across.base)), bool)
    for i, (*slopes, offset) in enumerate(wide):
        high = offset.copy()
        for slope in slopes:
            high = cv2.scaleAdd(cv2.max(slope, 0.0), 255, high)
        near = cv2.dilate((high > -SETTLED).astype(np.uint8), np.ones(reach, np.uint8),
                          anchor=(0, 0))  # fmt: skip
        some[i] = near[down.base[:, None], across.base]

    person, y, x = np.nonzero(some)
    dark, light = (extreme(rgb, down, across)[y, x] for extreme in (_darkest, _lightest))
    middle, spread = (light + dark) / 2, (light - dark) / 2
    cells = sliding_window_view(wide, reach, axis=(2, 3))[person, :, down.base[y], across.base[x]]
    cells = cells.reshape(len(person), 4, -1)
    centre, around = cells[:, 3], np.zeros_like(cells[:, 3])
    for i in range(3):
        centre = centre + cells[:, i] * middle[:, i : i + 1]
        around += np.abs(cells[:, i]) * spread[:, i : i + 1]
    some[person, y, x] = (centre + around).max(1) > -SETTLED
    full = np.zeros_like(some)
    full[person, y, x] = (centre - around).min(1) > SETTLED
    return some, full


def _darkest(rgb: np.ndarray, down: _Axis, across: _Axis) -> np.ndarray:
    """(tiles down, tiles across, 3) float32: the least of each colour in each tile."""
    return cv2.erode(
        _by_rows(np.minimum, rgb, down), np.ones((1, across.weight.shape[1]), np.uint8),
        anchor=(0, 0),
    )[:, across.start].astype(np.float32)  # fmt: skip


def _lightest(rgb: np.ndarray, down: _Axis, across: _Axis) -> np.ndarray:
    """The same for the most of each colour."""
    return cv2.dilate(
        _by_rows(np.maximum, rgb, down), np.ones((1, across.weight.shape[1]), np.uint8),
        anchor=(0, 0),
    )[:, across.start].astype(np.float32)  # fmt: skip


def _by_rows(extreme: np.ufunc, rgb: np.ndarray, down: _Axis) -> np.ndarray:
    """(tiles down, W, 3) uint8: the least or most of each column in each row of tiles."""
    tile, (height, width) = down.weight.shape[1], rgb.shape[:2]
    whole = height // tile
    lines = np.empty((len(down.start), width, 3), np.uint8)
    extreme.reduce(rgb[: whole * tile].reshape(whole, tile, width, 3), axis=1, out=lines[:whole])
    if whole < len(lines):
        extreme.reduce(rgb[-tile:], axis=0, out=lines[-1])
    return lines


def _logistic(maps: np.ndarray, colours: list[np.ndarray], out: np.ndarray) -> None:
    """maps (m, 4, T, T') hold -z's slopes and offset; colours three (m, T, T') uint8; alpha out."""
    np.copyto(out, maps[:, 3])
    for slope, colour in enumerate(colours):
        term = colour.astype(np.float32)
        term *= maps[:, slope]
        out += term
    flat = out.reshape(len(out), -1)
    cv2.exp(flat, flat)
    flat += 1
    np.divide(np.float32(1.02), flat, out=flat)
    flat -= np.float32(0.01)
    np.clip(flat, 0, 1, out=flat)


def _wider(coefficient: np.ndarray, location: np.ndarray) -> np.ndarray:
    """(n, 4, h, w) and (n, h, w) -> (n, 5, h + 2, w + 2): one more cell on either side, like its
    neighbour."""
    n, kinds, height, width = coefficient.shape
    wide = np.empty((n, kinds + 1, height + 2, width + 2), coefficient.dtype)
    wide[:, :-1, 1:-1, 1:-1] = coefficient
    wide[:, -1, 1:-1, 1:-1] = location
    wide[:, :, 0, 1:-1], wide[:, :, -1, 1:-1] = wide[:, :, 1, 1:-1], wide[:, :, -2, 1:-1]
    wide[..., 0], wide[..., -1] = wide[..., 1], wide[..., -2]
    return wide


def _interpolated(
    wide: np.ndarray, down: _Axis, across: _Axis,
    person: np.ndarray, y: np.ndarray, x: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Maps (n, K, h + 2, w + 2) float32 -> (m, K, T, T') at the pixels of these tiles."""
    kinds, tall, broad = wide.shape[1], down.weight.shape[2], across.weight.shape[2]
    view = sliding_window_view(wide, (tall, broad), axis=(2, 3))
    cells = view[person, :, down.base[y], across.base[x]]  # (m, K, C, C')
    columns = across.weight[x].transpose(0, 2, 1)
    half = cells.reshape(len(person), kinds * tall, broad) @ columns
    return down.weight[y][:, None] @ half.reshape(len(person), kinds, tall, -1)


def _shared(
    alpha: np.ndarray, location: np.ndarray, place: np.ndarray, alike: np.ndarray
) -> np.ndarray:
    """Tiles (m, T, T') whose alphas sum to at most 1 wherever `place` (m,), sorted, is the same.

    Where several people claim a pixel, what they claim together is divided by their claims times
    the square of their locations: alpha knows edges, location knows who is where.  Those who
    are `alike`, as people.equals has them, go first, and the others get what is left.
    """
    made = np.empty_like(alpha)
    places, slot = np.unique(place, return_inverse=True)
    free = np.ones((len(places), *alpha.shape[1:]), np.float32)
    for rows in (np.flatnonzero(alike), np.flatnonzero(~alike)):
        if not len(rows):
            continue
        weight = np.square(location[rows])
        weight += np.float32(EVERYWHERE)
        weight *= alpha[rows]
        claimed = np.minimum(_summed(alpha[rows], slot[rows], len(places)), free)
        total = _summed(weight, slot[rows], len(places))
        weight *= (claimed / np.maximum(total, np.float32(1e-9)))[slot[rows]]
        made[rows] = weight
        free -= claimed
    return made


def _summed(tiles: np.ndarray, slot: np.ndarray, slots: int) -> np.ndarray:
    """(slots, T, T'): the sum of the tiles of each slot; `slot` (m,) is sorted."""
    total = np.zeros((slots, *tiles.shape[1:]), np.float32)
    turn = np.arange(len(slot)) - np.searchsorted(slot, slot)  # 0 for the first of a slot, ...
    for i in range(int(turn.max(initial=-1)) + 1):
        rows = turn == i
        total[slot[rows]] += tiles[rows]
    return total
