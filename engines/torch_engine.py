"""The network itself on PyTorch, CPU or CUDA: what the exported backends are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.base import EngineError
from engines.exported import ExportedEngine
from engines.people import Answer


class TorchEngine(ExportedEngine):
    def __init__(
        self, weights: Path, threads: int | None, score_threshold: float, device: str
    ) -> None:
        import torch

        from matting.network import live
        from matting.network.export import Exported

        self.name = "torch" if device == "cpu" else "torch-cuda"
        super().__init__(score_threshold)
        if device != "cpu" and not torch.cuda.is_available():
            raise EngineError("torch-cuda: this torch sees no CUDA device; try --engine torch")
        path = weights / "live.safetensors" if weights.is_dir() else weights
        path = path.with_suffix(".safetensors")
        if not path.is_file():
            raise EngineError(f"{path}: no weights there")
        if threads and device == "cpu":
            torch.set_num_threads(threads)
        self._torch, self._device = torch, torch.device(device)
        try:
            network, _ = live.load(path)
        except Exception as error:  # damaged, of another network, or no safetensors at all
            raise EngineError(f"{path}: these weights cannot be read: {error}") from error
        self._network = Exported(network).eval().to(self._device)
        self.warm_up()

    def _compile(self, size: tuple[int, int]) -> Any:
        self._run(self._network, np.zeros((1, *size, 3), np.uint8))
        return self._network

    def _run(self, network: Any, image: np.ndarray) -> Answer:
        with self._torch.inference_mode():
            made = network(self._torch.from_numpy(image).to(self._device))
        return Answer(*(part[0].float().cpu().numpy() for part in made))
