"""What this machine can run, backend by backend, and why not the rest.

Nothing here loads a network or leaves anything running.  Packages of NVIDIA's are imported only
after everything that is known to break their import has been looked at.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from engines.base import EngineError

EXTRA = {
    "openvino": "pip install openvino", "onnxruntime": "pip install '.[onnxruntime]'",
    "torch": "pip install '.[torch]'", "tensorrt": "pip install '.[tensorrt]'",
    "tensorrt_rtx": "pip install '.[tensorrt-rtx]'",
    "torch_tensorrt": "pip install torch-tensorrt, the release of the same number as torch's",
}  # fmt: skip
PACKAGE = {
    "openvino-bf16": "openvino", "openvino-int8": "openvino",
    "torch-cuda": "torch", "torch-compile": "torch", "tensorrt-rtx": "tensorrt_rtx",
    "torch-tensorrt": "torch_tensorrt",
}  # fmt: skip
OLDEST_TENSORRT = 10  # where tensors got names and strong typing came
ON_GPU = frozenset({"tensorrt", *PACKAGE}) - {"openvino-bf16", "openvino-int8"}


def probe(name: str, weights: Path) -> tuple[bool, str]:
    """Whether backend `name` can run here, and on what; or why not, and what mends it.

    `weights` are asked about where a backend needs a file of its own that is not always made.
    """
    package = PACKAGE.get(name, name)
    if find_spec(package) is None:
        return False, f"{package} is not installed: {EXTRA[package]}"
    if package == "openvino":
        return _openvino(name, weights)
    if name not in ON_GPU:
        return True, "CPU"
    if find_spec("torch") is None:
        return False, f"it needs torch for memory and streams: {EXTRA['torch']}"
    gpu = _gpu()
    if name == "tensorrt-rtx":
        return _rtx(gpu)
    if not gpu[0]:
        return gpu
    if name == "tensorrt":
        return _tensorrt(gpu[1])
    if name == "torch-compile" and find_spec("triton") is None:
        return False, "triton is not installed: torch.compile makes its kernels with it"
    if name == "torch-tensorrt":
        return _torch_tensorrt(gpu[1])
    return gpu


def _openvino(name: str, weights: Path) -> tuple[bool, str]:
    if name == "openvino":
        return True, "CPU"
    import openvino

    from engines.openvino_engine import network_file

    try:
        network_file(name.partition("-")[2], weights, openvino.Core())
    except EngineError as error:
        return False, str(error)
    return True, "CPU"


def _gpu() -> tuple[bool, str]:
    import torch

    if not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
        return False, f"no CUDA device is visible to torch {torch.__version__}, {build}"
    return True, torch.cuda.get_device_name()


def _tensorrt(gpu: str) -> tuple[bool, str]:
    try:
        trt = import_module("tensorrt")
        found = str(trt.__version__)
    except Exception as error:  # missing libraries show as ImportError, OSError and others
        return False, f"tensorrt cannot be imported: {_first_line(error)}"
    if int(found.split(".")[0]) < OLDEST_TENSORRT:
        return False, f"TensorRT {found} is too old: {EXTRA['tensorrt']}"
    return True, f"{gpu}, TensorRT {found}"


def _rtx(gpu: tuple[bool, str]) -> tuple[bool, str]:
    try:
        trt = import_module("tensorrt_rtx")
        archs = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    except Exception as error:
        return False, f"tensorrt_rtx cannot be imported: {_first_line(error)}"
    if not gpu[0]:
        return False, f"it can compile here (python -m engines.build) but not run: {gpu[1]}"
    import torch

    arch = "SM{}{}".format(*torch.cuda.get_device_capability())
    if arch not in archs:
        return False, f"{gpu[1]} ({arch}) is none of its GPUs, {', '.join(archs)}: take tensorrt"
    return True, f"{gpu[1]}, TensorRT for RTX {trt.__version__}"


def _torch_tensorrt(gpu: str) -> tuple[bool, str]:
    """It belongs to one minor release of torch, and says so only by how its import fails."""
    import torch

    try:
        found = version("torch-tensorrt")
    except PackageNotFoundError:
        found = ""
    if found and found.split(".")[:2] != torch.__version__.split(".")[:2]:
        return False, f"torch_tensorrt {found} is not for torch {torch.__version__}"
    try:
        import_module("torch_tensorrt")
    except Exception as error:  # a bare Exception, AssertionError and OSError have been seen
        return False, f"torch_tensorrt cannot be imported: {_first_line(error)}"
    return True, f"{gpu}, torch_tensorrt {found}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
