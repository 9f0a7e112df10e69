"""A glance at the whole picture, small: where joints are, and whose.

MoveNet MultiPose Lightning (Google, 2021): a MobileNetV2 of width 1.5, a feature pyramid over it,
and heads for the centres and the joints of several people (after Zhou et al., "Objects as Points",
2019).  It sees the picture at half the live network's size, which is the size it was made for,
costs a sixth of the whole, and is never trained here; docs/decisions/0014 says why.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from matting.network.backbone import CHANNELS, MobileNetV2
from matting.network.blocks import up_to

WIDTH, DEEPEST, TOP = 1.5, 480, 1280
# from 1/16 to 1/4 of what it sees: which of its blocks joins, with how many channels, the channels
# inside a step and after it
STEPS = ((10, 96, 64, 32), (6, 48, 32, 24), (3, 40, 24, 24))
JOINTS = 17
HEADS = {"centre": 1, "joints": JOINTS, "whose": 2 * JOINTS}  # channels of each
# Factors that bring what it says to the size of what the backbone sees, or it would be learned from
# a tenth as quickly: its finest features, centres and joints, and offsets to joints in cells.
SEEN, OFFSET = 16.0, 0.25
KNOWN = STEPS[2][3] + 1 + JOINTS  # what it says of each place: features, centre and joints
SAID8 = KNOWN + 2 * JOINTS  # and where each place believes the joints of its person are
SAID16 = SAID8 + STEPS[1][3] + STEPS[0][3]
X8, X16 = CHANNELS[2] + SAID8, CHANNELS[3] + SAID16  # behind what our own backbone sees there


class Step(nn.Module):
    """One step up the pyramid: twice the size, what the body saw there added, and smoothed."""

    def __init__(self, joins: int, inside: int, outputs: int) -> None:
        super().__init__()
        self.join = nn.Conv2d(joins, inside, 1)
        self.depthwise = nn.Conv2d(inside, inside, 3, padding=1, groups=inside, bias=False)
        self.project = nn.Conv2d(inside, outputs, 1)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        x = self.join(x)
        return F.relu(self.project(self.depthwise(up_to(y, x) + x)))


class Head(nn.Module):
    def __init__(self, inputs: int, outputs: int, inside: int = 96) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.project = nn.Conv2d(inputs, inside, 1)
        self.answer = nn.Conv2d(inside, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(F.relu(self.project(self.depthwise(x))))


class Pose(nn.Module):
    """A picture at half size (B, 3, h2, w2) in -1..1, sides multiples of 16, to what it says at the
    whole picture's 1/8, (B, SAID8, h8, w8), and at its 1/16, (B, SAID16, h16, w16)."""

    def __init__(self) -> None:
        super().__init__()
        taps = sorted(block for block, *_ in STEPS)
        self.body = MobileNetV2(WIDTH, (*taps, 17))
        self.top = nn.Conv2d(DEEPEST, TOP, 1)
        self.begin = nn.Conv2d(TOP, STEPS[0][2], 1)
        for at, (_, *channels) in zip((16, 8, 4), STEPS, strict=True):
            setattr(self, f"step{at}", Step(*channels))
        for name, outputs in HEADS.items():
            setattr(self, name, Head(STEPS[-1][3], outputs))
        self.requires_grad_(False)

    def forward(self, half: Tensor) -> tuple[Tensor, Tensor]:
        height, width = half.shape[-2:]
        # black below and to the right, as its own program fills a picture up
        x4, x8, x16, x32 = self.body(F.pad(half, (0, -width % 32, 0, -height % 32), value=-1.0))
        p16 = self.step16(self.begin(F.relu6(self.top(x32))), x16)
        p8 = self.step8(p16, x8)
        p4 = self.step4(p8, x4)
        centre, joints, whose = (getattr(self, name)(p4) for name in HEADS)
        seen = torch.cat([p4, centre.sigmoid(), joints.sigmoid()], 1)
        said8 = torch.cat([seen * SEEN, whose * OFFSET], 1)
        said8 = said8[..., : height // 4, : width // 4]
        p8, p16 = p8[..., : height // 8, : width // 8], p16[..., : height // 16, : width // 16]
        return said8, torch.cat([F.avg_pool2d(said8, 2), p8, up_to(p16, p8)], 1)

    def load(self, path: Path) -> None:
        """The published weights, as matting/training/movenet.py writes them."""
        from safetensors.torch import load_file

        self.load_state_dict({key: value.float() for key, value in load_file(path).items()})
