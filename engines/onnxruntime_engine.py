"""The exported network on ONNX Runtime's CPU provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.base import EngineError
from engines.exported import OUTPUTS, ExportedEngine, exported_file
from engines.people import Answer


class OnnxRuntimeEngine(ExportedEngine):
    name = "onnxruntime"

    def __init__(self, weights: Path, threads: int | None, score_threshold: float) -> None:
        import onnxruntime

        super().__init__(score_threshold)
        path = exported_file(weights)
        options = onnxruntime.SessionOptions()
        if threads:
            options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            # one session serves every size: its shapes are dynamic
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base class of their own
            raise EngineError(f"onnxruntime cannot load {path}: {error}") from error
        self.warm_up()

    def _compile(self, size: tuple[int, int]) -> Any:
        self._session.run(list(OUTPUTS), {"image": np.zeros((1, *size, 3), np.uint8)})
        return self._session

    def _run(self, network: Any, image: np.ndarray) -> Answer:
        return Answer(*(made[0] for made in network.run(list(OUTPUTS), {"image": image})))
