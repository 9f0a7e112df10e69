"""The exported network on OpenVINO, the fastest on a CPU (docs/decisions/0003-cpu-engine.md).

Three backends in one: `openvino` computes in float32; `openvino-bf16` in bfloat16 where the
processor multiplies it (about half the work); `openvino-int8` runs the network that
engines/quantise.py made of this very export, and refuses one that was made of another.
"""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from engines.base import AREA, EngineError
from engines.exported import NEXT, OUTPUTS, ExportedEngine, Kept, exported_file, filled
from engines.people import Answer

INT8 = ".int8.xml"  # beside the .onnx, with a .bin of the same name


class OpenVinoEngine(ExportedEngine):
    def __init__(
        self, weights: Path, threads: int | None, score_threshold: float, precision: str = "f32",
        pixels: int = AREA, in_flight: int = 1,
    ) -> None:
        """`precision`: f32, bf16 or int8."""
        import openvino

        super().__init__(score_threshold, pixels)
        self.name = "openvino" if precision == "f32" else f"openvino-{precision}"
        self._core = openvino.Core()
        path = network_file(precision, weights, self._core)
        # said, not left to it: processors with bfloat16 would round to it, and answer differently
        inside = "f32" if precision == "f32" else "bf16"
        if precision == "int8" and not multiplies_bf16(self._core):
            inside = "f32"  # where it is not int8
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": inside}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
            # else every process that has fewer threads than there are cores keeps to the first ones
            settings["ENABLE_CPU_PINNING"] = "NO"
        self._settings = settings
        try:
            self._model = self._core.read_model(str(path))
        except RuntimeError as error:
            raise EngineError(f"openvino cannot read {path}: {error}") from error
        self._keeps = {
            given.any_name: given.partial_shape[1].get_length() for given in self._model.inputs
            if given.any_name != "image"
        }  # fmt: skip
        self.overlap(in_flight, threads)
        self.warm_up()

    def _compile(self, size: tuple[int, int] | None, at_once: int) -> Any:
        model = self._model.clone()
        image = self._first(size)
        first = {"image": image, **filled({}, self._keeps, image.shape[1:3])}
        shapes = {name: list(part.shape) for name, part in first.items()}
        if size is None:
            shapes = {"image": [1, -1, -1, 3]}
            shapes |= {name: [1, width, -1, -1] for name, width in self._keeps.items()}
        model.reshape(shapes)
        settings = self._settings | ({"NUM_STREAMS": str(at_once)} if at_once > 1 else {})
        compiled = self._core.compile_model(model, "CPU", settings)
        free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(at_once):
            request = compiled.create_infer_request()
            request.infer(first)
            free.put(request)
        return free

    def _run(self, network: Any, image: np.ndarray, kept: Kept) -> tuple[Answer, Kept]:
        given = filled(kept, self._keeps, image.shape[1:3])
        request = network.get()
        try:
            request.infer({"image": image, **given}, share_inputs=True)
            # copies: the request reuses its buffers, and what a step returns is the caller's
            answer = Answer(*(request.get_tensor(name).data[0].copy() for name in OUTPUTS))
            return answer, {name: request.get_tensor(name + NEXT).data.copy() for name in given}
        finally:
            network.put(request)


def network_file(precision: str, weights: Path, core: Any) -> Path:
    """What is run in this precision.  Raises EngineError if the processor or the weights do not."""
    if precision == "bf16" and not multiplies_bf16(core):
        raise EngineError("this processor does not compute in bfloat16")
    path = exported_file(weights)
    return quantised_file(path, core) if precision == "int8" else path


def multiplies_bf16(core: Any) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def quantised_file(exported: Path, core: Any) -> Path:
    """The int8 network made of `exported`.  Raises EngineError if there is none, or a stale one."""
    path = exported.with_name(exported.stem + INT8)
    cure = f"make it with python -m engines.quantise {exported}"
    if not path.is_file():
        raise EngineError(f"{path}: no int8 network there; {cure}")
    try:
        model = core.read_model(str(path))
        made_of = model.get_rt_info(["troupe", "made_of"]).value
    except RuntimeError as error:
        raise EngineError(f"{path} cannot be read: {error}; {cure}") from error
    if made_of != digest(exported):
        raise EngineError(f"{path} was made of another export than {exported}; {cure}")
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
