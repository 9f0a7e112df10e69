"""`doctor`: what this machine can do, and what is missing, with what mends it.

    python run_stream.py doctor

Opens no camera and loads no network; `--try` loads the shipped network and mattes one picture.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple, NoReturn

from configs.console import Console
from configs.schema import ConfigError

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "weights"
PACKAGES = ("numpy", "av", "opencv-python-headless", "pyyaml", "scipy", "openvino", "onnxruntime",
            "torch", "tensorrt-cu13", "safetensors", "OpenEXR", "starlette", "uvicorn", "aiortc",
            "pyvirtualcam")  # fmt: skip
NEEDED = ("numpy", "av", "opencv-python-headless", "pyyaml", "scipy")
ENCODERS = {"libx264": "composite and working store", "prores_ks": "preset nle",
            "libvpx-vp9": "preset web", "ffv1": "preset archive", "aac": "sound in an MP4",
            "h264_nvenc": "H.264 on an NVIDIA GPU"}  # fmt: skip
LEAST_FREE_GB = 2.0


class Finding(NamedTuple):
    """One thing that was looked at."""

    about: str  # machine, package, engine, encoder, camera, weights
    name: str
    ok: bool | None  # None: neither good nor bad, a fact
    says: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; python run_stream.py doctor --help lists the options")


def main(words: Sequence[str], console: Console) -> int:
    """Run the command: 0 if a video can be matted here, 6 if no engine can run, 1 if files of the
    program itself are missing or damaged."""
    parser = _Parser(
        prog="run_stream.py doctor",
        description="What this machine can do, and what is missing.",
        allow_abbrev=False,
    )
    parser.add_argument("--try", action="store_true", dest="tried",
                        help="load the shipped network and matte one picture")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="a finding per line, as JSON")
    parser.add_argument("--quiet", action="store_true", help="say only what is wrong")
    said = parser.parse_args(list(words))
    findings = [*machine(), *packages(), *engines(), *weights(), *encoders(), *cameras()]
    if said.tried:
        findings += one_picture()
    wrong = [found for found in findings if found.ok is False]
    for found in findings:
        if said.json:
            console.finding(**found._asdict())
        elif not said.quiet or found.ok is False:
            mark = {True: "ok ", False: "NO ", None: "   "}[found.ok]
            print(f"{mark} {found.about:<8} {found.name:<24} {found.says}".rstrip())
    if any(found.about == "weights" for found in wrong):
        return 1
    able = any(found.about == "engine" and found.ok for found in findings)
    return 0 if able and not any(found.about == "tried" for found in wrong) else 6


def machine() -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    found = [
        Finding("machine", "system", None, f"{platform.system()} {platform.release()}, "
                f"{platform.machine()}"),
        Finding("machine", "python", sys.version_info >= (3, 11), platform.python_version()),
        Finding("machine", "cpu", None, f"{cores} cores usable, {_processor()}"),
        Finding("machine", "disk", None if free > LEAST_FREE_GB else False,
                f"{free:.1f} GB free in {Path.cwd()}"),
    ]  # fmt: skip
    memory = _memory_gb()
    if memory:
        found.append(Finding("machine", "memory", None, f"{memory:.1f} GB, of which free and "
                             f"reclaimable {_memory_gb('MemAvailable'):.1f} GB"))  # fmt: skip
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _memory_gb(field: str = "MemTotal") -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1e6
    except OSError:
        pass
    return 0.0


def packages() -> list[Finding]:
    found = []
    for name in PACKAGES:
        try:
            found.append(Finding("package", name, True, version(name)))
        except PackageNotFoundError:
            missing = False if name in NEEDED else None
            found.append(Finding("package", name, missing, "not installed"))
    try:
        version("opencv-python")
        found.append(Finding("package", "opencv-python", False,
                             "beside opencv-python-headless: both own cv2; remove it"))  # fmt: skip
    except PackageNotFoundError:
        pass
    return found


def engines() -> list[Finding]:
    """Which can run here.  A missing one is a fact; that none can is told by the exit code."""
    from engines import available

    return [Finding("engine", name, ok or None, reason) for name, ok, reason in available(WEIGHTS)]


def weights() -> list[Finding]:
    """The shipped files: there, and belonging together (the export carries the weights' digest)."""
    from engines.exported import belongs

    found = []
    for name in ("live.safetensors", "live.onnx"):
        path = WEIGHTS / name
        if not path.is_file():
            found.append(Finding("weights", name, False, "is missing"))
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        says = f"{path.stat().st_size / 1e6:.1f} MB, sha256 {digest[:12]}"
        found.append(Finding("weights", name, True, says))
    if all(one.ok for one in found) and not belongs(WEIGHTS / "live.onnx"):
        says = "was not exported from live.safetensors, or one is damaged"
        found[1] = Finding("weights", "live.onnx", False, says)
    return found


def encoders() -> list[Finding]:
    import av

    return [
        Finding("encoder", name, True if name in av.codecs_available else None,
                use if name in av.codecs_available else f"not in this FFmpeg: no {use}")
        for name, use in ENCODERS.items()
    ]  # fmt: skip


def cameras() -> list[Finding]:
    """Video devices by name; none is opened, so no light goes on."""
    found = []
    for device in sorted(Path("/dev").glob("video*")) if Path("/dev").is_dir() else []:
        named = Path("/sys/class/video4linux") / device.name / "name"
        name = named.read_text().strip() if named.is_file() else "a video device"
        usable = os.access(device, os.R_OK | os.W_OK)
        says = name if usable else f"{name}: no permission; add yourself to the group 'video'"
        found.append(Finding("camera", str(device), usable, says))
    return found or [Finding("camera", "none", None, "no /dev/video*; a file or address can be "
                             "the source")]  # fmt: skip


def one_picture() -> list[Finding]:
    """The shipped network on a picture of 960 x 540: that it runs, and how fast."""
    import numpy as np

    from engines import EngineError, available, load_engine

    names = [name for name, ok, _ in available(WEIGHTS) if ok]
    found = []
    for name in names:
        try:
            began = time.perf_counter()
            engine = load_engine([name], WEIGHTS)
            loaded = time.perf_counter()
            rgb, state = np.full((540, 960, 3), 120, np.uint8), engine.start()
            _, state = engine.step(rgb, state)
            warm = time.perf_counter()
            engine.step(rgb, state)
            took = time.perf_counter() - warm
            engine.close()
            says = f"loads in {loaded - began:.1f} s, a step takes {1000 * took:.0f} ms"
            found.append(Finding("tried", name, True, says))
        except (EngineError, RuntimeError) as error:
            found.append(Finding("tried", name, False, str(error)))
    return found
