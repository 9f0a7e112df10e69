"""Cases 57 to 63: kills, signals, full disks, and going on afterwards."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from stream.encode import UNFINISHED, unfinished
from tests.fakes import Square, write_clip
from tests.faults.builders import ROOT, STILL, alphas, command, program, run, times

WALK = (
    Square("red", at=(16, 8), step=(0, 0.5)),
    Square("green", at=(48, 100), step=(0, -0.3), first=20),
    Square("blue", at=(64, 20), step=(0, 0), first=40, last=70),
    Square("magenta", at=(4, 60), step=(0, 0), first=90),
)


def document(out):
    return json.loads((out / "people.json").read_text())


def composite(out):
    from stream.decode import open_source

    with open_source(out / "composite.mp4") as source:
        return np.stack([frame.rgb for frame in source.frames()])


def same(out, whole):
    """Whether two runs left the same: mattes and register to the bit, pictures as a codec may."""
    mine, other = document(out), document(whole)
    for each in (mine, other):
        each["about"]["settings"].pop("output")
        each.pop("input")
    assert mine == other
    for track in range(len(mine["people"])):
        assert np.array_equal(
            alphas(out / "alpha.mkv", track), alphas(whole / "alpha.mkv", track)
        )
    assert times(out / "composite.mp4") == times(whole / "composite.mp4")
    difference = np.abs(composite(out).astype(int) - composite(whole))
    # a coder that begins anew spends its bits elsewhere: edges of squares differ, and nothing else
    assert difference.mean() < 1 and np.quantile(difference, 0.999) < 32


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """A clip in which people come and go, and what an uninterrupted run makes of it."""
    folder = tmp_path_factory.mktemp("walk")
    clip = write_clip(folder / "walk.mp4", frames=120, squares=WALK, audio="aac")
    assert run(clip, "-o", folder / "whole", "--quiet") == 0
    return clip, folder / "whole"


def killed(clip, out, after, slow="0.02", *options):
    """Kill a run once so many frames are on the disk.

    Returns when each frame came, as a watcher of the store saw it, and when the run died: seconds.
    """
    process = subprocess.Popen(
        command(clip, "-o", out, "--quiet", "--resume", *options),
        cwd=ROOT,
        env=os.environ | {"SLOW": slow},
        stderr=subprocess.DEVNULL,
    )
    seen = []
    try:
        while process.poll() is None:
            try:
                left = unfinished(out)
                count = len(left.walk()[0].pts) if left else 0
            except FileNotFoundError:  # the run ended between two looks
                continue
            seen += [time.monotonic()] * (count - len(seen))
            if count >= after:
                break
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return seen, time.monotonic()


@pytest.mark.parametrize("seed", range(10))
def test_a_run_that_is_killed_twice_goes_on_to_the_same_results(walk, tmp_path, seed):
    """Twenty kills at moments of chance.  What was on the disk for a second is never lost."""
    clip, whole = walk
    dice = random.Random(seed)
    out = tmp_path / "out"
    begun = 0
    for kill in range(2):
        after = begun + dice.randrange(3, 55)
        seen, died = killed(clip, out, after)
        left = unfinished(out)
        if left is None:
            assert (out / "people.json").exists(), "neither results nor an unfinished run"
            break
        from stream.resume import begun as found

        kept = found(left, left.head)
        # a second of the run's own: the longest it stood still on a busy machine does not count
        stood_still = max(np.diff([*seen[begun:], died]))
        old = sum(1 for when in seen if died - when > 1 + stood_still)
        assert kept.frames >= min(old, len(left.walk()[0].pts)), f"kill {kill}"
        begun = kept.frames

    assert run(clip, "-o", out, "--resume", "--quiet") == 0

    same(out, whole)
    assert not (out / UNFINISHED).exists()


def test_the_network_does_not_do_again_what_is_done(walk, tmp_path, capsys):
    from tests.fakes import SquaresEngine

    clip, whole = walk
    out = tmp_path / "out"
    killed(clip, out, 80, slow="0.04")
    engine = SquaresEngine()

    assert run(clip, "-o", out, "--resume", engine=engine) == 0

    assert "going on after" in capsys.readouterr().err
    assert engine.steps < 80
    same(out, whole)


def test_a_look_that_remembers_is_gone_on_with_too(tmp_path):
    clip = write_clip(tmp_path / "walk.mp4", frames=90, squares=WALK)
    behind = write_clip(tmp_path / "behind.mp4", frames=50, squares=(Square("cyan"),))
    look = ("--background", behind, "--person", "2=remove")
    run(clip, "-o", tmp_path / "whole", "--quiet", *look)
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(clip, "-o", out, "--quiet", *look), env=os.environ | {"SLOW": "0.04"},
        cwd=ROOT,
    )  # fmt: skip
    while not (unfinished(out) and len(unfinished(out).walk()[0].pts) > 60):
        time.sleep(0.02)
    process.kill()
    process.wait()

    assert run(clip, "-o", out, "--resume", "--quiet", *look) == 0

    same(out, tmp_path / "whole")


def test_what_changed_is_told_and_nothing_is_touched(walk, tmp_path, capsys):
    clip, _ = walk
    out = tmp_path / "out"
    killed(clip, out, 30)
    before = (out / UNFINISHED / "store.troupe").read_bytes()
    other = write_clip(tmp_path / "other.mp4", frames=9)
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes(b"others")

    for argv, said in (
        ((clip, "--set", "tracking.birth_score=0.8"), "tracking.birth_score was 0.7, now 0.8"),
        ((clip, "--person", "2=blur"), "look.people.2 was None, now 'blur'"),
        ((other,), "the input is another file"),
        ((clip, "--weights", weights), "the weights are others"),
    ):
        assert run(*argv, "-o", out, "--resume") == 2
        assert said in capsys.readouterr().err
        assert (out / UNFINISHED / "store.troupe").read_bytes() == before
    assert run(clip, "-o", out) == 5  # and without --resume, work is not thrown away unasked
    assert run(clip, "-o", out, "--resume", "--set", "pipeline.decode_ahead=1", "--quiet") == 0


def test_what_another_version_noted_is_not_gone_on_with(walk, tmp_path, capsys, monkeypatch):
    clip, whole = walk
    out = tmp_path / "out"
    killed(clip, out, 80, slow="0.04")
    before = (out / UNFINISHED / "store.troupe").read_bytes()

    monkeypatch.setattr("tracking.tracker.STATE_VERSION", 99)
    assert run(clip, "-o", out, "--resume") == 2
    told = capsys.readouterr().err
    assert "of another version of this program" in told and "--overwrite starts it over" in told
    assert (out / UNFINISHED / "store.troupe").read_bytes() == before
    assert run(clip, "-o", out, "--overwrite", "--quiet") == 0
    same(out, whole)


def test_what_is_finished_is_left_alone(walk, tmp_path, capsys):
    clip, whole = walk
    out = shutil.copytree(whole, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}

    assert run(clip, "-o", out, "--resume") == 0

    assert "finished already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_deliverables_that_are_missing_from_a_finished_run_are_made(walk, tmp_path, capsys):
    clip, whole = walk
    out = shutil.copytree(whole, tmp_path / "out")
    assert run(clip, "-o", out, "--resume", "--preset", "matte") == 0
    told = json.loads((out / "manifest.json").read_text())["matte"]
    made = sorted((out / "matte").iterdir())
    assert len(made) == 4 and "matte/walk_person_0001.mp4" in capsys.readouterr().err
    made[1].unlink()  # as a kill between two of them leaves it
    before = {path: path.stat().st_mtime_ns for path in [*out.iterdir(), *made[2:], made[0]]
              if path.is_file() and path.name != "manifest.json"}  # fmt: skip

    assert run(clip, "-o", out, "--resume", "--preset", "matte,comp") == 0

    said = capsys.readouterr().err
    assert str(made[1]) in said and str(made[0]) not in said and "comp/walk_everyone.mp4" in said
    assert sorted((out / "matte").iterdir()) == made
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = json.loads((out / "manifest.json").read_text())
    assert {file["path"] for file in again["matte"]["files"]} == {
        file["path"] for file in told["files"]
    }
    assert run(clip, "-o", out, "--resume", "--preset", "matte,comp") == 0  # nothing is missing


def test_two_runs_do_not_write_into_one_folder(walk, tmp_path):
    clip, _ = walk
    out = tmp_path / "out"
    gate = tmp_path / "gate"
    first = subprocess.Popen(
        command(clip, "-o", out, "--quiet"), env=os.environ | {"GATE": str(gate)},
        cwd=ROOT,
    )  # fmt: skip
    while not (unfinished(out) and len(unfinished(out).walk()[0].pts) > 2):
        time.sleep(0.02)

    for more in ((), ("--resume",), ("--overwrite",)):
        assert run(clip, "-o", out, "--quiet", *more) == 5
    gate.touch()

    assert first.wait(60) == 0
    assert len(times(out / "composite.mp4")) == 120


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_within_five_seconds_with_everything_whole(tmp_path, number, code):
    clip = write_clip(tmp_path / "a.mp4", frames=600, squares=STILL, audio="aac")
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(clip, "-o", out, "--quiet"), env=os.environ | {"SLOW": "0.03"},
        cwd=ROOT,
    )  # fmt: skip
    while not (unfinished(out) and len(unfinished(out).walk()[0].pts) > 20):
        time.sleep(0.02)
    used = os.times()
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(60) == code
    waited = time.monotonic() - began
    busy = os.times().children_user + os.times().children_system
    busy -= used.children_user + used.children_system

    assert min(waited, busy) < 5  # of its own time, where the machine has other things to do
    count = document(out)["frames"]
    assert 20 < count < 600 and document(out)["complete"] is False
    assert len(times(out / "composite.mp4")) == count == len(alphas(out / "alpha.mkv"))
    assert not (out / UNFINISHED).exists()


def limited(size):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [3_000, 20_000, 60_000])
def test_a_full_disk_ends_with_5_and_what_was_written_can_be_had(tmp_path, size):
    """A limit on the size of files stands for the disk's: writing beyond it fails just so."""
    clip = write_clip(tmp_path / "a.mp4", frames=150, squares=WALK)
    out = tmp_path / "out"

    done = program(clip, "-o", out, preexec_fn=limited(size))

    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr and "File too large" in done.stderr
    for path in out.glob("[a-z]*.*"):  # what stands under a result's name is whole
        assert path.suffix == ".json" or times(path)
    if size > 3_000:
        assert unfinished(out) or (out / "people.json").exists()
    if unfinished(out):
        assert run("finalize", out, "--source", clip) == 0
        assert document(out)["frames"] > 0
        assert document(out)["complete"] is False


def test_a_disk_that_is_really_full_ends_with_5(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can make a small disk")
    try:
        # raw H.264 does not say how long it is, so there is nothing to estimate its room from
        clip = write_clip(tmp_path / "a.h264", frames=300, squares=WALK)
        done = program(clip, "-o", small / "out")
        assert done.returncode == 5, done.stderr
        assert "No space left" in done.stderr
        assert unfinished(small / "out")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_folder_that_vanishes_or_may_not_be_written_ends_with_5(tmp_path, capsys):
    clip = write_clip(tmp_path / "a.mp4", frames=30, squares=STILL)
    from tests.fakes import SquaresEngine

    class Vandal(SquaresEngine):
        def step(self, rgb, state):
            if state == 15:
                shutil.rmtree(tmp_path / "out")
            return super().step(rgb, state)

    assert run(clip, "-o", tmp_path / "out", engine=Vandal()) == 5
    assert "Traceback" not in capsys.readouterr().err
    assert run(clip, "-o", "/proc/nowhere") == 5


def test_a_job_that_cannot_fit_is_refused_before_it_begins(tmp_path, capsys, monkeypatch):
    clip = write_clip(tmp_path / "a.mp4", frames=30)
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free._replace(free=5_000))
    from tests.fakes import SquaresEngine

    engine = SquaresEngine()

    assert run(clip, "-o", tmp_path / "out", engine=engine) == 5

    assert "GB are free" in capsys.readouterr().err
    assert engine.steps == 0
    assert not (tmp_path / "out").exists()
