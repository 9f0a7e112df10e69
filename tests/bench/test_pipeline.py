"""The measurements measure what they say; how fast it is, is not tested here."""

import av
import pytest

from bench import pipeline
from bench.memory import looped
from configs.schema import load
from tests.fakes import SquaresEngine, write_clip


def test_both_sides_process_the_same_frames(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=12)
    engine = SquaresEngine()

    found = pipeline.measured(load(), clip, rounds=2, load_engine=lambda *_, **__: engine)

    warm_up, stages_alone = 10, 12
    assert engine.steps == warm_up + 2 * (12 + 12) + stages_alone
    assert engine.closed
    stages = ["decode", "network", "tracker", "calm", "composite", "encode"]
    assert list(found["stages_cpu_ms"]) == stages
    assert found["ratio"] > 0
    assert found["machine"]["date"]
    assert "held to 0.70" in pipeline._printed(found)


def test_a_looped_clip_is_the_clip_in_a_row(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=9, options={"bf": "2"})

    looped(clip, 3, tmp_path / "long.mp4")

    with av.open(str(tmp_path / "long.mp4")) as file:
        seconds = [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]
    assert len(seconds) == 27
    assert seconds == pytest.approx([i / 30 for i in range(27)], abs=0.001)
