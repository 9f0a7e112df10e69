"""`--tracks-only`: the same tracks, no composite, and the composite whenever it is wanted."""

import json
import os
import shutil

import av
import cv2
import numpy as np
import pytest

from stream.encode import UNFINISHED, unfinished
from tests.fakes import picture, write_clip
from tests.faults.builders import alphas, run, times
from tests.faults.test_crash import composite, document, killed


def names(out):
    return sorted(path.name for path in out.iterdir())


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A clip with sound, a usual run of it, and one of its tracks alone."""
    folder = tmp_path_factory.mktemp("both")
    clip = write_clip(folder / "clip.mp4", frames=12, audio="aac")
    assert run(clip, "-o", folder / "usual", "--quiet") == 0
    assert run(clip, "-o", folder / "tracks", "--tracks-only", "--quiet") == 0
    return clip, folder / "usual", folder / "tracks"


def test_nothing_is_composed_and_the_tracks_are_the_same(both, tmp_path, monkeypatch):
    clip, usual, tracks = both

    assert names(tracks) == ["alpha.mkv", "people.json"]
    for track in range(2):
        mine, other = (alphas(out / "alpha.mkv", track) for out in (tracks, usual))
        assert np.array_equal(mine, other)
    told, other = document(tracks), document(usual)
    assert told["composite"] is None and other["composite"] is not None
    assert told["people"] == other["people"]
    monkeypatch.setattr("stream.compose.Composer.compose", None)  # nobody may call it
    assert run(clip, "-o", tmp_path / "out", "--set", "output.composite=false") == 0


def test_the_composite_can_be_made_later_and_is_that_of_a_usual_run(both, tmp_path):
    clip, usual, tracks = both
    out = tmp_path / "out"
    shutil.copytree(tracks, out)

    assert run("finalize", out, "--preset", "comp", "--source", clip, "--quiet") == 0

    made = next((out / "comp").glob("*.mp4"))
    assert times(made) == times(usual / "composite.mp4")
    shutil.copy(made, out / "composite.mp4")
    assert np.abs(composite(out).astype(int) - composite(usual)).mean() < 1
    with av.open(str(made)) as file:
        assert len(file.streams.audio) == 1


def test_a_look_without_a_composite_is_refused_unless_one_is_delivered(both, tmp_path, capsys):
    clip, _, _ = both
    words = (clip, "-o", tmp_path / "out", "--tracks-only", "--background", "#00ff00")

    assert run(*words) == 2
    assert "--preset comp" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

    assert run(*words, "--preset", "comp", "--quiet") == 0
    assert names(tmp_path / "out") == ["alpha.mkv", "comp", "manifest.json", "people.json"]
    with av.open(str(next((tmp_path / "out/comp").glob("*.mp4")))) as file:
        frame = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(frame[90, 150].astype(int) - (0, 255, 0)).max() < 24


def test_overwriting_takes_the_composite_of_the_earlier_run_with_it(both, tmp_path, capsys):
    clip, usual, _ = both
    out = tmp_path / "out"
    shutil.copytree(usual, out)

    assert run(clip, "-o", out, "--tracks-only") == 5
    assert "composite.mp4" in names(out)
    assert run(clip, "-o", out, "--tracks-only", "--overwrite") == 0

    assert names(out) == ["alpha.mkv", "people.json"]


def test_a_finished_run_says_how_to_come_to_its_composite(both, tmp_path, capsys):
    clip, _, tracks = both
    out = tmp_path / "out"
    shutil.copytree(tracks, out)

    assert run(clip, "-o", out, "--resume") == 0

    assert "--preset comp" in capsys.readouterr().err


@pytest.mark.parametrize(("first", "then"), [(True, True), (True, False), (False, True)])
def test_a_killed_run_is_gone_on_with_with_or_without(tmp_path, first, then):
    """Tracks are the same either way; a composite is there, and whole, if it was asked for."""
    clip = write_clip(tmp_path / "clip.mp4", frames=40)
    assert run(clip, "-o", tmp_path / "whole", "--quiet") == 0
    out, only = tmp_path / "out", "--tracks-only"
    killed(clip, out, 18, "0.03", *([only] if first else []))
    assert unfinished(out) is not None

    assert run(clip, "-o", out, "--resume", "--quiet", *([only] if then else [])) == 0

    assert ("composite.mp4" in names(out)) == (not then)
    whole = tmp_path / "whole"
    for track in range(2):
        mine, other = (alphas(folder / "alpha.mkv", track) for folder in (out, whole))
        assert np.array_equal(mine, other)
    if not then:
        assert times(out / "composite.mp4") == times(whole / "composite.mp4")
        assert np.abs(composite(out).astype(int) - composite(whole)).mean() < 1


def test_a_run_that_died_is_recovered_without_a_composite(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", frames=40)
    out = tmp_path / "out"
    killed(clip, out, 12, "0.03", "--tracks-only")
    clip.rename(tmp_path / "moved.mp4")

    assert run("finalize", out) == 0

    assert "without sound" not in capsys.readouterr().err
    assert names(out) == ["alpha.mkv", "people.json"]
    assert not (out / UNFINISHED).exists()
    told = document(out)
    assert told["frames"] >= 12 and told["composite"] is None and not told["complete"]


def test_photographs_have_mattes_alone(tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), picture(0)[:, :, ::-1])
    out = tmp_path / "out"
    run(tmp_path / "one.png", "-o", out, "--quiet")

    assert run(tmp_path / "one.png", "-o", out, "--tracks-only", "--overwrite", "--quiet") == 0

    assert sorted(os.listdir(out / "one")) == ["person_0001.png", "person_0002.png"]


def test_the_sheet_of_such_a_run_has_no_column_for_it(both):
    from stream.sheet import CELL_WIDTH, GAP, contact_sheet

    clip, usual, tracks = both

    wide, narrow = (contact_sheet(str(clip), out, 2).shape[1] for out in (usual, tracks))
    assert wide - narrow == CELL_WIDTH + GAP


def test_events_name_what_was_made(both, tmp_path, capsys):
    clip, _, _ = both
    out = tmp_path / "out"

    assert run(clip, "-o", out, "--tracks-only", "--json", "--quiet") == 0

    done = [json.loads(line) for line in capsys.readouterr().out.splitlines()][-1]
    assert done["paths"] == [str(out / "alpha.mkv"), str(out / "people.json")]
