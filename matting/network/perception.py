"""General perception: where people are, one latent code for each, and what the code can do.

The published network learns 20 free query positions; they need a long training to spread over
the picture.  Here a query starts at a *seed*: a peak of a people-centre map at 1/16, so that a
code belongs to a place from the first step on.  See docs/decisions/0002-live-network.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from matting.network.backbone import CHANNELS
from matting.network.blocks import Bottleneck, conv, mlp, up_to
from matting.network.pose import X8, X16


class Perception(NamedTuple):
    """B pictures, N codes of width D; h16 = H/16 and so on."""

    heat: Tensor  # (B, 1, h16, w16) logits: the centre of a person is here
    f16: Tensor  # (B, D, h16, w16)
    context: Tensor  # (B, C, h8, w8)
    codes: list[Tensor]  # per decoder layer (B, N, D)
    existence: list[Tensor]  # per decoder layer (B, N, 2) logits: no one, someone
    seeds: Tensor  # (B, N, 2) x, y of each code's seed, 0..1 of the picture


class DecoderLayer(nn.Module):
    """Self-attention between codes, attention to the picture, feed-forward; norms after.

    As in DETR (Carion et al. 2020, appendix A.4): positions are added to queries and keys, never
    to values.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, place: Tensor, memory: Tensor, memory_place: Tensor) -> Tensor:
        # x, place (B, N, D); memory, memory_place (B, T, D) -> (B, N, D)
        q = x + place
        x = self.norm1(x + self.self_attn(q, q, x, need_weights=False)[0])
        attended = self.multihead_attn(
            x + place, memory + memory_place, memory, need_weights=False
        )[0]
        x = self.norm2(x + attended)
        return self.norm3(x + self.linear2(F.relu(self.linear1(x))))


class EncoderLayer(nn.Module):
    """Every place looks at every other, so that a limb knows whose body it is on.

    Norms before, and both branches start at zero: added to a trained network, it changes nothing
    until it has learned something.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        for last in (self.self_attn.out_proj, self.linear2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        # x, place (B, T, D) -> (B, T, D)
        y = self.norm1(x)
        q = y + place
        x = x + self.self_attn(q, q, y, need_weights=False)[0]
        return x + self.linear2(F.relu(self.linear1(self.norm2(x))))


def sine_places(xy: Tensor, width: int) -> Tensor:
    """(..., 2) positions in 0..1 to (..., width) sines and cosines, half for x, half for y."""
    octaves = 2.0 ** torch.arange(width // 4, device=xy.device) / 4
    angles = xy[..., None] * (math.pi * octaves.clamp(max=32.0))  # (..., 2, width/4)
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


def grid_places(like: Tensor) -> Tensor:
    """(B, 1, h, w) -> (B, h*w, 2): x and y of every cell's centre in 0..1."""
    ones = torch.ones_like(like)
    x = (ones.cumsum(3) - 0.5) / ones.sum(3, keepdim=True)
    y = (ones.cumsum(2) - 0.5) / ones.sum(2, keepdim=True)
    return torch.stack([x, y], -1).flatten(1, 3)


class GeneralPerception(nn.Module):
    def __init__(
        self, codes: int, width: int, heads: int, layers: int, hidden: int, context: int,
        grouping: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.codes, self.width = codes, width
        self.c32 = conv(CHANNELS[4], width, 1)
        self.c16 = nn.Sequential(conv(width + X16, width, 1), Bottleneck(width), Bottleneck(width))
        self.grouping = nn.ModuleList(EncoderLayer(width, heads, hidden) for _ in range(grouping))
        self.heat = nn.Sequential(conv(width, 64, 3), nn.Conv2d(64, 1, 1))
        nn.init.constant_(self.heat[-1].bias, -4.0)  # a cell is rarely a centre
        self.seed = nn.Linear(width, width)
        self.place = nn.Linear(64, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden) for _ in range(layers))
        self.exist = mlp(width, width // 2, 2)
        self.c8 = nn.Sequential(conv(width + X8, context, 1), conv(context, context, 3))

    def forward(
        self, x8: Tensor, x16: Tensor, x32: Tensor, taught: Tensor | None,
        memory: Tensor | None, read: nn.Module | None,
    ) -> Perception:  # fmt: skip
        """`taught` (B, 1, h16, w16), training only: scores that overrule the map when seeds are
        chosen, so that the rest of the network learns while the map is still wrong.  `read` turns
        `memory` into what it adds to f16."""
        f16 = self.c16(torch.cat([up_to(self.c32(x32), x16), x16], 1))
        if memory is not None and read is not None:
            f16 = f16 + read(memory)
        where = grid_places(f16[:, :1].float())
        places = self.place(sine_places(where, 64))
        tokens = f16.flatten(2).transpose(1, 2)  # (B, T, D)
        for layer in self.grouping:
            tokens = layer(tokens, places)
        if self.grouping:
            f16 = tokens.transpose(1, 2).reshape(f16.shape)
        heat = self.heat(f16).float()
        context = self.c8(torch.cat([up_to(f16, x8), x8], 1))

        scores = heat.detach().sigmoid()
        scores = scores * (scores == F.max_pool2d(scores, 3, 1, 1))  # a peak stands alone
        if taught is not None:
            scores = scores + taught
        chosen = scores.flatten(1).topk(self.codes, dim=1).indices  # (B, N)

        rows = chosen[..., None]
        code = self.seed(tokens.gather(1, rows.expand(-1, -1, self.width)))
        place = places.gather(1, rows.expand(-1, -1, self.width))
        seeds = where.gather(1, rows.expand(-1, -1, 2))
        codes, existence = [], []
        for layer in self.layers:
            code = layer(code, place, tokens, places)
            codes.append(code)
            existence.append(self.exist(code).float())
        return Perception(heat, f16, context, codes, existence, seeds)
