"""python -m matting.training.movenet MODEL.json OUT.safetensors: networks that know people.

MoveNet (Google, 2021, Apache-2.0) finds the joints of people in photographs; its model cards name
COCO and a set of fitness and dance videos.  SinglePose Lightning is a MobileNetV2 of the size of
our backbone, whose features of people are a far better start than those of ImageNet; MultiPose
Lightning is matting/network/pose.py, as it is.  Which one a file holds is told by its heads.  They
are published as TensorFlow.js graph models: a JSON file with the names and shapes of all
weights, and one binary file with their values beside it.  Batch norms are folded into the weights.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from matting.network.backbone import BLOCKS

KINDS = {"depthwise": "depthwise/depthwise", "expand": "expand/Conv2D", "project": "project/Conv2D"}
# MultiPose's heads: ours, theirs, and the number of their depthwise layer
HEADS = (("centre", "center_0", 3), ("joints", "kpt_heatmap_0", 6), ("whose", "kpt_regress_0", 7))
MULTIPOSE = "kpt_heatmap_0/separable_conv2d_6"  # only there, a part of weights' names


class FormatError(ValueError):
    """Not a TensorFlow.js graph model of MoveNet; the message says what was found."""


def read(model: Path) -> dict[str, np.ndarray]:
    """The weights of a TensorFlow.js graph model by name, as float32 in TensorFlow's order.

    Raises FormatError where the files are something else, or stored in a way that is not read
    (only float32 and its half-precision form are).
    """
    try:
        groups = json.loads(model.read_text())["weightsManifest"]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{model}: expected a TensorFlow.js graph model ({error!r})") from error
    found = {}
    for group in groups:
        data = b"".join((model.parent / part).read_bytes() for part in group["paths"])
        at = 0
        for weight in group["weights"]:
            count = math.prod(weight["shape"])
            stored = np.dtype(weight.get("quantization", weight)["dtype"])
            if at + count * stored.itemsize > len(data):
                raise FormatError(f"{model}: {weight['name']} lies beyond the end of its file")
            values = np.frombuffer(data, stored, count, at).reshape(weight["shape"])
            at += count * stored.itemsize
            if weight["dtype"] == "float32":
                if stored.kind != "f":
                    raise FormatError(f"{model}: {weight['name']} is stored as {stored}")
                found[weight["name"]] = values.astype(np.float32)
    return found


# A convolution: our name of it, and how TensorFlow's names of its kernel and its bias end.
Named = tuple[str, str, str | None]


def folded(ours: str, layer: str) -> Named:
    """One that a norm was folded into."""
    return ours, f"{layer}_weights", f"{layer}_bn_offset"


def plain(ours: str, layer: str) -> Named:
    return ours, f"{layer}/Conv2D/ReadVariableOp", f"{layer}/BiasAdd/ReadVariableOp"


def body() -> Iterator[Named]:
    """A MobileNetV2's."""
    yield folded("stem", "model_1/model/Conv1/Conv2D")
    for number in range(1, BLOCKS + 1):
        theirs = "expanded_conv" if number == 1 else f"block_{number - 1}"
        for part, name in KINDS.items():
            if part != "expand" or number > 1:
                yield folded(f"block{number}.{part}", f"model_1/model/{theirs}_{name}")


def multipose() -> Iterator[Named]:
    """MultiPose's."""
    for ours, kernel, bias in body():
        yield f"body.{ours}", kernel, bias
    yield folded("top", "model_1/model/Conv_1/Conv2D")
    yield plain("begin", "model_1/conv2d")
    for number, at in enumerate((16, 8, 4)):
        layer = "model_1/separable_conv2d" + (f"_{number}" if number else "") + "/separable_conv2d"
        yield plain(f"step{at}.join", f"model_1/conv2d_{number + 1}")
        yield f"step{at}.depthwise", f"{layer}/ReadVariableOp", None
        yield folded(f"step{at}.project", layer)
    for ours, theirs, number in HEADS:
        layer = f"{theirs}/separable_conv2d_{number}"
        kernel = f"{layer}/separable_conv2d/ReadVariableOp"
        yield f"{ours}.depthwise", kernel, None
        yield f"{ours}.project", f"{kernel}_1", f"{layer}/BiasAdd/ReadVariableOp"
        yield plain(f"{ours}.answer", f"{theirs}/conv2d_{number + 1}")


def network(weights: dict[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    """Which MoveNet `weights` are of, and its weights and biases under the names and in the order
    of `MobileNetV2` or `Pose`."""
    several = any(MULTIPOSE in name for name in weights)
    state = {}
    for ours, *theirs in multipose() if several else body():
        # kernels are (h, w, in, out); depthwise ones (h, w, channels, 1)
        order = (2, 3, 0, 1) if ours.endswith("depthwise") else (3, 2, 0, 1)
        for end, part in zip(theirs, ("weight", "bias"), strict=True):
            if end is None:
                continue
            found = [value for name, value in weights.items() if name.endswith(f"/{end}")]
            if len(found) != 1:
                raise FormatError(
                    f"expected MoveNet, its norms folded; of {end} there are {len(found)}"
                )
            value = found[0].transpose(order) if part == "weight" else found[0]
            state[f"{ours}.{part}"] = np.ascontiguousarray(value)
    return f"MoveNet {'Multi' if several else 'Single'}Pose Lightning", state


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="the model's JSON file")
    parser.add_argument("out", type=Path, help="safetensors, for `backbone` or `pose` of a recipe")
    chosen = parser.parse_args(argv)
    from safetensors.numpy import save_file

    try:
        name, state = network(read(chosen.model))
        save_file(state, chosen.out, metadata={"source": f"{name}, Apache-2.0"})
    except (FormatError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
