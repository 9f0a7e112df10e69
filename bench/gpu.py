"""How fast the engines of a GPU are: python -m bench.gpu (or make bench-gpu)

For each engine: the bare network at its working size, one picture and eight at once; and whole
steps at four picture sizes, one picture at a time and overlapped.  The overlap is the overlapped
rate as a share of what its slowest part alone allows, the bare network or the copies.  Beside it
stand the GPU's ceilings, measured in the same run, and how near the network comes to them.
Writes bench/results/gpu-<GPU>.json with date, GPU and versions.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.machine import described
from bench.precision import clip_pictures
from engines import load_engine

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
HEIGHTS = (540, 720, 1080, 2160)
BATCHES = (1, 8)
WORKING = (288, 512)
SECONDS = 3.0  # of measuring, each


def bare(engine: Any, batch: int, seconds: float = SECONDS) -> dict[str, float]:
    """Pictures per second of the network alone, in its recorded form, and milliseconds of a run."""
    lanes = engine.lanes
    bound = engine.network.bind(WORKING, lanes, batch)
    run = lanes.infer.recorded(bound.run) if bound.recordable else bound.run
    times = timed(lambda: (lanes.infer.do(run), lanes.infer.finish()), seconds)
    begun, runs = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:  # back to back: waits only now and then
        for _ in range(16):
            lanes.infer.do(run)
        lanes.infer.finish()
        runs += 16
    rate = runs * batch / (time.perf_counter() - begun)
    return {"batch": batch, "frames_per_second": rate} | percentiles(times)


def steps(engine: Any, pictures: Sequence[np.ndarray], seconds: float = SECONDS) -> dict[str, Any]:
    """Whole steps on these pictures: one at a time (its latency), and overlapped."""
    at, state = 0, engine.start()

    def step() -> None:
        nonlocal at, state
        _, state = engine.step(pictures[at % len(pictures)], state)
        at += 1

    step()  # a size's first picture makes it ready
    times = timed(step, seconds)
    waiting: list[Any] = []
    done, begun, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        pending, state = engine.submit(pictures[at % len(pictures)], state)
        waiting.append(pending)
        at += 1
        if len(waiting) >= engine.in_flight:
            waiting.pop(0).result()
            done += 1
    wall = time.perf_counter() - begun
    cpu = time.process_time() - used
    for pending in waiting:
        pending.result()
    height, width = pictures[0].shape[:2]
    return {
        "size": [height, width], "overlapped_frames_per_second": done / wall,
        "cpu_ms_per_frame": 1000 * cpu / max(1, done),
    } | percentiles(times)  # fmt: skip


def timed(work: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each run, over about `seconds`."""
    times: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or not times:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def percentiles(times: Sequence[float]) -> dict[str, float]:
    p50, p95 = np.percentile(np.asarray(times) * 1000, (50, 95))
    return {"p50_ms": float(p50), "p95_ms": float(p95)}


def ceilings() -> dict[str, float]:
    """What this GPU does at best: float16 products, copies within it, and from and to the host."""
    import torch

    def best(work: Callable[[], Any], amount: float) -> float:
        work()
        found = []
        for _ in range(10):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            found.append(begin.elapsed_time(end) / 1000)
        return amount / min(found)

    a = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    big = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(big)
    host = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    there = big[: 1 << 28]
    return {
        "float16_tflops": best(lambda: a @ a, 2 * 8192**3) / 1e12,
        "memory_gb_per_second": best(lambda: other.copy_(big), 2 * (1 << 30)) / 1e9,
        "upload_gb_per_second": best(lambda: there.copy_(host, non_blocking=True), 1 << 28) / 1e9,
        "download_gb_per_second": best(lambda: host.copy_(there, non_blocking=True), 1 << 28) / 1e9,
    }


def work_of_network(weights: Path) -> dict[str, float]:
    """Operations of one picture at the working size, and the least that must be read: weights."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from engines.torch_engine import read_network

    network = read_network(weights)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *WORKING, 3, dtype=torch.uint8))
    count = sum(weight.numel() for weight in network.parameters())
    return {"gflop": counter.get_total_flops() / 1e9, "float16_weights_mb": 2 * count / 1e6}


def measured(name: str, weights: Path, work: dict[str, float], top: dict[str, float],
             settings: dict[str, Any]) -> dict[str, Any]:  # fmt: skip
    import torch

    torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    engine: Any = load_engine([name], weights, **settings)
    found: dict[str, Any] = {"load_seconds": time.perf_counter() - begun, "bare": [], "steps": []}
    try:
        for batch in BATCHES:
            row = bare(engine, batch)
            tflops = row["frames_per_second"] * work["gflop"] / 1000
            row["share_of_float16_ceiling"] = tflops / top["float16_tflops"]
            found["bare"].append(row)
        for height in HEIGHTS:
            size = (height * 16 // 9, height)
            pictures = [cv2.resize(rgb, size) for rgb in clip_pictures(4)]
            row = steps(engine, pictures)
            people = len(engine.step(pictures[0], engine.start())[0])
            up = 3 * height * size[0] / top["upload_gb_per_second"] / 1e9
            down = 4 * people * height * size[0] / top["download_gb_per_second"] / 1e9
            slowest = max(1 / found["bare"][0]["frames_per_second"], up, down)
            row["overlap"] = row["overlapped_frames_per_second"] * slowest
            found["steps"].append(row | {"people": people})
        found["peak_memory_mb"] = torch.cuda.max_memory_allocated() / 1e6
    finally:
        engine.close()
    return found


def printed(found: dict[str, Any]) -> str:
    lines = [f"{name:<10} {value}" for name, value in found["machine"].items()]
    lines.append("ceilings   " + ", ".join(f"{k} {v:.0f}" for k, v in found["ceilings"].items()))
    for name, one in found["engines"].items():
        lines.append(f"\n{name}, ready after {one['load_seconds']:.1f} s")
        for row in one["bare"]:
            lines.append(
                f"  network x{row['batch']:<4.0f}{row['frames_per_second']:9.0f} frames/s  "
                f"p50 {row['p50_ms']:6.2f} p95 {row['p95_ms']:6.2f} ms  "
                f"{row['share_of_float16_ceiling']:.1%} of the float16 ceiling"
            )
        for row in one["steps"]:
            lines.append(
                f"  {row['size'][0]:>4}p, {row['people']} people"
                f"{row['overlapped_frames_per_second']:6.0f} frames/s  "
                f"p50 {row['p50_ms']:6.2f} p95 {row['p95_ms']:6.2f} ms  "
                f"{row['cpu_ms_per_frame']:.1f} CPU-ms  overlap {row['overlap']:.0%}"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--engines", default="torch-cuda", help="names with commas between")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--in-flight", type=int, default=4)
    parser.add_argument("--weights", type=Path, default=ROOT / "weights")
    said = parser.parse_args(argv)
    try:
        import torch

        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    except ImportError:
        gpu = None
    if gpu is None:
        print("bench.gpu: no CUDA device is visible to torch", file=sys.stderr)
        return 6
    work, top = work_of_network(said.weights), ceilings()
    settings = {"precision": said.precision, "in_flight": said.in_flight}
    found = {
        "machine": described() | {"gpu": gpu, "cuda": str(torch.version.cuda)},
        "settings": settings, "network": work, "ceilings": top,
        "engines": {
            name: measured(name, said.weights, work, top, settings)
            for name in said.engines.split(",")
        },
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"gpu-{re.sub('[^a-z0-9]+', '-', gpu.lower())}.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(printed(found))
    print(f"\n{path.relative_to(ROOT)}: commit it", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
