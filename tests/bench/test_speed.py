"""The speed table measures what it says; how fast it is, is not tested here."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench import speed
from bench.crowd import Crowd
from engines import load_engine
from tests.fakes import write_clip

pytest.importorskip("onnx")
ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A network of a few nodes, so that the table takes seconds."""
    import onnx

    from tests.engines.toy_network import toy_model

    folder = tmp_path_factory.mktemp("toy")
    onnx.save(toy_model(memory=True), str(folder / "live.onnx"))
    return folder


@pytest.mark.parametrize("people", [1, 4, 10])
def test_a_crowd_has_the_number_of_people_it_says(people):
    inner = load_engine(["openvino"], ROOT / "weights", threads=1)
    engine = Crowd(inner, people)
    state = engine.start()
    for i in range(3):
        mattes, state = engine.step(np.full((144, 256, 3), 60 * i, np.uint8), state)
        assert len(mattes) == people
        assert (mattes.codes.max((1, 2)) > 200).all()  # and everyone can be seen


def test_the_table_has_every_row_and_the_ratios_the_speed_is_held_to(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "CLIP", write_clip(tmp_path / "clip.mp4", frames=9))
    monkeypatch.setitem(speed.SIZES, "540p", (90, 160))
    file = tmp_path / "speed.json"

    code = speed.main(
        ["--engines", "openvino", "openvino-int8", "--sizes", "540p", "--people", "1", "2",
         "--frames", "9", "--weights", str(toy), "--json", str(file)]
    )  # fmt: skip

    found = json.loads(file.read_text())
    assert code == 0
    assert [(r["engine"], r["size"], r["people"]) for r in found["rows"]] == [
        ("openvino", "540p", 1), ("openvino", "540p", 2),
    ]  # fmt: skip
    assert all(min(r["composite_cpu_ms"], r["pipeline_cpu_ms"]) > 0 for r in found["rows"])
    assert all(r["bare_cpu_ms"] > 0 and r["peak_megabytes"] > 0 for r in found["rows"])
    assert "no int8 network there" in found["left_out"][0]
    assert found["machine"]["date"] and found["frames"] == 9


def test_ratios_are_of_the_rows_they_name():
    def made(people, network, bare, pipeline, rates):
        return speed.Row("e", "720p", people, network, rates[0], bare, 1, 1, rates[1], pipeline,
                         1, 1, 1)  # fmt: skip

    found = speed.ratios(
        [made(1, 50, 60, 90, (20, 15)), made(4, 51, 70, 110, (18, 9)), made(6, 55, 75, 135, (9, 9))]
    )

    assert found["e 720p: six people / one, network"] == pytest.approx(1.1)
    assert found["e 720p: six people / one, engine"] == pytest.approx(1.25)
    assert found["e 720p: six people / one, pipeline"] == pytest.approx(1.5)
    assert found["e 720p: pipeline / bare engine, frame rate, 4 people"] == pytest.approx(0.5)
    share = found["e 720p: bare engine / pipeline, processor time, 4 people"]
    assert share == pytest.approx(70 / 110)
