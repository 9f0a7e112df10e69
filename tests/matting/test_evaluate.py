"""The tables of an evaluation, from mattes whose errors are known."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from matting import evaluate, metrics
from matting.datasets import open_dataset

SIZE = (48, 64)


def write(path: Path, alpha: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), (alpha * 255).round().astype(np.uint8))


def column(start: int, stop: int, value: float = 1.0) -> np.ndarray:
    made = np.zeros(SIZE)
    made[:, start:stop] = value
    return made


@pytest.fixture
def him2k(tmp_path):
    """Two pictures with two people each, and predictions that are off in known ways."""
    for name in ("a", "b"):
        write(tmp_path / f"data/images/natural/{name}.jpg", np.dstack([column(0, 64, 0.5)] * 3))
        write(tmp_path / f"data/alphas/natural/{name}/00.png", column(0, 20))
        write(tmp_path / f"data/alphas/natural/{name}/01.png", column(40, 60))
        write(tmp_path / f"made/{name}/0.png", column(40, 60))
    write(tmp_path / "made/a/1.png", column(0, 20, 0.8))  # b's left person is missed
    return tmp_path


def run(him2k, *more, capsys=None, name="HIM2K", what=("--predictions", "made")):
    words = [name, "--data", str(him2k / "data"), what[0], str(him2k / what[1]),
             "--state", str(him2k / "state.ndjson"), *more]  # fmt: skip
    code = evaluate.main(words)
    told = capsys.readouterr()
    return code, told


def test_figures_are_those_of_the_metrics(him2k, capsys):
    code, told = run(him2k, "--json", capsys=capsys)
    figures = json.loads(told.out)
    pictures = []
    for item in open_dataset("HIM2K", him2k / "data"):
        true = item.load().alpha / np.float32(255)
        pictures.append((evaluate.Folder(him2k / "made")(item.load().rgb, item.name)[0], true))

    assert code == 0 and figures["people"] == 4 and figures["pictures"] == 2
    assert figures["emad"] == pytest.approx(metrics.instance_errors(pictures).emad)
    assert figures["emad"] == pytest.approx(1e3 * (0.2 * 20 + 20) / 64 / 4, rel=1e-4)
    assert figures["found"] == 0.75 and figures["iou"] == pytest.approx(0.75)
    for error in ("mad", "grad", "conn", "iou"):
        for tau in (0.5, 0.75):
            expected = metrics.matting_quality(pictures, error=error, tau=tau)
            assert figures[f"{error}@{tau}"]["imq"] == pytest.approx(expected.imq)
            assert figures[f"{error}@{tau}"]["rq"] == pytest.approx(expected.rq)


def test_the_tables_are_those_of_the_papers(him2k, capsys):
    _, told = run(him2k, capsys=capsys)

    assert "HIM2K natural, 2 pictures" in told.out
    assert "EMSE    EMAD" in told.out and "MAD     MSE    Grad    Conn     IoU" in told.out
    assert "IMQ@0.5" in told.out and "RQ@0.75" in told.out
    assert "[####################] 2/2" in told.err


def test_a_stopped_run_goes_on_and_measures_nothing_twice(him2k, capsys, monkeypatch):
    _, whole = run(him2k, "--json", capsys=capsys)
    state = him2k / "state.ndjson"
    first, second = state.read_bytes().splitlines(keepends=True)
    state.write_bytes(first + second[:30])  # killed while writing
    seen = []
    measured = evaluate.measured
    monkeypatch.setattr(
        evaluate, "measured", lambda unit, *rest: seen.append(unit[0].name) or measured(unit, *rest)
    )

    _, resumed = run(him2k, "--json", capsys=capsys)

    assert seen == ["b"]
    assert resumed.out == whole.out
    assert state.read_bytes() == first + second
    run(him2k, "--json", "--fresh", capsys=capsys)
    assert seen == ["b", "a", "b"]


def test_portraits_are_measured_as_one_matte(him2k, capsys):
    for name in ("a", "b"):
        write(him2k / f"data/image/{name}.jpg", np.dstack([column(0, 64, 0.5)] * 3))
        write(him2k / f"data/alpha/{name}.png", column(0, 20) + column(40, 60))

    _, told = run(him2k, "--json", name="RWP-636", capsys=capsys)
    figures = json.loads(told.out)

    # a: 20 columns off by 0.2; b: 20 columns missed
    assert figures["sad"] == pytest.approx(48 * 20 * (0.2 + 1) / 2 / 1000, rel=1e-3)
    assert figures["mad"] == pytest.approx(1000 * 20 / 64 * 1.2 / 2, rel=1e-3)


def test_videos_are_measured_by_flicker_and_by_who_is_who(tmp_path, capsys):
    for t in range(4):
        base = tmp_path / "data/comp_hard"
        write(base / f"fgr/v/{t:04}.jpg", np.dstack([column(0, 64, 0.5)] * 3))
        write(base / f"pha/v/{t:04}/05.png", column(0, 30))
        number = 1 if t < 2 else 2  # the number changes half way
        write(tmp_path / f"made/v/{t:04}/{number:02}.png", column(0, 30, 1.0 if t != 1 else 0.6))

    _, told = run(tmp_path, "--json", name="V-HIM60", capsys=capsys)
    figures = json.loads(told.out)

    assert figures["idf1"] == pytest.approx(0.5)
    assert figures["hota"] == pytest.approx(np.sqrt(0.5))
    flicker = 100 * 0.4 * np.sqrt(30 / 64)
    assert figures["dtssd"] == pytest.approx(2 / 3 * flicker, rel=1e-3)  # two of three pairs
    assert figures["messddt"] > 0
    _, shown = run(tmp_path, name="V-HIM60", capsys=capsys)
    assert "MESSDdt" in shown.out and "HOTA" in shown.out


def test_what_is_wrong_is_said_with_its_path(him2k, capsys):
    shutil.rmtree(him2k / "data/alphas/natural/b")
    code, told = run(him2k, capsys=capsys)
    assert code == 2 and "natural/b: no such folder" in told.err

    code, told = run(him2k, name="HIM", capsys=capsys)
    assert code == 2 and "known are HIM-100K" in told.err


def test_weights_of_either_network_are_taken(him2k, capsys):
    torch = pytest.importorskip("torch")
    from matting.network import live
    from matting.network.published import network as published

    torch.manual_seed(1)
    sizes = live.Sizes(codes=4, width=32, heads=4, layers=1, hidden=32, context=16, embedding=8,
                       united=32, trimap=16, fine=8)  # fmt: skip
    live.save(live.LiveNetwork(sizes), him2k / "live.safetensors")
    thin = published.Sizes(codes=4, layers=1, depths=(1, 1, 1, 1), thin=8)
    made = published.PublishedNetwork(thin)
    published.save(made, him2k / "published.safetensors", licence="for trying out only")
    (him2k / "other.safetensors").write_bytes(b"nothing")

    for name, more in (("live", ()), ("published", ("--side", "64"))):
        what = ("--weights", f"{name}.safetensors")
        code, told = run(him2k, "--json", "--fresh", *more, what=what, capsys=capsys)
        assert code == 0 and 0 <= json.loads(told.out)["emad"] <= 1000
        assert ("licence: for trying out only" in told.err) == (name == "published")
    code, told = run(him2k, what=("--weights", "other.safetensors"), capsys=capsys)
    assert code == 2 and "not a safetensors file" in told.err
