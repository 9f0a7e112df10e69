"""Alpha at the frame's own resolution, whatever the network worked at.

A matte is nearly affine in colour over a small window (Levin et al. 2008, eq. 2).  So the network
does not give alpha but, per person and per cell of its 1/2 grid, the four coefficients of an
affine function of colour; interpolated over the frame and applied to the frame's own pixels,
they follow hair that the network never saw at its small size.

    z(p) = c_r I_r(p) + c_g I_g(p) + c_b I_b(p) + c_0(p),    alpha = logistic(z)

The trimap is folded in before interpolation: where it says unknown, the alpha head speaks;
where it says foreground or background, z is pulled to +-SURE.  `engines/detail.py` is the same
arithmetic in NumPy and OpenCV for programs without torch; a test holds the two together.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SURE = 8.0  # logistic(8) = 0.9997: white and black to the code value


def coefficients(heads: Tensor, trimap: Tensor) -> Tensor:
    """heads (M, 4, h2, w2) from the alpha kernels; trimap logits (M, 3, h8, w8) in the order
    background, unknown, foreground.  Returns (M, 4, h2, w2): slopes for R, G, B, and offset."""
    share = F.interpolate(trimap, size=heads.shape[-2:], mode="bilinear", align_corners=False)
    share = share.softmax(1)
    background, unknown, foreground = share[:, 0:1], share[:, 1:2], share[:, 2:3]
    pull = torch.cat(
        [torch.zeros_like(heads[:, :3]), SURE * (foreground - background)], dim=1
    )
    return unknown * heads + pull


def alpha_logits(coefficient: Tensor, rgb: Tensor) -> Tensor:
    """coefficient (M, 4, h2, w2) and the frame's rgb (M, 3, H, W) in -1..1 -> z (M, H, W)."""
    c = F.interpolate(coefficient, size=rgb.shape[-2:], mode="bilinear", align_corners=False)
    return (c[:, :3] * rgb).sum(1) + c[:, 3]


def opaque(z: Tensor) -> Tensor:
    """Alpha of z: the logistic, stretched by 1 % each way so that sure pixels are just 0 or 1."""
    return (z.sigmoid() * 1.02 - 0.01).clamp(0, 1)


def share_out(alpha: Tensor, location: Tensor) -> Tensor:
    """(N, H, W) alphas of one picture, made to sum to at most 1; location (N, H, W) in 0..1.

    Where several people claim a pixel, what they claim together is divided by their claims times
    the square of their locations: alpha knows edges, location knows who is where.
    """
    weight = alpha * (location.square() + 1e-4)
    return weight * alpha.sum(0).clamp(max=1.0) / weight.sum(0).clamp(min=1e-9)
