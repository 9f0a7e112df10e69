"""People with names, from the command line to the tracks: enrolled by a picture or by a point."""

import json

import av
import cv2
import numpy as np
import pytest

import run_stream
from tests.fakes import Square, SquaresEngine, picture, write_clip

CLIP = [Square("red", (8, 8), (0, 2)), Square("green", (56, 100), (0, -2))]


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", squares=CLIP, frames=12)


@pytest.fixture
def portrait(tmp_path):
    """Someone green, and someone red who is smaller."""
    people = [Square("green", (8, 8), side=60), Square("red", (20, 110), side=20)]
    path = tmp_path / "anna.png"
    cv2.imwrite(str(path), picture(0, people, (96, 160))[:, :, ::-1])
    return path


def run(*argv, engine=None):
    return run_stream.main(
        [str(a) for a in argv], load_engine=lambda *_, **__: engine or SquaresEngine()
    )


def titles(out):
    with av.open(str(out / "alpha.mkv")) as file:
        return {
            int(s.metadata["PERSON_ID"]): s.metadata["title"] for s in file.streams.video
        }


def names(out):
    people = json.loads((out / "people.json").read_text())["people"]
    return {person["id"]: person.get("name") for person in people}


def test_whoever_looks_like_the_picture_has_its_name(clip, portrait, tmp_path):
    out = tmp_path / "out"

    assert run(clip, "-o", out, "--enroll", f"anna={portrait}") == 0

    assert names(out) == {1: None, 2: "anna"}
    assert titles(out) == {1: "Person 1", 2: "anna"}


def test_whoever_is_pointed_at_has_the_name_and_the_next_run_knows_them(clip, tmp_path, capsys):
    roster, first, second = tmp_path / "names.json", tmp_path / "first", tmp_path / "second"
    told = ["--enroll", "bert=0.1@20,20", "--roster", roster]  # red is there in the fourth frame

    assert run(clip, "-o", first, *told) == 0
    assert names(first) == {1: "bert", 2: None}

    other = write_clip(tmp_path / "other.mp4", squares=[*CLIP[::-1]], frames=12)
    assert run(other, "-o", second, "--roster", roster) == 0
    assert names(second) == {1: "bert", 2: None}

    kept = json.loads(roster.read_text())
    assert [person["name"] for person in kept["people"]] == ["bert"]
    assert kept["pins"] == {"clip.mp4": [{"name": "bert", "seconds": 0.1, "point": [20, 20]}]}


def test_names_made_with_other_weights_are_refused(clip, portrait, tmp_path, capsys):
    roster = tmp_path / "names.json"
    told = ["--enroll", f"anna={portrait}", "--roster", roster]
    assert run(clip, "-o", tmp_path / "out", *told) == 0
    (tmp_path / "other.safetensors").write_bytes(b"something else")

    code = run(clip, "-o", tmp_path / "again", "--roster", roster,
               "--weights", tmp_path / "other.safetensors")  # fmt: skip

    assert code == 2 and "other weights" in capsys.readouterr().err
    assert not (tmp_path / "again" / "people.json").exists()


@pytest.mark.parametrize(
    ("wanted", "code", "said"),
    [
        ("anna", 2, "expected NAME=PICTURE"),
        ("an/na=0@20,20", 2, "cannot be a name"),
        ("anna=0@900,20", 2, "outside the picture"),
        ("anna=60@20,20", 2, "ends before 60 s"),
        ("anna=0@80,90", 3, "nobody is found at 80,90"),
        ("anna=nowhere.jpg", 3, "nowhere.jpg"),
    ],
)
def test_what_cannot_be_enrolled_is_said_before_anything_is_written(
    clip, tmp_path, capsys, wanted, code, said
):
    assert run(clip, "-o", tmp_path / "out", "--enroll", wanted) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_somebody_the_network_doubts_is_not_taken_for_the_person_in_the_picture(
    clip, portrait, tmp_path, capsys
):
    class Doubting(SquaresEngine):
        def step(self, rgb, state):
            mattes, state = super().step(rgb, state)
            np.subtract(mattes.score, 0.6, out=mattes.score)
            return mattes, state

    told = ["--enroll", f"anna={portrait}"]
    assert run(clip, "-o", tmp_path / "out", *told, engine=Doubting()) == 3
    assert "nobody is found in this picture" in capsys.readouterr().err


def test_a_roster_that_is_something_else_is_refused(clip, tmp_path, capsys):
    for text in ('{"people": 3}', "[", '{"version": 9, "people": []}'):
        (tmp_path / "names.json").write_text(text)
        assert run(clip, "-o", tmp_path / "out", "--roster", tmp_path / "names.json") == 2


def test_nobody_beyond_the_number_told_gets_one(clip, tmp_path):
    assert run(clip, "-o", tmp_path / "out", "--max-people", "1") == 0
    assert list(names(tmp_path / "out")) == [1]
    assert np.isin(run(clip, "-o", tmp_path / "no", "--max-people", "none"), [2])


def test_a_second_look_at_the_whole_video_gives_the_same_mattes_and_leaves_nothing_behind(
    clip, tmp_path
):
    once, twice = tmp_path / "once", tmp_path / "twice"

    assert run(clip, "-o", once) == 0
    wanted = ["--config", "configs/thorough.yaml", "--set", "people.steady=0"]
    assert run(clip, "-o", twice, *wanted) == 0

    assert sorted(path.name for path in twice.iterdir()) == sorted(p.name for p in once.iterdir())
    told = [json.loads((out / "people.json").read_text())["people"] for out in (once, twice)]
    assert told[0] == told[1]
    packets = []
    for out in (once, twice):
        with av.open(str(out / "alpha.mkv")) as file:
            packets.append([bytes(p) for p in file.demux(*file.streams.video) if p.size])
    assert packets[0] == packets[1]


def test_a_thorough_run_has_everyone_in_the_frames_they_are_in(clip, tmp_path):
    once, thorough = tmp_path / "once", tmp_path / "thorough"

    assert run(clip, "-o", once) == 0
    assert run(clip, "-o", thorough, "--config", "configs/thorough.yaml") == 0

    told = [json.loads((out / "people.json").read_text())["people"] for out in (once, thorough)]
    assert [p["present"] for p in told[0]] == [p["present"] for p in told[1]]
    for before, after in zip(*told, strict=True):  # squares are seen well: hardly anything changes
        assert np.abs(np.array(before["boxes"]) - after["boxes"]).max() <= 1
