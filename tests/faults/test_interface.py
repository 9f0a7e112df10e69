"""Case 76: names, streams, events and exit codes; and what the program says of itself."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.fakes import SquaresEngine, write_clip
from tests.faults.builders import ROOT, command, program, run

NAMES = ["Ünïcödé ä.mp4", "🎬 film.mp4", "with  spaces .mp4", "-leading.mp4", "a:b.mp4",
         "quote'\".mp4", "%04d.mp4", "x" * 251 + ".mp4", "new\nline.mp4"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:12])
def test_any_name_is_only_a_name_through_the_whole_program(tmp_path, name):
    clip = write_clip(tmp_path / "plain.mp4", frames=3, audio="aac").rename(tmp_path / name)

    assert run("--quiet", "-o", tmp_path / f"out {name[:20]}", "--", clip) == 0

    document = json.loads((tmp_path / f"out {name[:20]}" / "people.json").read_text("utf-8"))
    assert document["source"] == name


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_nothing(tmp_path, closed):
    clip = write_clip(tmp_path / "a.mp4", frames=3)
    line = " ".join([*command("a.mp4", "-o", "out", "--json"), closed])

    done = subprocess.run(
        line, shell=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120
    )

    assert done.returncode == 0
    assert (clip.parent / "out" / "people.json").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_log_on_a_full_disk_costs_nothing(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=3)
    with open("/dev/full", "w") as full:
        done = program(
            clip, "-o", tmp_path / "out", "--json", capture_output=False, stdout=full, stderr=full
        )

    assert done.returncode == 0
    assert (tmp_path / "out" / "people.json").exists()


def test_without_a_terminal_there_is_no_line_that_moves(tmp_path):
    done = program(write_clip(tmp_path / "a.mp4", frames=5), "-o", tmp_path / "out")

    assert done.returncode == 0
    assert "\r" not in done.stderr and done.stdout == ""


EVENTS = {
    "start": {"input", "out", "size", "engine", "frames_estimate"},
    "person_appeared": {"input", "id", "seconds"},
    "progress": {"input", "frames", "frames_estimate", "frames_per_second", "people",
                 "eta_seconds"},
    "warning": {"input", "message"},
    "done": {"input", "frames", "people", "seconds", "frames_per_second", "paths", "damaged"},
    "error": {"message", "exit_code"},
}  # fmt: skip


def test_every_event_is_an_object_with_what_is_documented(tmp_path, capsys):
    good = write_clip(tmp_path / "good.mp4", frames=6)
    hurt = write_clip(tmp_path / "hurt.mkv", frames=60)
    hurt.write_bytes(hurt.read_bytes()[: hurt.stat().st_size * 6 // 10])

    run(good, hurt, tmp_path / "absent.mp4", "-o", tmp_path / "out", "--json")

    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"start", "person_appeared", "warning", "done", "error"} <= {e["event"] for e in events}
    for event in events:
        assert EVENTS[event["event"]] <= event.keys(), event


def test_the_log_is_one_object_per_line_where_that_is_asked_for(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=5)

    done = program(clip, tmp_path / "absent.mp4", "-o", tmp_path / "out", "--log-format", "json")

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["level"] for line in lines} == {"info", "error"}
    assert all(line["time"].endswith("+00:00") and line["message"] for line in lines)
    assert not any(line["message"].startswith("error:") for line in lines)


def test_figures_can_be_asked_for_from_this_machine_alone(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=12)
    pages = {}

    class Asked(SquaresEngine):
        def step(self, rgb, state):
            if state == 10:
                for host in ("127.0.0.1", "localhost", "evil.example"):
                    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
                    request.add_header("Host", f"{host}:{port}")
                    try:
                        pages[host] = urllib.request.urlopen(request, timeout=10).read().decode()
                    except urllib.error.HTTPError as error:
                        pages[host] = error.code
            return super().step(rgb, state)

    port = _free_port()
    assert run(clip, "-o", tmp_path / "out", "--metrics", port, engine=Asked()) == 0

    assert pages["evil.example"] == 421
    values = dict(line.split() for line in pages["127.0.0.1"].splitlines() if line[0] != "#")
    assert 0 <= float(values["troupe_frames_total"]) <= 10
    assert set(values) >= {"troupe_people", "troupe_errors_total", "troupe_uptime_seconds"}
    with pytest.raises(urllib.error.URLError):  # it ends with the run
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)


def test_a_port_that_is_taken_is_said(tmp_path, capsys):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run("a.mp4", "-o", tmp_path / "out", "--metrics", port) == 2
    assert str(port) in capsys.readouterr().err


def _free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_doctor_tells_what_is_here_and_what_is_missing(capsys):
    import run_stream

    code = run_stream.main(["doctor", "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert code == 0
    assert {"machine", "package", "engine", "weights", "encoder", "camera"} == {
        one["about"] for one in found
    }
    assert all(one["ok"] for one in found if one["about"] == "weights")


def test_every_engine_doctor_calls_able_mattes_a_picture(capsys):
    import run_stream

    code = run_stream.main(["doctor", "--try", "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    able = {one["name"] for one in found if one["about"] == "engine" and one["ok"]}
    tried = {one["name"]: one["ok"] for one in found if one["about"] == "tried"}
    assert code == 0 and set(tried) == able and all(tried.values())


def test_doctor_finds_damaged_weights_and_no_engine(tmp_path, capsys, monkeypatch):
    import run_stream
    from commands import doctor

    monkeypatch.setattr(doctor, "WEIGHTS", tmp_path)
    (tmp_path / "live.onnx").write_bytes(b"damaged")
    assert run_stream.main(["doctor", "--quiet"]) == 1
    assert "is missing" in capsys.readouterr().out
    (tmp_path / "live.safetensors").write_bytes(b"others")
    assert run_stream.main(["doctor", "--quiet"]) == 1
    assert "was not exported" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "engines", lambda: [])
    monkeypatch.setattr(doctor, "weights", lambda: [])
    assert run_stream.main(["doctor", "--quiet"]) == 6


def test_the_documented_exit_codes_are_those_of_the_program():
    import run_stream

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, code in (("done", 0), ("usage", 2), ("input", 3), ("output", 5), ("engine", 6)):
        assert f"| {code} | {name}" in readme.lower()
    assert sys.version_info >= (3, 11)
    assert (run_stream.OK, run_stream.USAGE, run_stream.INPUT) == (0, 2, 3)
    assert (run_stream.DAMAGE, run_stream.OUTPUT, run_stream.ENGINE) == (4, 5, 6)
