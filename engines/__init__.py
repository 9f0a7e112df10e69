"""The network, ready to run: a contract (base.py) and one file per backend.

people.py turns what the network says into mattes and is common to all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from engines.base import Engine, EngineError

__all__ = ["BACKENDS", "Available", "Engine", "EngineError", "available", "load_engine"]

Log = Callable[[str], None]
BACKENDS = ("openvino", "onnxruntime", "torch", "torch-cuda")
_EXTRA = {"openvino": "pip install openvino", "onnxruntime": "pip install '.[onnxruntime]'",
          "torch": "pip install '.[torch]'", "torch-cuda": "pip install '.[torch]'"}  # fmt: skip


class Available(NamedTuple):
    """Whether a backend can run on this machine, and if not, why and what mends it."""

    name: str
    ok: bool
    reason: str


def available() -> list[Available]:
    """Every backend, in the order in which they are tried by default.  Loads no network."""
    return [Available(name, *_probe(name)) for name in BACKENDS]


def _probe(name: str) -> tuple[bool, str]:
    package = name.removesuffix("-cuda")
    if find_spec(package) is None:
        return False, f"{package} is not installed: {_EXTRA[name]}"
    if name == "torch-cuda":
        import torch

        if not torch.cuda.is_available():
            build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
            return False, f"no CUDA device is visible to torch {torch.__version__}, {build}"
        return True, torch.cuda.get_device_name()
    return True, "CPU"


def load_engine(
    names: Sequence[str], weights: Path | str, *, threads: int | None = None,
    score_threshold: float = 0.3, log: Log | None = None,
) -> Engine:  # fmt: skip
    """The first backend of `names` that can run here, loaded and warm.

    The order is the only fallback: a backend that is not named is never used.  Why an earlier
    one could not be used is told through `log`, once.  `weights` is a folder with live.onnx and
    live.safetensors, or one of such a pair.  Raises EngineError with every reason.
    """
    reasons: list[str] = []
    for name in names:
        if name not in BACKENDS:
            raise EngineError(f"there is no engine {name!r}; there are {', '.join(BACKENDS)}")
        ok, reason = _probe(name)
        if ok:
            try:
                engine = _load(name, Path(weights), threads, score_threshold)
            except (EngineError, ImportError) as error:
                reason = str(error)
            else:
                if log and reasons:
                    log(f"running on {name}, because {'; '.join(reasons)}")
                return engine
        reasons.append(f"{name}: {reason}")
    raise EngineError(f"no engine can run here: {'; '.join(reasons) or 'none was named'}")


def _load(name: str, weights: Path, threads: int | None, score_threshold: float) -> Engine:
    if name == "openvino":
        from engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(weights, threads, score_threshold)
    if name == "onnxruntime":
        from engines.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(weights, threads, score_threshold)
    from engines.torch_engine import TorchEngine

    return TorchEngine(
        weights, threads, score_threshold, "cuda" if name == "torch-cuda" else "cpu"
    )
