"""The contact sheet shows what a run left behind, at the moments it says."""

import cv2
import numpy as np
import pytest

import run_stream
from stream.decode import InputError
from stream.sheet import CELL_WIDTH, GAP, HEAD, contact_sheet, evenly, main
from tests.fakes import COLOURS, Square, SquaresEngine, write_clip

STILL = (Square("red", at=(16, 8), step=(0, 0)), Square("blue", at=(40, 100), step=(0, 0), first=6))


@pytest.fixture
def finished(tmp_path):
    """A clip and the folder of its results: red is in all of it, blue in its second half."""
    clip = write_clip(tmp_path / "clip.mp4", frames=12, squares=STILL)
    argv = [str(clip), "-o", str(tmp_path / "out"), "--background", "#00ff00", "--quiet"]
    assert run_stream.main(argv, load_engine=lambda *_, **__: SquaresEngine()) == 0
    return str(clip), tmp_path / "out"


def cell(sheet, row, column):
    height = CELL_WIDTH * 96 // 160
    top, left = HEAD + row * (height + GAP), GAP + column * (CELL_WIDTH + GAP)
    return sheet[top : top + height, left : left + CELL_WIDTH].astype(int)


def test_columns_are_frame_people_and_composite(finished):
    sheet = contact_sheet(*finished, moments=2)

    red, blue = (28 * 2, 20 * 2), (52 * 2, 112 * 2)  # their middles; cells are twice as big
    for row, blue_there in ((0, False), (1, True)):
        frame, first, second, composite = (cell(sheet, row, column) for column in range(4))
        assert np.abs(frame[red] - COLOURS["red"]).max() < 24
        assert first[red].min() == 255
        assert first[blue].max() == 0
        assert second[blue].max() == (255 if blue_there else 0)
        assert np.abs(composite[180, 300] - (0, 255, 0)).max() < 24
        assert np.abs(composite[red] - COLOURS["red"]).max() < 24


def test_a_clip_without_anyone_still_makes_a_sheet(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=4, squares=())
    argv = [str(clip), "-o", str(tmp_path / "out"), "--quiet"]
    run_stream.main(argv, load_engine=lambda *_, **__: SquaresEngine())

    assert contact_sheet(str(clip), tmp_path / "out", moments=2).shape[2] == 3


def test_moments_are_spread_and_never_repeated():
    assert evenly(200, 5) == [20, 60, 100, 140, 180]
    assert evenly(2, 5) == [0, 1]
    assert evenly(0, 5) == []


def test_the_command_writes_the_picture_and_says_where(finished, capsys):
    clip, out = finished

    assert main([clip, str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "sheet.png")
    assert cv2.imread(str(out / "sheet.png")).shape[1] == 4 * (CELL_WIDTH + GAP) + GAP


def test_results_that_are_not_there_are_said_plainly(tmp_path, capsys):
    with pytest.raises(InputError, match=r"alpha.mkv; make it first"):
        contact_sheet("clip.mp4", tmp_path)
    assert main(["clip.mp4", str(tmp_path)]) == 3
    assert "Traceback" not in capsys.readouterr().err
