"""The exported network with its precision written into it: every tensor has the type it runs in.

TensorRT 11 and TensorRT-RTX take types from the graph and choose none themselves ("strong typing"),
so float16 is a rewrite of the ONNX file, done here.  Layers that lose by it keep float32: `KEPT`
names them, with what they cost otherwise; `python -m bench.precision` finds and prices them.
Works on ONNX alone, without torch and without a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from engines.base import EngineError

PRECISIONS = ("fp16", "fp32")
LARGEST = 65504.0  # of float16


class Kept(NamedTuple):
    """Layers that stay float32, by operator and by where in the network they stand."""

    operators: str  # regular expression over the whole operator name
    layers: str  # regular expression over the whole path of the layer, "" for the outermost
    reason: str


KEPT = (
    Kept(".*", "", "the picture in -1..1, places and last probabilities: cheap, and everything "
         "that follows inherits their rounding"),
    Kept(".*", "guidance", "location kernels meet squared coordinates, whose terms nearly cancel"),
    Kept(".*", r"perception\.heat.*", "the scores that peaks are chosen by"),
    Kept("CumSum|ReduceSum|Sin|Cos|Sigmoid|MaxPool|Equal|TopK|GatherElements", ".*",
         "places and peaks: two scores that round to the same value are one peak or none"),
)  # fmt: skip

# These read some of their inputs as float32 whatever the type of the data (ONNX operator set 18).
ALWAYS_FLOAT = {"Resize": (1, 2), "QuantizeLinear": (1,), "DequantizeLinear": (1,)}
# These make their own values or types; a cast behind them is simpler than changing them.
NEVER_HALF = {"Range", "ConstantOfShape", "RandomNormal", "QuantizeLinear", "DequantizeLinear"}


def layer_of(node: Any) -> str:
    """Where in the network a node stands, such as `perception.heat.0`; "" for the outermost.

    Read from what PyTorch's exporters leave: the newer writes the path of modules beside each node,
    the older makes it the node's name, `/network/perception/heat/heat.0/Conv`.
    """
    for entry in node.metadata_props:
        if entry.key == "namespace":
            places = re.findall(r"(?:^|: |/)network\.([\w.]+):", entry.value)
            return places[-1] if places else ""
    path = node.name.strip("/").split("/")[:-1]
    return ".".join(path[1:] if path[:1] == ["network"] else path)


def kept(node: Any) -> bool:
    """Whether `KEPT` says that this node stays float32."""
    place = layer_of(node)
    return any(
        re.fullmatch(rule.operators, node.op_type) and re.fullmatch(rule.layers, place)
        for rule in KEPT
    )


def typed(model: Any, precision: str, keep: Callable[[Any], bool] = kept) -> Any:
    """A copy of the ONNX `model` that runs in `precision`; its inputs and outputs stay as they are.

    Nodes for which `keep` is true, constants that float16 cannot hold, and everything around them
    that needs it stay float32.  Raises EngineError for a precision or a graph it does not know.
    """
    copy = _widened(model)
    return copy if checked(precision) == "fp32" else _Halving(copy, keep).done()


def checked(precision: str) -> str:
    """The precision, if it is one.  Raises EngineError otherwise."""
    if precision not in PRECISIONS:
        raise EngineError(f"there is no precision {precision!r}; there are {', '.join(PRECISIONS)}")
    return precision


def _widened(model: Any) -> Any:
    """A copy whose weights are float32: the export stores them as float16 with a Cast behind."""
    import onnx
    from onnx import TensorProto, numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        tensor = stored.get(node.input[0]) if node.op_type == "Cast" else None
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            made = onnx.TensorProto()
            made.CopyFrom(node.attribute[0].t)
            made.name = node.output[0]
            graph.initializer.append(made)
        elif tensor is not None and tensor.data_type == TensorProto.FLOAT16 and _to(node) == 1:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            nodes.append(node)
    _refill(graph, nodes)
    return copy


def _to(node: Any) -> int:
    return next(attribute.i for attribute in node.attribute if attribute.name == "to")


class _Halving:
    """Goes through the graph once and gives each float32 tensor a half twin where one is wanted."""

    def __init__(self, model: Any, keep: Callable[[Any], bool]) -> None:
        import onnx
        from onnx import numpy_helper

        self.onnx, self.model, self.keep = onnx, model, keep
        self.float, self.half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
        known = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        self.types = {
            value.name: value.type.tensor_type.elem_type
            for value in [*known.value_info, *known.input, *known.output]
        }
        self.types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        self.weights = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in model.graph.initializer
            if tensor.data_type == self.float
        }
        self.floats = {name for name, kind in self.types.items() if kind == self.float}
        self.wide = {value.name for value in model.graph.input} | set(self.weights)
        self.narrow: set[str] = set()  # tensors whose half twin exists
        self.nodes: list[Any] = []

    def done(self) -> Any:
        graph = self.model.graph
        for node in graph.node:
            if any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
                raise EngineError(
                    f"a graph within a graph ({node.op_type}) has no float16 form here"
                )
            (self._halve if self._may_be_half(node) else self._leave)(node)
        for out in graph.output:
            self._as_float(out.name)
        _refill(graph, self.nodes)
        del graph.value_info[:]  # types have changed; whoever needs them infers them
        return self.onnx.shape_inference.infer_shapes(self.model, strict_mode=True)

    def _may_be_half(self, node: Any) -> bool:
        if node.op_type in NEVER_HALF or self.keep(node):
            return False
        if not any(name in self.floats for name in [*node.input, *node.output]):
            return False
        constants = [self.weights[name] for name in node.input if name in self.weights]
        return all(np.abs(values).max(initial=0) <= LARGEST for values in constants)

    def _halve(self, node: Any) -> None:
        fixed = ALWAYS_FLOAT.get(node.op_type, ())
        for i, name in enumerate(node.input):
            if name not in self.floats:
                continue
            if node.op_type == "Shape":  # the shape is the same whatever the type
                node.input[i] = name if name in self.wide else _half(name)
            else:
                node.input[i] = self._as_float(name) if i in fixed else self._as_half(name)
        for i, name in enumerate(node.output):
            if name in self.floats:
                node.output[i] = _half(name)
                self.narrow.add(name)
        if node.op_type == "Cast" and _to(node) == self.float:
            next(a for a in node.attribute if a.name == "to").i = self.half
        self.nodes.append(node)

    def _leave(self, node: Any) -> None:
        for name in node.input:
            if name in self.floats:
                self._as_float(name)
        self.wide |= set(node.output)
        self.nodes.append(node)

    def _as_half(self, name: str) -> str:
        if name not in self.narrow:
            if name in self.weights:
                values = self.weights[name].astype(np.float16)
                made = self.onnx.numpy_helper.from_array(values, _half(name))
                self.model.graph.initializer.append(made)
            else:
                self._cast(name, _half(name), self.half)
            self.narrow.add(name)
        return _half(name)

    def _as_float(self, name: str) -> str:
        if name in self.floats and name not in self.wide:
            self._cast(_half(name), name, self.float)
            self.wide.add(name)
        return name

    def _cast(self, source: str, target: str, kind: int) -> None:
        self.nodes.append(
            self.onnx.helper.make_node("Cast", [source], [target], name=f"to {target}", to=kind)
        )


def _half(name: str) -> str:
    return f"{name}/half"


def _refill(graph: Any, nodes: list[Any]) -> None:
    """Make these the graph's nodes, and leave it the weights they use, in place."""
    used = {name for node in nodes for name in node.input} | {out.name for out in graph.output}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(weights)
