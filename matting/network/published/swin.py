"""Swin Transformer (Liu et al., ICCV 2021) over feature maps of any size.

What differs from the paper's encoder: it starts from 1/4 features instead of pixels (the patch
embedding is a 1x1 convolution), and every stage's output is also handed out through a norm of its
own.  Feature maps are (B, h, w, C) inside a stage.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FORBIDDEN = -100.0  # added to the attention between windows' foreign parts; section 3.2


class WindowAttention(nn.Module):
    """Attention among the tokens of one window, with a bias by relative position (eq. 4)."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.scale = (width // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(
            torch.randn((2 * window - 1) ** 2, heads) * 0.02
        )
        self.register_buffer(
            "relative_position_index", relative_positions(window), persistent=False
        )
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (M, T, C), M windows of T = window^2 tokens; mask (windows of a picture, T, T)."""
        m, t, c = x.shape
        q, k, v = self.qkv(x).reshape(m, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.reshape(t, t, self.heads).permute(2, 0, 1)
        score = (q * self.scale) @ k.transpose(-2, -1) + bias  # (M, heads, T, T)
        if mask is not None:
            n = mask.shape[0]
            score = score.reshape(-1, n, self.heads, t, t) + mask[:, None]
            score = score.reshape(m, self.heads, t, t)
        mixed = score.softmax(-1) @ v  # (M, heads, T, C / heads)
        return self.proj(mixed.transpose(1, 2).reshape(m, t, c))


def relative_positions(window: int) -> Tensor:
    """(T, T) row of the bias table for every pair of a window's tokens; T = window^2."""
    ticks = torch.arange(window)
    row, column = (grid.flatten() for grid in torch.meshgrid(ticks, ticks, indexing="ij"))
    away = window - 1
    return (row[:, None] - row + away) * (2 * window - 1) + column[:, None] - column + away


class Block(nn.Module):
    """Windowed attention and MLP, each after a norm and added to what came in (fig. 3 b)."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, h, w, C); mask (windows, T, T), used where the block is shifted."""
        b, h, w, c = x.shape
        size = self.window
        rows, columns = (h + size - 1) // size, (w + size - 1) // size
        # padding is a token like others
        y = F.pad(self.norm1(x), (0, 0, 0, columns * size - w, 0, rows * size - h))
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = y.reshape(b, rows, size, columns, size, c).transpose(2, 3).reshape(-1, size * size, c)
        y = self.attn(y, mask if self.shift else None)
        y = y.reshape(b, rows, columns, size, size, c).transpose(2, 3)
        y = y.reshape(b, rows * size, columns * size, c)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        # narrow, not a slice: an export keeps h and w as they are, not as a minimum of two sizes
        x = x + y.narrow(1, 0, h).narrow(2, 0, w)
        return x + self.mlp(self.norm2(x))


def shift_mask(h: int, w: int, window: int, shift: int, like: Tensor) -> Tensor:
    """(windows, T, T): after the shift, tokens that were not neighbours do not see each other."""

    rows, columns = (h + window - 1) // window, (w + window - 1) // window

    def part(windows: int) -> Tensor:
        # of a padded side: before the last window, in it, and what the shift brought round
        padded = windows * window
        tick = torch.arange(padded, device=like.device)
        return (tick >= padded - window).to(like.dtype) + (tick >= padded - shift).to(like.dtype)

    label = 3 * part(rows)[:, None] + part(columns)[None]  # which of nine parts a token is of
    label = label.reshape(rows, window, columns, window).transpose(1, 2)
    label = label.reshape(-1, window * window)
    return (label[:, :, None] != label[:, None]).to(like.dtype) * FORBIDDEN


class PatchMerging(nn.Module):
    """Four neighbours become one token of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # (B, h, w, C), h and w even -> (B, h/2, w/2, 2C); column by column, as the weights want
        b, h, w, c = x.shape
        four = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(four.reshape(b, h // 2, w // 2, 4 * c)))


class Stage(nn.Module):
    def __init__(self, width: int, heads: int, window: int, depth: int, last: bool) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            Block(width, heads, window, window // 2 if i % 2 else 0) for i in range(depth)
        )
        self.downsample = None if last else PatchMerging(width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, h, w, C) -> the same, and what the next stage starts from."""
        mask = shift_mask(x.shape[1], x.shape[2], self.window, self.window // 2, x)
        for block in self.blocks:
            x = block(x, mask)
        return x, x if self.downsample is None else self.downsample(x)


class Swin(nn.Module):
    """(B, inputs, h, w) features to four maps of width, 2, 4, 8 width, each half as large."""

    def __init__(
        self, inputs: int, width: int = 96, depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24), window: int = 7,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Conv2d(inputs, width, 1)
        self.embed_norm = nn.LayerNorm(width)
        last = len(depths) - 1
        self.layers = nn.ModuleList(
            Stage(width * 2**i, heads[i], window, depth, i == last)
            for i, depth in enumerate(depths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width * 2**i) for i in range(len(depths)))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.embed_norm(self.embed(x).permute(0, 2, 3, 1))
        taps = []
        for stage, norm in zip(self.layers, self.norms, strict=True):
            tap, x = stage(x)
            taps.append(norm(tap).permute(0, 3, 1, 2).contiguous())
        return taps
