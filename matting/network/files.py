"""Weights on disk: safetensors whose header says which network they are of, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

UNSAVED = "num_batches_tracked"  # of batch norms: counts steps, decides nothing


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write in one rename.  `header` should hold `network` and `sizes`."""
    from safetensors.torch import save_file

    partial = path.with_suffix(".partial")
    kept = {key: value.contiguous() for key, value in tensors.items() if not key.endswith(UNSAVED)}
    save_file(kept, partial, metadata=dict(header))
    partial.replace(path)


def read(path: Path, network: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors as float32, and the header.  Raises ValueError if they are of another network."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        found = header.get("network", "no named network")
        if found != network:
            raise ValueError(f"{path} holds {found!r}, expected {network!r}")
        return {key: file.get_tensor(key).float() for key in file.keys()}, header  # noqa: SIM118


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put the tensors of `path` in their places.  Raises ValueError where they do not fit."""
    missing, foreign = network.load_state_dict(dict(tensors), strict=False)
    missing = [key for key in missing if not key.endswith(UNSAVED)]
    if missing or foreign:
        raise ValueError(
            f"{path} is not of this network: {len(missing)} tensors missing "
            f"({', '.join(missing[:3])}), {len(foreign)} unknown ({', '.join(foreign[:3])})"
        )
