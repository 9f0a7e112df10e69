"""The network, ready to run: a contract (base.py) and one file per backend.

people.py turns what the network says into mattes and is common to all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from engines.base import AREA, Engine, EngineError
from engines.probe import probe as _probe

__all__ = ["BACKENDS", "Available", "Engine", "EngineError", "available", "load_engine"]

Log = Callable[[str], None]
BACKENDS = (
    "openvino", "openvino-bf16", "openvino-int8", "onnxruntime", "torch",
    "tensorrt", "tensorrt-rtx", "torch-tensorrt", "torch-compile", "torch-cuda",
)  # fmt: skip
ON_CPU = BACKENDS[:5]


class Available(NamedTuple):
    """Whether a backend can run some weights on this machine, and if not, why and what mends it."""

    name: str
    ok: bool
    reason: str


def available(weights: Path | str) -> list[Available]:
    """Every backend, those of the CPU first, for these weights.  Loads no network."""
    return [Available(name, *_probe(name, Path(weights))) for name in BACKENDS]


def load_engine(
    names: Sequence[str], weights: Path | str, *, threads: int | None = None,
    score_threshold: float = 0.1, pixels: int = AREA, precision: str = "fp16", in_flight: int = 1,
    plans: Path | str | None = None, log: Log | None = None,
) -> Engine:  # fmt: skip
    """The first backend of `names` that can run here, loaded and warm.

    The order is the only fallback: a backend that is not named is never used.  Why an earlier
    one could not be used is told through `log`, once.  `weights` is a folder with live.onnx and
    live.safetensors, or one of such a pair.  `pixels` are those of the picture the network works
    on; engines on a GPU take no other number.  `in_flight` is how many pictures may be under way
    at once (engines/base.py): 1 for whoever waits for each.  On a GPU, `precision` (fp16 or fp32)
    is what most layers run in, and `plans` the folder of compiled networks.  Raises EngineError
    with every reason.
    """
    reasons: list[str] = []
    for name in names:
        if name not in BACKENDS:
            raise EngineError(f"there is no engine {name!r}; there are {', '.join(BACKENDS)}")
        ok, reason = _probe(name, Path(weights))
        if ok:
            try:
                if name in ON_CPU:
                    engine = _load_cpu(
                        name, Path(weights), threads, score_threshold, pixels, in_flight
                    )
                elif pixels != AREA:
                    raise EngineError(
                        f"its plans are for {AREA} pixels, engine.pixels is {pixels}: leave it out"
                    )
                else:
                    folder = Path(plans) if plans else None
                    engine = _load_gpu(
                        name, Path(weights), score_threshold, precision, in_flight, folder
                    )
            except (EngineError, ImportError) as error:
                reason = str(error)
            else:
                if log and reasons:
                    log(f"running on {name}, because {'; '.join(reasons)}")
                return engine
        reasons.append(f"{name}: {reason}")
    raise EngineError(f"no engine can run here: {'; '.join(reasons) or 'none was named'}")


def _load_cpu(
    name: str, weights: Path, threads: int | None, score_threshold: float, pixels: int,
    in_flight: int,
) -> Engine:  # fmt: skip
    if name.startswith("openvino"):
        from engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(
            weights, threads, score_threshold, name.partition("-")[2] or "f32", pixels, in_flight
        )
    if name == "onnxruntime":
        from engines.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(weights, threads, score_threshold, pixels, in_flight)
    from engines.torch_engine import TorchEngine

    return TorchEngine(weights, threads, score_threshold, pixels)


def _load_gpu(
    name: str, weights: Path, score_threshold: float, precision: str, in_flight: int,
    plans: Path | None,
) -> Engine:  # fmt: skip
    import torch

    from engines.gpu import DeviceNetwork, GpuEngine
    from engines.lanes import CudaLanes
    from engines.precision import checked

    checked(precision)
    device = torch.device("cuda", torch.cuda.current_device())
    network: DeviceNetwork
    if name.startswith("tensorrt"):
        from engines.tensorrt_engine import open_plan

        network = open_plan(name, weights, precision, plans, device)
    else:
        from engines import torch_engine

        torch.backends.cudnn.benchmark = True  # sizes are few and stay
        kind = {
            "torch-cuda": torch_engine.TorchNetwork,
            "torch-compile": torch_engine.CompiledNetwork,
            "torch-tensorrt": torch_engine.TorchTensorRtNetwork,
        }[name]
        network = kind(name, torch_engine.read_network(weights), device, precision)
    return GpuEngine(network, CudaLanes(device), score_threshold, in_flight)
