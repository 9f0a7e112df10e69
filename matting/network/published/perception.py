"""General perception: a picture's features, and one latent code for each person in it.

E2E-HIM section 3.2.  A stem and a Swin Transformer see the picture; a DETR decoder turns learned
queries into codes; small MLPs read from each code whether there is anyone, and the kernels it
looks at the picture with.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from matting.network.blocks import mlp
from matting.network.perception import DecoderLayer
from matting.network.published.parts import Residual, conv_norm, up
from matting.network.published.swin import Swin


class Perception(NamedTuple):
    """B pictures, N codes of width D; sizes as s2 = H/2 x W/2 and so on, channels undivided."""

    s2: Tensor  # (B, 64, h2, w2)
    s4: Tensor  # (B, 128, h4, w4)
    x4: Tensor  # (B, 96, h4, w4)
    x8: Tensor  # (B, 192, h8, w8)
    x16: Tensor  # (B, 384, h16, w16)
    x32: Tensor  # (B, 768, h32, w32)
    f16: Tensor  # (B, 512, h16, w16)
    context: Tensor  # (B, 256, h8, w8)
    codes: Tensor  # (B, N, D)
    existence: Tensor  # (B, N, 2) logits: no one, someone


class Kernels(NamedTuple):
    """What each code looks with; the last entry of a kernel is its bias."""

    guide: Tensor  # (B, N, 3, D + 1): attention a, attention b, location
    embeddings: Tensor  # (B, N, 2, E): semantics, before their norm
    trimap: Tensor  # (B, N, 3, D + 1): background, unknown, foreground
    alpha: Tensor  # (B, N, 1, F + 1)


class GeneralPerception(nn.Module):
    def __init__(
        self, codes: int, layers: int, depths: tuple[int, ...], window: int, thin: int
    ) -> None:
        super().__init__()

        def c(channels: int) -> int:
            return channels // thin

        self.width = c(256)
        self.stem = nn.Sequential(
            *conv_norm(3, c(32), stride=2, groups=16), *conv_norm(c(32), c(32), groups=16)
        )
        self.stem2 = nn.Sequential(*conv_norm(c(32), c(64)))
        self.stem4 = nn.Sequential(*conv_norm(c(64), c(128), stride=2))
        self.swin = Swin(c(128), c(96), depths, window=window)
        self.memory = nn.Sequential(*conv_norm(c(768), c(256), 1))
        self.queries = nn.Parameter(torch.randn(codes, self.width))
        self.layers = nn.ModuleList(
            DecoderLayer(self.width, 8, c(2048)) for _ in range(layers)
        )
        self.code_norm = nn.LayerNorm(self.width)
        self.exist = mlp(self.width, c(128), 2)
        self.c32 = nn.Sequential(*conv_norm(c(768), c(512), 1, groups=16))
        self.c16 = nn.Sequential(
            *conv_norm(c(512) + c(384), c(512), groups=16),
            Residual(c(512), c(128)), Residual(c(512), c(128)),
        )  # fmt: skip
        self.c8 = nn.Sequential(
            *conv_norm(c(512) + c(192), c(256), groups=16),
            Residual(c(256), c(64)), Residual(c(256), c(64)),
            *conv_norm(c(256), c(256), 1, groups=16),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Perception:
        """image (B, 3, H, W) normalised, H and W multiples of 32."""
        s2 = self.stem2(self.stem(image))
        s4 = self.stem4(s2)
        x4, x8, x16, x32 = self.swin(s4)
        memory = self.memory(x32).flatten(2).transpose(1, 2)  # (B, T, D)
        place = self.queries.expand(image.shape[0], -1, -1)
        code, nowhere = torch.zeros_like(place), torch.zeros_like(memory[:1, :1])
        for layer in self.layers:
            code = layer(code, place, memory, nowhere)
        codes = self.code_norm(code)
        f16 = self.c16(torch.cat([up(self.c32(x32)), x16], 1))
        context = self.c8(torch.cat([up(f16), x8], 1))
        return Perception(s2, s4, x4, x8, x16, x32, f16, context, codes, self.exist(codes))


class KernelHeads(nn.Module):
    """From a code and how surely it is someone, to everything it looks with (dynamic kernels)."""

    def __init__(self, thin: int) -> None:
        super().__init__()
        self.width, self.fine = 256 // thin, 64 // thin
        self.embedding = 128 // thin
        told, hidden = self.width + 2, 512 // thin
        self.guide = mlp(told, hidden, hidden, 3 * self.width + 3)
        self.embed = nn.Linear(told, 2 * self.embedding)
        self.matte = mlp(told, hidden, hidden, 3 * self.width + 3 + self.fine + 1)

    def forward(self, codes: Tensor, existence: Tensor) -> Kernels:
        d = self.width
        b, n = codes.shape[:2]  # reshape and not unflatten: a trace leaves these open
        told = torch.cat([codes, existence.softmax(-1)], -1)  # (B, N, D + 2)
        # in the order of the authors' weights: two kernels, their biases, the third and its bias
        ka, kb, ba, bb, ks, bs = self.guide(told).split([d, d, 1, 1, d, 1], -1)
        guide = torch.stack([torch.cat(pair, -1) for pair in ((ka, ba), (kb, bb), (ks, bs))], 2)
        tri, tri_bias, alpha = self.matte(told).split([3 * d, 3, self.fine + 1], -1)
        trimap = torch.cat([tri.reshape(b, n, 3, d), tri_bias[..., None]], -1)
        embeddings = self.embed(told).reshape(b, n, 2, self.embedding)
        return Kernels(guide, embeddings, trimap, alpha[:, :, None])
