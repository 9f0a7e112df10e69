"""What is asked of the network.  Each term is asked only where its label is true.

E2E-HIM section 3.5 names existence, location, trimap and matting losses; heat (CornerNet's
focal loss, Law & Deng 2018, eq. 1) belongs to our seeds, and attention gives the spatial attention
its meaning directly: the share of a pixel a person gets is that person's alpha there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from matting.network import detail
from matting.network.live import Output
from matting.training.data import Batch
from matting.training.matching import Matches, dice, match

WEIGHTS = {
    "existence": 2.0, "heat": 1.0, "location": 2.0, "attention": 2.0, "everyone": 1.0,
    "trimap": 1.0, "alpha": 4.0, "edge": 2.0, "pyramid": 2.0, "composition": 2.0, "steady": 2.0,
}  # fmt: skip
NO_ONE = 0.25  # weight of codes without a person: there are several times more of them


@dataclass(frozen=True, slots=True)
class Shown:
    """Mattes of M people of one frame at full size, (M, H, W) each."""

    who: dict[tuple[int, int], int]  # (picture of the batch, id) -> row
    alpha: Tensor
    truth: Tensor
    known: Tensor


@dataclass(frozen=True, slots=True)
class Truth:
    """Labels at the network's scales.  P people; h8 = H/8 of the network's input."""

    alpha8: Tensor  # (B, P, h8, w8) float
    known8: Tensor  # (B, h8, w8) float 0 or 1
    classes: Tensor  # (B, P, h8, w8) int64: 0 background, 1 unknown, 2 foreground
    everyone8: Tensor  # (B, h8, w8) float
    centres: Tensor  # (B, P, 2) x, y in 0..1
    heat: Tensor  # (B, 1, h16, w16) float, 1 at every centre
    cells: Tensor  # (B, P) int64: the centre's cell, flattened h16 * w16


def truth(batch: Batch) -> Truth:
    s = batch.scale
    alpha = batch.alpha.float() / 255
    if s > 1:
        alpha = F.avg_pool2d(alpha, s)
    alpha8, alpha16 = F.avg_pool2d(alpha, 8), F.avg_pool2d(alpha, 16)
    known8 = 1 - F.max_pool2d((~batch.known).float()[:, None], 8 * s)[:, 0]
    everyone8 = F.avg_pool2d(batch.everyone.float()[:, None] / 255, 8 * s)[:, 0]
    high, low = highest16(alpha), -highest16(-alpha)
    classes = torch.ones_like(high, dtype=torch.int64)
    classes[high < 0.05] = 0
    classes[low > 0.95] = 2

    b, p, h, w = alpha16.shape
    x = (torch.arange(w, device=alpha.device) + 0.5) / w
    y = (torch.arange(h, device=alpha.device) + 0.5) / h
    mass = alpha16.sum((2, 3)).clamp(min=1e-6)
    cx = (alpha16.sum(2) * x).sum(2) / mass
    cy = (alpha16.sum(3) * y).sum(2) / mass
    # the centre is a cell of the person, not a point between two legs
    squared = ((x[None, None, None] - cx[..., None, None]) * w) ** 2 + (
        (y[None, None, :, None] - cy[..., None, None]) * h
    ) ** 2
    spread = mass[..., None, None]
    cells = (alpha16 * torch.exp(-squared / (0.5 * spread + 1))).flatten(2).argmax(2)
    column, row = cells % w, cells // w
    centres = torch.stack([x[column], y[row]], -1)
    sigma = (0.12 * mass.sqrt()).clamp(0.6, 2.5)[..., None, None]
    squared = (torch.arange(w, device=alpha.device) - column[..., None, None]) ** 2 + (
        torch.arange(h, device=alpha.device)[:, None] - row[..., None, None]
    ) ** 2
    bumps = torch.exp(-squared / (2 * sigma**2))
    used = torch.arange(p, device=alpha.device) < batch.people[:, None]
    heat = (bumps * used[..., None, None]).amax(1, keepdim=True)
    return Truth(alpha8, known8, classes, everyone8, centres, heat, cells)


def highest16(x: Tensor) -> Tensor:
    """Maximum over windows of 16 with stride 8 and padding 4, in two steps: a tenth of the work."""
    return F.max_pool2d(F.max_pool2d(x, 4), 4, 2, 1)


def taught_seeds(batch: Batch, true: Truth, share: float, generator: torch.Generator) -> Tensor:
    """(B, 1, h16, w16): scores above any the network gives, at the centres of people, a cell off
    now and then, in a `share` of the pictures."""
    b, p = true.cells.shape
    _, _, h, w = true.heat.shape
    device = true.cells.device
    shift = torch.randint(-1, 2, (2, b, p), generator=generator).to(device)
    row = (true.cells // w + shift[0]).clamp(0, h - 1)
    column = (true.cells % w + shift[1]).clamp(0, w - 1)
    give = torch.rand(b, 1, generator=generator).to(device) < share
    give = give & (torch.arange(p, device=device) < batch.people[:, None])
    scores = torch.zeros(b, h * w, device=device)
    scores.scatter_reduce_(1, row * w + column, 2.0 * give.float(), "amax")
    return scores.reshape(b, 1, h, w)


def focal_heat(logits: Tensor, heat: Tensor, weight: Tensor) -> Tensor:
    """CornerNet's penalty-reduced focal loss, alpha 2, beta 4, per centre."""
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    centre = (heat >= 0.999).float()
    positive = centre * (1 - p) ** 2 * p.log()
    negative = (1 - centre) * (1 - heat) ** 4 * p**2 * (1 - p).log() * weight
    return -(positive.sum() + negative.sum()) / centre.sum().clamp(min=1)


def pyramid(a: Tensor, b: Tensor, levels: int = 4) -> Tensor:
    """Laplacian-pyramid L1 (Hou & Liu 2019, eq. 6): a, b (M, 1, H, W)."""
    total = a.new_zeros(())
    difference = a - b
    for level in range(levels):
        small = F.avg_pool2d(difference, 2)
        back = F.interpolate(
            small, size=difference.shape[-2:], mode="bilinear", align_corners=False
        )
        total = total + 2**level * (difference - back).abs().mean()
        difference = small
    return total


def losses(
    output: Output, batch: Batch, true: Truth, *, most: int, order: Tensor,
    earlier: Shown | None = None,
) -> tuple[dict[str, Tensor], Shown]:  # fmt: skip
    """Every term of one frame, and the mattes that were compared at full size: those of `most`
    people, first in `order` (B, 64), a number for each id.  `earlier` is the frame before."""
    labelled = batch.instances
    people = batch.people * labelled
    pairs = match(
        output.existence[-1], output.location[-1], output.seeds, true.alpha8, true.known8,
        true.centres, people,
    )  # fmt: skip
    device, (b, n) = output.codes.device, output.codes.shape[:2]
    terms: dict[str, Tensor] = {}

    someone = torch.zeros(b, n, dtype=torch.int64, device=device)
    someone[pairs.b, pairs.n] = 1
    weight = torch.where(someone == 1, 1.0, NO_ONE) * labelled[:, None]
    terms["existence"] = torch.stack([
        (F.cross_entropy(e.flatten(0, 1), someone.flatten(), reduction="none") * weight.flatten())
        .sum() / weight.sum().clamp(min=1) for e in output.existence
    ]).mean()  # fmt: skip

    sure16 = labelled[:, None, None, None].float()
    terms["heat"] = focal_heat(output.heat, true.heat, sure16)

    alpha8, known8 = true.alpha8[pairs.b, pairs.p], true.known8[pairs.b]  # (M, h8, w8)
    count = max(1, len(pairs.b))
    located = []
    for maps in output.location:
        mine = maps[pairs.b, pairs.n]
        crossed = F.binary_cross_entropy_with_logits(mine, alpha8, reduction="none") * known8
        area = known8.sum((1, 2)).clamp(min=1)
        located.append((dice(mine, alpha8, known8) + 2 * crossed.sum((1, 2)) / area).sum() / count)
    terms["location"] = torch.stack(located).mean()

    shares = torch.zeros_like(output.attention)
    shares[pairs.b, pairs.n] = alpha8
    shares[:, -1] = (1 - shares[:, :-1].sum(1)).clamp(min=0)
    weight8 = true.known8 * labelled[:, None, None]
    terms["attention"] = (
        -(shares * output.attention).sum(1) * weight8
    ).sum() / weight8.sum().clamp(min=1)

    background = output.attention[:, -1].clamp(max=-1e-5)
    union = true.everyone8
    nobody = -(1 - union) * background - union * torch.log1p(-background.exp())
    terms["everyone"] = (nobody * true.known8).sum() / true.known8.sum().clamp(min=1)

    sure = F.cross_entropy(
        output.trimap[pairs.b, pairs.n], true.classes[pairs.b, pairs.p], reduction="none"
    ) if len(pairs.b) else output.trimap.sum() * 0  # fmt: skip
    terms["trimap"] = sure.mean()

    mattes, shown = matte_losses(output, batch, pairs, most, order)
    terms |= mattes
    terms["steady"] = steady_loss(shown, earlier) if earlier else output.fine.sum() * 0
    return terms, shown


def matte_losses(
    output: Output, batch: Batch, pairs: Matches, most: int, order: Tensor
) -> tuple[dict[str, Tensor], Shown]:
    """Alpha at the picture's full size, for at most `most` of the people."""
    ids = batch.ids[pairs.b, pairs.p]
    # the same people in every frame of a step, so that their change can be compared
    some = order.to(pairs.b.device)[pairs.b, ids % order.shape[1]].argsort()[:most]
    b, n, p = (index[some] for index in pairs)
    if not len(b):
        zero = output.fine.sum() * 0
        nobody = torch.zeros_like(batch.alpha[:0, 0], dtype=torch.float32)
        shown = Shown({}, nobody, nobody, nobody)
        return dict.fromkeys(("alpha", "edge", "pyramid", "composition"), zero), shown
    kernels, fine = output.kernels[b, n], output.fine[b]  # (M, 4, F + 1), (M, F, h2, w2)
    heads = torch.einsum("mkf,mfhw->mkhw", kernels[..., :-1], fine) + kernels[..., -1:, None]
    coefficient = detail.coefficients(heads, output.trimap[b, n])
    rgb = batch.rgb[b].float() / 127.5 - 1
    z = detail.alpha_logits(coefficient, rgb)  # (M, H, W)
    alpha = z.sigmoid()
    truth, known = batch.alpha[b, p].float() / 255, batch.known[b].float()

    error = (alpha - truth).abs() * known
    crossed = F.binary_cross_entropy_with_logits(z, truth, reduction="none") * known
    soft = ((truth > 0.02) & (truth < 0.98)).float()
    around = F.max_pool2d(soft[:, None], (9, 1), 1, (4, 0))
    border = F.max_pool2d(around, (1, 9), 1, (0, 4))[:, 0] * known
    # a small person's matte matters as much as a large one's: per person, against its own extent
    extent = (truth.sum((1, 2)) + 0.02 * truth[0].numel()).clamp(min=1)
    masked = known[:, None]
    who = {key: m for m, key in enumerate(zip(b.tolist(), ids[some].tolist(), strict=True))}
    return {
        "alpha": ((error + 0.25 * crossed).sum((1, 2)) / extent).mean(),
        "edge": (error * border).sum() / border.sum().clamp(min=1),
        "pyramid": pyramid(alpha[:, None] * masked, truth[:, None] * masked),
        "composition": (error * batch.contrast[b, p].float() / 255).sum((1, 2)).div(extent).mean(),
    }, Shown(who, alpha, truth, known)


def steady_loss(now: Shown, before: Shown) -> Tensor:
    """Alpha should change as the truth does, person by person: the L1 form of dtSSD (Erofeev et
    al. 2015)."""
    both = [(m, before.who[key]) for key, m in now.who.items() if key in before.who]
    if not both:
        return now.alpha.sum() * 0
    m, k = torch.tensor(both, device=now.alpha.device).unbind(1)
    change = (now.alpha[m] - before.alpha[k]) - (now.truth[m] - before.truth[k])
    extent = (now.truth[m].sum((1, 2)) + 0.02 * now.truth[0].numel()).clamp(min=1)
    return ((change.abs() * now.known[m] * before.known[k]).sum((1, 2)) / extent).mean()
