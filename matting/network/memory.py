"""What the network keeps from one frame of a video to the next.

Once a frame is understood, a gated recurrent cell (convolutional GRU: Ballas et al. 2016, eq. 1-4)
takes in what was seen there and whose it was, at 1/16; the next frame reads it before it looks for
people.  So somebody half hidden is still expected where they were, and a doubtful edge does not
change its mind with the noise.  An empty memory reads as nothing: a single picture needs none.
See docs/decisions/0012-memory.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Memory(nn.Module):
    def __init__(self, channels: int, width: int, united: int) -> None:
        super().__init__()
        self.channels = channels
        self.read = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        nn.init.zeros_(self.read.weight)  # a network without memory may start one with
        self.see = nn.Conv2d(width + united, channels, 1)
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def empty(self, f16: Tensor) -> Tensor:
        b, _, h, w = f16.shape
        return f16.new_zeros(b, self.channels, h, w)

    def forward(self, f16: Tensor, united16: Tensor, memory: Tensor) -> Tensor:
        # f16 (B, D, h16, w16), united16 (B, U, h16, w16), memory (B, M, h16, w16) -> the next one
        seen = F.relu(self.see(torch.cat([f16, united16], 1)))
        update, keep = self.gates(torch.cat([seen, memory], 1)).sigmoid().chunk(2, 1)
        candidate = self.candidate(torch.cat([seen, keep * memory], 1)).tanh()
        return memory + update * (candidate - memory)
