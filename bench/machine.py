"""Where and when a number was measured.  A number without these is a rumour."""

from __future__ import annotations

import os
import platform
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "openvino", "onnxruntime", "torch", "tensorrt", "tensorrt-rtx", "torch-tensorrt", "av",
    "opencv-python-headless", "numpy",
)  # fmt: skip


def described() -> dict[str, str | int]:
    """Processor, cores, system, versions, day and command of this process."""
    return {
        "date": date.today().isoformat(),
        "command": " ".join(["python", *_module(), *sys.argv[1:]]),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name))),
    }


def printed() -> str:
    return "\n".join(f"{name:<10} {value}" for name, value in described().items())


def _module() -> list[str]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return ["-m", spec.name] if spec is not None else [Path(sys.argv[0]).name]


def _cores() -> int:
    return os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
