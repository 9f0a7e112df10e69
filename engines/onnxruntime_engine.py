"""The exported network on ONNX Runtime's CPU provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.base import AREA, EngineError
from engines.exported import NEXT, OUTPUTS, ExportedEngine, Kept, exported_file, filled
from engines.people import Answer


class OnnxRuntimeEngine(ExportedEngine):
    name = "onnxruntime"

    def __init__(
        self, weights: Path, threads: int | None, score_threshold: float, pixels: int = AREA
    ) -> None:
        import onnxruntime

        super().__init__(score_threshold, pixels)
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
        self._keeps = {
            given.name: given.shape[1] for given in self._session.get_inputs()
            if given.name != "image"
        }  # fmt: skip
        self.warm_up()

    def _compile(self, size: tuple[int, int]) -> Any:
        self._run(self._session, np.zeros((1, *size, 3), np.uint8), {})
        return self._session

    def _run(self, network: Any, image: np.ndarray, kept: Kept) -> tuple[Answer, Kept]:
        given = filled(kept, self._keeps, image.shape[1:3])
        wanted = [*OUTPUTS, *(name + NEXT for name in given)]
        made = network.run(wanted, {"image": image, **given})
        answer = Answer(*(part[0] for part in made[: len(OUTPUTS)]))
        return answer, dict(zip(given, made[len(OUTPUTS) :], strict=True))
