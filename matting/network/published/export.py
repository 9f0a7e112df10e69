"""The published network as ONNX:

    python -m matting.network.published.export weights/published.safetensors --out published.onnx

Batch, height and width stay open (sides are multiples of 32), or are fixed with `--size H W` and
`--batch B` for runtimes that want them so.  `--people K` decodes the K likeliest codes only.

What leaves: score and code of every person slot, its trimap at 1/8 and its alpha at full size, most
likely first.  `composed` in network.py turns the two into a matte.  TensorRT knows every operator
of the graph (`OPERATORS`); it was not run there.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from matting.network.blocks import per_code
from matting.network.published import network as published

OUTPUTS = ("score", "code", "trimap", "alpha")
OPSET = 18
# What the graph may be made of: operators that TensorRT's ONNX parser takes (its docs/operators.md
# for 8.4; LayerNormalization, Mod and Reciprocal came with 8.6).
OPERATORS = frozenset(
    (
        "Add", "And", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
        "Div", "Equal", "Erf", "Expand", "Gather", "GatherElements", "GatherND", "Gemm",
        "Greater", "GreaterOrEqual", "Identity", "InstanceNormalization",
        "LayerNormalization", "LeakyRelu", "Less", "MatMul", "Max", "Min", "Mod", "Mul",
        "Neg", "Not", "Pad", "Pow", "Range", "Reciprocal", "ReduceMean", "Relu", "Reshape",
        "Resize", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub",
        "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
    )
)  # fmt: skip


class OpenAttention(nn.Module):
    """What nn.MultiheadAttention computes, written so that a trace leaves the batch open."""

    def __init__(self, made: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.scale = made.num_heads, made.head_dim**-0.5
        self.weight, self.bias, self.out = made.in_proj_weight, made.in_proj_bias, made.out_proj

    def forward(self, q: Tensor, k: Tensor, v: Tensor, need_weights: bool) -> tuple[Tensor, None]:
        # q (B, S, D), k and v (B, T, D) -> (B, S, D)
        weights, biases = self.weight.chunk(3), self.bias.chunk(3)
        q, k, v = (
            nn.functional.linear(x, w, b)
            .reshape(x.shape[0], x.shape[1], self.heads, -1)
            .transpose(1, 2)
            for x, w, b in zip((q, k, v), weights, biases, strict=True)
        )
        share = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1)
        return self.out((share @ v).transpose(1, 2).flatten(2)), None


class Exported(nn.Module):
    """The network from a normalised picture to the people of it."""

    def __init__(self, network: published.PublishedNetwork, people: int) -> None:
        super().__init__()
        self.network, self.people = copy.deepcopy(network).eval(), people
        for layer in self.network.perception.layers:
            layer.self_attn = OpenAttention(layer.self_attn)
            layer.multihead_attn = OpenAttention(layer.multihead_attn)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) normalised -> score (B, K), code (B, K, D), trimap logits
        (B, K, 3, h8, w8), alpha (B, K, H, W) in 0..1."""
        made = self.network(image)
        score = made.existence.softmax(-1)[..., 1]
        score, rows = score.topk(self.people, dim=1)  # (B, K)

        def picked(x: Tensor) -> Tensor:
            """(B, N, C) -> (B, K, C)"""
            return x.gather(1, rows[..., None].expand(-1, -1, x.shape[-1]))

        b, n = made.trimap.shape[:2]
        trimap = picked(made.trimap.reshape(b, n, -1)).reshape(b, -1, *made.trimap.shape[2:])
        head = self.network.alpha_head
        features = head.second(head.first(torch.cat([made.fine, image], 1)))
        alpha = per_code(picked(made.kernels[:, :, 0])[:, :, None], features).squeeze(2)
        return score, picked(made.codes), trimap, alpha.clamp(0, 1)


def export(
    network: published.PublishedNetwork, target: Path, *, people: int | None = None,
    size: tuple[int, int] | None = None, batch: int | None = None, **facts: str,
) -> None:  # fmt: skip
    """Write `target` and check that ONNX's own checker accepts it.

    size (H, W) and batch: None leaves them open.  The weights of the full network are 282 MB; they
    lie inside the file.
    """
    import onnx

    people = network.sizes.codes if people is None else people
    if not 1 <= people <= network.sizes.codes:
        raise ValueError(f"people should be 1 to {network.sizes.codes}, got {people}")
    h, w = size or (64, 96)
    if h % 32 or w % 32:
        raise ValueError(f"size should be multiples of 32, got {h} x {w}")
    example = torch.zeros(batch or 2, 3, h, w)
    first = {0: "batch"} if batch is None else {}
    sides = {2: "height", 3: "width"} if size is None else {}
    axes = {"image": first | sides, "score": first, "code": first}
    axes["alpha"] = first | sides
    axes["trimap"] = first | ({3: "height/8", 4: "width/8"} if sides else {})
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter is the older of torch's two.  Over open sizes it takes seconds
        # where the newer takes minutes, and what it warns of is tested (parity at other sizes).
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Exported(network, people), (example,), file, dynamo=False, opset_version=OPSET,
            input_names=["image"], output_names=list(OUTPUTS), dynamic_axes=axes,
        )  # fmt: skip
    model = onnx.load_from_string(file.getvalue())
    facts |= {"network": published.NAME, "people": str(people)}
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    partial = target.with_suffix(".partial")
    onnx.save(model, str(partial))
    partial.replace(target)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m matting.network.published.export", description=__doc__.splitlines()[0][:-1]
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, help="default: beside the weights, as .onnx")
    parser.add_argument("--people", type=int, help="decode so many likeliest codes; default: all")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="default: open")
    parser.add_argument("--batch", type=int, help="default: open")
    args = parser.parse_args()
    target = args.out or args.weights.with_suffix(".onnx")
    try:
        network, header = published.load(args.weights)
        digest = hashlib.sha256(args.weights.read_bytes()).hexdigest()
        licence = {"licence": header["licence"]} if "licence" in header else {}
        export(
            network, target, people=args.people, size=tuple(args.size) if args.size else None,
            batch=args.batch, weights_sha256=digest, **licence,
        )  # fmt: skip
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{target}: {target.stat().st_size / 1e6:.0f} MB")
    for line in licence.values():
        print(f"licence: {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
