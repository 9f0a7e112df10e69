"""Whether a code is somebody, asked again once it is known what it claims.

Existence scores come from the codes, before anything was outlined.  A dog that fills the picture
or the dark back of a chair passes there.  This head sees more: what the claimed place looks like
(looks.py), how large it is, how firmly it is claimed, the code, and the first score.  It learns
from the finished network's own mistakes on pictures without people, thousands of them, which would
take days to teach the whole network (matting/training/verdict.py; docs/decisions/0015-verdict.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from matting.network.looks import FEATURES

DOUBTED = 0.45  # what a first score counts when the verdict is against it
KNOWN = 0.69  # and it counts up to here where somebody was before: none is lost, and none begun


class Verdict(nn.Module):
    def __init__(self, code: int, hidden: int) -> None:
        """`code`: width of a latent code."""
        super().__init__()
        self.hidden = hidden
        given = 2 * FEATURES + code + 3
        self.register_buffer("mean", torch.zeros(given))
        self.register_buffer("spread", torch.ones(given))
        self.read = nn.Linear(given, hidden)
        self.judge = nn.Linear(hidden, 1)

    def forward(self, evidence: Tensor) -> Tensor:
        """(B, N, E), of `evidence` below -> (B, N, 2) logits: no one, someone."""
        someone = self.judge(self.read((evidence - self.mean) / self.spread).relu()) / 2
        return torch.cat([-someone, someone], -1)


def weighed(verdict: Tensor, existence: Tensor, known: Tensor | float = 0.0) -> Tensor:
    """(B, N, 2) logits each -> (B, N, 2): the verdict, but never less than `DOUBTED` of what the
    network itself believed, or than that itself, up to `KNOWN`, where `known` (B, N), how much of a
    code's place was somebody's before, is 1.

    The verdict sees one picture and says no to someone's legs behind a chair.  Who was whole a
    moment ago is known to be there: a doubted score begins nobody, and lets a tracker keep them.
    """
    believed = existence.softmax(-1)[..., 1]
    least = DOUBTED * believed
    least = least + known * (believed.clamp(max=KNOWN) - least)
    someone = torch.maximum(verdict.softmax(-1)[..., 1], least)
    someone = someone.clamp(1e-6, 1 - 1e-6)
    return torch.stack([1 - someone, someone], -1).log()


def evidence(looks: Tensor, code: Tensor, existence: Tensor, location: Tensor) -> Tensor:
    """looks (B, N, 2 FEATURES), code (B, N, D), existence (B, N, 2) logits, location (B, N, h, w)
    logits -> (B, N, E): everything the verdict is given of a code."""
    here = location.float().sigmoid().flatten(2)
    area = here.mean(-1, keepdim=True)
    firm = here.square().sum(-1, keepdim=True) / (here.sum(-1, keepdim=True) + 1e-4)
    score = existence[..., 1:] - existence[..., :1]
    return torch.cat([looks, code, score, (area + 1e-4).log(), firm], -1).float()
