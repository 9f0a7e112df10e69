"""Cut, spread, lost and found again: what comes out is what one process would have found."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

import run_stream
from cluster import spread as spreading
from cluster import work
from cluster.chunk import Chunk, ChunkError
from cluster.gathered import FOLDER, GatheredEngine
from cluster.work import Job, cut
from cluster.workers import LocalWorkers, RayWorkers, WorkersError
from stream.decode import open_source
from stream.store import AlphaDecoder
from tests.cluster.squares import die_always, die_once, matte_squares
from tests.fakes import Square, SquaresEngine, write_clip
from tests.faults.builders import film

ROOT = Path(__file__).resolve().parents[2]
CROSSING = (Square("red", at=(16, 8), step=(0, 3)), Square("green", at=(20, 120), step=(0, -3)))


def jobs(clip: Path, parts) -> list[Job]:
    return [Job(str(clip), warm, first, last, str(clip), ()) for warm, first, last in parts]


@pytest.fixture
def clip(tmp_path) -> Path:
    """40 frames at 10 a second: two people who cross in the middle, where the video is cut."""
    path = tmp_path / "crossing.mp4"
    return write_clip(path, frames=40, squares=CROSSING, rate=10, options={"g": "6", "bf": "2"})


@pytest.mark.parametrize(
    ("frames", "seconds", "overlap"),
    [(1, 20, 1), (0, 20, 1), (99, 2, 1), (1000, 3.3, 0), (251, 5, 2)],
)
def test_every_frame_belongs_to_one_part(frames, seconds, overlap):
    parts = cut(frames, 25.0, seconds, overlap)

    firsts, lasts = [p[1] for p in parts], [p[2] for p in parts]
    assert firsts[0] == 0
    assert [last + 1 for last in lasts[:-1]] == firsts[1:]
    assert lasts[-1] is None  # a header may claim too little
    assert all(max(0, first - overlap * 25) == warm for warm, first, _ in parts)


def test_what_workers_found_is_what_one_engine_finds(clip, tmp_path):
    engine = SquaresEngine()
    with closing(LocalWorkers(2, matte_squares)) as workers:
        parts = jobs(clip, [(0, 0, 15), (6, 16, 31), (22, 32, None)])
        gathered = GatheredEngine("squares", parts, workers, tmp_path / "out")
        state, own = gathered.start(), engine.start()
        with open_source(clip) as source:
            for frame in source.frames():
                ours, state = gathered.step(frame.rgb, state)
                theirs, own = engine.step(frame.rgb, own)
                assert np.array_equal(ours.codes, theirs.codes)
                for name in ("coarse", "score", "box", "code"):
                    assert np.array_equal(getattr(ours, name), getattr(theirs, name))
                assert np.array_equal(ours.pick([1, 0]).codes[0], theirs.codes[1])
    assert state == 40


@pytest.mark.parametrize(("memory", "steps"), [({}, 11), ({"seen": 1}, 20)])
def test_only_a_network_that_remembers_sees_the_frames_before_a_part(
    clip, tmp_path, monkeypatch, memory, steps
):
    class Remembering(SquaresEngine):
        def step(self, rgb, state):
            return super().step(rgb, 0)[0], memory

    engine = Remembering()
    monkeypatch.setattr(work, "_engine", lambda *_: engine)
    (tmp_path / "part.npz").write_bytes(work.matte_part(jobs(clip, [(10, 20, 29)])[0]))

    assert engine.steps == steps
    assert len(Chunk(tmp_path / "part.npz")) == 10


def test_a_worker_that_is_killed_costs_nothing_but_time(clip, tmp_path):
    with closing(LocalWorkers(1, die_once)) as workers:
        parts = jobs(clip, [(0, 0, 9), (10, 10, 19), (20, 20, None)])
        tickets = [workers.submit(job) for job in parts]
        chunks = []
        for i, ticket in enumerate(tickets):
            (tmp_path / f"{i}.npz").write_bytes(workers.chunk(ticket))
            chunks.append(Chunk(tmp_path / f"{i}.npz"))

    assert clip.with_suffix(".died").exists()
    assert [len(chunk) for chunk in chunks] == [10, 10, 20]


def test_workers_that_keep_dying_end_the_run_with_what_helps(clip):
    with closing(LocalWorkers(1, die_always)) as workers:
        ticket = workers.submit(jobs(clip, [(0, 0, None)])[0])
        with pytest.raises(WorkersError, match="fewer --workers"):
            workers.chunk(ticket)


BUSY = """
import os
import threading
import time

from cluster.work import Job, matte_part

engine = (("names", ("openvino",)), ("threads", 1), ("score_threshold", 0.3))
matte_part(Job("demo/bedroom.mp4", 0, 0, 0, "weights", engine))  # loads and compiles
main, seen, watching, over = threading.get_native_id(), [], [], threading.Event()


def watch():
    while not over.wait(0.005):
        seen.append(len(os.sched_getaffinity(main)))
    watching.append(time.thread_time())


watcher = threading.Thread(target=watch)
watcher.start()
everyone, own = time.process_time(), time.thread_time()
matte_part(Job("demo/bedroom.mp4", 0, 0, 9, "weights", engine))
own = time.thread_time() - own
over.set()
watcher.join()
everyone = time.process_time() - everyone
print((everyone - watching[0]) / own, min(seen) == len(os.sched_getaffinity(0)))
"""


def test_a_worker_told_one_thread_keeps_one_core_busy_and_any():
    """The shipped network, in a process with no word about threads around it."""
    pytest.importorskip("openvino")
    plain = {k: v for k, v in os.environ.items() if not k.endswith("_THREADS")}

    done = subprocess.run(
        [sys.executable, "-c", BUSY], cwd=ROOT, env=plain, capture_output=True, text=True,
        check=True,
    )  # fmt: skip

    times, free = done.stdout.split()
    assert float(times) < 1.05, "times what its one thread uses"
    assert free == "True", "kept to one core, where all other workers are kept too"


class Counting:
    """Workers who do it at once, and count."""

    def __init__(self):
        self.done = 0

    def submit(self, job):
        return job

    def chunk(self, ticket):
        self.done += 1
        return matte_squares(ticket)


def test_parts_that_are_done_are_not_done_again_unless_the_input_changed(clip, tmp_path):
    parts, workers = jobs(clip, [(0, 0, 19), (10, 20, None)]), Counting()
    frame = np.zeros((96, 160, 3), np.uint8)
    GatheredEngine("squares", parts, workers, tmp_path).step(frame, 5)
    assert workers.done == 1

    again = GatheredEngine("squares", parts, workers, tmp_path)
    assert again.parts_waiting == 1  # the first is there
    again.step(frame, 5)
    again.step(frame, 25)
    assert workers.done == 2

    write_clip(clip, frames=40, squares=CROSSING[:1], rate=10)
    changed = GatheredEngine("squares", parts, workers, tmp_path)
    assert changed.parts_waiting == 2
    changed.finish()
    assert not (tmp_path / FOLDER).exists()


def test_a_file_that_is_no_chunk_is_called_so(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 but no more")
    with pytest.raises(ChunkError, match="cannot be read as a chunk"):
        Chunk(tmp_path / "x.npz")


def test_a_run_with_workers_leaves_the_files_of_a_run_without(clip, tmp_path, monkeypatch):
    def squares(*_, **__):
        return SquaresEngine()

    monkeypatch.setattr(spreading.begin, "__defaults__", (matte_squares,))
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    assert run_stream.main([str(clip), "-o", str(alone)], load_engine=squares) == 0
    words = [str(clip), "-o", str(spread), "--workers", "2"]
    words += ["--set", "cluster.part_seconds=1.3", "--set", "cluster.overlap_seconds=0.5"]
    assert run_stream.main(words) == 0

    told = [json.loads((out / "people.json").read_text())["people"] for out in (alone, spread)]
    assert told[0] == told[1]
    assert len(told[0]) == 2  # one each, through the crossing and the cuts
    tracks = []
    for out in (alone, spread):
        with av.open(str(out / "alpha.mkv")) as file:
            tracks.append([np.stack([f.to_ndarray(format="gray") for f in file.decode(s)])
                           for s in file.streams.video[:1]])  # fmt: skip
    assert np.array_equal(tracks[0][0], tracks[1][0])
    assert not (spread / FOLDER).exists()


def test_a_damaged_file_is_matted_as_one_process_mattes_it(tmp_path, monkeypatch):
    """Its packets promise frames that do not come, so numbers that count from a door are wrong."""
    monkeypatch.setattr(spreading.begin, "__defaults__", (matte_squares,))
    clip = film(tmp_path / "film.mp4", frames=60)
    with av.open(str(clip)) as file:
        packets = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    with clip.open("r+b") as file:
        for at, size in packets[20:23]:
            file.seek(at)
            file.write(bytes(size))
    told = []
    for more in ((), ("--workers", "1", "--set", "cluster.part_seconds=0.5")):
        out = tmp_path / f"out{len(told)}"
        code = run_stream.main([str(clip), "-o", str(out), "--tracks-only", *more],
                               load_engine=lambda *_, **__: SquaresEngine())  # fmt: skip
        assert code == run_stream.DAMAGE
        document = json.loads((out / "people.json").read_text())
        told.append((document["frames"], document["people"]))
        with av.open(str(out / "alpha.mkv")) as file:
            told[-1] += ([f.to_ndarray(format="gray").tobytes() for f in file.decode(video=0)],)

    assert told[0][0] < 60
    assert told[0] == told[1]


def test_tracks_are_gathered_as_the_workers_coded_them(clip, tmp_path, monkeypatch):
    def looked(*_):
        raise AssertionError("a matte was decoded, or coded again")

    monkeypatch.setattr(spreading.begin, "__defaults__", (matte_squares,))
    words = [str(clip), "-o", str(tmp_path), "--workers", "1", "--tracks-only"]
    monkeypatch.setattr(AlphaDecoder, "decoded", looked)
    assert run_stream.main(words) == 0

    assert json.loads((tmp_path / "people.json").read_text())["frames"] == 40


def test_a_cluster_that_is_not_there_is_named(tmp_path, clip):
    pytest.importorskip("ray")
    with pytest.raises(WorkersError, match=r"ray://127\.0\.0\.1:1"):
        RayWorkers("ray://127.0.0.1:1", 1)


def test_ray_finds_what_processes_find(clip, tmp_path):
    pytest.importorskip("ray")
    with closing(RayWorkers("local", 2, matte_squares)) as workers:
        tickets = [workers.submit(job) for job in jobs(clip, [(0, 0, 19), (10, 20, None)])]
        (tmp_path / "first.npz").write_bytes(workers.chunk(tickets[0]))
        (tmp_path / "second.npz").write_bytes(workers.chunk(tickets[1]))

    first, second = Chunk(tmp_path / "first.npz"), Chunk(tmp_path / "second.npz")
    assert (len(first), len(second)) == (20, 20)
    assert len(second.mattes(0)) == 2
    assert second.pts[0] > first.pts[-1]
