"""What a memory might hold when a picture comes, made of the picture's own labels.

The frames before need not be rendered or matted for a network to learn what they are good for:
their people are those of this one, somewhere else by a little, half missed, or gone (static
pictures as training for video: Perazzi et al. 2017, section 3.1).  That a memory can be wrong has
to be learned as well.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from matting.training.data import Batch
from matting.training.losses import Truth

MISSED = 0.15  # of the people of a picture
STRANGERS = 0.08  # of those of another picture: nobody is there any more
TWICE = 0.06  # of people, in a second channel
DOUBTED = 0.3  # of channels: believed only in part
TORN = 0.2  # of channels: only a part of the person was seen
WORN = 0.5  # of channels: the outline is rough
CUT = 0.08  # of pictures: everything is of another one
GROWN = 0.02  # spread of the logarithm of size, beside what a step brings
STEPS = (0.0, 0.008, 0.03, 0.08)  # picture heights that people move meanwhile; one for each picture


def expected(
    batch: Batch, true: Truth, codes: int, share: float, generator: torch.Generator
) -> Tensor:
    """(B, codes, h16, w16) in 0..1: a memory for a `share` of the pictures, else zeros."""
    b, p, h, w = true.alpha8.shape
    device = true.alpha8.device

    def dice(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    used = torch.arange(p, device=device) < (batch.people * batch.instances)[:, None]
    here = true.alpha8 * used[..., None, None]
    there = here.roll(1, 0)
    cut = (dice(b) < CUT)[:, None, None, None]
    here, there = torch.where(cut, there, here), torch.where(cut, here, there)
    again = torch.where(dice(b, p) < TWICE, 1.0, 0.0)[..., None, None] * here
    seen = torch.cat([
        here * (dice(b, p) >= MISSED)[..., None, None],
        there * (dice(b, p) < STRANGERS)[..., None, None], again,
    ], 1)  # fmt: skip
    m = seen.shape[1]

    # moved, each on their own and all with the camera
    far = torch.tensor(STEPS, device=device)[(dice(b) * len(STEPS)).long()]
    move = (normal(b, m, 2) + 0.7 * normal(b, 1, 2)) * far[:, None, None]
    grown = (normal(b, m) * (GROWN + far[:, None])).exp()
    theta = torch.zeros(b, m, 2, 3, device=device)
    theta[..., 0, 0] = theta[..., 1, 1] = grown
    # towards its own middle, not the picture's
    mass = seen.sum((2, 3)).clamp(min=1e-6)
    x = (seen.sum(2) * torch.linspace(-1, 1, w, device=device)).sum(2) / mass
    y = (seen.sum(3) * torch.linspace(-1, 1, h, device=device)).sum(2) / mass
    theta[..., 0, 2] = x * (1 - grown) + move[..., 0] * 2 * h / w
    theta[..., 1, 2] = y * (1 - grown) + move[..., 1] * 2
    grid = F.affine_grid(theta.flatten(0, 1), [b * m, 1, h, w], align_corners=False)
    seen = F.grid_sample(seen.reshape(b * m, 1, h, w), grid, align_corners=False)
    seen = seen.reshape(b, m, h, w)

    # its outline eaten into and spilt over, in patches
    rough = F.interpolate(normal(b, m, math.ceil(h / 4), math.ceil(w / 4)), (h, w), mode="bilinear")
    soft = F.avg_pool2d(seen, 3, 1, 1)
    worn = ((soft - 0.5 + 0.3 * rough) * 8).sigmoid() * (soft > 0.02)
    seen = torch.where((dice(b, m) < WORN)[..., None, None], worn, seen)
    # a part of it missing: one of four sides
    way, at = (dice(b, m) * 4).long()[..., None], (dice(b, m, 1) - 0.5) * 0.3
    across = torch.linspace(-1, 1, w, device=device) - x[..., None] - at
    down = torch.linspace(-1, 1, h, device=device) - y[..., None] - at
    side = 1 - 2 * (way % 2)
    left = torch.where((way < 2)[..., None], (side * across)[:, :, None], (side * down)[..., None])
    torn = (dice(b, m) < TORN)[..., None, None]
    seen = seen * ((left > 0) | ~torn)

    sure = torch.where(dice(b, m) < DOUBTED, dice(b, m), 1.0)
    told = (dice(b) < share)[:, None]
    seen = F.avg_pool2d(seen * (sure * told)[..., None, None], 2)
    # whoever there is, in any channel
    order = seen.sum((2, 3)).argsort(1, descending=True)[:, :codes]
    seen = seen.gather(1, order[..., None, None].expand(-1, -1, *seen.shape[2:]))
    seen = F.pad(seen, (0, 0, 0, 0, 0, codes - seen.shape[1]))
    shuffled = dice(b, codes).argsort(1)
    return seen.gather(1, shuffled[..., None, None].expand(-1, -1, *seen.shape[2:])).contiguous()
