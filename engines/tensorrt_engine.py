"""Plans of TensorRT and TensorRT for RTX, run on CUDA streams.

A plan (engines/build.py) is read once.  Every slot of engines/gpu.py has inputs and outputs at
fixed addresses, and one execution context per working size serves them in turn: all of them run on
the infer lane, one after the other.  TensorRT's work is recorded in a CUDA graph per slot; TensorRT
for RTX is told to record its own, because it swaps kernels as it learns the sizes it meets, and
keeps what it compiled on this GPU in a file for the next time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engines.base import EngineError
from engines.build import command, gpu_of, key_of, load_module, logger, shape_of
from engines.exported import exported_file
from engines.gpu import Binding, DeviceNetwork
from engines.lanes import Lanes
from engines.people import Answer
from engines.plans import Profile, default_folder, fetch

WARM_UPS = 3  # runs before a graph is recorded: TensorRT defers work to the first of a new shape
NEXT = "_next"  # an output `memory_next` is what the input `memory` is at the next picture


def open_plan(
    backend: str,
    weights: Path,
    precision: str,
    folder: Path | None,
    device: Any,
    gpu: str | None = None,
) -> TensorRtNetwork:
    """The network of the plan that belongs to these weights and this GPU.

    Raises StalePlan or EngineError with the command that makes the plan.
    """
    trt = load_module(backend)
    model = exported_file(weights).read_bytes()
    key = key_of(backend, trt, model, precision, (), gpu or _here(backend, device))
    mend = command(backend, precision, weights, folder)
    kept = folder or default_folder()
    return TensorRtNetwork(backend, trt, fetch(key, kept, mend), device, mend, kept)


def _here(backend: str, device: Any) -> str:
    if backend == "tensorrt":
        return gpu_of(backend)
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return f"SM{major}{minor}"


class TensorRtNetwork(DeviceNetwork):
    """A plan that is loaded.  `mend` is the command that makes it, for error messages."""

    def __init__(
        self, name: str, trt: Any, plan: bytes, device: Any, mend: str, folder: Path | None = None
    ) -> None:
        import torch

        self.name, self.device = name, torch.device(device)
        self._torch, self.trt, self._mend = torch, trt, mend
        log = logger(trt)
        log.told()
        self._runtime = trt.Runtime(log)
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:  # it does not raise
            raise EngineError(
                f"{name}: the plan cannot be loaded: {log.told()}. Make it anew: {mend}"
            )
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        self.inputs = [n for n in names if self._mode(n) == trt.TensorIOMode.INPUT]
        self.outputs = [n for n in names if self._mode(n) == trt.TensorIOMode.OUTPUT]
        missing = {"image", *Answer._fields, *(f"{n}{NEXT}" for n in self.states)} - set(names)
        if missing:
            raise EngineError(f"{name}: the plan has no tensor {', '.join(sorted(missing))}")
        self._contexts: dict[tuple[int, int, int], Any] = {}
        self._config: Any = None
        self._cache: Any = None
        self._cache_file: Path | None = None
        if hasattr(self.engine, "create_runtime_config"):
            self._configure(folder)

    @property
    def states(self) -> list[str]:
        return [name for name in self.inputs if name != "image"]

    def _mode(self, name: str) -> Any:
        return self.engine.get_tensor_mode(name)

    def _configure(self, folder: Path | None) -> None:
        """How contexts run: for RTX, graphs of its own and a cache of compiled kernels."""
        self._config = self.engine.create_runtime_config()
        if not hasattr(self._config, "create_runtime_cache"):
            return  # TensorRT proper
        self._config.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._cache = self._config.create_runtime_cache()
        if folder is not None:
            arch = (
                "".join(map(str, self._torch.cuda.get_device_capability(self.device)))
                if self.device.type == "cuda"
                else "cpu"
            )
            self._cache_file = folder / f"{self.name}-{self.trt.__version__}-sm{arch}.kernels"
            if self._cache_file.is_file():
                # refused where GPU, driver or version differ: then it starts empty
                self._cache.deserialize(self._cache_file.read_bytes())
        self._config.set_runtime_cache(self._cache)

    def bind(self, size: tuple[int, int], lanes: Lanes, batch: int = 1) -> Binding:
        shape = (batch, *size)
        if shape not in self._contexts:
            self._contexts[shape] = self._context(shape, lanes)
        return _TensorRtBinding(self, self._contexts[shape], lanes)

    def records_itself(self) -> bool:
        """Whether TensorRT makes its own CUDA graphs, so that none is recorded around it."""
        return self._cache is not None

    def _context(self, corner: tuple[int, int, int], lanes: Lanes) -> Any:
        index = self._profile(*corner)
        made = (
            self.engine.create_execution_context(self._config)
            if self._config is not None
            else self.engine.create_execution_context()
        )
        if made is None:
            size = f"{corner[2]} x {corner[1]}"
            raise EngineError(f"{self.name}: no memory for {size}: {self.told()}")
        if not made.set_optimization_profile_async(index, lanes.infer.handle):
            raise EngineError(f"{self.name}: cannot choose profile {index}: {self.told()}")
        lanes.infer.finish()
        for name in self.inputs:
            shape = shape_of(name, tuple(self.engine.get_tensor_shape(name)), corner)
            if not made.set_input_shape(name, shape):
                raise EngineError(f"{self.name}: {name} cannot be {shape}: {self.told()}")
        lacking = made.infer_shapes()
        if lacking:
            raise EngineError(f"{self.name}: the shape of {', '.join(lacking)} is open")
        return made

    def _profile(self, batch: int, *size: int) -> int:
        """The narrowest profile that holds pictures of this size."""
        found: list[tuple[int, int]] = []
        for i in range(self.engine.num_optimization_profiles):
            corners = self.engine.get_tensor_profile_shape("image", i)
            profile = Profile(*(tuple(corner)[:3] for corner in corners))  # type: ignore[arg-type]
            if profile.holds(batch, size):  # type: ignore[arg-type]
                found.append((profile.high[1] * profile.high[2], i))
        if not found:
            raise EngineError(
                f"{self.name}: the plan does not hold {size[1]} x {size[0]}, {batch} at once. Make "
                f"one that does: {self._mend} --size {size[0]}x{size[1]} --batch {batch}"
            )
        return min(found)[1]

    def dtype_of(self, name: str) -> Any:
        torch, trt = self._torch, self.trt
        known = {
            trt.DataType.FLOAT: torch.float32, trt.DataType.HALF: torch.float16,
            trt.DataType.UINT8: torch.uint8, trt.DataType.INT32: torch.int32,
            trt.DataType.INT64: torch.int64,
        }  # fmt: skip
        return known[self.engine.get_tensor_dtype(name)]

    def told(self) -> str:
        return logger(self.trt).told()

    def close(self) -> None:
        """Keep what was compiled, then let contexts go before the engine, the engine before the
        runtime."""
        if self._cache is not None and self._cache_file is not None:
            data = self._cache.serialize()
            if data is not None:
                partial = self._cache_file.with_suffix(f".{os.getpid()}.partial")
                try:
                    self._cache_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    partial.write_bytes(bytes(data))
                    partial.replace(self._cache_file)
                except OSError:
                    partial.unlink(missing_ok=True)  # slower at the next start, nothing worse
        self._contexts.clear()
        self._config = self._cache = None
        self.engine = None
        self._runtime = None


class _TensorRtBinding(Binding):
    """A slot's memory, and the context that is pointed at it before each run."""

    def __init__(self, network: TensorRtNetwork, context: Any, lanes: Lanes) -> None:
        self._network, self._context, self._handle = network, context, lanes.infer.handle
        self._memory: dict[str, Any] = {}
        for name in [*network.inputs, *network.outputs]:
            shape = tuple(context.get_tensor_shape(name))
            if min(shape) < 0:
                raise EngineError(f"{network.name}: the shape of {name} is open: {shape}")
            self._memory[name] = lanes.memory(shape, network.dtype_of(name))
        self.image = self._memory["image"]
        self.states = {name: self._memory[name] for name in network.states}
        self.next_states = {name: self._memory[f"{name}{NEXT}"] for name in network.states}
        self.answer = {name: self._memory[name] for name in Answer._fields}
        self.recordable = not network.records_itself()
        for _ in range(WARM_UPS):
            lanes.infer.do(self.run)
        lanes.infer.finish()

    def run(self) -> None:
        for name, tensor in self._memory.items():  # slots share a context
            if not self._context.set_tensor_address(name, tensor.data_ptr()):
                raise EngineError(f"{self._network.name}: {name}: {self._network.told()}")
        if not self._context.execute_async_v3(self._handle):
            raise EngineError(
                f"{self._network.name}: the network did not run: {self._network.told()}"
            )
