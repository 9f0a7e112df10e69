"""How far more workers carry one run: measured for one and two, simulated for up to a thousand.

    python -m bench.scaling                     both, on the bundled clip; a few minutes
    python -m bench.scaling --simulate-only     from the stage costs of the last measurement

Every worker and the process that gathers get one thread each, so that one and two workers can be
compared on two cores.  The run gathers while workers work, so what counts is when the last part is
gathered.  The model: a worker takes the next part when it is free; a part costs its frames, and
those the network sees before them; decoding up to a part costs too, for it is done from the file's
start; gathering is done in order, by one process.  docs/scaling.md explains the table.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import run_stream
from bench import machine
from cluster.gathered import GatheredEngine
from cluster.spread import spread
from cluster.work import Job, cut, matte_part
from cluster.workers import LocalWorkers
from configs.console import Console
from configs.schema import Settings, load
from stream.decode import open_source

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "scaling.json"


@dataclass(frozen=True)
class Costs:
    """CPU-seconds, one thread."""

    network: float  # a frame in a worker, all told
    skip: float  # a frame that is only decoded, on the way to a part
    gather: float  # a frame where the run comes together: decode, tracker, composite, files
    start: float  # a worker, until its first frame
    part_bytes: float  # a frame, from a worker to the gatherer


def simulate(
    costs: Costs, frames: int, rate: float, workers: int, *, seconds: float, overlap: float,
    videos: int = 1, gatherers: int = 1,
) -> float:  # fmt: skip
    """Seconds until the last file is written."""
    free = [costs.start] * workers
    heapq.heapify(free)
    gathering = [0.0] * gatherers
    parts = cut(frames, rate, seconds, overlap)
    for video in range(videos):
        at = gathering[video % gatherers]
        for warm, first, last in parts:
            end = frames if last is None else last + 1
            begun = heapq.heappop(free)
            ready = begun + costs.skip * warm + costs.network * (end - warm)
            heapq.heappush(free, ready)
            at = max(at, ready) + costs.gather * (end - first)
        gathering[video % gatherers] = at
    return max(gathering)


def timed_run(clip: Path, workers: int, settings: Settings) -> float:
    """Wall seconds of a whole run with so many workers of one thread each, once they are warm."""
    with tempfile.TemporaryDirectory() as folder, closing(LocalWorkers(workers)) as crew:
        out = Path(folder)
        planned = spread(str(clip), out / "warm", settings, run_stream.WEIGHTS, Here(), print)
        assert planned is not None
        warm = replace(planned.jobs[0], last=0)  # one frame: loads and compiles
        for ticket in [crew.submit(warm) for _ in range(2 * workers)]:
            crew.chunk(ticket)
        began = time.perf_counter()
        gathered = spread(str(clip), out, settings, run_stream.WEIGHTS, crew, print)
        assert gathered is not None
        ready: GatheredEngine = gathered
        console = Console(quiet=True, json_events=False)
        run_stream.matte_one(str(clip), out, settings, lambda: ready, console)
        return time.perf_counter() - began


class Here:
    """Does the work at once, in this process, and keeps the time."""

    def __init__(self) -> None:
        self.seconds, self.bytes = 0.0, 0

    def submit(self, job: Job) -> Job:
        return job

    def chunk(self, job: Job) -> bytes:
        began = time.process_time()
        made = matte_part(job)
        self.seconds += time.process_time() - began
        self.bytes += len(made)
        return made

    def close(self) -> None:
        pass


def measured(clip: Path, seconds: float, overlap: float) -> tuple[Costs, dict[str, float], int]:
    """Costs of the stages, wall seconds by number of workers, and the frames of the clip."""
    settings = load(None, ["engine.threads=1", f"cluster.part_seconds={seconds}",
                           f"cluster.overlap_seconds={overlap}"], None)  # fmt: skip
    with open_source(str(clip)) as source:
        began = time.process_time()
        frames = sum(1 for _ in source.frames())
        skip = (time.process_time() - began) / frames
        rate = float(source.rate or 25)
    with tempfile.TemporaryDirectory() as folder:
        here, out = Here(), Path(folder)
        gathered = spread(str(clip), out, settings, run_stream.WEIGHTS, here, print)
        assert gathered is not None
        ready: GatheredEngine = gathered
        here.chunk(gathered.jobs[0])  # loads and compiles
        here.seconds, here.bytes = 0.0, 0
        gathered.wait()
        seen = sum(
            (frames if last is None else last + 1) - warm
            for warm, _, last in cut(frames, rate, seconds, overlap)
        )
        began = time.process_time()
        console = Console(quiet=True, json_events=False)
        run_stream.matte_one(str(clip), out, settings, lambda: ready, console)
        gather = (time.process_time() - began) / frames
    costs = Costs(here.seconds / seen, skip, gather, 0.0, here.bytes / frames)
    walls = {str(workers): timed_run(clip, workers, settings) for workers in (1, 2)}
    return costs, walls, frames


def table(costs: Costs) -> list[dict[str, float]]:
    """An hour of 25 frames a second as one file, and as 60 files of a minute."""
    rows = []
    frames = 25 * 3600
    for workers in (1, 2, 4, 8, 16, 64, 256, 1000):
        one = simulate(costs, frames, 25, workers, seconds=20, overlap=1)
        many = simulate(costs, frames // 60, 25, workers, seconds=20, overlap=1, videos=60,
                        gatherers=max(1, workers // 4))  # fmt: skip
        rows.append({
            "workers": workers, "one_file_fps": frames / one, "sixty_files_fps": frames / many,
            "megabytes_a_second": costs.part_bytes * frames / one / 1e6,
            "worker_hours": workers * one / 3600,
        })  # fmt: skip
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scaling", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--clip", type=Path, default=ROOT / "demo" / "bedroom.mp4")
    parser.add_argument("--part-seconds", type=float, default=2.0)
    parser.add_argument("--overlap-seconds", type=float, default=0.2)
    parser.add_argument("--simulate-only", action="store_true")
    chosen = parser.parse_args(argv)
    if chosen.simulate_only:
        told = json.loads(RESULTS.read_text())
        costs = Costs(**told["costs"])
    else:
        seconds, overlap = chosen.part_seconds, chosen.overlap_seconds
        costs, walls, frames = measured(chosen.clip, seconds, overlap)
        predicted = {
            n: simulate(costs, frames, 25, int(n), seconds=seconds, overlap=overlap) for n in walls
        }
        told = {
            "machine": machine.described(), "costs": asdict(costs), "wall_seconds": walls,
            "predicted_seconds": predicted, "speedup": walls["1"] / walls["2"],
            "predicted_speedup": predicted["1"] / predicted["2"],
        }  # fmt: skip
    told["table"] = table(costs)
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps({k: v for k, v in told.items() if k != "table"}, indent=1))
    print("\n| workers | one hour as one file, frames/s | as 60 files | MB/s in | worker-hours |")
    print("|---|---|---|---|---|")
    for row in told["table"]:
        print("| {workers} | {one_file_fps:.0f} | {sixty_files_fps:.0f} | {megabytes_a_second:.1f} "
              "| {worker_hours:.2f} |".format(**row))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
