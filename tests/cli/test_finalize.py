"""`finalize` as its user calls it: folders in, files out, one sentence where it cannot be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

import run_stream
from stream.decode import open_source
from tests.fakes import SquaresEngine, write_clip

ROOT = Path(__file__).resolve().parents[2]


def run(*argv):
    return run_stream.main([str(a) for a in argv], load_engine=lambda *_, **__: SquaresEngine())


DIES = """
import os, sys
import run_stream, stream.encode
from tests.fakes import SquaresEngine
stream.encode._finished = lambda *_: os._exit(9)
run_stream.main(sys.argv[1:], load_engine=lambda *_, **__: SquaresEngine())
"""


def test_a_run_that_died_is_finished_from_what_it_left(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=12)
    words = [str(clip), "-o", str(tmp_path / "out"), "--quiet"]
    # a process of its own: what is forked off one with threads may wait for a lock for ever
    died = subprocess.run([sys.executable, "-c", DIES, *words], cwd=ROOT, timeout=60)
    assert died.returncode == 9
    assert os.listdir(tmp_path / "out") == [".unfinished"]

    assert run("finalize", tmp_path / "out", "--debug") == 0

    assert sorted(os.listdir(tmp_path / "out")) == ["alpha.mkv", "composite.mp4", "people.json"]
    assert json.loads((tmp_path / "out/people.json").read_text())["frames"] == 12
    with open_source(tmp_path / "out/alpha.mkv") as source:
        assert len(list(source.frames())) == 12


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert run("finalize", tmp_path) == 3
    assert "neither results nor an unfinished run" in capsys.readouterr().err
    assert run("finalize") == 2


def test_deliverables_can_be_made_in_the_same_call(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", frames=6, rate=25)

    argv = (clip, "-o", tmp_path / "out", "--preset", "matte,png", "--start", "2f", "--end", "0.16")
    assert run(*argv, "--json") == 0

    done = [json.loads(line) for line in capsys.readouterr().out.splitlines()][-1]
    assert done["frames"] == 3
    assert any(path.endswith("matte/clip_person_0001.mp4") for path in done["paths"])
    assert len(os.listdir(tmp_path / "out/png/clip_person_0002")) == 3
    told = json.loads((tmp_path / "out/manifest.json").read_text())["matte"]
    assert len(told["run"]["weights"]) == 64
    assert told["run"]["weights_terms"] == "weights/README.md"
    assert told["run"]["settings"]["input"] == {
        "start": "2f", "end": "0.16", "video_stream": None,
    }  # fmt: skip


def test_a_part_of_a_clip_keeps_its_sound_and_timecode(tmp_path):
    clip = write_clip(
        tmp_path / "clip.mov", frames=50, rate=25, audio="aac", metadata={"timecode": "01:00:00:24"}
    )

    assert run(clip, "-o", tmp_path / "out", "--start", "1.0", "--end", "1.36") == 0

    with av.open(str(tmp_path / "out/composite.mp4")) as file:
        times = [frame.time for frame in file.decode(video=0)]
        assert file.streams.video[0].metadata["timecode"] == "01:00:01:24"
    assert times == pytest.approx([i / 25 for i in range(10)])
    with av.open(str(tmp_path / "out/composite.mp4")) as file:
        heard = [float(p.pts * p.time_base) for p in file.demux(audio=0) if p.size]
    assert 0 <= heard[0] < 0.03
    assert 0.3 < heard[-1] < 0.45
    assert json.loads((tmp_path / "out/people.json").read_text())["trimmed"] is True


def test_wishes_that_make_no_sense_end_with_2(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", frames=3)
    assert run(clip, "-o", tmp_path / "out", "--preset", "prores") == 2
    assert not (tmp_path / "out").exists()
    run(clip, "-o", tmp_path / "out")

    for words, said in (
        (["--preset", "nle", "--template", "{source}"], "put {person}"),
        (["--preset", "disco", "--codec", "h264"], "4:2:0"),
        (["--preset", "nle", "--name", "Anna"], "NUMBER=TEXT"),
        (["--preset", "nle", "--cfr", "fast"], "--cfr"),
    ):
        assert run("finalize", tmp_path / "out", *words) == 2
        assert said in capsys.readouterr().err
    assert run("finalize", tmp_path / "out", "--preset", "matte", "--start", "soon") == 3
    assert run("finalize", tmp_path / "out", "--preset", "matte") == 0
    assert run("finalize", tmp_path / "out", "--preset", "matte") == 5
