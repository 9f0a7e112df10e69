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
import hashlib
import sys
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


class Exported(nn.Module):
    """The network from a normalised picture to the people of it."""

    def __init__(self, network: published.PublishedNetwork, people: int) -> None:
        super().__init__()
        self.network, self.people = network, people

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
    sizes: dict[int, object] = {}
    if batch is None:
        sizes[0] = torch.export.Dim("batch", min=1, max=64)
    if size is None:
        sizes |= {2: 32 * torch.export.Dim("rows", min=1, max=64)}
        sizes |= {3: 32 * torch.export.Dim("columns", min=1, max=64)}
    program = torch.onnx.export(
        Exported(network, people).eval(), (example,), dynamo=True, opset_version=OPSET,
        input_names=["image"], output_names=list(OUTPUTS),
        dynamic_shapes={"image": sizes} if sizes else None, optimize=True, verbose=False,
    )  # fmt: skip
    model = program.model_proto
    facts |= {"network": published.NAME, "people": str(people)}
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    partial = target.with_suffix(".partial")
    onnx.save(model, str(partial))
    partial.replace(target)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m matting.network.published.export", description=__doc__.splitlines()[0]
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
