"""What the network is told of the frames before: where everyone was.

Of each code what is kept is where its person was seen, at 1/16, as far as it is believed to be
somebody; a later frame reads it before it looks for people.  So somebody half hidden is expected
where they were.  As identities in AOT (Yang et al. 2021, section 3.2), a person is known by the
channel they are in, and all channels mean the same; so it can be learned from single pictures
(matting/training/expected.py).  An empty memory reads as nothing: a photograph needs none.
See docs/decisions/0012-memory.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DOUBTED, BELIEVED = 0.1, 0.3  # scores from which somebody is remembered at all, and wholly


class Memory(nn.Module):
    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.look = nn.Conv2d(codes + 1, width, 3, padding=1, bias=False)
        nn.init.zeros_(self.look.weight)  # a network without memory may start one with

    def read(self, memory: Tensor) -> Tensor:
        """(B, N, h16, w16) -> (B, D, h16, w16), what it adds to the features."""
        return self.look(torch.cat([memory.sum(1, keepdim=True).clamp(max=1), memory], 1))

    def forward(self, place: Tensor, score: Tensor) -> Tensor:
        # place (B, N, h16, w16) and score (B, N), both in 0..1 -> (B, N, h16, w16) in 0..1
        believed = ((score - DOUBTED) / (BELIEVED - DOUBTED)).clamp(0, 1)
        return place * believed[..., None, None]


def places(location: Tensor) -> Tensor:
    """location (B, N, h8, w8) logits -> (B, N, h16, w16) in 0..1, as they are remembered."""
    return F.avg_pool2d(location.float().sigmoid(), 2)


def remembered(place: Tensor, memory: Tensor) -> Tensor:
    """place (B, N, h16, w16), memory (B, N, h16, w16) -> (B, N) in 0..1: how much of the place each
    code claims was somebody's before, whoever that was."""
    place = place.flatten(2)
    somebody = memory.float().amax(1, keepdim=True).flatten(2)
    return torch.minimum(place, somebody).sum(-1) / (place.sum(-1) + 1e-4)
