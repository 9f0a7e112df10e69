"""United guidance: one map that tells every pixel whose it is (E2E-HIM section 3.3).

Spatial attention shares each pixel out among the codes and the background; what the pixel
receives is the semantics embedding of whoever owns it.  A code's embedding is the same everywhere,
so its norm is taken once, on a 1x1 map, and the sum over codes is one matrix product: the same
numbers as normalising and adding N full-size maps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from matting.network.blocks import per_code
from matting.network.published.parts import Residual, conv_norm, norm


class Guidance(NamedTuple):
    united: Tensor  # (B, 512, h8, w8)
    location: Tensor  # (B, N, h8, w8) logits: this code's person covers this pixel
    attention: Tensor  # (B, 2, N + 1, h8, w8) logits of both heads; the last is background


class UnitedGuidance(nn.Module):
    """The location maps enter as N channels, so the weights fix the number of codes."""

    def __init__(self, codes: int, thin: int) -> None:
        super().__init__()
        context, embedding, united = 256 // thin, 128 // thin, 512 // thin
        self.background = nn.ModuleList(nn.Conv2d(context, 1, 1) for _ in range(2))
        self.otherwise = nn.ModuleList(nn.Conv2d(context, embedding, 1) for _ in range(2))
        self.norms = nn.ModuleList(norm(embedding) for _ in range(2))
        self.united = nn.Sequential(
            *conv_norm(2 * embedding + context + codes, united, 1),
            Residual(united, united // 4), Residual(united, united // 4),
        )  # fmt: skip

    def forward(self, context: Tensor, kernels: Tensor, embeddings: Tensor) -> Guidance:
        """context (B, 256, h, w); kernels (B, N, 3, 257); embeddings (B, N, 2, 128)."""
        maps = per_code(kernels, context)  # (B, N, 3, h, w)
        location = maps[:, :, 2]
        heads, attention = [], []
        for head in range(2):
            logits = torch.cat([maps[:, :, head], self.background[head](context)], 1)
            share = logits.softmax(1)  # (B, N + 1, h, w)
            heads.append(self.mix(head, share, context, embeddings[:, :, head]))
            attention.append(logits)
        united = self.united(torch.cat([*heads, context, location.sigmoid()], 1))
        return Guidance(united, location, torch.stack(attention, 1))

    def mix(self, head: int, share: Tensor, context: Tensor, embedding: Tensor) -> Tensor:
        """share (B, N + 1, h, w), embedding (B, N, E) -> (B, E, h, w): what each pixel receives."""
        norm = self.norms[head]
        b, n, e = embedding.shape
        group = norm.num_channels // norm.num_groups  # of a 1x1 map, a group is a vector
        grouped = embedding.reshape(b, n, norm.num_groups, group)
        known = F.layer_norm(grouped, (group,), eps=norm.eps).reshape(b, n, e)
        known = known * norm.weight + norm.bias
        mixed = torch.bmm(known.transpose(1, 2), share[:, :-1].flatten(2))
        other = norm(self.otherwise[head](context))
        return mixed.reshape(b, e, *share.shape[2:]) + share[:, -1:] * other
