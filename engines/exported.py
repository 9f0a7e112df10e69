"""What backends that run the exported network share: finding the file, and the step around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import EngineError, NotFinite, State
from engines.people import Answer, people, shrink, working_size
from matting.frames import Mattes

SIZES_KEPT = 6  # compiled networks held at once: a folder of photographs has many shapes
OUTPUTS = Answer._fields  # the names matting/network/export.py gives them


def exported_file(weights: Path) -> Path:
    """The .onnx of `weights`: that file itself, or its sibling, or the one in that folder."""
    path = weights / "live.onnx" if weights.is_dir() else weights.with_suffix(".onnx")
    if not path.is_file():
        raise EngineError(
            f"{path}: no exported network there; make it with "
            f"python -m matting.network.export {path.with_suffix('.safetensors')}"
        )
    return path


class ExportedEngine(ABC):
    """An engine over one compiled network per picture size; static shapes run faster."""

    name: str

    def __init__(self, score_threshold: float) -> None:
        self.score_threshold = score_threshold
        self._ready: dict[tuple[int, int], Any] = {}

    @abstractmethod
    def _compile(self, size: tuple[int, int]) -> Any:
        """The network for pictures of (H, W) `size`, ready to run."""

    @abstractmethod
    def _run(self, network: Any, image: np.ndarray) -> Answer:
        """image (1, h, w, 3) uint8."""

    def warm_up(self) -> None:
        """Be ready for 16:9 before the first picture; a constructor ends with this."""
        self._ready[288, 512] = self._compile((288, 512))

    def start(self) -> State:
        return None  # every picture stands alone

    def step(self, rgb: np.ndarray, state: State) -> tuple[Mattes, State]:
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f"expected (H, W, 3) uint8 RGB, got {rgb.shape} {rgb.dtype}")
        size = working_size(rgb.shape[:2])
        if size not in self._ready:
            if len(self._ready) >= SIZES_KEPT:
                self._ready.pop(next(iter(self._ready)))  # the one compiled longest ago
            self._ready[size] = self._compile(size)
        image = shrink(rgb, size)
        answer = self._run(self._ready[size], image)
        if not all(np.isfinite(part.sum()) for part in answer):  # one that is not shows in the sum
            raise NotFinite(f"{self.name}: the network answered with numbers that are not finite")
        return people(answer, rgb, self.score_threshold, image[0]), state

    def release(self) -> None:
        """Give back what can be made again, where memory is short."""
        self._ready.clear()

    def close(self) -> None:
        self._ready.clear()
