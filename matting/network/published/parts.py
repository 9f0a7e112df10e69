"""Norms and blocks of the published network.

`thin` divides every channel count, for tests and for machines the published sizes are too much
for; at 1 the network is the published one.  Numbers of groups follow the channels, so that they
are the published ones at 1.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

Act = nn.ReLU | nn.LeakyReLU | nn.Identity


def norm(channels: int, groups: int = 32) -> nn.GroupNorm:
    """GroupNorm over `groups` groups, of no fewer than two channels each."""
    return nn.GroupNorm(max(1, min(groups, channels // 2)), channels)


def wide_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with groups of 32 channels, or of 16 where 32 does not divide them."""
    return nn.GroupNorm(max(1, channels // (16 if channels % 32 else 32)), channels)


def conv_norm(
    inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 32,
    leaky: bool = False,
) -> list[nn.Module]:  # fmt: skip
    """Convolution with bias, GroupNorm, ReLU or LeakyReLU(0.01), as a list to put in a
    Sequential: the authors' weights number the three in a row with what follows."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), norm(outputs, groups),
        nn.LeakyReLU(0.01) if leaky else nn.ReLU(),
    ]  # fmt: skip


class Residual(nn.Module):
    """Residual bottleneck: 1x1 to `inner` channels, 3x3, 1x1 back, each with a wide norm."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, inner, 1), wide_norm(inner), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, 1, 1), wide_norm(inner), nn.LeakyReLU(0.01),
            nn.Conv2d(inner, channels, 1), wide_norm(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        # (B, channels, h, w) -> same
        return F.leaky_relu(self.body(x) + x, 0.01)


def up(x: Tensor, factor: int = 2) -> Tensor:
    """Bilinear enlargement, align_corners=False."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
