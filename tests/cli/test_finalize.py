"""`finalize` as its user calls it: folders in, files out, one sentence where it cannot be."""

import json
import os

import run_stream
from stream.decode import open_source
from tests.fakes import SquaresEngine, write_clip


def run(*argv):
    return run_stream.main([str(a) for a in argv], load_engine=lambda *_, **__: SquaresEngine())


def test_a_run_that_died_is_finished_from_what_it_left(tmp_path, capsys, monkeypatch):
    clip = write_clip(tmp_path / "clip.mp4", frames=12)
    monkeypatch.setattr("stream.encode._finished", lambda *_: os._exit(9))
    child = os.fork()
    if child == 0:
        run(clip, "-o", tmp_path / "out", "--quiet")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.listdir(tmp_path / "out") == [".unfinished"]
    monkeypatch.undo()

    assert run("finalize", tmp_path / "out", "--debug") == 0

    assert sorted(os.listdir(tmp_path / "out")) == ["alpha.mkv", "composite.mp4", "people.json"]
    assert json.loads((tmp_path / "out/people.json").read_text())["frames"] == 12
    with open_source(tmp_path / "out/alpha.mkv") as source:
        assert len(list(source.frames())) == 12


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert run("finalize", tmp_path) == 3
    assert "neither results nor an unfinished run" in capsys.readouterr().err
    assert run("finalize") == 2
