"""How much of the bare network's speed is left when files go in and files come out.

    python -m bench.pipeline

The bare network (pictures already in memory, mattes thrown away) and the whole pipeline (decode,
network, tracker, composite, encode of every track) take turns in one process, so that both meet the
same machine.  Prints frames per second of each round, their ratio, and the processor time each
stage takes when it runs alone; processor time survives a busy machine, frames per second do not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import run_stream
from bench.machine import described
from bench.wiring import guarded
from configs.console import Console
from configs.schema import Settings, load
from engines.base import Engine
from matting.frames import Frame

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "demo" / "bedroom.mp4"
HELD_TO = 0.70  # of the bare network's frame rate, with two people at 960 x 540
ALONE = 60  # frames on which each stage is timed alone


def measured(
    settings: Settings, clip: Path, rounds: int, load_engine: Callable[..., Engine] | None = None
) -> dict[str, Any]:
    """Both speeds, round by round, and the stages one by one."""
    console = Console(quiet=True)
    engine = run_stream.ready_engine(settings, console.note, load_engine)
    try:
        pictures = _pictures(clip)
        _bare(engine, pictures, 10)  # the first picture of a size may compile
        bare, whole = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                begun = _clocks()
                frames = run_stream.matte_one(
                    str(clip), Path(folder) / "out", settings, lambda: engine, console
                ).frames
                whole.append(_spent(begun, frames))
            begun = _clocks()
            _bare(engine, pictures, frames)
            bare.append(_spent(begun, frames))
        stages = _stages(settings, clip, engine)
    finally:
        engine.close()
    ratios = [w["frames_per_second"] / b["frames_per_second"]
              for w, b in zip(whole, bare, strict=True)]  # fmt: skip
    return {
        "machine": described(),
        "engine": engine.name,
        "clip": clip.name,
        "size": list(pictures[0].size),
        "bare": bare,
        "pipeline": whole,
        "ratio": statistics.median(ratios),
        "held_to": HELD_TO,
        "stages_cpu_ms": stages,
    }


def _pictures(clip: Path) -> list[Frame]:
    from stream.decode import open_source

    with open_source(str(clip)) as source:
        return list(itertools.islice(source.frames(), ALONE))


def _bare(engine: Engine, pictures: list[Frame], frames: int) -> None:
    from stream.stages import matte

    for _ in matte(itertools.islice(itertools.cycle(pictures), frames), engine):
        pass


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _spent(begun: tuple[float, float], frames: int) -> dict[str, float]:
    wall, cpu = (now - then for now, then in zip(_clocks(), begun, strict=True))
    return {"frames_per_second": frames / wall, "cpu_ms_per_frame": 1000 * cpu / frames}


def _stages(settings: Settings, clip: Path, engine: Engine) -> dict[str, float]:
    """Processor milliseconds per frame of each stage, run alone over the same frames."""
    from stream.calm import Calm, calm
    from stream.compose import Composer, Look
    from stream.decode import open_source
    from stream.encode import Deliverables
    from stream.stages import compose, follow, matte

    spent: dict[str, float] = {}

    def timed(name: str, items: Iterable[Any]) -> list[Any]:
        begun = time.process_time()
        found = list(itertools.islice(items, ALONE))
        spent[name] = 1000 * (time.process_time() - begun) / max(1, len(found))
        return found

    with open_source(str(clip)) as source, tempfile.TemporaryDirectory() as folder:
        frames = timed("decode", source.frames())
        matted = timed("network", matte(frames, engine))
        followed = timed("tracker", follow(matted, run_stream.new_tracker(settings)))
        followed = timed("calm", calm(followed, Calm(settings.people.calm)))
        look = Look.of(settings.look.background, settings.look.people)
        composed = timed("composite", compose(followed, Composer(look, source.size)))
        with Deliverables(Path(folder) / "out", source) as files:
            begun = time.process_time()
            for frame, mattes, picture in composed:
                files.write(frame, mattes, picture)
            files.finish()
            spent["encode"] = 1000 * (time.process_time() - begun) / max(1, len(composed))
    return spent


def _printed(found: dict[str, Any]) -> str:
    lines = [f"{name:<10} {value}" for name, value in found["machine"].items()]
    height, width = found["size"]
    lines += [f"engine     {found['engine']}", f"clip       {found['clip']}, {width} x {height}"]
    lines.append(f"\n{'':<12}{'bare network':>24}{'file to tracks':>24}")
    for i, (bare, whole) in enumerate(zip(found["bare"], found["pipeline"], strict=True), 1):
        cells = (f"{r['frames_per_second']:6.1f} f/s {r['cpu_ms_per_frame']:5.0f} CPU-ms"
                 for r in (bare, whole))  # fmt: skip
        lines.append(f"round {i:<6}" + "".join(f"{cell:>24}" for cell in cells))
    lines.append(
        f"\nfile to tracks / bare network, median of rounds: {found['ratio']:.2f} "
        f"(held to {found['held_to']:.2f})"
    )
    stages = ", ".join(f"{name} {ms:.1f}" for name, ms in found["stages_cpu_ms"].items())
    lines.append(f"CPU-ms per frame, each stage alone: {stages}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__)
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    said = parser.parse_args(argv)

    def work() -> int:
        found = measured(load(overrides=said.set), said.clip, said.rounds)
        print(json.dumps(found, indent=2) if said.json else _printed(found))
        return 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
