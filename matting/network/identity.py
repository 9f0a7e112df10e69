"""Who a person is, as far as it shows: an embedding that is alike for one person over time.

The latent codes of the network tell people apart within one picture and not from one scene to
another (docs/decisions/0006-tracker.md has the figures).  So a small head takes what a person looks
like (looks.py) and projects it onto the directions in which people differ more than one person does
from moment to moment: Fisher's linear discriminant, found in closed form
(matting/training/identity.py).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from matting.network.looks import FEATURES


class IdentityHead(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(2 * FEATURES, width)

    def forward(self, looks: Tensor) -> Tensor:
        """(..., 2 FEATURES) -> (..., width) embeddings of length 1."""
        return F.normalize(self.project(looks), dim=-1)
