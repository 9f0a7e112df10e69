"""What the program says while it works, on a terminal, in a log, and to other programs."""

import io
import json

import pytest

from configs.console import Console


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def told(*, stderr=None, frames=100, step=0.1, people=2, **how):
    """The console of a run that wrote `frames` frames, one every `step` seconds."""
    stdout, stderr, clock = io.StringIO(), stderr or io.StringIO(), Clock()
    console = Console(stdout=stdout, stderr=stderr, clock=clock, **how)
    console.start("clip.mp4", "out", size=(540, 960), engine="fake", frames=frames * 2)
    for i in range(frames):
        clock.now += step
        if i == 3:
            console.appeared(1, 0.125)
        console.progress(people)
    console.warning("the file ends early")
    console.done(frames=frames, people=people, paths=["out/alpha.mkv"], damaged=True)
    console.close()
    return stdout.getvalue(), stderr.getvalue()


def test_a_terminal_gets_one_line_that_updates_itself():
    _, said = told(stderr=Terminal())

    live = said.split("out, engine fake\n")[1].split("warning")[0]
    assert "\n" not in live
    assert "frame 100/200  10.0 frames/s  2 people  0:10 left" in live


def test_a_log_gets_few_lines():
    _, said = told(frames=1000, step=0.03)  # 30 s

    assert sum(line.startswith("frame ") for line in said.splitlines()) in (2, 3)
    assert "\r" not in said


def test_quiet_says_nothing_but_errors():
    _, said = told(stderr=Terminal(), quiet=True)
    assert said == ""

    stderr = io.StringIO()
    Console(quiet=True, stderr=stderr).error("no such file", 3)
    assert stderr.getvalue() == "error: no such file\n"


def test_stdout_stays_empty_unless_events_are_asked_for():
    stdout, _ = told()
    assert stdout == ""


def test_events_are_one_json_object_per_line_in_the_order_of_things():
    stdout, _ = told(json_events=True)
    events = [json.loads(line) for line in stdout.splitlines()]

    kinds = [event["event"] for event in events]
    assert kinds[0] == "start"
    assert kinds[1] == "person_appeared"
    assert set(kinds[2:-2]) == {"progress"}
    assert kinds[-2:] == ["warning", "done"]
    assert all(event["input"] == "clip.mp4" for event in events)
    assert len(kinds) < 20  # not one per frame
    assert events[0]["size"] == [540, 960]
    assert events[5]["frames_per_second"] == pytest.approx(10, rel=0.05)
    assert events[-1]["damaged"] is True


def test_a_listener_who_leaves_does_not_stop_the_work():
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    console = Console(json_events=True, stdout=Closed(), stderr=io.StringIO())

    console.start("clip.mp4", "out", size=(2, 2), engine="fake", frames=None)
    console.done(frames=0, people=0, paths=[], damaged=False)


def test_the_time_left_is_unknown_when_the_length_is():
    stderr, clock = Terminal(), Clock()
    console = Console(stdout=io.StringIO(), stderr=stderr, clock=clock)
    console.start("clip.mp4", "out", size=(2, 2), engine="fake", frames=None)
    clock.now += 1
    console.progress(1)

    assert "frame 1 " in stderr.getvalue()
    assert "1 person" in stderr.getvalue()
    assert "left" not in stderr.getvalue()


def test_the_live_line_fits_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    _, said = told(stderr=Terminal())

    drawn = said.split("out, engine fake\n")[1].split("warning")[0]
    assert max(len(line) for line in drawn.split("\r")) < 20
