"""Troupe in Python: the eight lines of the README, and what they promise."""

import sys
import types
from fractions import Fraction

import cv2
import numpy as np
import pytest

from configs.schema import ConfigError
from stream.decode import InputError
from tests.fakes import (
    COLOURS,
    TWO,
    WALL,
    DoubtfulEngine,
    Square,
    SquaresEngine,
    picture,
    write_clip,
)
from troupe import Troupe


def troupe(**about):
    made = Troupe(load_engine=lambda *names, **settings: SquaresEngine(), **about)
    assert made.engine == "squares"
    return made


def write_picture(path, people):
    cv2.imwrite(str(path), picture(0, people, (96, 160))[:, :, ::-1])


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", frames=12, rate=Fraction(30000, 1001))


def test_every_frame_of_a_file_comes_with_its_people_and_its_own_time(clip):
    with troupe() as made:
        frames = list(made.stream(clip))

    assert len(frames) == 12
    assert all([person.id for person in frame.people] == [1, 2] for frame in frames)
    assert frames[3].seconds == pytest.approx(3 * 1001 / 30000, abs=1e-3)
    person = frames[0].people[0]
    assert person.alpha.shape == frames[0].rgb.shape[:2] == (96, 160)
    assert (
        person.alpha.dtype == np.float32 and person.alpha[28, 20] == 1 and person.alpha[0, 0] == 0
    )


def test_arrays_are_a_source_too(clip):
    with troupe(background="#0000ff", people={1: "remove"}) as made:
        frames = list(made.stream((picture(i) for i in range(6)), rate=10))

    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    out = frames[-1].composite
    assert tuple(out[4, 80]) == (0, 0, 255)
    y, x = round(TWO[0].at[0]) + 12, round(TWO[0].at[1]) + 5 * 2 + 12
    assert tuple(out[y, x]) == (0, 0, 255)  # the first one is gone
    y, x = round(TWO[1].at[0]) + 12, round(TWO[1].at[1]) - 5 * 2 + 12
    assert np.abs(out[y, x].astype(int) - COLOURS["green"]).max() <= 2


def test_leaving_the_loop_early_closes_the_source(clip):
    with troupe() as made:
        stream = made.stream(clip)
        next(stream)
        stream.close()

        assert len(list(made.stream(clip))) == 12  # and the network is good for another


def test_a_live_source_gives_the_newest(tmp_path):
    still = (Square("red", step=(0, 0)),)
    clip = write_clip(tmp_path / "long.mp4", frames=45, rate=30, squares=still)

    with troupe() as made:
        frames = list(made.stream(clip, live=True))

    assert 3 < len(frames) <= 45
    assert [frame.seconds for frame in frames] == sorted({frame.seconds for frame in frames})
    assert frames[-1].people[0].id == 1


@pytest.mark.parametrize("live", [False, True])
def test_half_a_body_that_is_missed_in_every_second_frame_keeps_its_share(tmp_path, live):
    still = (Square("red", (30, 60), (0, 0)),)
    clip = write_clip(tmp_path / "still.mp4", frames=24, squares=still)

    def least(*overrides):
        with Troupe(load_engine=lambda *n, **s: DoubtfulEngine(), overrides=overrides) as made:
            frames = [frame for frame in made.stream(clip, live=live) if frame.people][3:]
        return min(frame.people[0].alpha[46:50, 66:78].mean() for frame in frames)

    assert least("people.calm=0") == 0
    assert 0.25 < least() < 0.45


def test_settings_count_as_on_the_command_line(clip):
    told = {}

    def load_engine(*names, **settings):
        told.update(settings)
        return SquaresEngine()

    wanted = ["engine.pixels=65536", "input.start=4f", "input.end=7f", "people.second_look=true"]
    with Troupe(load_engine=load_engine, overrides=wanted) as made:
        frames = list(made.stream(clip))

    assert told["pixels"] == 65536 and told["plans"] is None
    assert [frame.seconds for frame in frames] == pytest.approx(
        [i * 1001 / 30000 for i in range(4, 8)], abs=1e-3
    )
    assert all([person.id for person in frame.people] == [1, 2] for frame in frames)


def test_people_who_were_enrolled_come_with_their_names(clip, tmp_path):
    portrait, roster = tmp_path / "anna.png", tmp_path / "names.json"
    write_picture(portrait, [Square("green", (8, 8), side=60)])
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"people: {{enroll: {{anna: {portrait}}}, roster: {roster}}}")

    with troupe(settings=settings) as made:
        for source in (clip, [picture(i) for i in range(8)]):
            roster.unlink(missing_ok=True)
            assert [frame.names for frame in made.stream(source)][-1] == {2: "anna"}
            assert "anna" in roster.read_text()

    settings.write_text("people: {enroll: {anna: '0.1@20,20'}}")
    with troupe(settings=settings) as made:
        assert [frame.names for frame in made.stream(clip)][-1] == {1: "anna"}
        with pytest.raises(ConfigError, match="give a picture"):
            list(made.stream([picture(0)]))


def test_a_photograph_has_people_from_left_to_right():
    with troupe() as made:
        frame = made.matte(picture(0))

    assert [person.id for person in frame.people] == [1, 2]
    assert frame.people[0].box[0] < frame.people[1].box[0]
    assert np.array_equal(frame.composite[0, 0], WALL)


def test_mistakes_are_told_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="did you mean engine.threads"):
        troupe(overrides=["engine.thread=2"])
    with pytest.raises(InputError, match="neither a file nor a colour"):
        troupe(background="blurr")
    with troupe() as made, pytest.raises(InputError, match="no such file"):
        list(made.stream(tmp_path / "nothing.mp4"))


def test_supervision_is_imported_only_when_asked_for(clip, monkeypatch):
    with troupe() as made:
        frame = next(made.stream(clip))
        monkeypatch.setitem(sys.modules, "supervision", None)
        with pytest.raises(ImportError, match="pip install supervision"):
            frame.to_supervision()
        fake = types.SimpleNamespace(Detections=lambda **fields: fields)
        monkeypatch.setitem(sys.modules, "supervision", fake)
        found = frame.to_supervision()

    assert found["tracker_id"].tolist() == [1, 2]
    assert found["mask"].dtype == bool and found["mask"][0, 28, 20]
    assert found["xyxy"].shape == (2, 4)
