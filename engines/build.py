"""Compile the network for an NVIDIA GPU: python -m engines.build --engine tensorrt

    python -m engines.build --engine tensorrt                  # on the machine with the GPU
    python -m engines.build --engine tensorrt-rtx              # on any machine, for every RTX card
    python -m engines.build --engine tensorrt --size 1080x1920 # the picture sizes to tune for
    python -m engines.build --list                             # what is compiled already

The plan goes where `run_stream.py` looks for it (engines/plans.py); it serves any picture size, and
is tuned for 16:9 upright and lying unless --size says otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from engines.base import AREA, EngineError
from engines.exported import exported_file
from engines.people import STEP, working_size
from engines.plans import ANY_RTX, Key, Profile, default_folder, kept_plans, store
from engines.precision import PRECISIONS, typed

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
TUNED = ((288, 512), (512, 288))  # working sizes of 16:9, lying and upright
WIDEST = 16  # the longer side of a picture may be this many times the shorter (engines/people.py)
STATE_STRIDE = 16  # a state's cells per pixel of the input, where its size follows the picture's
WORKSPACE = 4 << 30  # bytes TensorRT may use for one layer while it tries kernels

Say = Callable[[str], None]


def profiles(sizes: Sequence[tuple[int, int]] = TUNED, batch: int = 1) -> list[Profile]:
    """One profile per working size that is tuned for, and a last one for every other."""
    made = [Profile((1, *size), (batch, *size), (batch, *size)) for size in sizes]
    long = round((AREA * WIDEST) ** 0.5 / STEP) * STEP
    short = round((AREA / WIDEST) ** 0.5 / STEP) * STEP
    made.append(Profile((1, short, short), (batch, *TUNED[0]), (batch, long, long)))
    return made


def load_module(backend: str) -> Any:
    """The Python module of TensorRT or TensorRT for RTX.  Raises EngineError without it."""
    try:
        return import_module(MODULES[backend])
    except ImportError as error:
        raise EngineError(f"{backend}: {MODULES[backend]} cannot be imported: {error}") from error


@cache
def logger(trt: Any) -> Any:
    """The one logger of this process (a second one is ignored); it keeps what went wrong."""

    class Kept(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.wrong: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.wrong.append(text.strip())

        def told(self) -> str:
            """What went wrong since this was last asked."""
            text, self.wrong = "; ".join(self.wrong), []
            return text or "it gave no reason"

    return Kept()


class Progress:
    """How much of a build is done, from the phases within phases that TensorRT tells."""

    def __init__(self, say: Callable[[float, str], None]) -> None:
        self._say = say
        self._open: list[list[Any]] = []  # [name, steps, done]
        self._told = -1.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        while self._open and self._open[-1][0] != parent:
            self._open.pop()  # phases that ended without a word
        self._open.append([name, max(1, steps), 0])

    def step(self, name: str, step: int) -> None:
        for phase in self._open:
            if phase[0] == name:
                phase[2] = step + 1
        self._tell()

    def finish(self, name: str) -> None:
        names = [phase[0] for phase in self._open]
        if name in names:
            del self._open[names.index(name) :]
        self._tell(1.0 if not self._open else None)

    def _tell(self, share: float | None = None) -> None:
        if share is None:
            share, whole = 0.0, 1.0
            for _, steps, done in self._open:
                share += whole * min(done, steps) / steps
                whole /= steps
        share = max(self._told, min(1.0, share))  # phases are announced late; never go back
        if share >= self._told + 0.01 or (share == 1.0 and self._told < 1.0):
            self._told = share
            self._say(share, self._open[-1][0] if self._open else "done")


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            progress.start(name, parent, steps)

        def step_complete(self, name: str, step: int) -> bool:
            progress.step(name, step)
            return True  # False would stop the build

        def phase_finish(self, name: str) -> None:
            progress.finish(name)

    return Monitor()


def compile_plan(
    trt: Any, model: bytes, wanted: Sequence[Profile], *, say: Callable[[float, str], None],
    timing: Path | None = None, targets: Sequence[str] = (), tf32: bool = True,
) -> bytes:  # fmt: skip
    """The plan of a strongly typed ONNX `model`.  `targets` (tensorrt-rtx alone) are architectures
    such as "SM89"; none is every one from Ampere on.  `timing` is a file of kernel timings that is
    read and added to.  Raises EngineError with the parser's or the builder's own words."""
    log = logger(trt)
    log.told()
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        told = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise EngineError(f"{trt.__name__} does not accept the network: {'; '.join(told)}")
    config = builder.create_builder_config()
    monitor = config.progress_monitor = _monitor(trt, Progress(say))
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    for profile in wanted:
        _add_profile(builder, config, network, profile)
    if targets:
        config.num_compute_capabilities = len(targets)
        for i, target in enumerate(targets):
            if not config.set_compute_capability(_capability(trt, target), i):
                raise EngineError(f"{trt.__name__} cannot build for {target}")
    cache = _read_timings(config, timing) if timing else None
    plan = builder.build_serialized_network(network, config)
    del monitor
    if plan is None:
        raise EngineError(f"{trt.__name__} could not build the plan: {log.told()}")
    if timing and cache is not None:
        _keep_timings(config, timing)
    return bytes(plan)


def _network_flags(trt: Any) -> int:
    """Strong typing is asked for where it is not the only way: TensorRT before 11."""
    if trt.__name__ == "tensorrt_rtx" or int(trt.__version__.split(".")[0]) >= 11:
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _capability(trt: Any, target: str) -> Any:
    known = trt.ComputeCapability.__members__
    if target not in known:
        there = ", ".join(name for name in known if name.startswith("SM"))
        raise EngineError(f"{trt.__name__} builds for {there}; there is no {target}")
    return known[target]


def _add_profile(builder: Any, config: Any, network: Any, profile: Profile) -> None:
    made = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        given = network.get_input(i)
        made.set_shape(given.name, *(shape_of(given.name, given.shape, c) for c in profile))
    if config.add_optimization_profile(made) < 0:
        raise EngineError(f"the sizes {profile} do not fit the network's input")


def shape_of(name: str, declared: Sequence[int], corner: tuple[int, int, int]) -> tuple[int, ...]:
    """The shape of an input at batch, height and width `corner`; -1 is what the export left open.

    `image` is (B, H, W, 3) or (B, 3, H, W); what is remembered (B, M, h, w), at 1/16 of it.
    """
    batch, height, width = corner
    full: tuple[int, ...]
    if name == "image":
        last = declared[-1] == 3
        full = (batch, height, width, 3) if last else (batch, 3, height, width)
    else:
        full = (batch, declared[1], height // STATE_STRIDE, width // STATE_STRIDE)
    return tuple(b if a == -1 else a for a, b in zip(declared, full, strict=True))


def _read_timings(config: Any, path: Path) -> Any:
    kept = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(kept)
    # False: refuse timings of another GPU
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _keep_timings(config: Any, path: Path) -> None:
    data = bytes(config.get_timing_cache().serialize())
    partial = path.with_suffix(f".{os.getpid()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial.write_bytes(data)
    partial.replace(path)


def key_of(
    backend: str, trt: Any, model: bytes, precision: str, wanted: Sequence[Profile], gpu: str
) -> Key:
    """What a plan of the exported file `model` (its bytes) depends on here."""
    return Key(
        backend=backend, version=trt.__version__, network=hashlib.sha256(model).hexdigest(),
        precision=precision, profiles=tuple(map(str, wanted)), gpu=gpu,
        system=f"{platform.system()} {platform.machine()}",
    )  # fmt: skip


def gpu_of(backend: str, targets: Sequence[str] = ()) -> str:
    """What a plan is bound to: this machine's GPU, or for tensorrt-rtx the architectures named."""
    if backend == "tensorrt-rtx":
        return ", ".join(targets) or ANY_RTX
    import torch

    if not torch.cuda.is_available():
        raise EngineError(
            "tensorrt compiles on the GPU it compiles for, and torch sees none here; "
            "tensorrt-rtx compiles anywhere"
        )
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()}, sm_{major}{minor}"


def command(backend: str, precision: str, weights: Path, folder: Path | None) -> str:
    """The line that makes the plan, for error messages."""
    words = ["python -m engines.build", f"--engine {backend}"]
    if precision != PRECISIONS[0]:
        words.append(f"--precision {precision}")
    if weights.resolve() != ROOT / "weights":
        words.append(f"--weights {weights}")
    if folder is not None:
        words.append(f"--plans {folder}")
    return " ".join(words)


def build(
    backend: str, weights: Path, precision: str, wanted: Sequence[Profile], folder: Path,
    say: Callable[[float, str], None], targets: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Compile the network of `weights` and keep the plan.  Returns its path."""
    trt = load_module(backend)
    import onnx

    exported = exported_file(weights)
    gpu = gpu_of(backend, targets)
    key = key_of(backend, trt, exported.read_bytes(), precision, wanted, gpu)
    # RTX tunes on the user's machine, when it runs: its timing cache is empty by design
    timing = folder / f"{backend}-{trt.__version__}-{_slug(gpu)}.timings"
    begun = time.monotonic()
    plan = compile_plan(
        trt, typed(onnx.load(exported), precision).SerializeToString(), wanted, say=say,
        timing=timing if backend == "tensorrt" else None, targets=targets,
        tf32=precision != "fp32",
    )  # fmt: skip
    return store(key, plan, folder, seconds=round(time.monotonic() - begun, 1), bytes=len(plan))


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower())


def picture_size(text: str) -> tuple[int, int]:
    """ "1080x1920", height first as everywhere here, to (H, W)."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; say height x width, such as 1080x1920"
        ) from None
    return height, width


def main(argv: Sequence[str] | None = None) -> int:
    """Build or list plans.  Exit codes are those of run_stream.py: 0, 2 (usage), 6 (engine)."""
    parser = argparse.ArgumentParser(
        prog="python -m engines.build", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--engine", choices=tuple(MODULES), default="tensorrt")
    add("--precision", choices=PRECISIONS, default=PRECISIONS[0])
    add("--weights", type=Path, default=ROOT / "weights", help="folder or file of the network")
    add("--size", type=picture_size, action="append", metavar="HxW",
        help="a picture size to tune for; may be repeated; default: 16:9 and 9:16")  # fmt: skip
    add("--batch", type=int, default=1, help="pictures at once, at most")
    add("--target", action="append", default=[], metavar="SM89",
        help="tensorrt-rtx: an architecture to build for; default: all from Ampere on")  # fmt: skip
    add("--plans", type=Path, default=None, help=f"folder; default: {default_folder()}")
    add("--list", action="store_true", help="say what is compiled, and stop")
    said = parser.parse_args(argv)
    folder = said.plans or default_folder()
    if said.list:
        for plan in kept_plans(folder):
            about = [plan.key.get(name) for name in ("backend", "version", "precision", "gpu")]
            print(plan.path.name, *about, ", ".join(plan.key.get("profiles", ())), sep="  ")
        return 0
    if said.batch < 1:
        parser.error(f"--batch should be at least 1, got {said.batch}")
    if said.target and said.engine != "tensorrt-rtx":
        parser.error("--target is for --engine tensorrt-rtx; tensorrt builds for the GPU it is on")
    sizes = dict.fromkeys(working_size(size) for size in said.size) if said.size else TUNED

    def tell(share: float, phase: str) -> None:
        print(f"\r{share:4.0%}  {phase[:60]:<60}", end="", file=sys.stderr, flush=True)

    try:
        path = build(
            said.engine, said.weights, said.precision, profiles(tuple(sizes), said.batch), folder,
            tell if sys.stderr.isatty() else lambda share, phase: None, said.target,
        )  # fmt: skip
    except (EngineError, ImportError, ValueError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 6
    print(f"\n{path}: {path.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
