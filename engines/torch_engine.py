"""The network itself on PyTorch: on a CPU what the other backends are held against, on a GPU with
CUDA graphs, as it is (torch-cuda), compiled (torch-compile) or through TensorRT (torch-tensorrt).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import AREA, EngineError
from engines.exported import OUTPUTS, ExportedEngine, Kept, filled
from engines.gpu import Binding, DeviceNetwork
from engines.lanes import Lanes
from engines.people import Answer

WARM_UPS = 3  # runs before a graph is recorded: libraries choose kernels and allocate meanwhile


def read_network(weights: Path) -> Any:
    """The network of `weights` as it is exported: from bytes to the parts of an Answer."""
    from matting.network import live
    from matting.network.export import Exported

    path = weights / "live.safetensors" if weights.is_dir() else weights
    path = path.with_suffix(".safetensors")
    if not path.is_file():
        raise EngineError(f"{path}: no weights there")
    try:
        network, _ = live.load(path)
    except Exception as error:  # damaged, of another network, or no safetensors at all
        raise EngineError(f"{path}: these weights cannot be read: {error}") from error
    return Exported(network).eval()


class TorchEngine(ExportedEngine):
    name = "torch"

    def __init__(
        self, weights: Path, threads: int | None, score_threshold: float, pixels: int = AREA
    ) -> None:
        import torch

        super().__init__(score_threshold, pixels)
        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._network = read_network(weights)
        channels = remembered(self._network)
        self._keeps = {"memory": channels} if channels else {}
        self.warm_up()

    def _compile(self, size: tuple[int, int] | None, at_once: int) -> Any:
        self._run(self._network, self._first(size), {})
        return self._network

    def _run(self, network: Any, image: np.ndarray, kept: Kept) -> tuple[Answer, Kept]:
        given = filled(kept, self._keeps, image.shape[1:3])
        inputs = [self._torch.from_numpy(part) for part in (image, *given.values())]
        with self._torch.inference_mode():
            made = [part.float().numpy() for part in network(*inputs)]
        answer = Answer(*(part[0] for part in made[: len(OUTPUTS)]))
        return answer, dict(zip(given, made[len(OUTPUTS) :], strict=True))


class TorchNetwork(DeviceNetwork):
    """The network for engines/gpu.py.  In fp16 the layers that need it stay float32, as they did in
    training: that is autocast's list and the casts written into the network."""

    def __init__(self, name: str, exported: Any, device: Any, precision: str) -> None:
        import torch

        self.name, self.device = name, torch.device(device)
        self._torch, self.precision = torch, precision
        self.module = exported.to(self.device)
        self.remembered = remembered(exported)

    def kernels(self, size: tuple[int, int], batch: int) -> Any:
        """What is called for pictures of this size; here the module itself."""
        return self.module

    def autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return nullcontext()
        return self._torch.autocast(self.device.type, dtype=self._torch.float16)

    def bind(self, size: tuple[int, int], lanes: Lanes, batch: int = 1) -> Binding:
        return _TorchBinding(self, size, lanes, batch)

    def close(self) -> None:
        self.module = None


class CompiledNetwork(TorchNetwork):
    """torch.compile makes kernels for one size; the graph around them is our own, because the one
    that torch.compile records hands out memory that its next run overwrites."""

    def __init__(self, name: str, exported: Any, device: Any, precision: str) -> None:
        super().__init__(name, exported, device, precision)
        self._made: Any = None

    def kernels(self, size: tuple[int, int], batch: int) -> Any:
        if self._made is None:
            self._made = self._torch.compile(
                self.module, mode="max-autotune-no-cudagraphs", dynamic=False
            )
        return self._made


class TorchTensorRtNetwork(TorchNetwork):
    """The same module through torch_tensorrt, one engine per size.  Types are those of autocast,
    written into the graph before TensorRT sees it."""

    def kernels(self, size: tuple[int, int], batch: int) -> Any:
        import torch_tensorrt

        torch = self._torch
        inputs = [torch.zeros(batch, *size, 3, dtype=torch.uint8, device=self.device)]
        if self.remembered:
            inputs.append(torch.zeros(_memory(batch, self.remembered, size), device=self.device))
        low = {"enable_autocast": True, "autocast_low_precision_type": torch.float16}
        try:
            program = torch.export.export(self.module, tuple(inputs))
            return torch_tensorrt.dynamo.compile(
                program, arg_inputs=inputs, use_explicit_typing=True,
                **(low if self.precision == "fp16" else {}),
            )  # fmt: skip
        except Exception as error:  # its exceptions share no base class of their own
            raise EngineError(f"{self.name}: torch_tensorrt cannot compile it: {error}") from error

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext()


def remembered(exported: Any) -> int:
    """Channels of what the network keeps of a video."""
    sizes = exported.network.sizes
    return sizes.codes if getattr(sizes, "memory", False) else 0


def _memory(batch: int, channels: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    return batch, channels, size[0] // 16, size[1] // 16


class _TorchBinding(Binding):
    def __init__(
        self, network: TorchNetwork, size: tuple[int, int], lanes: Lanes, batch: int
    ) -> None:
        torch = self._torch = network._torch
        self._network, self._kernels = network, network.kernels(size, batch)
        self.image = lanes.memory((batch, *size, 3), torch.uint8)
        self.states, self.next_states, self.answer = {}, {}, {}
        if network.remembered:
            shape = _memory(batch, network.remembered, size)
            self.states = {"memory": lanes.memory(shape, torch.float32)}
            self.next_states = {"memory": lanes.memory(shape, torch.float32)}
        lanes.infer.do(self._learn_shapes)
        lanes.infer.finish()
        for name, part in zip(Answer._fields, self._learnt, strict=False):
            self.answer[name] = lanes.memory(tuple(part.shape), torch.float32)
        for _ in range(WARM_UPS):
            lanes.infer.do(self.run)
        lanes.infer.finish()

    def _learn_shapes(self) -> None:
        self._learnt = self._made()

    def _made(self) -> Any:
        with self._torch.inference_mode(), self._network.autocast():
            return self._kernels(self.image, *self.states.values())

    def run(self) -> None:
        made = self._made()
        kept = [*self.answer.values(), *self.next_states.values()]
        with self._torch.inference_mode():
            for target, part in zip(kept, made, strict=True):
                target.copy_(part)
