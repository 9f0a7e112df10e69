"""python -m matting.training.movenet MODEL.json OUT.safetensors: a backbone that knows people.

MoveNet SinglePose Lightning (Google, Apache-2.0) is a MobileNetV2 of the size of ours, trained to
find the centre and the joints of people in photographs; its model card (2021) names COCO and a set
of fitness and dance videos.  Its features of people are a far better start than those of ImageNet.
It is published as a TensorFlow.js graph model: a JSON file with the names and shapes of all
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

BODY = "/model_1/model/"  # names of the backbone's weights hold this; the pose heads' do not
KINDS = {"depthwise": "depthwise/depthwise", "expand": "expand/Conv2D", "project": "project/Conv2D"}


class FormatError(ValueError):
    """Not a TensorFlow.js graph model of MobileNetV2; the message says what was found."""


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


def names() -> Iterator[tuple[str, str]]:
    """Each convolution of our backbone, and TensorFlow's name of it."""
    yield "stem", "Conv1/Conv2D"
    for number in range(1, BLOCKS + 1):
        theirs = "expanded_conv" if number == 1 else f"block_{number - 1}"
        for part, name in KINDS.items():
            if part != "expand" or number > 1:
                yield f"block{number}.{part}", f"{theirs}_{name}"


def backbone(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights and biases under the names and in the order of `MobileNetV2`."""
    body = {name.split(BODY)[1]: value for name, value in weights.items() if BODY in name}
    state = {}
    for ours, theirs in names():
        if f"{theirs}_weights" not in body or f"{theirs}_bn_offset" not in body:
            raise FormatError(f"expected a MobileNetV2 with folded norms, found no {theirs}")
        kernel = body[f"{theirs}_weights"]  # (h, w, in, out); depthwise (h, w, channels, 1)
        order = (2, 3, 0, 1) if ours.endswith("depthwise") else (3, 2, 0, 1)
        state[f"{ours}.weight"] = np.ascontiguousarray(kernel.transpose(order))
        state[f"{ours}.bias"] = body[f"{theirs}_bn_offset"]
    return state


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="the model's JSON file")
    parser.add_argument("out", type=Path, help="safetensors, for `backbone` of a recipe")
    chosen = parser.parse_args(argv)
    from safetensors.numpy import save_file

    try:
        state = backbone(read(chosen.model))
        source = {"source": "MoveNet SinglePose Lightning, Apache-2.0"}
        save_file(state, chosen.out, metadata=source)
    except (FormatError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
