"""Which code answers for which person: one to one, by Hungarian assignment (E2E-HIM section 3.5,
after Carion et al. 2020).  A pure function of what the network said and what is true."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

FAR = 2.0  # weight of the seed's distance; a code should answer for whoever it stands on


class Matches(NamedTuple):
    """M pairs: in picture b, code n answers for person p."""

    b: Tensor  # (M,) int64
    n: Tensor  # (M,) int64
    p: Tensor  # (M,) int64


def dice(logits: Tensor, alpha: Tensor, weight: Tensor) -> Tensor:
    """1 - soft Dice (Milletari et al. 2016), broadcast over leading dimensions, (..., h, w)."""
    share = logits.sigmoid()
    both = (share * alpha * weight).sum((-2, -1))
    each = (share.square() * weight).sum((-2, -1)) + (alpha.square() * weight).sum((-2, -1))
    return 1 - (2 * both + 1) / (each + 1)


@torch.no_grad()
def match(
    existence: Tensor, location: Tensor, seeds: Tensor, alpha: Tensor, known: Tensor,
    centres: Tensor, people: Tensor,
) -> Matches:  # fmt: skip
    """existence (B, N, 2) and location (B, N, h, w) logits, seeds (B, N, 2) x, y in 0..1; alpha
    (B, P, h, w), known (B, h, w), centres (B, P, 2), people (B,) rows in use."""
    found: list[tuple[int, int, int]] = []
    someone = existence.softmax(-1)[..., 1]
    for b, count in enumerate(people.tolist()):
        if not count:
            continue
        truth, weight = alpha[b, :count], known[b]
        maps = location[b]
        shape = dice(maps[:, None], truth[None], weight)  # (N, count)
        total = weight.sum().clamp(min=1)
        positive = (F.softplus(-maps) * weight).flatten(1) @ truth.flatten(1).T
        negative = (F.softplus(maps) * weight).flatten(1) @ (1 - truth).flatten(1).T
        extent = truth.sum((-2, -1)).clamp(min=1).div(truth.shape[-1] * truth.shape[-2]).sqrt()
        away = torch.cdist(seeds[b], centres[b, :count]) / extent
        cost = (
            2 * shape + (positive + negative) / total - someone[b][:, None]
            + FAR * away.clamp(max=2)
        )  # fmt: skip
        rows, columns = linear_sum_assignment(cost.float().cpu().numpy())
        found += [(b, int(n), int(p)) for n, p in zip(rows, columns, strict=True)]
    index = torch.tensor(found, dtype=torch.int64, device=alpha.device).reshape(-1, 3)
    return Matches(*index.unbind(1))
