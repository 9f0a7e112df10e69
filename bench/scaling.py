"""How far more workers carry one run: measured for one and two, simulated for up to a thousand.

    python -m bench.scaling                     all of it; some minutes
    python -m bench.scaling --kind ray          one of `processes`, `ray`, `costs`; keeps the others
    python -m bench.scaling --kind table        the table again, from the costs measured last

Every worker gets one thread.  The run gathers while workers work, so what counts is when its files
are there.  Beside the seconds stand CPU-ms a frame, which say the same on a busy machine.

The model: a worker takes the next part when it is free; a part costs its frames and what is decoded
on the way to them, or seen where a network remembers; gathering is done in order, by one
process; where more want to work than there are cores, all get the same share.  docs/scaling.md
explains the table.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av

import run_stream
from bench import machine
from cluster.gathered import GatheredEngine
from cluster.spread import spread
from cluster.work import Job, cut, matte_part
from cluster.workers import LocalWorkers, RayWorkers, Workers
from configs.console import Console
from configs.schema import Settings, load
from stream.decode import open_source

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "scaling.json"
LOOKS = ("tracks", "composite")
KINDS = ("processes", "ray", "costs", "table")
CORES = 2  # of the machine that is predicted
GROUP = 50  # frames between two pictures that stand alone, in the table: 2 s


@dataclass(frozen=True)
class Costs:
    """CPU-seconds, one thread."""

    network: float  # a frame in a worker, all told: the shipped network, which keeps nothing
    skip: float  # a frame that is only decoded, on the way to a part
    gather: float  # a frame where the run comes together: decode, tracker, files
    composite: float  # a frame there, more, where a composite is made
    start: float  # a worker, until it can begin
    part_bytes: float  # a frame, from a worker to the gatherer


def simulate(
    costs: Costs, frames: int, rate: float, workers: int, *, seconds: float, overlap: float,
    videos: int = 1, gatherers: int = 1, composite: bool = False, cores: float = math.inf,
    group: int | None = None, remembers: bool = False,
) -> float:  # fmt: skip
    """Seconds until the last file is written.  `group`: a file can be entered every so many frames;
    None: only at its start.  `remembers`: the network has to see the frames before a part."""
    parts = cut(frames, rate, seconds, overlap)
    work, gather = [], []
    for warm, first, last in parts:
        end = frames if last is None else last + 1
        begun = warm if remembers else first
        skipped = begun - (0 if group is None else warm // group * group)
        work.append(costs.skip * skipped + costs.network * (end - begun))
        gather.append((costs.gather + composite * costs.composite) * (end - first))
    places = list(itertools.product(range(videos), range(len(parts))))
    todo, found = deque(places), set()
    lines = [deque(p for p in places if p[0] % gatherers == g) for g in range(gatherers)]
    busy = [False] * gatherers

    # All who work get on equally fast, so one clock of work done serves for all of them.
    running: list[tuple[float, int, int | None, tuple[int, int] | None]] = []
    order = itertools.count()
    now = done = finished = 0.0
    for _ in range(workers):
        heapq.heappush(running, (costs.start, next(order), None, None))
    while running:
        now += (running[0][0] - done) * max(1.0, len(running) / cores)
        done, _, gatherer, place = heapq.heappop(running)
        if gatherer is None:
            if place:
                found.add(place)
            if todo:
                following = todo.popleft()
                ends = done + work[following[1]]
                heapq.heappush(running, (ends, next(order), None, following))
            gatherer = place[0] % gatherers if place else 0
        else:
            busy[gatherer] = False
            lines[gatherer].popleft()
            finished = now
        line = lines[gatherer]
        if line and line[0] in found and not busy[gatherer]:
            busy[gatherer] = True
            ends = done + gather[line[0][1]]
            heapq.heappush(running, (ends, next(order), gatherer, line[0]))
    return finished


# -------------------------------------------------------------------------------------- measured


def timed_part(folder: str, job: Job) -> bytes:
    """`matte_part`, with a note in `folder` of when it was done and what it took."""
    began, before = time.time(), time.process_time()
    made = matte_part(job)
    told = {"began": began, "ended": time.time(), "pid": os.getpid(), "bytes": len(made),
            "before": before, "cpu": time.process_time() - before}  # fmt: skip
    Path(folder, f"{os.getpid()}_{time.monotonic_ns()}.json").write_text(json.dumps(told))
    return made


@dataclass(frozen=True)
class Timed:
    """A whole run, its workers warm."""

    seconds: float  # until its files were there
    frames: int
    skipped: int  # frames the workers only decoded, on the way to a part
    parts: list[dict[str, float]]  # what `timed_part` noted
    gather_cpu: float  # seconds, of this process
    start_cpu: float  # seconds, of a worker until it could begin

    @property
    def worker_ms(self) -> float:
        """CPU-ms of the workers for a frame."""
        return sum(part["cpu"] for part in self.parts) / self.frames * 1e3

    def network(self, skip: float) -> float:
        """CPU-seconds of a frame without what was decoded on the way to it."""
        return self.worker_ms / 1e3 - skip * self.skipped / self.frames

    @property
    def told(self) -> dict[str, float]:
        """What is kept in the results."""
        at_work = max(p["ended"] for p in self.parts) - min(p["began"] for p in self.parts)
        return {
            "seconds": self.seconds, "frames_per_second": self.frames / self.seconds,
            "workers_frames_per_second": self.frames / at_work,
            "worker_cpu_ms_a_frame": self.worker_ms,
            "gather_cpu_ms_a_frame": self.gather_cpu / self.frames * 1e3,
        }  # fmt: skip


def timed_run(clip: Path, kind: str, workers: int, settings: Settings) -> Timed:
    with tempfile.TemporaryDirectory() as folder:
        notes, out = Path(folder) / "notes", Path(folder) / "out"
        notes.mkdir()
        work = partial(timed_part, str(notes))
        crew: Workers
        if kind == "ray":
            os.environ.setdefault("RAY_worker_niceness", "0")  # by itself it gives way to others
            crew = RayWorkers("local", workers, lambda job: work(job))  # it takes functions alone
        else:
            crew = LocalWorkers(workers, work)
        with closing(crew):
            warm = planned(clip, Path(folder) / "warm", settings, Idle()).jobs[0]
            for ticket in [crew.submit(replace(warm, last=0)) for _ in range(2 * workers)]:
                crew.chunk(ticket)  # one frame: loads and compiles
            told = [json.loads(path.read_text()) for path in notes.iterdir()]
            start = max(note["before"] + note["cpu"] for note in told)
            for path in notes.iterdir():
                path.unlink()
            began, cpu = time.perf_counter(), time.process_time()
            gathered = planned(clip, out, settings, crew)
            console = Console(quiet=True, json_events=False)
            outcome = run_stream.matte_one(str(clip), out, settings, lambda: gathered, console)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        parts = [json.loads(path.read_text()) for path in notes.iterdir()]
        skipped = sum(job.first - (job.door.frame if job.door else 0) for job in gathered.jobs)
        return Timed(seconds, outcome.frames, skipped, parts, cpu, start)


def planned(clip: Path, out: Path, settings: Settings, workers: Workers) -> GatheredEngine:
    gathered = spread(str(clip), out, settings, run_stream.WEIGHTS, workers, print)
    assert gathered is not None, "a video, not pictures"
    return gathered


class Idle:
    """Workers who do nothing: for a plan alone."""

    def submit(self, job: Job) -> Job:
        return job

    def chunk(self, ticket: Job) -> bytes:
        raise AssertionError("only planned")

    def close(self) -> None:
        pass


def settings_of(composite: bool, seconds: float, overlap: float) -> Settings:
    return load(None, [
        "engine.threads=1", f"cluster.part_seconds={seconds}",
        f"cluster.overlap_seconds={overlap}", f"output.composite={str(composite).lower()}",
    ], None)  # fmt: skip


def compared(
    clip: Path, kind: str, looks: Sequence[str], rounds: int, seconds: float, overlap: float
) -> dict[str, dict[str, Any]]:
    """One worker and two, in turns; the better of the rounds of each, and what the model says."""
    found = {}
    for name in looks:
        settings = settings_of(name == "composite", seconds, overlap)
        best: dict[int, Timed] = {}
        for _ in range(rounds):
            for workers in (1, 2):
                run = timed_run(clip, kind, workers, settings)
                print(f"{kind}, {name}, {workers} worker(s): {json.dumps(run.told)}", flush=True)
                if workers not in best or run.seconds < best[workers].seconds:
                    best[workers] = run
        frames, skip = best[1].frames, skipping(clip, best[1].frames)
        predicted = {}
        for workers in best:
            costs = Costs(best[1].network(skip), skip, best[1].gather_cpu / frames, 0, 0, 0)
            predicted[workers] = simulate(
                costs, frames, rate_of(clip), workers, seconds=seconds, overlap=overlap, cores=CORES
            )
        one, two = best[1], best[2]
        found[name] = {
            "one": one.told, "two": two.told,
            "speedup": one.seconds / two.seconds,
            "speedup_of_the_workers":
                two.told["workers_frames_per_second"] / one.told["workers_frames_per_second"],
            "predicted_seconds": predicted, "predicted_speedup": predicted[1] / predicted[2],
        }  # fmt: skip
    return found


def rate_of(clip: Path) -> float:
    with open_source(str(clip)) as source:
        return float(source.rate or 25)


def skipping(clip: Path, frames: int) -> float:
    """CPU-seconds for a frame on the way to a part: a file is opened, then read."""
    last = frames - 1
    began = time.process_time()
    with open_source(str(clip), threads=1, start=f"{last}f") as source:
        for _ in source.frames():
            pass
    return (time.process_time() - began) / last


def stage_costs(clip: Path, height: int = 1080, frames: int = 50) -> Costs:
    """What the stages take at 1080p, of the clip enlarged.  CPU time alone."""
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.mp4"
        enlarge(clip, large, height, frames)
        plain, composed = (
            timed_run(large, "processes", 1, settings_of(composite, 60, 0))
            for composite in (False, True)
        )
        return Costs(
            network=plain.worker_ms / 1e3, skip=skipping(large, frames),
            gather=plain.gather_cpu / frames,
            composite=max(0.0, composed.gather_cpu - plain.gather_cpu) / frames,
            start=plain.start_cpu, part_bytes=sum(p["bytes"] for p in plain.parts) / frames,
        )  # fmt: skip


def enlarge(clip: Path, path: Path, height: int, frames: int) -> None:
    with open_source(str(clip)) as source, av.open(f"file:{path}", "w") as out:
        width = round(height * source.size[1] / source.size[0] / 2) * 2
        stream = out.add_stream("libx264", rate=Fraction(25))
        stream.codec_context.height, stream.codec_context.width = height, width
        stream.codec_context.pix_fmt = "yuv420p"
        stream.codec_context.options = {"preset": "veryfast", "crf": "20", "g": str(GROUP)}
        for number, frame in enumerate(itertools.islice(source.frames(), frames)):
            picture = av.VideoFrame.from_ndarray(frame.rgb, format="rgb24")
            picture = picture.reformat(width=width, height=height, format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))


# ------------------------------------------------------------------------------------- the table


def table(costs: Costs) -> list[dict[str, float]]:
    """An hour of 25 frames a second as one file, and as 60 files of a minute."""
    rows = []
    frames = 25 * 3600
    how: dict[str, Any] = {"seconds": 20, "overlap": 1, "group": GROUP}
    for workers in (1, 2, 4, 8, 16, 64, 256, 1000):
        one = simulate(costs, frames, 25, workers, **how)
        composed = simulate(costs, frames, 25, workers, composite=True, **how)
        many = simulate(costs, frames // 60, 25, workers, videos=60,
                        gatherers=min(60, max(1, workers // 4)), **how)  # fmt: skip
        rows.append({
            "workers": workers, "one_file_fps": frames / one,
            "with_composite_fps": frames / composed, "sixty_files_fps": frames / many,
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
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: all")
    parser.add_argument("--look", choices=LOOKS, action="append", help="default: both")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--part-seconds", type=float, default=1.67)
    parser.add_argument("--overlap-seconds", type=float, default=0.2)
    chosen = parser.parse_args(argv)
    told = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for kind in chosen.kind or KINDS:
        if kind in ("processes", "ray"):
            found = compared(
                chosen.clip, kind, chosen.look or LOOKS, chosen.rounds, chosen.part_seconds,
                chosen.overlap_seconds,
            )
            told[kind] = told.get(kind, {}) | found | {"machine": machine.described()}
        elif kind == "costs":
            told[kind] = {"machine": machine.described()} | asdict(stage_costs(chosen.clip))
        else:
            costs = {name: value for name, value in told["costs"].items() if name != "machine"}
            told[kind] = table(Costs(**costs))
        print(json.dumps({kind: told[kind]}, indent=1))
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    print("\n| workers | one file | with composite | 60 files | MB/s in | worker-hours |")
    print("|---|---|---|---|---|---|")
    for row in told.get("table", ()):
        print("| {workers} | {one_file_fps:.0f} | {with_composite_fps:.0f} | {sixty_files_fps:.0f} "
              "| {megabytes_a_second:.1f} | {worker_hours:.2f} |".format(**row))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
