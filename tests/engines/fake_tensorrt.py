"""A stand-in for `tensorrt` (or `tensorrt_rtx`) that runs without a GPU, and can fail.

A "plan" is the ONNX file it was built from, behind a header.  Execution reads the bound addresses
and writes there, through ONNX Runtime, so wrong addresses, shapes, types or orders give wrong
mattes or errors, as they would on a GPU.  Calls are noted in `calls`; `broken` names the call that
fails the way TensorRT fails: it returns None or False and logs.  A test holds every name used here
against the real module.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

HEADER = b"plan of the fake\n"


class _Enum(IntEnum):
    pass


class DataType(_Enum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64 = range(9)


class TensorIOMode(_Enum):
    NONE, INPUT, OUTPUT = range(3)


class MemoryPoolType(_Enum):
    WORKSPACE = 0


class BuilderFlag(_Enum):
    TF32 = 7


class NetworkDefinitionCreationFlag(_Enum):
    STRONGLY_TYPED = 1


class CudaGraphStrategy(_Enum):
    DISABLED, WHOLE_GRAPH_CAPTURE = range(2)


class ComputeCapability(_Enum):
    NONE, CURRENT, SM80, SM86, SM89, SM120 = 0, 1, 80, 86, 89, 120


_TYPES = {1: DataType.FLOAT, 2: DataType.UINT8, 10: DataType.HALF}
_NUMPY = {DataType.FLOAT: np.float32, DataType.UINT8: np.uint8, DataType.HALF: np.float16}


class ILogger:
    class Severity(_Enum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass


class IProgressMonitor:
    def __init__(self) -> None:
        pass


class FakeTensorRT:
    """The module.  One per test, because it remembers."""

    def __init__(self, name: str = "tensorrt", version: str = "10.13.0") -> None:
        self.__name__, self.__version__ = name, version
        self.calls: list[tuple[Any, ...]] = []
        self.broken: str | None = None
        self.runs = 0
        self.nonsense_at: int | None = None  # the run that answers with numbers that are none
        for kind in (DataType, TensorIOMode, MemoryPoolType, BuilderFlag, ILogger,
                     IProgressMonitor, NetworkDefinitionCreationFlag):  # fmt: skip
            setattr(self, kind.__name__, kind)
        if name == "tensorrt_rtx":
            self.CudaGraphStrategy, self.ComputeCapability = CudaGraphStrategy, ComputeCapability
        self.Builder = lambda log: _Builder(self, log)
        self.Runtime = lambda log: _Runtime(self, log)
        self.OnnxParser = lambda network, log: _Parser(self, network, log)

    def fails(self, call: str, log: Any = None, said: str = "out of fuel") -> bool:
        if self.broken != call:
            return False
        if log is not None:
            log.log(ILogger.Severity.ERROR, said)
        return True


class _Builder:
    def __init__(self, trt: FakeTensorRT, log: Any) -> None:
        self._trt, self._log = trt, log

    def create_network(self, flags: int = 0) -> Any:
        self._trt.calls.append(("create_network", flags))
        return _Network()

    def create_builder_config(self) -> Any:
        return _Config(self._trt)

    def create_optimization_profile(self) -> Any:
        return _Profile()

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 2)
        for i in range(2):
            monitor.phase_start("Timing tactics", "Building engine", 4)
            for j in range(4):
                assert monitor.step_complete("Timing tactics", j) is True
            monitor.phase_finish("Timing tactics")
            monitor.step_complete("Building engine", i)
        monitor.phase_finish("Building engine")
        if self._trt.fails("build_serialized_network", self._log):
            return None
        import json

        profiles = json.dumps([profile.shapes for profile in config.profiles]).encode()
        return HEADER + len(profiles).to_bytes(4, "little") + profiles + network.model


class _Network:
    model = b""

    @property
    def num_inputs(self) -> int:
        return len(_graph(self.model).input)

    def get_input(self, i: int) -> Any:
        given = _graph(self.model).input[i]
        return SimpleNamespace(name=given.name, shape=_shape(given))


class _Parser:
    def __init__(self, trt: FakeTensorRT, network: Any, log: Any) -> None:
        self._trt, self._network = trt, network
        self.num_errors = 0

    def parse(self, model: bytes) -> bool:
        if self._trt.fails("parse"):
            self.num_errors = 1
            return False
        self._network.model = model
        return True

    def get_error(self, i: int) -> Any:
        return SimpleNamespace(desc=lambda: "In node 7 (NonZero): UNSUPPORTED_NODE")


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
        assert len(low) == len(best) == len(high)
        self.shapes[name] = [list(low), list(best), list(high)]


class _Config:
    def __init__(self, trt: FakeTensorRT) -> None:
        self._trt = trt
        self.progress_monitor: Any = None
        self.profiles: list[_Profile] = []
        self.num_compute_capabilities = 0
        self._timings: Any = None

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._trt.calls.append(("set_memory_pool_limit", pool, size))

    def clear_flag(self, flag: Any) -> None:
        self._trt.calls.append(("clear_flag", flag))

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile)
        return -1 if self._trt.fails("add_optimization_profile") else len(self.profiles) - 1

    def set_compute_capability(self, target: Any, i: int) -> bool:
        self._trt.calls.append(("set_compute_capability", target, i))
        return i < self.num_compute_capabilities and not self._trt.fails("set_compute_capability")

    def create_timing_cache(self, data: bytes) -> Any:
        self._trt.calls.append(("create_timing_cache", bytes(data)))
        return SimpleNamespace(data=bytes(data), serialize=lambda: bytes(data) + b"+timing")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False  # another GPU's timings must not be used
        if cache.data and self._trt.fails("set_timing_cache"):
            return False
        self._timings = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._timings


class _Runtime:
    def __init__(self, trt: FakeTensorRT, log: Any) -> None:
        self._trt, self._log = trt, log

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if not plan.startswith(HEADER) or self._trt.fails("deserialize_cuda_engine", self._log):
            return None
        return _Engine(self._trt, self._log, plan)


class _Engine:
    def __init__(self, trt: FakeTensorRT, log: Any, plan: bytes) -> None:
        import json

        import onnxruntime

        self.trt, self.log = trt, log
        at = len(HEADER) + 4
        count = int.from_bytes(plan[len(HEADER) : at], "little")
        self._profiles = json.loads(plan[at : at + count])
        model = plan[at + count :]
        self.graph = _graph(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self.tensors = {value.name: value for value in [*self.graph.input, *self.graph.output]}
        self.num_io_tensors = len(self.tensors)
        self.num_optimization_profiles = len(self._profiles)
        self.contexts = 0
        if trt.__name__ == "tensorrt_rtx":
            self.create_runtime_config = lambda: _RuntimeConfig(trt)

    def get_tensor_name(self, i: int) -> str:
        return list(self.tensors)[i]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        inputs = {value.name for value in self.graph.input}
        return TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return _TYPES[self.tensors[name].type.tensor_type.elem_type]

    def get_tensor_shape(self, name: str) -> list[int]:
        return _shape(self.tensors[name])

    def get_tensor_profile_shape(self, name: str, i: int) -> list[list[int]]:
        return self._profiles[i][name]

    def create_execution_context(self, config: Any = None) -> Any:
        if self.trt.fails("create_execution_context", self.log):
            return None
        self.trt.calls.append(("create_execution_context", config is not None))
        return _Context(self)


class _RuntimeConfig:
    def __init__(self, trt: FakeTensorRT) -> None:
        self._trt = trt
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED

    def create_runtime_cache(self) -> Any:
        return SimpleNamespace(
            deserialize=lambda data: self._trt.calls.append(("kernels read", data)) or True,
            serialize=lambda: b"compiled kernels",
        )

    def set_runtime_cache(self, cache: Any) -> bool:
        self._trt.calls.append(("set_runtime_cache", self.cuda_graph_strategy))
        return True


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine, self._trt = engine, engine.trt
        self._profile: int | None = None
        self._given: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, i: int, stream: int) -> bool:
        assert stream != 0, "the default stream makes TensorRT synchronise"
        if self._trt.fails("set_optimization_profile_async", self._engine.log):
            return False
        self._profile = i
        self._trt.calls.append(("profile", i))
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self._profile is not None, "a profile comes before shapes"
        low, _, high = self._engine.get_tensor_profile_shape(name, self._profile)
        inside = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if not inside or self._trt.fails("set_input_shape", self._engine.log):
            self._engine.log.log(ILogger.Severity.ERROR, f"{name}: {shape} is out of its profile")
            return False
        self._given[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        inputs = [value.name for value in self._engine.graph.input]
        return [name for name in inputs if name not in self._given]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._given:
            return self._given[name]
        return self._made()[name].shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address % 16 == 0, "memory of a device is aligned"
        self._addresses[name] = address
        return name in self._engine.tensors and not self._trt.fails(
            "set_tensor_address", self._engine.log
        )

    def execute_async_v3(self, stream: int) -> bool:
        assert stream != 0, "the default stream makes TensorRT synchronise"
        if self._trt.fails("execute_async_v3", self._engine.log):
            return False
        assert set(self._addresses) == set(self._engine.tensors), "every tensor needs an address"
        self._trt.calls.append(("execute_async_v3", stream, self._addresses["image"]))
        given = {name: self._at(name, shape) for name, shape in self._given.items()}
        nonsense = self._trt.runs == self._trt.nonsense_at
        self._trt.runs += 1
        for name, value in self._run(given).items():
            self._at(name, value.shape)[...] = np.nan if nonsense else value
        return True

    def _at(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        kind = np.dtype(_NUMPY[self._engine.get_tensor_dtype(name)])
        size = int(np.prod(shape)) * kind.itemsize
        memory = (ctypes.c_char * size).from_address(self._addresses[name])
        return np.frombuffer(memory, kind).reshape(shape)

    def _made(self) -> dict[str, np.ndarray]:
        given = {
            name: np.zeros(shape, _NUMPY[self._engine.get_tensor_dtype(name)])
            for name, shape in self._given.items()
        }
        return self._run(given)

    def _run(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [value.name for value in self._engine.graph.output]
        return dict(zip(names, self._engine.session.run(names, given), strict=True))


def _graph(model: bytes) -> Any:
    import onnx

    return onnx.load_from_string(model).graph


def _shape(value: Any) -> list[int]:
    dims = value.type.tensor_type.shape.dim
    return [-1 if dim.dim_param or not dim.HasField("dim_value") else dim.dim_value for dim in dims]
