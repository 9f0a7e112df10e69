"""The live network: E2E-HIM's three sub-networks at a size a laptop runs.

One pass gives everyone's alpha; each further person costs one more small matrix product.
Sizes are stored with the weights (in the safetensors header), so a file says what it is.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from matting.network import detail, files
from matting.network.backbone import MobileNetV2
from matting.network.blocks import mlp, per_code, up_to
from matting.network.guidance import UnitedGuidance
from matting.network.identity import IdentityHead
from matting.network.instances import InstanceDecoder
from matting.network.looks import Looks
from matting.network.memory import Memory, places, remembered
from matting.network.perception import GeneralPerception
from matting.network.pose import Pose
from matting.network.verdict import Verdict, evidence, weighed

NAME = "e2e_him_live"


@dataclass(frozen=True, slots=True)
class Sizes:
    codes: int = 16  # people a picture may hold, at most
    width: int = 128  # of a code
    heads: int = 8
    layers: int = 3  # of the code decoder
    hidden: int = 384  # of its feed-forward parts
    context: int = 64
    embedding: int = 32
    united: int = 96
    trimap: int = 64
    fine: int = 16
    grouping: int = 2  # layers in which every place of 1/16 looks at every other
    memory: bool = True  # whether a video's frames are told where everyone was


class Output(NamedTuple):
    """Everything a picture gives.  N codes, ordered by how strong their seed is."""

    existence: list[Tensor]  # per decoder layer (B, N, 2) logits; the last is the answer
    location: list[Tensor]  # per decoder layer (B, N, h8, w8) logits
    attention: Tensor  # (B, N + 1, h8, w8) log-probabilities; the last is background
    trimap: Tensor  # (B, N, 3, h8, w8) logits: background, unknown, foreground
    kernels: Tensor  # (B, N, 4, F + 1): each code's alpha kernels
    fine: Tensor  # (B, F, h2, w2): what they look at
    codes: Tensor  # (B, N, D)
    seeds: Tensor  # (B, N, 2) x, y in 0..1
    heat: Tensor  # (B, 1, h16, w16) logits
    memory: Tensor | None  # (B, N, h16, w16) in 0..1, to be given with a frame to come
    identity: Tensor  # (B, N, E): who each is over time; the codes where there is no head for it


class LiveNetwork(nn.Module):
    def __init__(self, sizes: Sizes = Sizes()) -> None:
        super().__init__()
        s = self.sizes = sizes
        self.backbone = MobileNetV2()
        self.pose = Pose()
        self.perception = GeneralPerception(
            s.codes, s.width, s.heads, s.layers, s.hidden, s.context, s.grouping
        )
        self.guide_kernels = mlp(s.width + 2, 256, 3 * (s.context + 1) + 2 * s.embedding)
        self.place_kernels = nn.Linear(s.width + 2, 3 * 4)
        nn.init.zeros_(self.place_kernels.weight)
        nn.init.zeros_(self.place_kernels.bias)
        self.matte_kernels = mlp(s.width + 2, 256, 3 * (s.trimap + 1) + 4 * (s.fine + 1))
        self.guidance = UnitedGuidance(s.context, s.embedding, s.united)
        self.instances = InstanceDecoder(s.width, s.united, s.trimap, s.fine)
        self.memory = Memory(s.codes, s.width) if s.memory else None
        # trained afterwards, on the finished network: matting/training/finish.py
        self.looks: Looks | None = None
        self.verdict: Verdict | None = None
        self.identity: IdentityHead | None = None

    def forward(
        self, image: Tensor, taught: Tensor | None = None, memory: Tensor | None = None
    ) -> Output:
        """image (B, 3, H, W) RGB in -1..1, H and W multiples of 32; memory as the frame before
        gave it, None for the first."""
        s = self.sizes
        image2 = F.avg_pool2d(image, 2)
        x2, x4, x8, x16, x32 = self.seen(image, image2)
        read = self.memory.read if self.memory else None
        seen = self.perception(x8, x16, x32, taught, memory, read)

        context = torch.cat([seen.context.float(), place_maps(seen.context)], 1)
        location, kernels, embeddings = [], None, None
        for code, exist in zip(seen.codes, seen.existence, strict=True):
            told = torch.cat([code.float(), exist.softmax(-1)], -1)  # (B, N, D + 2), as published
            made = self.guide_kernels(told).float()
            kernels, embeddings = made.split([3 * (s.context + 1), 2 * s.embedding], -1)
            around = self.place_kernels(told).float().unflatten(-1, (3, 4))
            kernels = around_seed(kernels.unflatten(-1, (3, s.context + 1)), around, seen.seeds,
                                  image.shape[-1] / image.shape[-2])  # fmt: skip
            if code is not seen.codes[-1] and self.training:
                location.append(per_code(kernels[:, :, 2:], context).squeeze(2))
        guide = self.guidance(
            seen.context, context, kernels, embeddings.unflatten(-1, (2, s.embedding))
        )
        location.append(guide.location)

        t8, d2 = self.instances(guide.united, seen.f16, x8, x4, x2, image2)
        trimap, matte = self.matte_kernels(told).float().split(
            [3 * (s.trimap + 1), 4 * (s.fine + 1)], -1
        )
        trimap = per_code(trimap.unflatten(-1, (3, s.trimap + 1)), t8.float())
        code, existence = seen.codes[-1].float(), seen.existence
        # what several heads read stands here, outside them: there it stays float32 in every export
        sure, place = existence[-1].float().softmax(-1)[..., 1], places(guide.location)
        kept = self.memory(place, sure) if self.memory else None
        identity = code
        if self.looks is not None and not self.training:
            looks = self.looks(image, x4, x8, x16, guide.location, sure)
            if self.verdict is not None:
                known = evidence(looks, code, existence[-1], guide.location)
                before = 0.0 if memory is None else remembered(place, memory)
                existence = [*existence[:-1], weighed(self.verdict(known), existence[-1], before)]
            if self.identity is not None:
                identity = self.identity(looks)
        return Output(
            existence, location, guide.attention, trimap,
            matte.unflatten(-1, (4, s.fine + 1)), d2.float(),
            code, seen.seeds, seen.heat, kept, identity,
        )  # fmt: skip

    def seen(self, image: Tensor, image2: Tensor | None = None) -> list[Tensor]:
        """image (B, 3, H, W), and itself at half size if it is at hand, to five maps from 1/2 to
        1/32: what the backbone sees, and at 1/8 and 1/16 what is known of joints behind it."""
        x2, x4, x8, x16, x32 = self.backbone(image)
        said8, said16 = self.pose(F.avg_pool2d(image, 2) if image2 is None else image2)
        return [x2, x4, torch.cat([x8, said8], 1), torch.cat([x16, said16], 1), x32]

    def without_heads(self) -> LiveNetwork:
        """Itself, less what was trained on the features it had: to be trained again."""
        self.looks = self.verdict = self.identity = None
        return self


def place_maps(like: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, 4, h, w): x, y, x^2, y^2 of every cell, in picture heights."""
    ones = torch.ones_like(like[:, :1]).float()
    row, column = ones.cumsum(2), ones.cumsum(3)
    height = row[:, :, -1:, :1]
    x, y = (column - 0.5) / height, (row - 0.5) / height
    return torch.cat([x, y, x * x, y * y], 1)


def around_seed(kernels: Tensor, around: Tensor, seeds: Tensor, aspect: float) -> Tensor:
    """Add to each code's kernels (B, N, 3, C + 1) what it says about places seen from its seed.

    `around` (B, N, 3, 4) weighs dx, dy, dx^2 and dy^2 of a cell, so a code can say "near me, and
    not so far to the left" (relative coordinates as in CondInst, Tian et al. 2020, section 3.2).
    Written out, that is a kernel on `place_maps` and a bias, so people stay one product.
    Returns (B, N, 3, C + 4 + 1).
    """
    x, y = seeds[..., 0:1] * aspect, seeds[..., 1:2]  # (B, N, 1), in picture heights
    dx, dy, dxx, dyy = around.unbind(-1)  # (B, N, 3) each
    absolute = torch.stack([dx - 2 * dxx * x, dy - 2 * dyy * y, dxx, dyy], -1)
    constant = dxx * x * x + dyy * y * y - dx * x - dy * y
    return torch.cat(
        [kernels[..., :-1], absolute, kernels[..., -1:] + constant[..., None]], -1
    )


def save(network: LiveNetwork, path: Path, **facts: str) -> None:
    """Write weights (float16) with the sizes and `facts` in the header, in one rename."""
    tensors = {
        key: value.half() if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }
    header = {"network": NAME, "sizes": json.dumps(asdict(network.sizes)), **facts}
    if network.identity is not None:
        header["identity"] = str(network.identity.width)
    if network.verdict is not None:
        header["verdict"] = str(network.verdict.hidden)
    files.write(path, tensors, header)


def load(path: Path) -> tuple[LiveNetwork, dict[str, str]]:
    """The network of a weights file, ready for inference, and the facts in its header."""
    tensors, header = files.read(path, NAME)
    network = LiveNetwork(Sizes(**json.loads(header["sizes"])))
    if "identity" in header or "verdict" in header:
        network.looks = Looks()
    if "identity" in header:
        network.identity = IdentityHead(int(header["identity"]))
    if "verdict" in header:
        network.verdict = Verdict(network.sizes.width, int(header["verdict"]))
    files.fill(network, tensors, path)
    return network.eval(), header


@torch.no_grad()
def mattes(
    output: Output, rgb: Tensor, row: int = 0, threshold: float = 0.5
) -> tuple[Tensor, Tensor, Tensor]:
    """The people of picture `row`: alpha (n, H, W) at the size of rgb (3, H, W) in -1..1, score
    (n,), and which codes they are (n,), by falling score."""
    score = output.existence[-1][row].softmax(-1)[:, 1]
    order = score.argsort(descending=True)
    chosen = order[score[order] >= threshold]
    kernels = output.kernels[row, chosen]
    heads = torch.einsum("mkf,fhw->mkhw", kernels[..., :-1], output.fine[row])
    heads = heads + kernels[..., -1:, None]
    coefficient = detail.coefficients(heads, output.trimap[row, chosen])
    z = detail.alpha_logits(coefficient, rgb.expand(len(chosen), -1, -1, -1))
    location = up_to(output.location[-1][row, chosen, None].sigmoid(), z).squeeze(1)
    return detail.share_out(detail.opaque(z), location), score[chosen], chosen
