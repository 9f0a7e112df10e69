"""Who a person is, as far as it shows: an embedding that is alike for one person over time.

The latent codes of the network tell people apart within one picture and hardly from one picture to
another (docs/decisions/0006-tracker.md has the figures).  So a small head looks at the features of
the finished network where a person is: each feature is averaged over the person, over a few soft
parts of the body that the head finds by itself, and what is averaged becomes an embedding of length
1.  Parts, because a red shirt over blue jeans is not a blue shirt over red trousers.

The rest of the network is frozen while the head is trained (matting/training/identity.py): mattes
are the same with and without it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from matting.network.blocks import mlp, up_to

FEATURES = 6 + 24 + 32 + 96  # colour and its square; the backbone at 1/4, 1/8 and 1/16
PARTS = 5
HIDDEN = 256
FAINT = 0.03  # share of a person below which a part hardly speaks


class IdentityHead(nn.Module):
    """N people of B pictures -> (B, N, width) embeddings of length 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        # mean and spread of each feature in the training pictures
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))
        self.parts = nn.Conv2d(FEATURES, PARTS, 1)
        self.embed = mlp((PARTS + 1) * FEATURES + PARTS, HIDDEN, width)

    def forward(
        self, image: Tensor, x4: Tensor, x8: Tensor, x16: Tensor, location: Tensor, sure: Tensor
    ) -> Tensor:
        """image (B, 3, H, W) in -1..1; x4, x8, x16 the backbone's maps; location (B, N, h8, w8)
        logits; sure (B, N) in 0..1, how likely each code is somebody."""
        return self.embedding(self.features(image, x4, x8, x16), owned(location, sure))

    def features(self, image: Tensor, x4: Tensor, x8: Tensor, x16: Tensor) -> Tensor:
        """(B, FEATURES, h8, w8), as they come."""
        colour = F.avg_pool2d(torch.cat([image, image * image], 1), 8)
        return torch.cat([colour, F.avg_pool2d(x4, 2), x8, up_to(x16, x8)], 1).float()

    def embedding(self, features: Tensor, weight: Tensor) -> Tensor:
        """features (B, FEATURES, h, w), weight (B, N, h, w): whose each cell is."""
        b, n = weight.shape[:2]
        seen = (features - self.mean[:, None, None]) / self.spread[:, None, None]
        parts = self.parts(seen).softmax(1).flatten(2)  # (B, K, h*w)
        cells, own = seen.flatten(2).transpose(1, 2), weight.flatten(2)
        by_part = (own[:, :, None] * parts[:, None]).flatten(1, 2)  # (B, N*K, h*w)
        whole = own.sum(-1, keepdim=True) + 1e-4  # (B, N, 1)
        mass = by_part.sum(-1).unflatten(1, (n, PARTS)) / whole  # (B, N, K)
        of_parts = (by_part @ cells).unflatten(1, (n, PARTS)) / whole[..., None]
        of_parts = of_parts / (mass[..., None] + FAINT)
        told = torch.cat([own @ cells / whole, of_parts.flatten(2), mass], -1)
        return F.normalize(self.embed(told), dim=-1)


def owned(location: Tensor, sure: Tensor) -> Tensor:
    """(B, N, h, w) how much each cell is each person's alone, from location logits (B, N, h, w).

    A cell two people claim says little of either; codes that are likely nobody (`sure`, (B, N))
    take nothing away from others.
    """
    here = location.float().sigmoid()
    claim = here * here * sure[..., None, None]
    others = claim.sum(1, keepdim=True) - claim
    return here * here / (here * here + others + 0.05)
