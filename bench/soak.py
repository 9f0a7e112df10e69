"""Hours of live, and two hundred starts: `python -m bench.soak` (also `make soak`).

First, sessions are started and stopped `--starts` times, with a stream into a file; afterwards
threads, open files and memory have to be what they were.  Then one session runs for `--minutes` at
real-time pace: a file as camera, everyone with a background, a page that looks on, a stream into a
file.  Memory and latency of the last quarter have to be those of the second.  Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from bench.crowd import clip_of
from bench.machine import printed
from configs.console import Console
from configs.schema import Settings, load
from run_stream import new_tracker, ready_engine
from stream.camera import LiveSource, Wanted
from stream.live import Live, Wishes
from stream.sinks import StreamSink
from tests.fakes import write_clip
from tests.stream.leaks import handles, resident_bytes, started_and_stopped
from web.hub import Hub
from web.server import Desk, Page, application
from web.uploads import Library

MEGABYTE = 1 << 20
STARTS_GROWTH = 30 * MEGABYTE  # of two hundred sessions: allocators keep a little of what they had
RUN_GROWTH = 40 * MEGABYTE  # from the second quarter of a run to the last


def starts(count: int, folder: Path) -> list[str]:
    """Start and stop; what is not as before."""
    clip = write_clip(folder / "squares.mp4", frames=60)
    started_and_stopped(clip, 20, folder)  # libraries load what they load once
    gc.collect()
    threads, files, memory = threading.active_count(), handles(), resident_bytes()
    started_and_stopped(clip, count, folder)
    gc.collect()
    time.sleep(1)
    grown = resident_bytes() - memory
    print(
        f"{count} starts: threads {threads} -> {threading.active_count()}, "
        f"open files {files} -> {handles()}, memory {grown / MEGABYTE:+.1f} MB"
    )
    bad = []
    if threading.active_count() > threads:
        bad.append("threads are left behind")
    if handles() > files:
        bad.append("files are left open")
    if grown > STARTS_GROWTH:
        bad.append("memory has grown")
    return bad


def long_run(minutes: float, clip: str, folder: Path, settings: Settings) -> list[str]:
    """One session; what has grown."""
    from websockets.sync.client import connect

    engine = ready_engine(settings, Console(quiet=True).note, in_flight=1)
    hub, library = Hub(540, 80), Library(10)
    live = Live(
        LiveSource(clip, Wanted(loop=True)), engine, lambda: new_tracker(settings),
        wishes=Wishes("blur", {1: "#00b140"}), sinks=[hub, StreamSink(str(folder / "soak.mkv"))],
        calm=settings.people.calm,
    )  # fmt: skip
    page = Page(application(Desk(live, hub, library, folder)), "127.0.0.1", 0)
    samples: list[tuple[float, float]] = []  # memory, latency in ms
    with live, connect(f"ws://127.0.0.1:{page.port}/api/live", max_size=None) as viewer:
        end = time.monotonic() + minutes * 60
        said = time.monotonic()
        while time.monotonic() < end and live.running:
            told = viewer.recv(60)
            if isinstance(told, bytes):
                length = int.from_bytes(told[:4], "little")
                sequence = json.loads(told[4 : 4 + length])["sequence"]
                viewer.send(json.dumps({"drawn": sequence}))
            if time.monotonic() - said > max(1.0, minutes * 60 / 200):
                said = time.monotonic()
                samples.append((resident_bytes(), live.figures()["latency_ms"]))
        figures = live.figures()
        problem = live.problem
    page.close()
    library.close()
    engine.close()
    memory, latency = np.array(samples).T
    quarter = len(samples) // 4
    grown = np.median(memory[-quarter:]) - np.median(memory[quarter : 2 * quarter])
    later = np.median(latency[-quarter:]) - np.median(latency[quarter : 2 * quarter])
    print(
        f"{minutes:g} minutes: {figures['shown']} pictures, {figures['dropped']} left out, memory "
        f"{grown / MEGABYTE:+.1f} MB, latency {later:+.0f} ms of {np.median(latency):.0f} ms, "
        "from the second quarter to the last"
    )
    bad = [f"it stopped: {problem}"] if problem else []
    if grown > RUN_GROWTH:
        bad.append("memory grows")
    if later > 0.5 * np.median(latency):
        bad.append("latency grows")
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--starts", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clip", default="demo/bedroom.mp4")
    parser.add_argument("--rows", type=int, help="of the camera; default: as the clip is")
    parser.add_argument("--rate", type=int, default=25, help="with --rows: its pictures per second")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    said = parser.parse_args()
    if not os.path.isdir("/proc/self"):
        sys.exit("memory and open files are read from /proc, which this system does not have")
    print(printed())
    with tempfile.TemporaryDirectory() as name:
        bad = starts(said.starts, Path(name)) if said.starts else []
        clip = said.clip
        if said.rows:
            size = said.rows, round(said.rows * 8 / 9) * 2
            clip = str(clip_of(Path(clip), size, 60 * said.rate, Path(name) / "c.mp4", said.rate))
        if said.minutes:
            bad += long_run(said.minutes, clip, Path(name), load(overrides=said.set))
    if bad:
        sys.exit("; ".join(bad))


if __name__ == "__main__":
    main()
