"""What backends that run the exported network share: finding the file, and the step around it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import AREA, EngineError, NotFinite, State
from engines.people import Answer, people, shrink, working_size
from matting.frames import Mattes

SIZES_KEPT = 6  # compiled networks held at once: a folder of photographs has many shapes
OUTPUTS = Answer._fields  # the names matting/network/export.py gives them
NEXT = "_next"  # an input but the picture comes out again under its name with this behind it
REMEMBERED_AT = 16  # and is this much smaller than the picture

# What a network keeps from one frame of a video to the next, by the name of the input.
Kept = dict[str, np.ndarray]


def filled(kept: Kept, channels: dict[str, int], size: tuple[int, int]) -> Kept:
    """What the network is given beside a picture of (h, w) `size`: what it kept, or zeros where
    there is nothing or it belongs to pictures of another size."""
    given = {}
    for name, width in channels.items():
        shape = (1, width, size[0] // REMEMBERED_AT, size[1] // REMEMBERED_AT)
        before = kept.get(name)
        fits = before is not None and before.shape == shape
        given[name] = before if before is not None and fits else np.zeros(shape, np.float32)
    return given


def exported_file(weights: Path) -> Path:
    """The .onnx of `weights`: that file itself, or its sibling, or the one in that folder."""
    path = weights / "live.onnx" if weights.is_dir() else weights.with_suffix(".onnx")
    if not path.is_file():
        raise EngineError(
            f"{path}: no exported network there; make it with "
            f"python -m matting.network.export {path.with_suffix('.safetensors')}"
        )
    if path.with_suffix(".safetensors").is_file() and not belongs(path):
        raise EngineError(
            f"{path} was not exported from the weights beside it, or one of them is damaged; copy "
            f"both again, or: python -m matting.network.export {path.with_suffix('.safetensors')}"
        )
    return path


def belongs(exported: Path) -> bool:
    """Whether an exported network is that of the weights beside it: it carries their SHA-256."""
    digest = hashlib.sha256(exported.with_suffix(".safetensors").read_bytes()).hexdigest()
    return digest.encode() in exported.read_bytes()


class ExportedEngine(ABC):
    """An engine over one compiled network per picture size; static shapes run faster."""

    name: str

    def __init__(self, score_threshold: float, pixels: int = AREA) -> None:
        self.score_threshold, self.pixels = score_threshold, pixels
        self._ready: dict[tuple[int, int], Any] = {}

    @abstractmethod
    def _compile(self, size: tuple[int, int]) -> Any:
        """The network for pictures of (H, W) `size`, ready to run."""

    @abstractmethod
    def _run(self, network: Any, image: np.ndarray, kept: Kept) -> tuple[Answer, Kept]:
        """image (1, h, w, 3) uint8; what the network keeps of a video, and keeps from now on.
        Arrays that come out are nobody else's."""

    def warm_up(self) -> None:
        """Be ready for 16:9 before the first picture; a constructor ends with this."""
        self.network(self.working_size((9, 16)))

    def network(self, size: tuple[int, int]) -> Any:
        """The network for pictures of (H, W) `size`, compiled where it is not at hand."""
        if size not in self._ready:
            if len(self._ready) >= SIZES_KEPT:
                self._ready.pop(next(iter(self._ready)))  # the one compiled longest ago
            self._ready[size] = self._compile(size)
        return self._ready[size]

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (H, W) the network sees of a picture of `size`."""
        return working_size(size, self.pixels)

    def start(self) -> State:
        return None  # nothing has been seen yet

    def step(self, rgb: np.ndarray, state: State) -> tuple[Mattes, State]:
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f"expected (H, W, 3) uint8 RGB, got {rgb.shape} {rgb.dtype}")
        size = self.working_size(rgb.shape[:2])
        image = shrink(rgb, size)
        answer, kept = self._run(self.network(size), image, state or {})
        made = (*answer, *kept.values())
        if not all(np.isfinite(part.sum()) for part in made):  # one that is not shows in the sum
            raise NotFinite(f"{self.name}: the network answered with numbers that are not finite")
        return people(answer, rgb, self.score_threshold, image[0]), kept

    def release(self) -> None:
        """Give back what can be made again, where memory is short."""
        self._ready.clear()

    def close(self) -> None:
        self._ready.clear()
