"""A network of a few nodes with the inputs and outputs of the real one: three people, who are what
is red, green and blue.  How sure it is of each depends on what it remembers, so that mattes say
whether memory was carried."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def toy_model(memory: bool = True) -> onnx.ModelProto:
    """With open batch, height and width, as the real export."""
    nodes, constants = [], []

    def constant(name: str, value: object) -> str:
        kind = np.int64 if np.asarray(value).dtype.kind == "i" else np.float32
        constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=f"make {output}", **attributes))
        return output

    node("Cast", ["image"], "wide", to=TensorProto.FLOAT)
    node("Transpose", ["wide"], "planes", perm=[0, 3, 1, 2])
    node("Div", ["planes", constant("white", 255.0)], "x")
    node("AveragePool", ["x"], "x8", kernel_shape=[8, 8], strides=[8, 8])
    node("AveragePool", ["x"], "fine", kernel_shape=[2, 2], strides=[2, 2])
    node("ReduceSum", ["x8", constant("channel", [1])], "all8", keepdims=1)
    node("Mul", ["x8", constant("two", 2.0)], "twice8")
    node("Sub", ["twice8", "all8"], "lead8")  # of a colour over the other two
    node("Mul", ["lead8", constant("steep", 12.0)], "logit8")
    node("Sigmoid", ["logit8"], "soft8")
    node("Mul", ["soft8", "soft8"], "location")
    node("ReduceMax", ["location", constant("place", [2, 3])], "peak", keepdims=0)
    if memory:
        node("AveragePool", ["x"], "x16", kernel_shape=[16, 16], strides=[16, 16])
        node("Mul", ["memory", constant("half", 0.5)], "fading")
        node("Add", ["fading", "x16"], "memory_next")
        node("ReduceMean", ["memory", "place"], "remembered", keepdims=0)
        node("Tanh", ["remembered"], "known")
        node("Mul", ["known", constant("some", 0.3)], "bonus")
        node("Mul", ["peak", constant("most", 0.7)], "base")
        node("Add", ["base", "bonus"], "score")
    else:
        node("Identity", ["peak"], "score")
    node("Unsqueeze", ["logit8", constant("second", [2])], "raised")
    node("Neg", ["raised"], "lowered")
    node("Mul", ["raised", constant("nothing", 0.0)], "level")
    node("Concat", ["lowered", "level", "raised"], "trimap", axis=2)
    node("Unsqueeze", ["score", constant("third", [2])], "code")
    node("Unsqueeze", ["code", constant("fourth", [3])], "spread")
    rng = np.random.default_rng(5)
    kernels = constant("colours", rng.normal(size=(1, 3, 4, 4)).astype(np.float32))
    node("Mul", ["spread", kernels], "kernels")

    f, u = TensorProto.FLOAT, TensorProto.UINT8
    inputs = [helper.make_tensor_value_info("image", u, ["b", "h", "w", 3])]
    shapes = {
        "score": ["b", 3], "code": ["b", 3, 1], "location": ["b", 3, "h8", "w8"],
        "trimap": ["b", 3, 3, "h8", "w8"], "kernels": ["b", 3, 4, 4], "fine": ["b", 3, "h2", "w2"],
    }  # fmt: skip
    if memory:
        inputs.append(helper.make_tensor_value_info("memory", f, ["b", 3, "h16", "w16"]))
        shapes["memory_next"] = ["b", 3, "h16", "w16"]
    outputs = [helper.make_tensor_value_info(name, f, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def three_people(shift: int = 0, size: tuple[int, int] = (90, 160)) -> np.ndarray:
    """(H, W, 3) uint8: a red, a green and a blue square; each picture of `shift` another."""
    rgb = np.full((*size, 3), 90, np.uint8)
    for i, x in enumerate((10 + shift % 40, 60 - shift % 30, 110)):
        rgb[20 + 10 * i : 60 + 10 * i, x : x + 36, i] = 240 - 3 * shift % 50
        rgb[20 + 10 * i : 60 + 10 * i, x : x + 36, (i + 1) % 3] = 30
    return rgb
