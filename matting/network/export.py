"""The live network as ONNX: python -m matting.network.export weights/live.safetensors

What leaves the network is small: every code's score, code, location, trimap and kernels, and one
map of fine features; mattes at full size are made of it only for people who are there
(engines/people.py).  Batch, height and width stay open.  Weights are stored as float16 and widened
when the file is loaded, which halves it and costs a runtime nothing.  What is the same in both
files, most of it, lies in the safetensors file only, and the ONNX file says where (ONNX's external
data): together they are two fifths smaller, and have to be kept side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from matting.network import live

OUTPUTS = ("score", "code", "location", "trimap", "kernels", "fine")
OPSET = 18


class Exported(nn.Module):
    """The network from a camera's bytes to what engines need."""

    def __init__(self, network: live.LiveNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, memory: Tensor | None = None) -> tuple[Tensor, ...]:
        """image (B, H, W, 3) uint8 RGB -> score (B, N), code (B, N, D) of who it is, location
        (B, N, h8, w8) in 0..1, trimap logits (B, N, 3, h8, w8), kernels (B, N, 4, F + 1),
        fine (B, F, h2, w2).
        A network with a memory takes it too, (B, N, h16, w16) and zero at the first frames, and
        gives one for a frame to come last."""
        # widened before it is turned: TensorRT does not permute bytes
        image = (image.float() / 127.5 - 1).permute(0, 3, 1, 2).contiguous()
        made = self.network(image, None, memory)
        answer = (
            made.existence[-1].softmax(-1)[..., 1], made.identity, made.location[-1].sigmoid(),
            made.trimap, made.kernels, made.fine,
        )  # fmt: skip
        return answer if made.memory is None else (*answer, made.memory)


def export(weights: Path, target: Path) -> None:
    """Write `target` and check that ONNX's own checker accepts it."""
    import onnx

    network, header = live.load(weights)
    fold_norms(network)
    example = torch.zeros(2, 96, 160, 3, dtype=torch.uint8)  # batch 1 would be fixed silently
    batch, free = torch.export.Dim("batch", min=1, max=64), torch.export.Dim.AUTO
    inputs, sizes = {"image": example}, {"image": {0: batch, 1: free, 2: free}}
    outputs = list(OUTPUTS)
    if network.sizes.memory:
        inputs["memory"] = torch.zeros(2, network.sizes.codes, 96 // 16, 160 // 16)
        sizes["memory"] = {0: batch, 2: free, 3: free}
        outputs.append("memory_next")
    program = torch.onnx.export(
        Exported(network).eval(), tuple(inputs.values()), dynamo=True, opset_version=OPSET,
        input_names=list(inputs), output_names=outputs, dynamic_shapes=sizes,
        optimize=True, verbose=False,
    )  # fmt: skip
    model = program.model_proto
    for given, (name, dims) in zip(model.graph.input, sizes.items(), strict=True):
        shape = given.type.tensor_type.shape.dim
        if fixed := [i for i in dims if not shape[i].dim_param]:
            raise RuntimeError(f"the export fixed sizes {fixed} of {name}, which should be open")
    store_as_half(model)
    forget_sources(model)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    facts = {"network": live.NAME, "sizes": header["sizes"], "weights_sha256": digest}
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    if target.parent.resolve() == weights.parent.resolve():
        share(model, weights)
    partial = target.with_suffix(".partial")
    onnx.save(model, str(partial))
    partial.replace(target)


def fold_norms(network: nn.Module) -> None:
    """Batch norm after a convolution becomes part of it; the network computes the same."""
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for i in range(len(module) - 1):
            if isinstance(module[i], nn.Conv2d) and isinstance(module[i + 1], nn.BatchNorm2d):
                module[i] = torch.nn.utils.fuse_conv_bn_eval(module[i], module[i + 1])
                module[i + 1] = nn.Identity()


def forget_sources(model) -> None:
    """Drop what the exporter notes of the code and its files, in place; of the nodes' notes only
    the innermost module stays, by which engines/precision.py knows them."""
    for node in model.graph.node:
        paths = [entry.value for entry in node.metadata_props if entry.key == "namespace"]
        places = re.findall(r"(?:^|/)(network\.[\w.]+):", "".join(paths))
        del node.metadata_props[:]
        if places:
            node.metadata_props.add(key="namespace", value=f"{places[-1]}:")
    for value in model.graph.value_info:
        del value.metadata_props[:]


def store_as_half(model) -> None:
    """Turn large float32 constants into float16 ones with a Cast behind each, in place."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < 512 or np.abs(values).max() > 6e4:
            continue
        name = tensor.name
        small = numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
        tensor.CopyFrom(small)
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for info in [v for v in graph.value_info if v.name in {c.output[0] for c in casts}]:
        graph.value_info.remove(info)
    for node in reversed(casts):
        graph.node.insert(0, node)


def share(model, weights: Path) -> None:
    """Let constants of `model` that lie in `weights`, a safetensors file, byte by byte be read from
    there, in place."""
    from onnx import TensorProto

    data = weights.read_bytes()
    begins = 8 + int.from_bytes(data[:8], "little")
    kept = {}
    for name, told in json.loads(data[8:begins]).items():
        if name != "__metadata__":
            first, end = (begins + offset for offset in told["data_offsets"])
            kept[told["dtype"], data[first:end]] = first
    for tensor in model.graph.initializer:
        at = kept.get(("F16", tensor.raw_data))
        if tensor.data_type != TensorProto.FLOAT16 or at is None:
            continue
        facts = {"location": weights.name, "offset": at, "length": len(tensor.raw_data)}
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in facts.items():
            tensor.external_data.add(key=key, value=str(value))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, help="default: beside the weights, as .onnx")
    args = parser.parse_args()
    target = args.out or args.weights.with_suffix(".onnx")
    export(args.weights, target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
