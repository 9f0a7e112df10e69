"""What a person looks like to the finished network: its features, gathered over where they are.

Two small heads read it: who somebody is over time (identity.py) and whether they are somebody at
all (verdict.py).  Both are trained afterwards; the rest of the network is as it was.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from matting.network.backbone import CHANNELS
from matting.network.blocks import up_to
from matting.network.pose import KNOWN

# of the maps at 1/8 and 1/16 the first channels: not where a place believes joints to be
OF8, OF16 = CHANNELS[2] + KNOWN, CHANNELS[3]
FEATURES = 6 + CHANNELS[1] + OF8 + OF16  # colour and its square; what is seen at 1/4, 1/8 and 1/16


class Looks(nn.Module):
    """N codes of B pictures -> (B, N, 2 FEATURES)."""

    def __init__(self) -> None:
        super().__init__()
        # mean and spread of each feature in the training pictures
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))

    def forward(
        self, image: Tensor, x4: Tensor, x8: Tensor, x16: Tensor, location: Tensor, sure: Tensor
    ) -> Tensor:
        """image (B, 3, H, W) in -1..1; x4, x8, x16 what is seen there; location (B, N, h8, w8)
        logits; sure (B, N) in 0..1, how likely each code is somebody."""
        cells = features(image, x4, x8, x16).flatten(2).transpose(1, 2)
        return self.told(cells, owned(location, sure).flatten(2))

    def told(self, cells: Tensor, weight: Tensor) -> Tensor:
        """cells (B, T, FEATURES), weight (B, N, T), how much a cell is each person's ->
        (B, N, 2 FEATURES): mean and spread of every feature over each person."""
        seen = (cells - self.mean) / self.spread
        share = weight / (weight.sum(-1, keepdim=True) + 1e-4)
        mean = share @ seen
        variance = (share @ (seen * seen) - mean * mean).clamp(min=0)
        return torch.cat([mean, (variance + 1e-4).sqrt()], -1)


def features(image: Tensor, x4: Tensor, x8: Tensor, x16: Tensor) -> Tensor:
    """(B, FEATURES, h8, w8), as they come."""
    colour = F.avg_pool2d(torch.cat([image, image * image], 1), 8)
    near, far = x8[:, :OF8], up_to(x16[:, :OF16], x8)
    return torch.cat([colour, F.avg_pool2d(x4, 2), near, far], 1).float()


def owned(location: Tensor, sure: Tensor) -> Tensor:
    """(B, N, h, w) how much each cell is each person's alone, from location logits (B, N, h, w).

    A cell two people claim says little of either; codes that are likely nobody (`sure`, (B, N))
    take nothing away from others.
    """
    here = location.float().sigmoid()
    claim = here * here * sure[..., None, None]
    others = claim.sum(1, keepdim=True) - claim
    return here * here / (here * here + others + 0.05)
