"""Instance matting: from the united guidance back to fine features, and each code's own heads.

E2E-HIM section 3.4, narrowed: one pass down to 1/16 for reach, then up to 1/2.  The trimap head
looks at 1/8; the alpha head looks at 1/2 and gives, instead of one value, the four coefficients
that `detail.py` turns into alpha at any resolution.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from matting.network.blocks import Bottleneck, conv, up_to
from matting.network.pose import X8


class Fine(NamedTuple):
    t8: Tensor  # (B, T, h8, w8), what the trimap heads look at
    d2: Tensor  # (B, F, h2, w2), what the alpha heads look at


class InstanceDecoder(nn.Module):
    def __init__(self, width: int, united: int, trimap: int, fine: int) -> None:
        super().__init__()
        self.down = conv(united, united, 3, stride=2)
        self.m16 = nn.Sequential(conv(united + width, united, 1), Bottleneck(united))
        self.t8 = nn.Sequential(conv(2 * united + X8, trimap, 1), conv(trimap, trimap, 3))
        self.t4 = nn.Sequential(conv(trimap + 24, 40, 1), conv(40, 40, 3))
        self.d2 = nn.Sequential(
            conv(40 + 16 + 3, fine, 1), conv(fine, fine, 3), nn.Conv2d(fine, fine, 3, 1, 1)
        )

    def forward(
        self, united: Tensor, f16: Tensor, x8: Tensor, x4: Tensor, x2: Tensor, image2: Tensor
    ) -> Fine:
        # image2 (B, 3, h2, w2): the normalised picture at 1/2
        m16 = self.m16(torch.cat([self.down(united), f16], 1))
        t8 = self.t8(torch.cat([united, up_to(m16, united), x8], 1))
        t4 = self.t4(torch.cat([up_to(t8, x4), x4], 1))
        image2 = image2.to(x2.dtype)  # or mixed precision would widen all three
        return Fine(t8, self.d2(torch.cat([up_to(t4, x2), x2, image2], 1)))
