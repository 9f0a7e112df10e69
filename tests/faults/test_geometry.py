"""Cases 30 to 44: sizes, orientations, formats and colours, through the whole program."""

import json

import cv2
import numpy as np
import pytest

from engines.people import working_size
from matting.frames import Mattes
from stream.decode import open_source
from tests.fakes import Square, SquaresEngine, picture, write_clip
from tests.faults.builders import STILL, reformatted, run, sized, times, transparent


def outcome(capsys, path, out, *options):
    code = run(path, "-o", out, *options)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("size", [(65, 49), (1, 1), (2, 2), (16, 250)])
def test_a_video_of_any_size_goes_through(tmp_path, size):
    clip = write_clip(tmp_path / "a.mkv", frames=3, size=size, codec="ffv1")

    assert run(clip, "-o", tmp_path / "out") == 0

    with open_source(tmp_path / "out" / "alpha.mkv") as alpha:
        assert alpha.size == size
    assert len(times(tmp_path / "out" / "composite.mp4")) == 3


def test_a_strip_is_refused_by_the_network_and_not_a_crash(tmp_path, capsys):
    class Real(SquaresEngine):
        def step(self, rgb, state):
            working_size(rgb.shape[:2])
            return super().step(rgb, state)

    clip = write_clip(tmp_path / "a.mkv", frames=2, size=(16, 4096), codec="ffv1")

    assert run(clip, "-o", tmp_path / "out", engine=Real()) == 3
    assert "4096 x 16" in capsys.readouterr().err


class Someone(SquaresEngine):
    """One person in the upper left quarter, without a look at the picture: quick at any size."""

    def step(self, rgb, state):
        height, width = rgb.shape[:2]
        alpha = np.zeros((1, height, width), np.float32)
        alpha[:, : height // 2, : width // 2] = 1
        box = np.array([[0, 0, width // 2, height // 2]], np.float32)
        coarse = cv2.resize(alpha[0], (64, 36))[None]
        score, code = np.full(1, 0.99, np.float32), np.ones((1, 6), np.float32)
        return Mattes(alpha, coarse, score, box, code, np.full(1, -1)), state + 1


def test_a_picture_eight_thousand_pixels_wide_is_matted_at_its_own_size(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4320, 7680, 3), 120, np.uint8))

    assert run(tmp_path / "a.png", "-o", tmp_path / "out", engine=Someone()) == 0

    alpha = cv2.imread(str(tmp_path / "out" / "a" / "person_0001.png"), cv2.IMREAD_UNCHANGED)
    assert alpha.shape == (4320, 7680)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_comes_out_upright_with_its_mattes_in_place(tmp_path, rotation):
    clip = write_clip(tmp_path / "a.mp4", frames=4, squares=STILL, rotation=rotation)

    assert run(clip, "-o", tmp_path / "out", "--background", "#0000ff") == 0

    with open_source(clip) as upright, open_source(tmp_path / "out" / "composite.mp4") as done:
        assert done.size == upright.size
        before, after = next(upright.frames()).rgb, next(done.frames()).rgb
    with open_source(tmp_path / "out" / "alpha.mkv") as file:
        alpha = next(file.frames()).rgb[..., 0]  # the first track: the red square
    inside = cv2.erode(alpha, np.ones((7, 7))) == 255
    assert inside.sum() > 200
    assert np.abs(before[inside].astype(int) - after[inside]).mean() < 12  # the person, kept
    assert np.abs(after[0, 0].astype(int) - (0, 0, 255)).max() < 24


def test_a_change_of_size_on_the_way_keeps_every_frame_and_says_so(tmp_path, capsys):
    clip = sized(tmp_path / "a.h264", [(96, 160), (64, 96), (96, 160)])

    code, said = outcome(capsys, clip, tmp_path / "out")

    assert code == 0
    assert "5 frames were of another size" in said
    assert len(times(tmp_path / "out" / "composite.mp4")) == 15


def test_a_change_of_pixel_format_on_the_way_changes_no_colour(tmp_path):
    clip = reformatted(tmp_path / "a.h264", ("yuv420p", "yuv444p", "yuv420p"))

    with open_source(clip) as source:
        frames = list(source.frames())

    assert len(frames) == 15
    for index, frame in enumerate(frames):
        assert np.abs(frame.rgb.astype(int) - picture(index % 5)).mean() < 3
    assert run(clip, "-o", tmp_path / "out") == 0


def test_the_transparency_of_an_input_is_not_taken_in_silence(tmp_path, capsys):
    code, said = outcome(capsys, transparent(tmp_path / "a.mov"), tmp_path / "out")

    assert code == 0
    assert "transparency is ignored" in said
    assert "transparency" in " ".join(
        json.loads((tmp_path / "out/people.json").read_text())["notes"]
    )


def test_an_interlaced_video_is_said_to_be_one(tmp_path, capsys):
    clip = write_clip(tmp_path / "a.mp4", frames=4, options={"x264-params": "tff=1"})

    code, said = outcome(capsys, clip, tmp_path / "out")

    assert code == 0
    assert "interlaced" in said


def test_hdr_is_not_taken_in_silence(tmp_path, capsys):
    options = {"x265-params": "transfer=16:log-level=none"}
    clip = write_clip(
        tmp_path / "a.mkv", frames=3, codec="libx265", pix_fmt="yuv420p10le", matrix=9, tag=9,
        options=options,
    )  # fmt: skip

    with open_source(clip) as source:
        list(source.frames())
        told = " ".join(source.notes)

    assert "PQ (HDR10)" in told


@pytest.mark.parametrize("full_range", [False, True])
def test_what_is_not_touched_keeps_its_code_values(tmp_path, full_range):
    """A kept background comes back within a code of the source, and the codec's own loss."""
    nobody = (Square("red", first=99),)
    clip = write_clip(tmp_path / "a.mp4", frames=3, squares=nobody, full_range=full_range)

    assert run(clip, "-o", tmp_path / "out", "--background", "keep") == 0

    with open_source(clip) as source, open_source(tmp_path / "out" / "composite.mp4") as done:
        before, after = next(source.frames()).rgb, next(done.frames()).rgb
    assert np.abs(before.astype(int) - after).max() <= 1
