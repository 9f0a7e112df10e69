"""Alpha at full size: two convolutions without anything between them, and each code's kernel.

    alpha_n = k_n . (W2 * (W1 * x + b1) + b2) + c_n        (before the clamp to 0..1)

In the published weights' head nothing bends between the two convolutions, so all of it is linear
in x.  Training computes it as written, at 168,480 products a pixel whatever the number of people.
Inference multiplies W1, W2 and k_n out into one 5x5 kernel per person who is there: 3,275 products
a pixel and person.  Only the outermost ring of pixels is different, because the first convolution's
output is padded with zeros there and not with what W1 would have seen; the ring is computed as
written.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from matting.network.blocks import per_code


class AlphaHead(nn.Module):
    def __init__(self, thin: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(128 // thin + 3, 96 // thin, 3, 1, 1)
        self.second = nn.Conv2d(96 // thin, 64 // thin, 3, 1, 1)

    def forward(self, fine: Tensor, image: Tensor, kernels: Tensor) -> Tensor:
        """fine (B, 128, H, W), image (B, 3, H, W) normalised, kernels (B, N, 1, 65) -> (B, N, H, W)
        alpha before the clamp, of every code."""
        features = self.second(self.first(torch.cat([fine, image], 1)))
        return per_code(kernels, features).squeeze(2)

    def fused(self, fine: Tensor, image: Tensor, kernels: Tensor) -> Tensor:
        """One picture, the codes that are someone: fine (128, H, W), image (3, H, W),
        kernels (n, 65) -> (n, H, W), the numbers `forward` gives."""
        if len(kernels) == 0:
            return fine.new_zeros(0, *fine.shape[1:])
        look, bias = kernels[:, :-1], kernels[:, -1]
        second = torch.einsum("nf,fcuv->ncuv", look, self.second.weight)
        whole = F.conv_transpose2d(second, self.first.weight)  # (n, 131, 5, 5): u + v summed
        bias = bias + look @ self.second.bias
        offset = bias + second.sum((2, 3)) @ self.first.bias
        split = fine.shape[0]
        # fine and image go in one by one: putting them together would copy the largest map there is
        alpha = F.conv2d(fine[None], whole[:, :split], offset, padding=2)
        alpha = alpha + F.conv2d(image[None], whole[:, split:], padding=2)

        def as_written(rows: slice, columns: slice) -> Tensor:
            x = torch.cat([fine[:, rows, columns], image[:, rows, columns]])[None]
            return F.conv2d(self.first(x), second, bias, padding=1)

        every = slice(None)
        alpha[:, :, 0] = as_written(slice(0, 3), every)[:, :, 0]
        alpha[:, :, -1] = as_written(slice(-3, None), every)[:, :, -1]
        alpha[:, :, :, 0] = as_written(every, slice(0, 3))[:, :, :, 0]
        alpha[:, :, :, -1] = as_written(every, slice(-3, None))[:, :, :, -1]
        return alpha[0]
