"""The whole program on small clips: files, numbers of people, exit codes, signals.

The engine is `fakes.SquaresEngine`, handed in the way the program documents (`load_engine`).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import run_stream
from engines.base import EngineError
from engines.people import working_size
from tests.fakes import (
    COLOURS,
    Square,
    SquaresEngine,
    cut_short,
    picture,
    write_clip,
    write_sound,
)

ROOT = Path(__file__).resolve().parents[2]
RED = COLOURS["red"]


def run(*argv, engine=None):
    """The exit code of the program with an engine that finds squares."""
    return run_stream.main(
        [str(a) for a in argv], load_engine=lambda *_, **__: engine or SquaresEngine()
    )


def track(out, number):
    with av.open(str(out / "alpha.mkv")) as file:
        (stream,) = (s for s in file.streams.video if s.metadata["title"] == f"Person {number}")
        return np.stack([frame.to_ndarray(format="gray") for frame in file.decode(stream)])


def composite(out):
    with av.open(str(out / "composite.mp4")) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def events(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# ---------------------------------------------------------------------------------- what comes out


def test_a_clip_becomes_one_track_per_person(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=12)

    assert run(clip, "-o", tmp_path / "out") == 0

    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "alpha.mkv", "composite.mp4", "people.json"
    ]  # fmt: skip
    for number, square in ((1, Square("red", at=(16, 8))), (2, Square("green", at=(48, 100)))):
        alphas = track(out, number)
        assert alphas.shape == (12, 96, 160)
        x0, y0, x1, y1 = square.box(0, (96, 160))
        assert alphas[0, y0 + 3 : y1 - 3, x0 + 3 : x1 - 3].min() == 255
        assert alphas[0].astype(bool).sum() == pytest.approx(24 * 24, rel=0.1)


def test_a_person_who_comes_late_has_a_track_from_the_first_frame_on(tmp_path):
    squares = (Square("red", at=(16, 8)), Square("green", at=(48, 60), step=(0, 0), first=8))
    clip = write_clip(tmp_path / "clip.mp4", frames=16, squares=squares)

    run(clip, "-o", tmp_path / "out")

    late = track(tmp_path / "out", 2)
    assert late.shape[0] == 16
    assert late[:8].max() == 0
    assert (late[8:].max(axis=(1, 2)) == 255).all()  # named from their first frame, not the third


def test_everyone_gets_their_own_look(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=8)

    run(clip, "-o", tmp_path / "out", "--background", "#0000ff", "--person", "2=remove")

    frame = composite(tmp_path / "out")[4].astype(int)
    assert np.abs(frame[90, 150] - (0, 0, 255)).max() < 24  # the wall
    assert np.abs(frame[28, 28] - RED).max() < 24  # kept
    assert np.abs(frame[60, 104] - (0, 0, 255)).max() < 24  # removed


def test_settings_from_a_file_reach_the_pictures(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=5)
    (tmp_path / "mine.yaml").write_text('look: {background: "#00ff00"}')

    run(clip, "-o", tmp_path / "out", "--config", tmp_path / "mine.yaml")

    assert np.abs(composite(tmp_path / "out")[2, 90, 150].astype(int) - (0, 255, 0)).max() < 24


def test_a_folder_of_photographs_gives_a_folder_per_photograph(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    cv2.imwrite(str(photos / "one.png"), picture(0)[:, :, ::-1])
    cv2.imwrite(str(photos / "two.png"), picture(0, size=(120, 200))[:, :, ::-1])

    assert run(photos, "-o", tmp_path / "out") == 0

    for name, size in (("one", (96, 160)), ("two", (120, 200))):
        alpha = cv2.imread(str(tmp_path / "out" / name / "person_0002.png"), cv2.IMREAD_UNCHANGED)
        assert alpha.shape == size
        assert alpha[60, 110] == 255
        assert (tmp_path / "out" / name / "composite.png").exists()
    assert (tmp_path / "out" / "people.json").exists()


def test_several_inputs_get_a_folder_each(tmp_path):
    a, b = (write_clip(tmp_path / name, frames=5) for name in ("a.mp4", "b.mkv"))

    assert run(a, b, "-o", tmp_path / "out") == 0

    assert (tmp_path / "out" / "a" / "alpha.mkv").exists()
    assert (tmp_path / "out" / "b" / "alpha.mkv").exists()


def test_the_engine_is_loaded_once_and_closed_at_the_end(tmp_path):
    clips = [write_clip(tmp_path / name, frames=3) for name in ("a.mp4", "b.mp4")]
    loaded = []

    def load(names, weights, **how):
        loaded.append((names, weights, how))
        return engine

    engine = SquaresEngine()
    argv = [str(c) for c in clips] + ["-o", str(tmp_path / "out"), "--engine", "one,two"]
    run_stream.main([*argv, "--weights", "w.onnx", "--threads", "1"], load_engine=load)

    assert engine.closed
    ((names, weights, how),) = loaded
    assert (names, weights, how["threads"]) == (("one", "two"), Path("w.onnx"), 1)


def test_events_tell_the_whole_story(tmp_path, capsys):
    squares = (Square("red", at=(16, 8)), Square("green", at=(48, 60), step=(0, 0), first=6))
    clip = write_clip(tmp_path / "clip.mp4", frames=12, squares=squares)

    run(clip, "-o", tmp_path / "out", "--json")

    told = events(capsys)
    assert [e["event"] for e in told if e["event"] != "progress"] == [
        "start", "person_appeared", "person_appeared", "done"
    ]  # fmt: skip
    assert [(e["id"], e["seconds"]) for e in told if e["event"] == "person_appeared"] == [
        (1, 0.0), (2, 0.2)
    ]  # fmt: skip
    assert told[0]["size"] == [96, 160]
    assert told[-1]["frames"] == 12
    assert told[-1]["people"] == 2
    assert all(Path(path).exists() for path in told[-1]["paths"])


# ------------------------------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path, "no such file"),
        (lambda path: write_sound(path), "no picture|no video|sound"),
        (lambda path: (path.write_bytes(b"") and None) or path, "empty"),
        (lambda path: path.write_text("not a video") and path, "not a|cannot|neither"),
    ],
    ids=["missing", "sound only", "empty", "text"],
)
def test_an_input_that_is_no_video_ends_with_3_and_one_sentence(tmp_path, capsys, make, said):
    make(tmp_path / "clip.mp4")

    assert run(tmp_path / "clip.mp4", "-o", tmp_path / "out") == 3

    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert "clip.mp4" in errors[0]
    assert not (tmp_path / "out").exists()


def test_settings_that_make_no_sense_end_with_2(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", frames=3)

    assert run(clip, "-o", tmp_path / "out", "--set", "engine.thread=2") == 2
    assert "did you mean engine.threads" in capsys.readouterr().err
    assert run(clip) == 2
    assert run(clip, "-o", tmp_path / "out", "--set", "tracking.birth_score=0.2") == 2
    assert "birth_score" in capsys.readouterr().err


def test_a_missing_background_ends_with_3_before_anything_is_loaded(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", frames=3)
    engine = SquaresEngine()

    assert run(clip, "-o", tmp_path / "out", "--background", "absent.jpg", engine=engine) == 3
    assert "absent.jpg" in capsys.readouterr().err
    assert engine.steps == 0
    assert not (tmp_path / "out").exists()


def test_a_truncated_clip_ends_with_4_and_all_that_could_be_decoded(tmp_path, capsys):
    clip = cut_short(write_clip(tmp_path / "clip.mkv", frames=60), keep=0.6)

    assert run(clip, "-o", tmp_path / "out") == 4

    assert "warning" in capsys.readouterr().err
    frames = len(track(tmp_path / "out", 1))
    assert 10 < frames < 60
    assert len(composite(tmp_path / "out")) == frames


def test_one_bad_input_of_several_does_not_stop_the_others(tmp_path, capsys):
    clip = write_clip(tmp_path / "good.mp4", frames=5)

    assert run(tmp_path / "absent.mp4", clip, "-o", tmp_path / "out") == 4

    assert "absent.mp4" in capsys.readouterr().err
    assert (tmp_path / "out" / "good" / "alpha.mkv").exists()


def test_when_every_input_is_bad_the_code_is_the_reason(tmp_path):
    assert run(tmp_path / "a.mp4", tmp_path / "b.mp4", "-o", tmp_path / "out") == 3


def test_results_are_not_overwritten_unless_asked(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", frames=4)
    run(clip, "-o", tmp_path / "out")
    before = (tmp_path / "out" / "alpha.mkv").read_bytes()

    assert run(clip, "-o", tmp_path / "out", "--background", "#ff0000") == 5
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "alpha.mkv").read_bytes() == before
    assert run(clip, "-o", tmp_path / "out", "--overwrite") == 0


def test_a_place_that_cannot_be_written_ends_with_5(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=3)
    (tmp_path / "file").write_text("in the way")

    assert run(clip, "-o", tmp_path / "file" / "out") == 5


def test_no_engine_ends_with_6(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", frames=3)

    def none(*_, **__):
        raise EngineError("nothing can run here")

    assert run_stream.main([str(clip), "-o", str(tmp_path / "out")], load_engine=none) == 6
    assert capsys.readouterr().err.strip().endswith("error: nothing can run here")
    assert not (tmp_path / "out").exists()


def test_an_engine_that_fails_on_the_way_leaves_readable_files(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", frames=20)

    class Failing(SquaresEngine):
        def step(self, rgb, state):
            if state == 12:
                raise EngineError("out of memory")
            return super().step(rgb, state)

    assert run(clip, "-o", tmp_path / "out", engine=Failing()) == 6

    assert "out of memory" in capsys.readouterr().err
    assert 8 <= len(track(tmp_path / "out", 1)) <= 12
    assert json.loads((tmp_path / "out" / "people.json").read_text())["complete"] is False


def test_a_picture_the_network_refuses_ends_with_3(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "strip.png"), picture(0, size=(8, 400)))

    class Real(SquaresEngine):
        def step(self, rgb, state):
            working_size(rgb.shape[:2])
            return super().step(rgb, state)

    assert run(tmp_path / "strip.png", "-o", tmp_path / "out", engine=Real()) == 3
    assert "400 x 8" in capsys.readouterr().err


def test_our_own_mistakes_end_with_1_and_a_traceback_only_when_asked(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", frames=5)

    assert run(clip, "-o", tmp_path / "out", engine=SquaresEngine(fail_at=2)) == 1
    said = capsys.readouterr().err
    assert "--debug" in said
    assert "Traceback" not in said

    argv = (clip, "-o", tmp_path / "out", "--overwrite", "--debug")
    assert run(*argv, engine=SquaresEngine(fail_at=2)) == 1
    assert "Traceback" in capsys.readouterr().err


def test_errors_are_events_too(tmp_path, capsys):
    run(tmp_path / "absent.mp4", "-o", tmp_path / "out", "--json")
    run("--json")

    missing, usage = events(capsys)
    assert (missing["event"], missing["exit_code"]) == ("error", 3)
    assert (usage["event"], usage["exit_code"]) == ("error", 2)


# ---------------------------------------------------------------------------------------- signals

SLOW = """
import sys, time
import run_stream
from tests.fakes import SquaresEngine
class Slow(SquaresEngine):
    def step(self, rgb, state):
        time.sleep(0.02)
        return super().step(rgb, state)
sys.exit(run_stream.main(sys.argv[1:], load_engine=lambda *_, **__: Slow()))
"""


@contextlib.contextmanager
def running(*argv):
    """The program in a process of its own, once its first person has appeared."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, argv), "--json"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for line in process.stdout:
            if json.loads(line)["event"] == "person_appeared":
                break
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_files(tmp_path, number, code):
    clip = write_clip(tmp_path / "clip.mp4", frames=400, squares=(Square("red", step=(0, 0)),))

    with running(clip, "-o", tmp_path / "out") as process:
        time.sleep(0.3)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)

    assert process.returncode == code
    told = [json.loads(line)["event"] for line in out.splitlines()]
    assert told[-2:] == ["warning", "done"]
    frames = len(track(tmp_path / "out", 1))
    assert 1 <= frames < 400
    assert len(composite(tmp_path / "out")) == frames
    assert json.loads((tmp_path / "out" / "people.json").read_text())["complete"] is False


def test_a_second_signal_does_not_wait(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=400, squares=(Square("red", step=(0, 0)),))

    with running(clip, "-o", tmp_path / "out") as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert process.returncode == 130


def test_a_listener_who_leaves_does_not_cost_the_files(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=30)
    read, write = os.pipe()
    os.close(read)

    code = subprocess.run(
        [sys.executable, "-c", SLOW, str(clip), "-o", str(tmp_path / "out"), "--json"],
        cwd=ROOT, stdout=write, stderr=subprocess.DEVNULL,
    ).returncode  # fmt: skip
    os.close(write)

    assert code == 0
    assert len(track(tmp_path / "out", 1)) == 30
