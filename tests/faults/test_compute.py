"""Cases 72 to 74: the network answers nonsense, memory runs out, a stage dies."""

import json
import random
import threading
import time

import numpy as np
import pytest

from engines.base import EngineError, NotFinite
from engines.guard import MOST_IN_A_ROW, GuardedEngine, finite
from stream import decode
from stream.compose import Composer
from stream.decode import open_source
from stream.encode import Deliverables
from stream.overlap import ahead
from stream.stages import compose, follow, matte
from tests.fakes import ColourTracker, Square, SquaresEngine, picture, write_clip
from tests.faults.builders import STILL, alphas, run, times
from tracking import Tracker


class Slipping(SquaresEngine):
    """Answers with numbers that are not finite at some frames: in a field, or as an engine says."""

    def __init__(self, slips, field="alpha", value=np.nan):
        super().__init__()
        self.slips, self.field, self.value = slips, field, value
        self.asked = 0

    def step(self, rgb, state):
        frame, self.asked = self.asked, self.asked + 1
        mattes, after = super().step(rgb, state)
        if frame not in self.slips:
            return mattes, after
        if self.field == "raised":
            raise NotFinite("squares: numbers that are not finite")
        getattr(mattes, self.field).reshape(-1)[0] = self.value
        return mattes, "poisoned"


def document(out):
    return json.loads((out / "people.json").read_text())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["alpha", "coarse", "score", "box", "code", "raised"])
def test_a_frame_of_nonsense_gets_the_mattes_of_the_one_before(field, value):
    told = []
    engine = GuardedEngine(Slipping({2}, field, value), told.append, told.append)
    state, seen = engine.start(), []

    for index in range(5):
        mattes, state = engine.step(picture(index), state)
        seen.append(mattes)

    assert all(finite(mattes) and len(mattes) == 2 for mattes in seen)
    assert np.array_equal(seen[2].alpha, seen[1].alpha)
    assert seen[2].alpha is not seen[1].alpha
    assert not np.array_equal(seen[3].alpha, seen[2].alpha)  # and then it goes on
    assert len(told) == 1 and told[0].startswith("frame 2:")


def test_frames_of_nonsense_are_listed_as_damage_and_never_reach_a_file(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=20, squares=STILL)

    assert run(clip, "-o", tmp_path / "out", engine=Slipping({0, 7, 8})) == 4

    damage = document(tmp_path / "out")["damage"]
    assert [line.split(":")[0] for line in damage] == ["frame 0", "frame 7", "frame 8"]
    assert "nan" not in (tmp_path / "out" / "people.json").read_text().lower()
    track = alphas(tmp_path / "out" / "alpha.mkv")
    assert len(track) == 20
    assert track[0].max() == 0  # nothing was known yet
    assert np.array_equal(track[7], track[6]) and track[8].max() == 255


def test_nonsense_without_end_ends_the_run_and_leaves_what_was_good(tmp_path, capsys):
    clip = write_clip(tmp_path / "a.mp4", frames=60, squares=STILL)

    assert run(clip, "-o", tmp_path / "out", engine=Slipping(set(range(15, 99)))) == 6

    assert f"{MOST_IN_A_ROW} frames in a row" in capsys.readouterr().err
    assert 15 <= len(times(tmp_path / "out" / "composite.mp4")) < 60
    assert document(tmp_path / "out")["complete"] is False


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


class Crowded(SquaresEngine):
    """Has no memory for some frames, until it is asked to give some back (`enough`)."""

    def __init__(self, error, enough):
        super().__init__()
        self.error, self.enough, self.released = error, enough, 0

    def step(self, rgb, state):
        if state >= 10 and not (self.enough and self.released):
            raise self.error
        return super().step(rgb, state)

    def release(self):
        self.released += 1


ERRORS = [
    MemoryError(),
    OutOfMemoryError("CUDA error"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("[ONNXRuntimeError] : Failed to allocate memory for requested buffer"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_memory_is_given_back_once_and_the_picture_is_the_same(tmp_path, capsys, error):
    clip = write_clip(tmp_path / "a.mp4", frames=15, squares=STILL)
    engine = Crowded(error, enough=True)

    assert run(clip, "-o", tmp_path / "out", engine=engine) == 0

    assert engine.released == 1
    assert "out of memory" in capsys.readouterr().err
    run(clip, "-o", tmp_path / "plain")
    for number in (0, 1):
        made, plain = (alphas(tmp_path / out / "alpha.mkv", number) for out in ("out", "plain"))
        assert np.array_equal(made, plain)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_without_memory_the_run_ends_with_6_and_what_was_written_is_whole(tmp_path, capsys, error):
    clip = write_clip(tmp_path / "a.mp4", frames=20, squares=STILL)
    engine = Crowded(error, enough=False)

    assert run(clip, "-o", tmp_path / "out", engine=engine) == 6

    said = capsys.readouterr().err
    assert "160 x 96" in said and "in stage 'matte'" in said
    assert engine.released == 1
    assert len(times(tmp_path / "out" / "alpha.mkv")) == 10  # also those the tracker was holding
    assert document(tmp_path / "out")["complete"] is False


@pytest.mark.parametrize("stage", ["decode", "matte", "compose"])
def test_the_death_of_a_stage_is_told_with_its_name(tmp_path, capsys, monkeypatch, stage):
    clip = write_clip(tmp_path / "a.mp4", frames=12)
    target, name = {"decode": (decode._ToRgb, "__call__"), "matte": (Tracker, "update"),
                    "compose": (Composer, "compose")}[stage]  # fmt: skip
    whole, calls = getattr(target, name), []

    def dies(*arguments, **more):
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("it died")
        return whole(*arguments, **more)

    monkeypatch.setattr(target, name, dies)

    assert run(clip, "-o", tmp_path / "out") == 1

    assert f"in stage '{stage}'" in capsys.readouterr().err
    assert not [thread for thread in threading.enumerate() if thread.name == stage]


class Dies(Exception):
    pass


def test_six_hundred_ways_to_stop_early_or_fail_leave_no_thread_and_no_deadlock(tmp_path):
    """The pipeline as the program builds it: decode, matte, compose, files; each may fail at any
    frame, or when it is closed, and the reader may leave at any frame."""
    clip = write_clip(tmp_path / "a.mkv", frames=6, size=(32, 48), codec="ffv1",
                      squares=(Square("red", at=(4, 4), side=12),))  # fmt: skip
    dice = random.Random(7)
    before = threading.active_count()
    slowest, ways = 0.0, set()

    class Stage:
        """Passes items on; fails at one of them, or when it is closed."""

        def __init__(self, fail_at, fail_closing):
            self.fail_at, self.fail_closing = fail_at, fail_closing

        def __call__(self, items):
            try:
                for place, item in enumerate(items):
                    if place == self.fail_at:
                        raise Dies("at an item")
                    yield item
            finally:
                if self.fail_closing:
                    raise Dies("while closing")

    class Picture:
        def compose(self, frame, mattes):
            return frame.rgb

        def close(self):
            pass

    with open_source(clip) as source:
        source_frames = list(source.frames())
    for turn in range(600):
        failing = [dice.choice([None, None, dice.randrange(7)]) for _ in range(4)]
        closing = [dice.random() < 0.15 for _ in range(3)]
        leave = dice.choice([None, dice.randrange(7)])
        depths = [dice.randrange(1, 4) for _ in range(3)]
        ways.add((tuple(failing), tuple(closing), leave))
        stages = [Stage(f, c) for f, c in zip(failing, closing, strict=False)]
        written = 0
        began = time.monotonic()
        error = None
        files = turn % 10 == 0  # real files in some: they cost more than everything else
        try:
            with open_source(clip) as source:
                frames = source.frames() if files else iter(source_frames)
                with (
                    ahead(stages[0](frames), depth=depths[0], name="decode") as decoded,
                    ahead(stages[1](follow(matte(decoded, SquaresEngine()), ColourTracker(2))),
                          depth=depths[1], name="matte") as people,
                    ahead(stages[2](compose(people, Picture())), depth=depths[2],
                          name="compose") as pictures,
                    Sink(tmp_path / f"out{turn}" if files else None, source) as sink,
                ):  # fmt: skip
                    for frame, mattes, made in pictures:
                        if leave is not None and written >= leave:
                            break
                        if written == failing[3]:
                            raise Dies("while writing")
                        sink(frame, mattes, made)
                        written += 1
        except Dies as caught:
            error = caught
        slowest = max(slowest, time.monotonic() - began)
        if error is None and leave is None:
            assert written == 6
        assert threading.active_count() == before, f"turn {turn} left a thread"
    assert len(ways) > 400
    assert slowest < 60, f"{slowest:.1f} s"


class Sink:
    """`Deliverables` in a folder, or nothing at all."""

    def __init__(self, out, source):
        self.files = Deliverables(out, source) if out else None

    def __enter__(self):
        return (self.files.__enter__().write) if self.files else (lambda *_: None)

    def __exit__(self, *error):
        if self.files:
            self.files.__exit__(*error)


def test_the_guard_costs_little(tmp_path):
    """Two people at 1080p: looking at every number takes less than a tenth of a step of ours."""
    mattes, _ = SquaresEngine().step(picture(0, size=(1080, 1920)), 0)
    began = time.process_time()
    for _ in range(10):
        assert finite(mattes)

    assert (time.process_time() - began) / 10 < 0.02


def test_a_backend_that_is_lost_is_not_replaced_unasked(tmp_path, capsys):
    """Whoever asked for a GPU is told that it is gone; a slow run on the CPU would not be told."""
    clip = write_clip(tmp_path / "a.mp4", frames=20, squares=STILL)

    class Lost(SquaresEngine):
        def step(self, rgb, state):
            if state == 12:
                raise EngineError("the GPU has fallen off the bus")
            return super().step(rgb, state)

    assert run(clip, "-o", tmp_path / "out", engine=Lost()) == 6
    assert "fallen off the bus" in capsys.readouterr().err
    assert len(times(tmp_path / "out" / "alpha.mkv")) == 12
