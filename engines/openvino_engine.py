"""The exported network on OpenVINO, the fastest on a CPU (docs/decisions/0003-cpu-engine.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.base import EngineError
from engines.exported import OUTPUTS, ExportedEngine, exported_file
from engines.people import Answer


class OpenVinoEngine(ExportedEngine):
    name = "openvino"

    def __init__(self, weights: Path, threads: int | None, score_threshold: float) -> None:
        import openvino

        super().__init__(score_threshold)
        path = exported_file(weights)
        self._core = openvino.Core()
        # f32: processors with bfloat16 would otherwise round to it, and answer differently
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        self._settings = settings
        try:
            self._model = self._core.read_model(str(path))
        except RuntimeError as error:
            raise EngineError(f"openvino cannot read {path}: {error}") from error
        self.warm_up()

    def _compile(self, size: tuple[int, int]) -> Any:
        model = self._model.clone()
        model.reshape({model.input(0): [1, *size, 3]})
        request = self._core.compile_model(model, "CPU", self._settings).create_infer_request()
        request.infer([np.zeros((1, *size, 3), np.uint8)])
        return request

    def _run(self, network: Any, image: np.ndarray) -> Answer:
        network.infer([image], share_inputs=True)
        # copies: the request reuses its buffers, and what a step returns is the caller's
        return Answer(*(network.get_tensor(name).data[0].copy() for name in OUTPUTS))
