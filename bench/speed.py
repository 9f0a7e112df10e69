"""Speed of every engine of the CPU, bare and from file to tracks, by people and picture size.

    python -m bench.speed            minutes: the default engine; 1, 4, 6 people; 540p, 720p
    python -m bench.speed --full     every engine; 1, 2, 4, 6, 10 people; 540p to 2160p

Per row: the network alone; the bare engine (pictures in, everyone's mattes at full size out); the
pipeline from file to tracks (alpha.mkv and people.json out: a run with --tracks-only); and the same
with the composite, as a run is by default.  Frames per second are those of the machine as it is;
processor milliseconds per frame survive a busy one.  Latency is that of a step of the bare engine,
until every matte is drawn.  Peak memory is the process's, in that row.
Prints a table and, with --json FILE, writes one JSON object.  People are scripted (bench/crowd.py),
so that every row has the number it says.  GPUs: make bench-gpu.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

import run_stream
from bench.crowd import Crowd, clip_of
from bench.machine import described
from bench.wiring import guarded
from configs.console import Console
from configs.schema import Settings, load
from engines import ON_CPU, available, load_engine
from engines.base import Engine, EngineError
from matting.frames import Frame
from stream.stages import matte

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "demo" / "bedroom.mp4"
SIZES = {"540p": (540, 960), "720p": (720, 1280), "1080p": (1080, 1920), "2160p": (2160, 3840)}
USUAL = (("540p", "720p"), (1, 4, 6))
FULL = (tuple(SIZES), (1, 2, 4, 6, 10))
WARM_UP = 4  # frames before anything is timed


@dataclass(frozen=True)
class Row:
    """One engine, one size, one number of people."""

    engine: str
    size: str
    people: int
    network_cpu_ms: float
    bare_frames_per_second: float
    bare_cpu_ms: float
    latency_p50_ms: float
    latency_p95_ms: float
    pipeline_frames_per_second: float
    pipeline_cpu_ms: float
    composite_frames_per_second: float  # the same, and the composite is made
    composite_cpu_ms: float
    peak_megabytes: float


def row(
    inner: Engine, settings: Settings, clip: Path, size: str, people: int, frames: int
) -> Row:
    """Measure one row.  The engine stays loaded."""
    from stream.decode import open_source

    engine = Crowd(inner, people)
    console = Console(quiet=True)
    _forget_peak()
    with open_source(str(clip)) as source:
        pictures = [frame.rgb for frame, _ in zip(source.frames(), range(frames), strict=False)]
    state = engine.start()
    for rgb in pictures[:WARM_UP]:
        mattes, state = engine.step(rgb, state)
        mattes.codes.any()
    seen = engine.working_size(SIZES[size])
    network = _spent(lambda: engine.network(seen), len(pictures))

    latencies = []
    state = engine.start()
    for rgb in pictures:
        before = time.perf_counter()
        mattes, state = engine.step(rgb, state)
        if len(mattes.codes) != people:
            raise EngineError(f"{people} people were scripted and {len(mattes)} came out")
        latencies.append(time.perf_counter() - before)
    frames_in = [Frame(rgb, i, Fraction(1, 25)) for i, rgb in enumerate(pictures)]
    for _, mattes in matte(frames_in[:WARM_UP], engine):
        mattes.codes.any()
    begun = time.perf_counter(), time.process_time()
    for _, mattes in matte(frames_in, engine):
        mattes.codes.any()
    bare = [now - then for now, then in
            zip((time.perf_counter(), time.process_time()), begun, strict=True)]  # fmt: skip
    del pictures, frames_in

    with tempfile.TemporaryDirectory() as folder:  # what is loaded and made once is not a frame's
        part = replace(settings, input=replace(settings.input, end=f"{WARM_UP}f"))
        run_stream.matte_one(str(clip), Path(folder) / "out", part, lambda: engine, console)
    whole: list[float] = []
    for composite in (False, True):
        wanted = replace(settings, output=replace(settings.output, composite=composite))
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter(), time.process_time()
            outcome = run_stream.matte_one(
                str(clip), Path(folder) / "out", wanted, lambda: engine, console
            )
            ended = time.perf_counter(), time.process_time()
        if outcome.people != people:
            raise EngineError(f"{people} people were scripted and {outcome.people} tracks came out")
        wall, cpu = (now - then for now, then in zip(ended, begun, strict=True))
        whole += outcome.frames / wall, 1000 * cpu / outcome.frames
    low, high = np.percentile(latencies, (50, 95)) * 1000
    return Row(
        inner.name, size, people, network,
        frames / bare[0], 1000 * bare[1] / frames, float(low), float(high),
        whole[0], whole[1], whole[2], whole[3], _peak(),
    )  # fmt: skip


def _spent(work: Callable[[], None], times: int) -> float:
    """Processor milliseconds of one, median of `times`."""
    spent = []
    for _ in range(times):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return 1000 * float(np.median(spent))


def _forget_peak() -> None:
    """Let the system count peak memory anew (Linux: proc(5), clear_refs; elsewhere it goes on)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """Peak resident memory in MB since it was last forgotten."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        import resource

        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """What the speed is held to, of the rows there are: six people against one, in processor time,
    and the frame rate from file to tracks against the bare engine's."""
    found = {}
    at = {(r.engine, r.size, r.people): r for r in rows}
    for (engine, size, people), one in at.items():
        name = f"{engine} {size}"
        six = at.get((engine, size, 6))
        if people == 1 and six:
            found[f"{name}: six people / one, network"] = six.network_cpu_ms / one.network_cpu_ms
            found[f"{name}: six people / one, engine"] = six.bare_cpu_ms / one.bare_cpu_ms
            found[f"{name}: six people / one, pipeline"] = six.pipeline_cpu_ms / one.pipeline_cpu_ms
        if people == 4:
            share = one.pipeline_frames_per_second / one.bare_frames_per_second
            found[f"{name}: pipeline / bare engine, frame rate, 4 people"] = share
            share = one.pipeline_frames_per_second * one.latency_p50_ms / 1000
            found[f"{name}: pipeline / bare engine step by step, frame rate, 4 people"] = share
            share = one.bare_cpu_ms / one.pipeline_cpu_ms
            found[f"{name}: bare engine / pipeline, processor time, 4 people"] = share
    return found


def printed(found: dict) -> str:
    lines = [f"{name:<10} {value}" for name, value in found["machine"].items()]
    lines.append(f"threads    {found['threads']}, {found['frames']} frames a row\n")
    lines.append(f"{'':38}{'network':>9}{'bare engine':>18}{'latency, ms':>14}"
                 f"{'file to tracks':>18}{'and composite':>18}{'peak':>8}")  # fmt: skip
    lines.append(f"{'engine':<16}{'size':>8}{'people':>8}{'':6}{'CPU-ms':>9}{'f/s':>9}{'CPU-ms':>9}"
                 f"{'p50':>7}{'p95':>7}{'f/s':>9}{'CPU-ms':>9}{'f/s':>9}{'CPU-ms':>9}"
                 f"{'MB':>8}")  # fmt: skip
    for r in found["rows"]:
        lines.append(
            f"{r['engine']:<16}{r['size']:>8}{r['people']:>8}{'':6}{r['network_cpu_ms']:>9.1f}"
            f"{r['bare_frames_per_second']:>9.1f}{r['bare_cpu_ms']:>9.1f}"
            f"{r['latency_p50_ms']:>7.0f}{r['latency_p95_ms']:>7.0f}"
            f"{r['pipeline_frames_per_second']:>9.1f}{r['pipeline_cpu_ms']:>9.1f}"
            f"{r['composite_frames_per_second']:>9.1f}{r['composite_cpu_ms']:>9.1f}"
            f"{r['peak_megabytes']:>8.0f}"
        )
    lines += ["", *(f"{name}: {value:.2f}" for name, value in found["ratios"].items())]
    lines += [f"left out: {text}" for text in found["left_out"]]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("--full", action="store_true", help="every engine, size and number")
    parser.add_argument("--engines", nargs="+", metavar="NAME", help=", ".join(ON_CPU))
    parser.add_argument("--sizes", nargs="+", choices=SIZES)
    parser.add_argument("--people", nargs="+", type=int, choices=range(1, 17), metavar="1-16")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--weights", type=Path, default=ROOT / "weights")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    said = parser.parse_args(argv)
    return guarded(lambda: _measured(said))


def _measured(said: argparse.Namespace) -> int:
    import cv2

    settings = load(overrides=said.set)
    sizes, people = FULL if said.full else USUAL
    sizes, people = said.sizes or sizes, said.people or people
    ready = {found.name: found for found in available(said.weights) if found.name in ON_CPU}
    wanted = said.engines or (list(ready) if said.full else [settings.engine.backends[0]])
    cv2.setNumThreads(said.threads)
    rows: list[Row] = []
    left_out: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        clips = {
            size: clip_of(CLIP, SIZES[size], said.frames, Path(folder) / f"{size}.mp4")
            for size in sizes
        }
        for name in wanted:
            try:
                engine = load_engine([name], said.weights, threads=said.threads,
                                     in_flight=settings.engine.in_flight)  # fmt: skip
            except EngineError as error:
                left_out.append(str(error))
                continue
            for size in sizes:
                for number in people:
                    rows.append(row(engine, settings, clips[size], size, number, said.frames))
                    done = rows[-1]
                    print(f"{name} {size} {number} people: {done.pipeline_cpu_ms:.0f} CPU-ms",
                          file=sys.stderr)  # fmt: skip
            engine.close()
    found = {
        "machine": described(), "threads": said.threads, "frames": said.frames,
        "rows": [asdict(r) for r in rows], "ratios": ratios(rows), "left_out": left_out,
    }  # fmt: skip
    if said.json:
        said.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(printed(found))
    return 0 if rows else 6


if __name__ == "__main__":
    sys.exit(main())
