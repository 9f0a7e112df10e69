"""What is left on disk: the same times, the same sound, exact alphas, and whole files or none."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from matting.frames import Frame, Mattes
from stream.decode import open_source
from stream.encode import Deliverables, OutputError, recover, unfinished
from tests.fakes import Square, SquaresEngine, named, picture, write_clip

ROOT = Path(__file__).resolve().parents[2]
UNEVEN = [0, 3000, 12000, 12100, 12345, 40001, 90000]


def run(clip, out, *, overwrite=False, stop_after=None, about=None):
    """Matte a clip of squares into `out`; each person's id is that of their colour."""
    engine, state = SquaresEngine(), 0
    with open_source(clip) as source, Deliverables(
        out, source, overwrite=overwrite, about=about
    ) as files:  # fmt: skip
        for index, frame in enumerate(source.frames()):
            if index == stop_after:
                raise RuntimeError("stopped on purpose")
            mattes, state = engine.step(frame.rgb, state)
            files.write(frame, named(mattes), frame.rgb)
    return files.finish()


def track(out, number):
    with av.open(str(out / "alpha.mkv")) as container:
        stream = container.streams.video[number]
        frames = [
            (frame.time, frame.to_ndarray(format="gray")) for frame in container.decode(stream)
        ]
        return dict(stream.metadata), frames


def times(path):
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def exact_times(out):
    with av.open(str(out / "alpha.mkv")) as container:
        (attached,) = container.streams.attachments
        document = json.loads(bytes(attached.data))
    return [pts * Fraction(document["time_base"]) for pts in document["pts"]]


def people(out):
    return json.loads((out / "people.json").read_text(encoding="utf-8"))


# ----------------------------------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("pts", "time_base"),
    [
        (UNEVEN, Fraction(1, 90000)),
        ([p + 10007 for p in UNEVEN], Fraction(1, 30000)),  # a late start
        ([0, 1, 2, 5, 9], Fraction(1001, 30000)),
        ([0, 33, 34, 100, 101], Fraction(1, 1000)),
    ],
)
def test_every_frame_keeps_its_time_on_every_track(tmp_path, pts, time_base):
    clip = write_clip(tmp_path / "a.mkv", codec="ffv1", pts=[0], frames=1)
    frames = [Frame(picture(i), when, time_base) for i, when in enumerate(pts)]
    engine = SquaresEngine()
    with open_source(clip) as source:
        source.time_base, source.rate = time_base, Fraction(30)
        with Deliverables(tmp_path / "out", source) as files:
            for frame in frames:
                files.write(frame, named(engine.step(frame.rgb, 0)[0]), frame.rgb)
            report = files.finish()
    truth = [when * time_base for when in pts]

    assert report.frames == len(pts)
    assert times(tmp_path / "out/composite.mp4") == truth
    assert exact_times(tmp_path / "out") == truth
    for number in (0, 1):
        _, seen = track(tmp_path / "out", number)
        assert [when for when, _ in seen] == pytest.approx([float(t) for t in truth], abs=0.0005001)


def test_a_clip_goes_through_with_all_its_frames(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", pts=UNEVEN, time_base=Fraction(1, 90000))

    report = run(clip, tmp_path / "out")

    assert report.frames == 7
    assert report.people == [1, 2]
    assert sorted(path.name for path in report.paths) == [
        "alpha.mkv",
        "composite.mp4",
        "people.json",
    ]
    assert sorted(os.listdir(tmp_path / "out")) == ["alpha.mkv", "composite.mp4", "people.json"]
    assert times(tmp_path / "out/composite.mp4") == times(clip)


# ---------------------------------------------------------------------------------------- alphas


def test_alpha_comes_back_code_for_code(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=1, size=(64, 256))
    ramp = np.tile(np.arange(256) / 255, (64, 1)).astype(np.float32)
    noise = np.random.default_rng(1).random((64, 256)).astype(np.float32)
    with open_source(clip) as source, Deliverables(tmp_path / "out", source) as files:
        for frame in source.frames():
            mattes = SquaresEngine().step(frame.rgb, 0)[0].pick([0, 0]).named([3, 9])
            mattes = Mattes(
                np.stack([ramp, noise]), mattes.coarse, mattes.score, mattes.box, mattes.code,
                mattes.ids,
            )  # fmt: skip
            files.write(frame, mattes, frame.rgb)

    tags, ((_, first),) = track(tmp_path / "out", 0)
    _, ((_, second),) = track(tmp_path / "out", 1)
    np.testing.assert_array_equal(first, np.tile(np.arange(256, dtype=np.uint8), (64, 1)))
    np.testing.assert_array_equal(second, np.rint(noise * 255).astype(np.uint8))
    assert (tags["title"], tags["PERSON_ID"]) == ("Person 3", "3")
    with av.open(str(tmp_path / "out/alpha.mkv")) as container:
        frame = next(container.decode(video=0))
        assert frame.color_range == 2  # coverage is no video level


def test_a_track_starts_with_the_video_and_is_blank_without_its_person(tmp_path):
    squares = [
        Square("red", step=(0, 0)),
        Square("green", at=(48, 100), step=(0, 0), first=4, last=6),
    ]
    clip = write_clip(tmp_path / "a.mp4", squares=squares)

    run(clip, tmp_path / "out")

    for number, present in ((0, range(10)), (1, range(4, 7))):
        _, frames = track(tmp_path / "out", number)
        assert len(frames) == 10
        assert [i for i, (_, alpha) in enumerate(frames) if alpha.any()] == list(present)
    assert track(tmp_path / "out", 1)[1][5][1][52:68, 104:120].min() == 255


def test_someone_who_comes_back_after_long_goes_on_in_the_same_track(tmp_path):
    squares = [
        Square("red", step=(0, 0), last=3),
        Square("red", step=(0, 0), first=40),
        Square("green", at=(48, 100), step=(0, 0)),
    ]
    clip = write_clip(tmp_path / "a.mp4", frames=44, rate=10, squares=squares)  # 3.6 s away

    run(clip, tmp_path / "out")

    _, frames = track(tmp_path / "out", 0)
    seen = [i for i, (_, alpha) in enumerate(frames) if alpha.any()]
    assert seen == [0, 1, 2, 3, 40, 41, 42, 43]
    person = people(tmp_path / "out")["people"][0]
    assert person["present"] == seen
    assert (person["first_seconds"], person["last_seconds"]) == (0.0, 4.3)


def test_a_clip_with_nobody_in_it_still_has_all_its_files(tmp_path):
    report = run(write_clip(tmp_path / "a.mp4", squares=[]), tmp_path / "out")

    assert report.people == []
    tags, frames = track(tmp_path / "out", 0)
    assert tags["title"] == "no one"
    assert len(frames) == 10
    assert not any(alpha.any() for _, alpha in frames)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files through /proc")
def test_many_passers_by_keep_few_files_open(tmp_path):
    """Everyone is in view for one frame; a file for each that stays open would use up handles."""
    clip = write_clip(tmp_path / "a.mp4", frames=2, size=(16, 16), rate=1)
    one = SquaresEngine().step(picture(), 0)[0].pick([0])
    rgb = np.zeros((16, 16, 3), np.uint8)

    def open_files():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    with open_source(clip) as source, Deliverables(tmp_path / "out", source) as files:
        for i in range(60):
            mattes = Mattes(
                np.ones((1, 16, 16), np.float32), one.coarse, one.score, one.box, one.code, one.ids
            ).named([i + 1])
            files.write(Frame(rgb, i * source.time_base.denominator, source.time_base), mattes, rgb)
            assert open_files() - before < 10

    assert len(people(tmp_path / "out")["people"]) == 60
    assert [i for i, (_, alpha) in enumerate(track(tmp_path / "out", 59)[1]) if alpha.any()] == [59]


# ------------------------------------------------------------------------------------- composite


@pytest.mark.parametrize(
    ("size", "tag"), [((96, 160), 6), ((96, 160), 1), ((96, 160), 2), ((720, 1280), 2)]
)
def test_the_composite_has_the_colours_and_the_tags_of_the_source(tmp_path, size, tag):
    clip = write_clip(
        tmp_path / "a.mp4",
        frames=3,
        size=size,
        matrix=1 if tag == 1 or size[0] > 576 else 6,
        tag=tag,
    )

    run(clip, tmp_path / "out")

    with open_source(tmp_path / "out/composite.mp4") as source, open_source(clip) as given:
        for ours, theirs in zip(source.frames(), given.frames(), strict=True):
            inside = np.s_[24:32, 18:24]  # away from edges, where chroma is shared
            assert np.abs(ours.rgb[inside].astype(int) - theirs.rgb[inside]).max() <= 3
            assert np.abs(ours.rgb[:8, :8].astype(int) - 120).max() <= 2
    with av.open(str(tmp_path / "out/composite.mp4")) as container:
        frame = next(container.decode(video=0))
        expected = {6: 6, 1: 1}.get(tag, 1 if size[0] > 576 else 6)
        assert (frame.colorspace, frame.color_range) == (expected, 1)
        assert (frame.color_primaries, frame.color_trc) == (expected, expected)


def test_odd_sizes_are_padded_to_even_ones_and_said(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", frames=2, size=(65, 49), codec="ffv1", pix_fmt="yuv444p")

    run(clip, tmp_path / "out")

    with open_source(tmp_path / "out/composite.mp4") as source:
        frame = next(source.frames())
    assert frame.size == (66, 50)
    assert people(tmp_path / "out")["composite"] == {"size": [66, 50], "picture": [65, 49]}
    assert track(tmp_path / "out", 0)[1][0][1].shape == (65, 49)
    assert np.abs(frame.rgb[65, 49].astype(int) - frame.rgb[64, 48]).max() <= 3  # the edge goes on


def test_pixels_that_are_not_square_stay_so(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=2, pixel_aspect=Fraction(16, 11))

    run(clip, tmp_path / "out")

    with open_source(tmp_path / "out/composite.mp4") as source:
        assert source.pixel_aspect == Fraction(16, 11)
    assert people(tmp_path / "out")["pixel_aspect"] == "16/11"


def test_the_same_run_twice_leaves_the_same_bytes(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", audio="aac")

    run(clip, tmp_path / "one")
    run(clip, tmp_path / "two")

    for name in ("composite.mp4", "people.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    for number in (0, 1):
        for (_, one), (_, two) in zip(
            track(tmp_path / "one", number)[1], track(tmp_path / "two", number)[1], strict=True
        ):
            np.testing.assert_array_equal(one, two)


# ----------------------------------------------------------------------------------------- sound


def sound(path):
    """Time and digest of every packet of sound."""
    with av.open(str(path)) as container:
        return [
            (round(float(packet.pts * packet.time_base), 4), hashlib.md5(bytes(packet)).hexdigest())
            for packet in container.demux(audio=0)
            if packet.size
        ]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "aac"), ("a.mkv", "aac"), ("a.mkv", "libopus"), ("a.mkv", "flac"), ("a.ts", "mp2")],
)
def test_sound_is_copied_packet_for_packet(tmp_path, name, codec):
    clip = write_clip(tmp_path / name, frames=40, audio=codec)

    report = run(clip, tmp_path / "out")

    if codec == "mp2":  # not what an MP4 usually holds
        assert "the sound is mp2float" in report.notes[0] or "mp2" in report.notes[0]
        return
    given, kept = sound(clip), sound(tmp_path / "out/composite.mp4")
    assert [digest for _, digest in kept] == [digest for _, digest in given]
    assert report.notes == []


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_picture_and_sound_stay_together(tmp_path, codec):
    clip = write_clip(
        tmp_path / "a.mkv", pts=[2000 + 40 * i for i in range(30)], time_base=Fraction(1, 1000),
        audio=codec, audio_start_seconds=1.9,
    )  # fmt: skip
    before = sound(clip)[0][0] - float(times(clip)[0])

    report = run(clip, tmp_path / "out")

    composite = tmp_path / "out/composite.mp4"
    after = sound(composite)[0][0] - float(times(composite)[0])
    # a new encoder says its first packet is 1024 samples early: that is what players skip
    assert after == pytest.approx(before, abs=0.001 if codec == "aac" else 0.0225)
    assert ("converted to AAC" in str(report.notes)) == (codec != "aac")


def test_a_clip_without_sound_stays_without(tmp_path):
    run(write_clip(tmp_path / "a.mp4"), tmp_path / "out")

    with av.open(str(tmp_path / "out/composite.mp4")) as container:
        assert not container.streams.audio


# ------------------------------------------------------------------------------------ people.json


def test_people_json_says_who_was_where_and_when(tmp_path):
    squares = [Square("red", at=(16, 8)), Square("green", at=(48, 100), step=(0, 0), first=4)]
    clip = write_clip(tmp_path / "a.mp4", squares=squares)

    run(clip, tmp_path / "out", about={"engine": "squares"})

    told = people(tmp_path / "out")
    assert told["source"] == "a.mp4"
    assert told["complete"] is True
    assert told["size"] == [96, 160]
    assert told["frames"] == 10
    assert told["about"] == {"engine": "squares"}
    red, green = told["people"]
    assert (red["id"], red["frames"], red["present"]) == (1, 10, list(range(10)))
    assert red["boxes"][3] == pytest.approx([14, 16, 38, 40], abs=1)
    assert red["scores"][0] == 0.99
    ticks = Fraction(told["time_base"])
    assert (green["id"], green["first_pts"] * ticks) == (2, Fraction(4, 30))
    assert green["last_seconds"] == pytest.approx(0.3)


# ------------------------------------------------------------------------- refusals and failures


def test_results_are_not_overwritten_unless_it_is_allowed(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=3)
    run(clip, tmp_path / "out")
    (tmp_path / "out/mine.txt").write_text("keep me")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}

    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        run(clip, tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before

    run(write_clip(tmp_path / "b.mp4", frames=5), tmp_path / "out", overwrite=True)
    assert people(tmp_path / "out")["frames"] == 5
    assert (tmp_path / "out/mine.txt").read_text() == "keep me"


def test_an_overwriting_run_that_fails_at_once_leaves_the_old_results(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=3)
    run(clip, tmp_path / "out")

    with pytest.raises(RuntimeError, match="on purpose"):
        run(clip, tmp_path / "out", overwrite=True, stop_after=0)

    assert people(tmp_path / "out")["frames"] == 3
    assert sorted(os.listdir(tmp_path / "out")) == ["alpha.mkv", "composite.mp4", "people.json"]


def test_a_failure_before_the_first_frame_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="on purpose"):
        run(write_clip(tmp_path / "a.mp4"), tmp_path / "out", stop_after=0)

    assert not (tmp_path / "out").exists()


def test_what_was_written_before_a_failure_is_whole_and_says_that_it_is_not_all(tmp_path):
    with pytest.raises(RuntimeError, match="on purpose"):
        run(write_clip(tmp_path / "a.mp4", audio="aac", frames=60), tmp_path / "out", stop_after=20)

    assert people(tmp_path / "out")["complete"] is False
    assert people(tmp_path / "out")["frames"] == 20
    assert len(times(tmp_path / "out/composite.mp4")) == 20
    assert len(track(tmp_path / "out", 1)[1]) == 20
    assert sound(tmp_path / "out/composite.mp4")[-1][0] < 0.75  # and the sound ends with it


def test_interrupting_finishes_the_files_too(tmp_path):
    clip = write_clip(tmp_path / "a.mp4")
    with (
        pytest.raises(KeyboardInterrupt),
        open_source(clip) as source,
        Deliverables(tmp_path / "out", source) as files,
    ):
        for frame in source.frames():
            files.write(frame, named(SquaresEngine().step(frame.rgb, 0)[0]), frame.rgb)
            if frame.seconds > 0.15:
                raise KeyboardInterrupt

    assert len(times(tmp_path / "out/composite.mp4")) == 6


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OutputError, match="results cannot be written there"):
        run(write_clip(tmp_path / "a.mp4"), tmp_path / "file" / "out")


SCRIPT = """
    import os, resource, signal, sys
    from stream.decode import open_source
    from stream.encode import Deliverables
    from tests.fakes import SquaresEngine, named
    {prelude}
    with open_source(sys.argv[1]) as source, Deliverables(sys.argv[2], source) as files:
        for index, frame in enumerate(source.frames()):
            files.write(frame, named(SquaresEngine().step(frame.rgb, 0)[0]), frame.rgb)
            {each}
"""


def in_process(clip, out, prelude="", each="pass"):
    code = textwrap.dedent(SCRIPT.format(prelude=prelude, each=each))
    return subprocess.run(
        [sys.executable, "-c", code, str(clip), str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_after_a_kill_all_but_the_last_frame_can_be_recovered(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=40, audio="aac")

    done = in_process(clip, tmp_path / "out", each="index == 30 and os.kill(os.getpid(), 9)")

    assert done.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path / "out") == [".unfinished"]
    with pytest.raises(OutputError, match=r"unfinished run of 31 frames.*finalize"):
        run(clip, tmp_path / "out")
    report = recover(tmp_path / "out", str(clip))
    run(clip, tmp_path / "whole")
    assert (report.frames, report.people, report.complete) == (31, [1, 2], False)
    for number in (0, 1):
        there, whole = track(tmp_path / "out", number)[1], track(tmp_path / "whole", number)[1]
        np.testing.assert_array_equal([a for _, a in there], [a for _, a in whole[:31]])
    assert len(times(tmp_path / "out/composite.mp4")) >= 24  # a fifth of a second may be lost
    assert 0.8 < sound(tmp_path / "out/composite.mp4")[-1][0] < 1.1
    kept, said = people(tmp_path / "out"), people(tmp_path / "whole")
    assert kept["complete"] is False
    assert kept["people"][0]["boxes"] == said["people"][0]["boxes"][:31]
    assert sorted(os.listdir(tmp_path / "out")) == ["alpha.mkv", "composite.mp4", "people.json"]


def test_an_unfinished_run_may_be_started_over(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=12)
    in_process(clip, tmp_path / "out", each="index == 8 and os.kill(os.getpid(), 9)")

    run(clip, tmp_path / "out", overwrite=True)

    assert len(times(tmp_path / "out/composite.mp4")) == 12
    assert not (tmp_path / "out/.unfinished").exists()


def test_two_runs_cannot_write_into_one_folder(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=3)
    with open_source(clip) as source, Deliverables(tmp_path / "out", source) as files:
        frame = next(source.frames())
        files.write(frame, named(SquaresEngine().step(frame.rgb, 0)[0]), frame.rgb)
        for overwrite in (False, True):
            with pytest.raises(OutputError, match="another run is writing"):
                run(clip, tmp_path / "out", overwrite=overwrite)
        with pytest.raises(OutputError, match="another run is writing"):
            recover(tmp_path / "out")


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on file sizes")
def test_a_full_disk_is_an_output_error_and_what_was_written_is_readable(tmp_path):
    """A limit on the size of files stands for the disk's: writing beyond it fails just so."""
    clip = write_clip(tmp_path / "a.mp4", frames=40)

    done = in_process(
        clip, tmp_path / "out",
        prelude="resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))",
    )  # fmt: skip

    assert done.returncode == 1
    assert "OutputError" in done.stderr
    assert "writing failed at" in done.stderr
    if unfinished(tmp_path / "out"):  # finishing what was written did not fit either
        assert recover(tmp_path / "out").frames >= 2
    assert track(tmp_path / "out", 0)[1][1][1].any()


def test_ids_that_name_nobody_are_refused(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", frames=1)
    with (
        open_source(clip) as source,
        pytest.raises(ValueError, match="ids of their own"),
        Deliverables(tmp_path / "out", source) as files,
    ):
        frame = next(source.frames())
        files.write(frame, SquaresEngine().step(frame.rgb, 0)[0], frame.rgb)  # still untracked


# ------------------------------------------------------------------------------------ photographs


def photographs(folder, names=("a", "b")):
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        rgb = picture(index, size=(96, 160) if index % 2 == 0 else (120, 130))
        cv2.imwrite(str(folder / f"{name}.png"), rgb[:, :, ::-1])
    return folder


def test_each_photograph_gets_a_folder_with_an_alpha_per_person(tmp_path):
    report = run(photographs(tmp_path / "in"), tmp_path / "out")

    assert report.frames == 2
    assert report.people == [1, 2]
    for name, size in (("a", (96, 160)), ("b", (120, 130))):
        folder = tmp_path / "out" / name
        assert sorted(os.listdir(folder)) == ["composite.png", "person_0001.png", "person_0002.png"]
        alpha = cv2.imread(str(folder / "person_0001.png"), cv2.IMREAD_UNCHANGED)
        assert (alpha.shape, alpha.dtype) == (size, np.uint8)
        assert (alpha[20:36, 14:28] == 255).all()
    composite = cv2.imread(str(tmp_path / "out/a/composite.png"))[:, :, ::-1]
    np.testing.assert_array_equal(composite, picture(0))
    told = people(tmp_path / "out")
    assert [p["name"] for p in told["pictures"]] == ["a", "b"]
    assert told["pictures"][0]["people"][0]["file"] == "a/person_0001.png"


def test_photographs_are_not_overwritten_and_overwriting_leaves_no_stranger_behind(tmp_path):
    given = photographs(tmp_path / "in", names=("a",))
    run(given, tmp_path / "out")
    (tmp_path / "out/a/person_0009.png").write_bytes(b"from an earlier run with more people")

    with pytest.raises(OutputError, match="exists already"):
        run(given, tmp_path / "out")
    run(given, tmp_path / "out", overwrite=True)

    assert sorted(os.listdir(tmp_path / "out/a")) == [
        "composite.png",
        "person_0001.png",
        "person_0002.png",
    ]
