"""United guidance: one picture-wide map that tells every pixel whose it is, whoever that may be.

E2E-HIM section 3.3.  Spatial attention shares each pixel out among the people and the background;
the semantics embedding of whoever owns it is what the pixel receives.  Two heads.  Unlike the
published network, the location maps enter as their sum and their maximum: codes here have no
fixed order, and both are the same for any order.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from matting.network.blocks import Bottleneck, conv, per_code


class Guidance(NamedTuple):
    united: Tensor  # (B, U, h8, w8)
    location: Tensor  # (B, N, h8, w8) logits: this code's person covers this pixel
    attention: Tensor  # (B, N + 1, h8, w8) log-probabilities of head 1; the last is background


class UnitedGuidance(nn.Module):
    def __init__(self, context: int, embedding: int, united: int) -> None:
        super().__init__()
        self.background = nn.ModuleList(nn.Conv2d(context, 1, 1) for _ in range(2))
        self.otherwise = nn.ModuleList(nn.Conv2d(context, embedding, 1) for _ in range(2))
        self.united = nn.Sequential(
            conv(2 * embedding + context + 2, united, 1), Bottleneck(united), Bottleneck(united)
        )

    def forward(
        self, context: Tensor, placed: Tensor, kernels: Tensor, embeddings: Tensor
    ) -> Guidance:
        """context (B, C, h, w); placed (B, C', h, w), the context and where it is; kernels
        (B, N, 3, C' + 1) for attention 1, attention 2 and location; embeddings (B, N, 2, E)."""
        wide = context.float()
        maps = per_code(kernels, placed)  # (B, N, 3, h, w)
        location = maps[:, :, 2]
        heads, first = [], None
        for head in range(2):
            logits = torch.cat([maps[:, :, head], self.background[head](wide)], 1)
            log_share = logits.log_softmax(1)
            first = log_share if first is None else first
            share = log_share.exp()  # (B, N + 1, h, w), sums to 1 at every pixel
            mixed = torch.einsum("bnhw,bne->behw", share[:, :-1], embeddings[:, :, head])
            heads.append(mixed + share[:, -1:] * self.otherwise[head](wide))
        here = location.sigmoid()
        anyone = torch.cat([here.sum(1, keepdim=True), here.amax(1, keepdim=True)], 1)
        return Guidance(self.united(torch.cat([*heads, context, anyone], 1)), location, first)
