"""The GPU's measurements, on lanes of a CPU: that they measure, not how fast."""

import os
import subprocess
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from bench import gpu  # noqa: E402
from engines.lanes import ThreadLanes  # noqa: E402
from tests.engines.test_gpu import toy_engine  # noqa: E402
from tests.engines.toy_network import three_people  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def test_the_network_alone_and_whole_steps_are_measured():
    engine = toy_engine(ThreadLanes(), 3)
    alone = gpu.bare(engine, 1, seconds=0.2)
    whole = gpu.steps(engine, [three_people(i) for i in range(3)], seconds=0.3)
    engine.close()

    assert alone["frames_per_second"] > 0 and alone["p50_ms"] <= alone["p95_ms"]
    assert whole["size"] == [90, 160] and whole["overlapped_frames_per_second"] > 0


def test_without_a_gpu_the_script_says_so_and_fails(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert gpu.main([]) == 6
    assert "no CUDA device" in capsys.readouterr().err
    import sys

    run = subprocess.run(
        [ROOT / "bench/gpu.sh", "test"], capture_output=True, text=True,
        env={**os.environ, "BIN": str(Path(sys.executable).parent)},
    )  # fmt: skip
    assert run.returncode == 1
    assert "sees no CUDA device here" in run.stderr
