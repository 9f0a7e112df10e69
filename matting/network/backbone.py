"""MobileNetV2 (Sandler et al. 2018, table 2) as a feature pyramid, its norms folded away.

At width 1 it is the live network's own; at another width the channels of every stage are scaled
(pose.py has one of 1.5).  The starting weights come from TensorFlow: batch norm is folded into the
convolutions, and stride-2 convolutions pad right and bottom only (TensorFlow's SAME).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

# expansion, output channels, repeats, stride of the first: table 2 of the paper
STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
BLOCKS = sum(repeats for _, _, repeats, _ in STAGES)
TAPS = 1, 3, 6, 13, 17  # blocks, the last at 1/2, 1/4, 1/8, 1/16 and 1/32
CHANNELS = 16, 24, 32, 96, 320  # there, at width 1


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME does for even sizes."""

    def forward(self, x: Tensor) -> Tensor:
        if self.stride != (2, 2):
            return super().forward(x)
        if self.training and self.groups > 1 and x.device.type == "cpu":
            # the same numbers; a gradient through a depthwise stride of 2 costs twice this there
            every = F.conv2d(x, self.weight, self.bias, 1, 1, 1, self.groups)
            return every[..., 1::2, 1::2]
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = nn.Conv2d(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = SameConv(wide, wide, 3, stride, 0 if stride == 2 else 1, groups=wide)
        self.project = nn.Conv2d(wide, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


def scaled(channels: int, width: float) -> int:
    """Channels of a stage at another width: to the nearest 8, and never a tenth too few."""
    near = max(8, int(channels * width + 4) // 8 * 8)
    return near + 8 * (near < 0.9 * channels * width)


class MobileNetV2(nn.Module):
    """(B, 3, H, W) in -1..1, H and W multiples of 32, to its maps behind the blocks `taps`: without
    them five, from 1/2 to 1/32, of CHANNELS."""

    def __init__(self, width: float = 1.0, taps: Sequence[int] = TAPS) -> None:
        super().__init__()
        self.taps = taps
        inputs, number = scaled(32, width), 0
        self.stem = SameConv(3, inputs, 3, 2, 0)
        for expansion, channels, repeats, stride in STAGES:
            outputs = scaled(channels, width)
            for i in range(repeats):
                number += 1
                block = InvertedResidual(inputs, outputs, stride if i == 0 else 1, expansion)
                setattr(self, f"block{number}", block)
                inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(x))
        taps = []
        for number in range(1, BLOCKS + 1):
            x = getattr(self, f"block{number}")(x)
            if number in self.taps:
                taps.append(x)
        return taps

    def load(self, path: Path) -> None:
        """Start from weights of another task; a classifier's own two layers are left out."""
        from safetensors.torch import load_file

        kept = {
            key: value.float()
            for key, value in load_file(path).items()
            if not key.startswith(("head.", "classifier."))
        }
        self.load_state_dict(kept)
