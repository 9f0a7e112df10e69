"""The exported network on ONNX Runtime's CPU provider."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import AREA, EngineError
from engines.exported import NEXT, OUTPUTS, ExportedEngine, Kept, exported_file, filled
from engines.people import Answer


class OnnxRuntimeEngine(ExportedEngine):
    name = "onnxruntime"

    def __init__(
        self, weights: Path, threads: int | None, score_threshold: float, pixels: int = AREA,
        in_flight: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(score_threshold, pixels)
        self._path, self._threads = exported_file(weights), threads
        self._sessions: dict[int, Any] = {}  # by how many pictures there are at once
        self._keeps = {
            given.name: given.shape[1] for given in self._session(1).get_inputs()
            if given.name != "image"
        }  # fmt: skip
        self.overlap(in_flight, threads)
        self.warm_up()

    def _session(self, at_once: int) -> Any:
        """One session serves every size: its shapes are dynamic."""
        if at_once not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            if self._threads or at_once > 1:
                # those who call work too, and all of them share the others
                shared = (self._threads or os.cpu_count() or 1) - at_once
                options.intra_op_num_threads = shared + 1
            options.log_severity_level = 3
            try:
                self._sessions[at_once] = onnxruntime.InferenceSession(
                    str(self._path), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # its exceptions share no base class of their own
                raise EngineError(f"onnxruntime cannot load {self._path}: {error}") from error
        return self._sessions[at_once]

    def _compile(self, size: tuple[int, int] | None, at_once: int) -> Any:
        session = self._session(at_once)
        self._run(session, self._first(size), {})
        return session

    def _run(self, network: Any, image: np.ndarray, kept: Kept) -> tuple[Answer, Kept]:
        given = filled(kept, self._keeps, image.shape[1:3])
        wanted = [*OUTPUTS, *(name + NEXT for name in given)]
        made = network.run(wanted, {"image": image, **given})
        answer = Answer(*(part[0] for part in made[: len(OUTPUTS)]))
        return answer, dict(zip(given, made[len(OUTPUTS) :], strict=True))
