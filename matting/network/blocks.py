"""The small parts the three sub-networks are built from."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(
    inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, ReLU.  Batch norm folds into the convolution when exported."""
    return nn.Sequential(
        nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Bottleneck(nn.Module):
    """Residual bottleneck: 1x1 to a quarter of the channels, 3x3, 1x1 back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(16, channels // 4)
        self.inner = nn.Sequential(conv(channels, inner, 1), conv(inner, inner, 3))
        self.outer = nn.Sequential(
            nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        # (B, channels, h, w) -> same
        return F.relu(x + self.outer(self.inner(x)))


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        layers += [nn.ReLU(inplace=True)] * (i > 0) + [nn.Linear(a, b)]
    return nn.Sequential(*layers)


def up_to(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of x to the height and width of `like` (align_corners=False)."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def per_code(kernels: Tensor, features: Tensor) -> Tensor:
    """Dynamic 1x1 convolution: every code looks at the same features with its own kernel.

    kernels (B, N, K, C + 1), the last entry of a kernel being its bias; features (B, C, h, w).
    Returns (B, N, K, h, w).  One matrix product for all codes, so that the cost hardly depends
    on how many there are (E2E-HIM, section 3.2: dynamic convolutions).
    """
    b, n, k, c1 = kernels.shape
    h, w = features.shape[-2:]
    weight, bias = kernels[..., :-1].reshape(b, n * k, c1 - 1), kernels[..., -1:]
    maps = torch.bmm(weight, features.flatten(2))  # (B, N*K, h*w)
    return maps.reshape(b, n, k, h, w) + bias[..., None]
