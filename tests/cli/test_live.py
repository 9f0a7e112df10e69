"""`python run_stream.py live`: from words to pictures, and what it says when it cannot."""

import json
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import httpx
import numpy as np
import pytest

import run_stream
from configs.console import Console
from configs.live import parse
from configs.schema import ConfigError
from tests.fakes import TWO, DoubtfulEngine, Square, SquaresEngine, picture, write_clip
from tracking.roster import Roster

pytest.importorskip("starlette")
from web import command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clip(tmp_path):
    still = tuple(Square(square.colour, square.at, (0, 0)) for square in TWO)
    return write_clip(tmp_path / "clip.mp4", frames=45, squares=still)


def live(*words):
    return command.main([str(word) for word in words], Console(quiet=True), squares)


def squares(*names, **settings):
    return SquaresEngine()


def test_help_needs_neither_torch_nor_opencv_nor_starlette():
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'cv2', 'av', 'starlette'))\n"
        "import run_stream; run_stream.main(['live', '--help'])"
    )

    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert run.returncode == 0 and "--serve" in run.stdout, run.stderr


def test_a_file_played_live_is_recorded_and_streamed_into_a_file_at_once(clip, tmp_path, capsys):
    code = live("--source", clip, "--sink", tmp_path / "out.mkv", "--record", tmp_path / "take",
                "--background", "blur", "--person", "1=remove", "--json")  # fmt: skip

    assert code == 0
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 5
    about = json.loads((tmp_path / "take" / "people.json").read_text())
    assert [person["id"] for person in about["people"]] == [1, 2] and about["complete"]
    assert about["source"] == "clip.mp4"


@pytest.mark.parametrize(("calm", "kept"), [("0", 0), ("0.4", 0.35)])
def test_what_is_missed_in_every_second_picture_keeps_its_share(clip, tmp_path, calm, kept):
    code = command.main(
        ["--source", str(clip), "--record", str(tmp_path / "take"), "--set", f"people.calm={calm}"],
        Console(quiet=True), lambda *names, **settings: DoubtfulEngine(),
    )  # fmt: skip

    assert code == 0
    with av.open(str(tmp_path / "take" / "alpha.mkv")) as file:
        shown = [picture.to_ndarray(format="gray")[:96, :160] for picture in file.decode(video=0)]
    lower = [one[32:38, 12:28].mean() / 255 for one in shown if one.any()]  # of the first square
    assert min(lower[3:]) == pytest.approx(kept, abs=0.1)


def test_who_is_in_the_roster_is_recorded_and_kept_by_name(clip, tmp_path):
    portrait, roster = tmp_path / "bert.png", tmp_path / "names.json"
    cv2.imwrite(str(portrait), picture(0, (Square(TWO[1].colour, (30, 60)),))[:, :, ::-1])

    assert live("--source", clip, "--record", tmp_path / "take",
                "--enroll", f"bert={portrait}", "--roster", roster) == 0  # fmt: skip
    assert live("--source", clip, "--record", tmp_path / "again", "--roster", roster) == 0

    for folder in ("take", "again"):
        people = json.loads((tmp_path / folder / "people.json").read_text())["people"]
        assert [person.get("name") for person in people] == [None, "bert"]
    assert [person["name"] for person in json.loads(roster.read_text())["people"]] == ["bert"]
    assert live("--source", clip, "--record", tmp_path / "no", "--enroll", "a=nowhere.png") == 3


def test_serve_shows_the_page_until_the_time_is_over(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = []

    class Listening(Console):
        def note(self, text):
            if "the page: " in text:
                found.append(text.partition("the page: ")[2])

    monkeypatch.setattr(command, "Console", Listening)
    import threading

    codes = []
    run = threading.Thread(target=lambda: codes.append(
        live("--source", clip, "--loop", "--serve", "--port", 0, "--seconds", 6)))  # fmt: skip
    run.start()
    end = time.monotonic() + 20
    while not found and time.monotonic() < end:
        time.sleep(0.05)
    assert httpx.get(found[0]).status_code == 200
    state = httpx.get(found[0] + "api/state").json()
    run.join(30)

    assert state["engine"] == "squares" and state["running"]
    assert codes == [0]
    with pytest.raises(httpx.ConnectError):
        httpx.get(found[0])
    assert not (tmp_path / "recordings").exists()  # nothing is kept that was not asked for


def test_an_engine_that_fails_ends_with_its_own_code(clip, tmp_path):
    class Broken(SquaresEngine):
        def step(self, rgb, state):
            raise RuntimeError("the device was lost")

    code = command.main(["--source", str(clip), "--loop", "--sink", str(tmp_path / "a.mkv")],
                        Console(quiet=True), lambda *names, **settings: Broken())  # fmt: skip

    assert code == run_stream.ENGINE


@pytest.mark.parametrize(
    "words, told",
    [
        ([], "nowhere to show it"),
        (["--serve", "--host", "0.0.0.0"], "--token auto"),
        (["--serve", "--host", "0.0.0.0", "--token", "short"], "12 characters"),
        (["--serve", "--size", "big"], "WIDTHxHEIGHT"),
        (["--source", "browser", "--sink", "a.mkv"], "--serve"),
        (["--serve", "--certificate", "a.pem"], "belong together"),
        (["--serve", "--feather", "99"], "live.feather_pixels"),
        (["--serve", "--sourc", "0"], "--help"),
    ],
)
def test_words_that_make_no_sense_are_answered_with_what_does(words, told):
    with pytest.raises(ConfigError, match=told):
        parse(words)


@pytest.mark.parametrize(
    "words, code, told",
    [
        (["--source", "/dev/video77", "--serve"], run_stream.INPUT, "no camera /dev/video77"),
        (["--source", "nothing.mp4", "--serve"], run_stream.INPUT, "no such file"),
        (["--source", "test", "--sink", "out.mp4"], run_stream.OUTPUT, ".mkv"),
        (["--source", "test", "--serve", "--background", "no.jpg"], run_stream.INPUT, "no.jpg"),
    ],
)
def test_what_cannot_be_opened_ends_with_the_code_of_its_kind(words, code, told, capsys):
    assert command.main(words, Console(), squares) == code
    assert told in capsys.readouterr().err


def test_a_token_is_made_on_request_and_is_long():
    request = parse(["--serve", "--host", "0.0.0.0", "--token", "auto"])

    assert len(request.token) >= 20
    assert parse(["--serve"]).token is None and parse(["--serve"]).host == "127.0.0.1"


# ------------------------------------------------------------------------------ many sources


def many(folder, **sources):
    path = folder / "many.yaml"
    path.write_text(json.dumps({"live": {"sources": sources}}))  # JSON is YAML
    return path


def test_many_sources_share_who_has_a_name_and_keep_what_all_of_them_saw(clip, tmp_path, capsys):
    portrait, roster = tmp_path / "bert.png", tmp_path / "names.json"
    cv2.imwrite(str(portrait), picture(0, (Square(TWO[1].colour, (30, 60)),))[:, :, ::-1])
    both = many(tmp_path, door=str(clip), desk=str(clip))

    assert live("--config", both, "--record", tmp_path / "take",
                "--enroll", f"bert={portrait}", "--roster", roster) == 0  # fmt: skip
    with pytest.raises(ConfigError, match="here there is none; give a picture"):
        live("--config", both, "--record", tmp_path / "no", "--enroll", "bert=0.1@20,20")

    for name in ("door", "desk"):
        people = json.loads((tmp_path / "take" / name / "people.json").read_text())["people"]
        assert [person.get("name") for person in people] == [None, "bert"]
    assert [person["name"] for person in json.loads(roster.read_text())["people"]] == ["bert"]


def test_what_several_sources_saw_of_someone_is_kept_together():
    roster = Roster("weights")
    front, side, back = np.eye(3)
    roster.learn({"anna": front[None]})

    roster.learn({"anna": front[None]}, {"anna": np.stack([front, side])}, {"anna": back[None]})

    kept = {tuple(code) for code in roster.codes["anna"]}
    assert kept == {tuple(front), tuple(side), tuple(back)}


def test_sources_of_the_settings_run_at_once_each_into_its_own_folder(clip, tmp_path):
    config = many(tmp_path, door=str(clip), desk=str(clip))

    code = live("--config", config, "--sink", tmp_path / "{name}.mkv", "--record", tmp_path / "all",
                "--person", "1=remove")  # fmt: skip

    assert code == 0
    for name in ("door", "desk"):
        about = json.loads((tmp_path / "all" / name / "people.json").read_text())
        assert [person["id"] for person in about["people"]] == [1, 2] and about["complete"]
        with av.open(str(tmp_path / f"{name}.mkv")) as container:
            assert sum(1 for _ in container.decode(video=0)) > 5


def test_a_source_may_be_a_number_and_one_that_is_not_there_is_told_at_once(tmp_path, capsys):
    assert parse(["--serve", "--config", str(many(tmp_path, desk=0))]).sources == {"desk": "0"}
    words = ["--set", "live.sources.door=nothing.mp4", "--serve"]

    assert command.main(words, Console(), squares) == run_stream.INPUT
    assert "no such file" in capsys.readouterr().err


def test_an_engine_that_fails_at_everyones_pictures_ends_the_program(clip, tmp_path):
    class Broken(SquaresEngine):
        def step(self, rgb, state):
            raise RuntimeError("the device was lost")

    config = many(tmp_path, a=str(clip), b=str(clip))
    words = ["--config", str(config), "--loop", "--serve", "--port", "0", "--seconds", "60"]

    code = command.main(words, Console(quiet=True), lambda *names, **settings: Broken())

    assert code == run_stream.ENGINE


@pytest.mark.parametrize(
    "words, told",
    [
        (["--source", "test", "--serve"], "cannot both be"),
        (["--sink", "all.mkv"], "cannot share it"),
        (["--set", "live.sources.my door=test", "--serve"], "letters"),
        (["--set", "live.sources.b=browser", "--sink", "{name}.mkv"], "--serve"),
        (["--set", "live.sources.b=[1]", "--serve"], "should be"),
    ],
)
def test_words_about_many_sources_that_make_no_sense(tmp_path, words, told):
    with pytest.raises(ConfigError, match=told):
        parse(["--config", str(many(tmp_path, door="test")), *words])
