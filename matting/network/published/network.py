"""The published network put together: one pass, everyone's trimap and alpha.

A picture goes in normalised (`normalised`), at any size whose sides are multiples of 32; the
authors' program stretches every picture to 640 x 640 (`seen_as_published`).  Sizes are stored with
the weights, in the safetensors header.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from matting.network import files
from matting.network.blocks import per_code
from matting.network.published.detail import AlphaHead
from matting.network.published.guidance import UnitedGuidance
from matting.network.published.instances import InstanceDecoder
from matting.network.published.parts import up
from matting.network.published.perception import GeneralPerception, KernelHeads

NAME = "e2e_him_swin_t"
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1, ImageNet's
SIDE = 640  # pixels the authors' program stretches both sides of a picture to
SMALLEST = 1000  # pixels of the frame: a matte whose alpha sums to less is dropped


@dataclass(frozen=True, slots=True)
class Sizes:
    """The published network, unless said otherwise."""

    codes: int = 20  # people a picture may hold, at most
    layers: int = 6  # of the code decoder
    depths: tuple[int, ...] = (2, 2, 6, 2)  # blocks of the encoder's stages
    window: int = 7  # of the encoder's attention
    thin: int = 1  # every channel count is divided by this; up to 8

    def __post_init__(self) -> None:
        if self.thin not in (1, 2, 4, 8):
            raise ValueError(f"thin should be 1, 2, 4 or 8, got {self.thin}")
        if len(self.depths) != 4:
            raise ValueError(f"depths should name four stages, got {self.depths}")


class Output(NamedTuple):
    """What a batch gives.  B pictures, N codes, h8 = H/8."""

    existence: Tensor  # (B, N, 2) logits: no one, someone
    location: Tensor  # (B, N, h8, w8) logits
    attention: Tensor  # (B, 2, N + 1, h8, w8) logits of both heads; the last is background
    trimap: Tensor  # (B, N, 3, h8, w8) logits: background, unknown, foreground
    kernels: Tensor  # (B, N, 1, F + 1): each code's alpha kernel
    fine: Tensor  # (B, 128, H, W): what the alpha head starts from
    codes: Tensor  # (B, N, D)


class PublishedNetwork(nn.Module):
    def __init__(self, sizes: Sizes = Sizes()) -> None:
        super().__init__()
        s = self.sizes = sizes
        self.perception = GeneralPerception(s.codes, s.layers, s.depths, s.window, s.thin)
        self.kernels = KernelHeads(s.thin)
        self.guidance = UnitedGuidance(s.codes, s.thin)
        self.instances = InstanceDecoder(s.thin)
        self.alpha_head = AlphaHead(s.thin)

    def forward(self, image: Tensor) -> Output:
        """image (B, 3, H, W) normalised, H and W multiples of 32."""
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % 32 or image.shape[3] % 32:
            raise ValueError(
                "image should be (B, 3, H, W) with H and W multiples of 32, "
                f"got {tuple(image.shape)}"
            )
        seen = self.perception(image)
        kernels = self.kernels(seen.codes, seen.existence)
        guide = self.guidance(seen.context, kernels.guide, kernels.embeddings)
        decoded = self.instances(guide.united, seen)
        trimap = per_code(kernels.trimap, decoded.trimap)
        return Output(
            seen.existence, guide.location, guide.attention, trimap, kernels.alpha, decoded.fine,
            seen.codes,
        )  # fmt: skip

    def alpha(self, output: Output, image: Tensor) -> Tensor:
        """(B, N, H, W): alpha of every code, before the clamp."""
        return self.alpha_head(output.fine, image, output.kernels)

    @torch.no_grad()
    def people(
        self, output: Output, image: Tensor, row: int = 0, threshold: float = 0.5
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The people of picture `row`, by falling score: matte (n, H, W) in 0..1, score (n,), and
        which codes they are (n,).  Only their mattes are computed at full size.

        A code is someone where its score passes `threshold`; at 0.5 that is logit 1 > logit 0.
        """
        score = output.existence[row].softmax(-1)[:, 1]
        order = score.argsort(descending=True)
        chosen = order[score[order] > threshold]
        kernels = output.kernels[row, chosen, 0]
        alpha = self.alpha_head.fused(output.fine[row], image[row], kernels)
        return composed(output.trimap[row, chosen], alpha), score[chosen], chosen


def composed(trimap: Tensor, alpha: Tensor) -> Tensor:
    """trimap (n, 3, h8, w8) logits, alpha (n, H, W) before the clamp -> mattes (n, H, W): alpha
    where unknown is the likeliest, 1 where foreground is, 0 where background is."""
    if len(trimap) == 0:
        return alpha
    kind = up(trimap, 8).argmax(1)  # (n, H, W)
    return torch.where(kind == 1, alpha.clamp(0, 1), (kind == 2).to(alpha.dtype))


def normalised(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 RGB -> (1, 3, H, W) as the network takes it."""
    x = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255
    mean, spread = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (MEAN, SPREAD))
    return (x - mean) / spread


def seen_as_published(rgb: np.ndarray, side: int = SIDE) -> Tensor:
    """(H, W, 3) uint8 RGB -> (1, 3, side, side): stretched with Lanczos, whatever its shape."""
    return normalised(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_LANCZOS4))


@torch.no_grad()
def mattes(
    network: PublishedNetwork, rgb: np.ndarray, *, side: int = SIDE, threshold: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Everyone in a picture (H, W, 3) uint8, as the authors' program finds them: alpha (n, H, W)
    float32 in 0..1 at the picture's size, and score (n,), by falling score."""
    device = network.alpha_head.first.weight.device
    image = seen_as_published(rgb, side).to(device)
    small, score, _ = network.people(network(image), image, threshold=threshold)
    size = rgb.shape[1], rgb.shape[0]
    made = [
        cv2.resize(matte, size, interpolation=cv2.INTER_LANCZOS4).clip(0, 1)
        for matte in small.float().cpu().numpy()
    ]
    kept = [i for i, matte in enumerate(made) if matte.sum() >= SMALLEST]
    alpha = np.stack([made[i] for i in kept]) if kept else np.zeros((0, *rgb.shape[:2]), np.float32)
    return alpha, score.cpu().numpy()[kept]


def save(network: PublishedNetwork, path: Path, **facts: str) -> None:
    """Write weights (float32) with the sizes and `facts` in the header, in one rename."""
    header = {"network": NAME, "sizes": json.dumps(asdict(network.sizes)), **facts}
    files.write(path, network.state_dict(), header)


def load(path: Path) -> tuple[PublishedNetwork, dict[str, str]]:
    """The network of a weights file, ready for inference, and the facts in its header."""
    tensors, header = files.read(path, NAME)
    sizes = json.loads(header["sizes"])
    network = PublishedNetwork(Sizes(**sizes | {"depths": tuple(sizes["depths"])}))
    files.fill(network, tensors, path)
    return network.eval(), header
