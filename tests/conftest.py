"""Puts the root on sys.path, as running from it does, and decides what runs.

Tests marked `gpu` are skipped without a CUDA device, unless REQUIRE_GPU=1, where they must run.
tests/faults/ kills processes and fills disks: it runs when it is named (`make test-faults`).
"""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def _cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    faults = ROOT / "tests" / "faults"
    asked = any("faults" in argument for argument in config.invocation_params.args)
    return True if collection_path == faults and not asked else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or os.environ.get("REQUIRE_GPU") == "1" or _cuda():
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="no CUDA device"))
