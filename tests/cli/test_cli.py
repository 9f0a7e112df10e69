"""The command line: what it understands, what it answers, and how fast."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import run_stream
from configs.cli import parse
from configs.schema import ConfigError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "cv2", "av", "torch", "scipy", "openvino", "onnxruntime")


def test_help_answers_before_anyone_wonders():
    """Held to 0.3 s of processor time: wall time would test the machine's other guests."""
    code = (
        "import sys, time, runpy; sys.argv = ['run_stream.py', '--help']\n"
        "try: runpy.run_path('run_stream.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
        "print(time.process_time(), file=sys.stderr)"
    )

    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    loaded, seconds = run.stderr.strip().splitlines()[-2:]

    assert "--background" in run.stdout
    assert loaded == "[]"
    assert float(seconds) < 0.3


def test_every_option_reaches_the_settings():
    request = parse(
        ["a.mp4", "-o", "out", "b.mp4", "--background", "beach.jpg", "--person", "2=blur",
         "--person", "3=#00ff00", "--engine", "onnxruntime, openvino", "--weights", "w.onnx",
         "--threads", "2", "--overwrite", "--set", "tracking.memory_seconds=4", "--json"]
    )  # fmt: skip

    assert request.inputs == ("a.mp4", "b.mp4")
    assert request.out == Path("out")
    assert request.json
    settings = request.settings
    assert settings.look.background == "beach.jpg"
    assert settings.look.people == {2: "blur", 3: "#00ff00"}
    assert settings.engine.backends == ("onnxruntime", "openvino")
    assert settings.engine.weights == "w.onnx"
    assert settings.engine.threads == 2
    assert settings.output.overwrite
    assert settings.tracking.memory_seconds == 4.0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "nothing to do"),
        (["a.mp4"], "-o"),
        (["a.mp4", "-o", "out", "--person", "blur"], "2=blur"),
        (["a.mp4", "-o", "out", "--person", "0=blur"], "2=blur"),
        (["a.mp4", "-o", "out", "--person", "1="], "no treatment"),
        (["a.mp4", "-o", "out", "--background", ""], "no treatment"),
        (["a.mp4", "-o", "out", "--threads", "many"], "whole number"),
        (["a.mp4", "-o", "out", "--threads", "0"], "1 and 1024"),
        (["a.mp4", "-o", "out", "--engine", ","], "name an engine"),
        (["a.mp4", "-o", "out", "--colour", "red"], "unrecognized arguments: --colour"),
        (["a.mp4", "-o", "out", "--over"], "unrecognized arguments: --over"),
        (["a.mp4", "-o", "out", "--config", "absent.yaml"], "no settings file"),
    ],
)
def test_a_call_that_makes_no_sense_is_answered_with_what_would(argv, said):
    with pytest.raises(ConfigError, match=said):
        parse(argv)


def test_inputs_may_stand_among_the_options_and_begin_with_a_dash():
    assert parse(["-o", "out", "--quiet", "a.mp4"]).inputs == ("a.mp4",)
    assert parse(["-o", "out", "--", "-strange.mp4"]).inputs == ("-strange.mp4",)


def test_one_input_goes_straight_into_the_folder_and_several_beside_each_other():
    assert parse(["a/clip.mp4", "-o", "out"]).places == [("a/clip.mp4", Path("out"))]

    places = parse(["a/clip.mp4", "b/clip.mov", "photos/", "Clip.mkv", "-o", "out"]).places

    assert [out.as_posix() for _, out in places] == [
        "out/clip", "out/clip_2", "out/photos", "out/Clip_3"
    ]  # fmt: skip


def test_the_engines_of_this_machine_are_listed_with_reasons(capsys):
    code = run_stream.main(["--engines"])

    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} >= {"openvino", "onnxruntime", "torch"}
    usable = [line.split()[0] for line in lines if line.split()[1] == "yes"]
    assert code == (0 if usable else 6)
    assert all(len(line.split(maxsplit=2)) == 3 for line in lines)  # name, yes or no, reason


def test_the_engines_are_listed_for_programs_too(capsys):
    run_stream.main(["--engines", "--json"])

    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["event"] for event in told} == {"engine"}
    assert all(event["reason"] for event in told)
