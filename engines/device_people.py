"""What people.py does to pixels, on a device: shrinking the picture, and alpha at its full size.

The twin of what the CPU engines do (people.py), in PyTorch, for any device.  There, settled parts
of the picture are left out; here, whole pictures are cheaper than looking for them.  Who is a
person is decided by people.py on the host, from a few kilobytes.  A test holds the two together.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engines.people import EVERYWHERE, SURE


class Shrinker:
    """Pictures of one size to the network's, as OpenCV's INTER_AREA (or INTER_LINEAR) does it.

    Both are a weighted sum of rows and then of columns: two small matrix products.
    """

    def __init__(
        self, size: tuple[int, int], target: tuple[int, int], device: torch.device
    ) -> None:
        shrinks = size[0] > target[0]  # people.shrink
        both = size[0] >= target[0] and size[1] >= target[1]
        how = ("area" if both else "stretched") if shrinks else "linear"
        rows, columns = (
            torch.from_numpy(weights(a, b, how)).to(device)
            for a, b in zip(size, target, strict=True)
        )
        self.rows, self.columns = rows, columns.T.contiguous()

    def __call__(self, rgb: Tensor, out: Tensor) -> None:
        """rgb (H, W, 3) uint8 -> out (1, h, w, 3) uint8."""
        height, width, _ = rgb.shape
        small = self.rows @ rgb.float().view(height, width * 3)  # (h, W * 3)
        small = small.view(-1, width, 3).transpose(1, 2) @ self.columns  # (h, 3, w)
        # halves go up, as they do where OpenCV averages whole pixels
        out[0].copy_((small.transpose(1, 2) + 0.5).floor_().clamp_(0, 255))


@lru_cache(maxsize=64)
def weights(size: int, target: int, how: str) -> np.ndarray:
    """(target, size) float32: how much each sample of a line counts in each of the shrunken one.

    "area": every sample by how much of it the new, larger one covers.  "linear": between the two
    nearest centres.  "stretched": what OpenCV's INTER_AREA does where a side grows, linear between
    samples, but constant inside each (imgproc, resize.cpp).
    """
    step = size / target
    made = np.zeros((target, size), np.float64)
    for i in range(target):
        if how == "area":
            low, high = i * step, min((i + 1) * step, size)
            cells = np.arange(int(low), min(size, int(np.ceil(high))))
            cover = np.minimum(cells + 1, high) - np.maximum(cells, low)
            made[i, cells] = np.where(cover > 1e-3, cover, 0)  # as OpenCV leaves out slivers
            made[i] /= made[i].sum()
            continue
        if how == "linear":
            place = (i + 0.5) * step - 0.5
            cell = int(np.floor(place))
            share = place - cell
        else:
            cell = int(np.floor(i * step))
            share = (i + 1) - (cell + 1) / step
            share = 0.0 if share <= 0 else share - np.floor(share)
        for at, weight in ((cell, 1 - share), (cell + 1, share)):
            made[i, min(max(at, 0), size - 1)] += weight
    return made.astype(np.float32)


def coefficients(kernels: Tensor, fine: Tensor, trimap: Tensor) -> Tensor:
    """One person's (1, 4, h2, w2), folded so that z = c . (R, G, B, 1) with colours in 0..255.

    kernels (4, F + 1); fine (F, h2, w2); trimap logits (3, h8, w8).
    """
    heads = (kernels[:, :-1] @ fine.flatten(1)).view(4, *fine.shape[1:]) + kernels[:, -1:, None]
    share = _resized(trimap[None], fine.shape[1:])
    background, unknown, foreground = share[0].softmax(0)
    slopes = heads[:3] * unknown
    offset = heads[3] * unknown + SURE * (foreground - background) - slopes.sum(0)
    return torch.cat([slopes * (2 / 255), offset[None]])[None]


def matte(coefficient: Tensor, rgb: Tensor, out: Tensor) -> None:
    """Alpha of one person into `out` (H, W); rgb (3, H, W) float32 in 0..255."""
    wide = _resized(coefficient, rgb.shape[1:])[0]
    z = (wide[:3] * rgb).sum(0) + wide[3]
    out.copy_((z.sigmoid_() * 1.02 - 0.01).clamp_(0, 1))


def share_out(alpha: Tensor, alike: np.ndarray, location: Tensor, grid: tuple[int, int]) -> None:
    """Make (n, H, W) alphas sum to at most 1, in place; see people.share_out.

    `alike` (n,) bool is on the host; location (n, h8, w8) passes through the 1/2 `grid`, as there.
    """
    wide = _resized(_resized(location[:, None], grid), alpha.shape[1:])[:, 0]
    free: Tensor | None = None
    for rows in (np.flatnonzero(alike).tolist(), np.flatnonzero(~alike).tolist()):
        if not rows:
            continue
        claims = torch.stack([alpha[row] for row in rows])
        places = torch.stack([wide[row] for row in rows])
        claimed = claims.sum(0)
        claimed = claimed.clamp(max=1) if free is None else torch.minimum(claimed, free)
        weight = claims * (places.square() + EVERYWHERE)
        weight *= claimed / weight.sum(0).clamp(min=1e-9)
        for row, mine in zip(rows, weight, strict=True):
            alpha[row].copy_(mine)
        free = 1 - claimed if free is None else free - claimed


def extent(alpha: Tensor) -> Tensor:
    """(5,) float32 of one alpha (H, W): its mean, and the box x0 y0 x1 y1 of alpha > 0.5, which is
    empty (x0 > x1) where there is none."""
    here = alpha > 0.5
    lows, highs = [], []
    for line in (here.any(0), here.any(1)):  # along the columns for x, along the rows for y
        places = torch.arange(len(line), device=alpha.device)
        lows.append(torch.where(line, places, len(line)).amin())
        highs.append(torch.where(line, places + 1, 0).amax())
    return torch.stack([alpha.mean(), *(edge.float() for edge in (*lows, *highs))])


def _resized(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
