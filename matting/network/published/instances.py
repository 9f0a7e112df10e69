"""Instance matting: from the united guidance down to 1/32 for reach, and up to fine features.

E2E-HIM section 3.4.  What is decoded belongs to nobody yet; each code's kernels look at the same
features for its trimap (here, at 1/8) and its alpha (detail.py, at full size).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from matting.network.published.parts import Residual, conv_norm, up
from matting.network.published.perception import Perception


class Decoded(NamedTuple):
    t8: Tensor  # (B, 512, h8, w8)
    trimap: Tensor  # (B, 256, h8, w8), what the trimap kernels look at
    fine: Tensor  # (B, 128, H, W), what detail.py starts from


class PositionAttention(nn.Module):
    """Every cell looks at every other (DANet, Fu et al. 2019, eq. 1 and 2): no 1/sqrt(d)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 4, 1)
        self.key = nn.Conv2d(channels, channels // 4, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        # (B, C, h, w) -> same; T = h w
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        share = torch.bmm(query.transpose(1, 2), key).softmax(-1)  # (B, T, T), over the keys
        seen = torch.bmm(value, share.transpose(1, 2)).reshape(x.shape)
        return self.gamma * seen + x


class InstanceDecoder(nn.Module):
    def __init__(self, thin: int, dropout: float = 0.1) -> None:
        super().__init__()

        def c(channels: int) -> int:
            return channels // thin

        def merge(inputs: int, outputs: int, residuals: int) -> nn.Sequential:
            blocks = [Residual(outputs, outputs // 4) for _ in range(residuals)]
            return nn.Sequential(*conv_norm(inputs, outputs, 1, leaky=True), *blocks)

        self.down16 = nn.Sequential(*conv_norm(c(512), c(512), stride=2))
        self.c16 = merge(c(512) + c(512) + c(384), c(512), 2)
        self.down32 = nn.Sequential(*conv_norm(c(512), c(768), stride=2, leaky=True))
        self.c32 = merge(2 * c(768), c(1024), 1)
        self.attend = PositionAttention(c(1024))
        self.c32b = merge(c(1024), c(1024), 2)
        self.c16u = merge(c(512) + c(1024) + c(384), c(512), 2)
        self.c8 = merge(c(512) + c(192) + c(512), c(512), 2)
        self.trimap = nn.Sequential(
            *conv_norm(c(512), c(512)), nn.Dropout(dropout), *conv_norm(c(512), c(256))
        )
        self.c4 = nn.Sequential(
            *conv_norm(c(512) + c(96) + c(128), c(256), leaky=True),
            *(Residual(c(256), c(64)) for _ in range(3)),
        )
        self.c2 = nn.Sequential(
            *conv_norm(c(256) + c(64), c(128), leaky=True),
            *conv_norm(c(128), c(128), leaky=True),
        )

    def forward(self, united: Tensor, seen: Perception) -> Decoded:
        m16 = self.c16(torch.cat([self.down16(united), seen.f16, seen.x16], 1))
        m32 = self.c32(torch.cat([self.down32(m16), seen.x32], 1))
        m32 = self.c32b(self.attend(m32))
        u16 = self.c16u(torch.cat([m16, up(m32), seen.x16], 1))
        t8 = self.c8(torch.cat([up(u16), seen.x8, united], 1))
        t4 = self.c4(torch.cat([up(t8), seen.x4, seen.s4], 1))
        t2 = self.c2(torch.cat([up(t4), seen.s2], 1))
        return Decoded(t8, self.trimap(t8), up(t2))
