"""Cases 1 to 18: inputs that are damaged, or not what their name says."""

import json
import os
import re
import struct

import av
import cv2
import numpy as np
import pytest

from stream.decode import open_source
from stream.sheet import contact_sheet
from tests.fakes import cut_short, picture, write_clip, write_sound
from tests.faults.builders import (
    alphas,
    decodable,
    film,
    flipped,
    program,
    random_bytes,
    renamed_codec,
    run,
    times,
    two_videos,
    unfinished_mp4,
    with_extras,
)


def people(out):
    return json.loads((out / "people.json").read_text())


def refusal(capsys, path, out):
    """The one sentence with which an input is refused; nothing may be left behind."""
    assert run(path, "-o", out) == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert not out.exists()
    return line


def test_what_is_no_video_is_refused_in_one_sentence_of_its_own(tmp_path, capsys):
    out = tmp_path / "out"
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    text = tmp_path / "text.mp4"
    text.write_text("dear diary\n" * 50)
    folder = tmp_path / "folder"
    folder.mkdir()
    inputs = [
        empty, text, folder, tmp_path / "missing.mp4", random_bytes(tmp_path / "random.mp4"),
        unfinished_mp4(tmp_path / "unfinished.mp4"), write_sound(tmp_path / "song.m4a"),
    ]  # fmt: skip

    said = [refusal(capsys, path, out) for path in inputs]

    assert all(str(path) in line for path, line in zip(inputs, said, strict=True))
    wordings = [line.replace(str(path), "") for path, line in zip(inputs, said, strict=True)]
    assert len(set(wordings)) == len(inputs) - 1  # text and random bytes are the same to us
    assert "unfinished recording" in said[5]


@pytest.mark.skipif(os.name != "posix", reason="needs pipes with names")
def test_what_is_not_a_file_is_refused_without_waiting_for_it(tmp_path):
    """A pipe nobody writes to would hold the program for ever, /dev/zero would never end."""
    os.mkfifo(tmp_path / "pipe.mp4")

    for path in (tmp_path / "pipe.mp4", "/dev/zero"):
        done = program(path, "-o", tmp_path / "out", timeout=30)

        assert done.returncode == 3, done.stderr
        assert "not a file" in done.stderr


def test_a_file_without_permission_is_refused_as_such(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    clip.chmod(0)
    if os.access(clip, os.R_OK):
        pytest.skip("whoever runs this may read everything")

    done = program(clip, "-o", tmp_path / "out")

    assert done.returncode == 3
    assert "no permission" in done.stderr


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_truncated_file_gives_every_picture_that_can_be_decoded(tmp_path, name):
    clip = film(tmp_path / name, **({"movflags": "faststart"} if name == "a.mp4" else {}))
    cut_short(clip, 0.7)
    wanted = decodable(clip)
    assert 20 < wanted < 90

    code = run(clip, "-o", tmp_path / "out")

    assert len(times(tmp_path / "out" / "composite.mp4")) >= wanted
    assert people(tmp_path / "out")["frames"] >= wanted
    if name != "a.ts":  # a transport stream does not say how long it should have been
        assert code == 4
        assert people(tmp_path / "out")["damage"]


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_cost_no_picture_that_could_be_decoded_and_no_number(tmp_path, seed):
    clip = film(tmp_path / "a.mp4", movflags="faststart")
    flipped(clip, count=12, seed=seed)
    wanted = decodable(clip)

    code = run(clip, "-o", tmp_path / "out")

    assert code in (0, 4)  # FFmpeg does not notice every flipped bit
    document = people(tmp_path / "out")
    assert document["frames"] >= wanted > 60
    assert bool(document["damage"]) == (code == 4)
    lasting = [p for p in document["people"] if p["frames"] > 0.6 * document["frames"]]
    assert [p["id"] for p in lasting] == [1, 2]


def test_a_song_with_a_cover_is_not_a_video_of_one_picture(tmp_path, capsys):
    song = write_sound(tmp_path / "song.mp3", codec="mp3")
    _, cover = cv2.imencode(".png", picture())
    frame = b"APIC" + _id3(b"\0image/png\0\x03\0" + cover.tobytes())
    song.write_bytes(b"ID3\x04\0\0" + _synchsafe(len(frame)) + frame + song.read_bytes()[0:])
    with av.open(str(song)) as file:
        assert len(file.streams.video) == 1  # there is a cover

    assert "cover picture does not count" in refusal(capsys, song, tmp_path / "out")


def _id3(body: bytes) -> bytes:
    return _synchsafe(len(body)) + b"\0\0" + body


def _synchsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


@pytest.mark.parametrize("name", ["one.mp4", "one.mkv", "one.webm"])
def test_a_video_of_one_picture_leaves_whole_files(tmp_path, name):
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    clip = write_clip(tmp_path / name, frames=1, codec=codec)

    assert run(clip, "-o", tmp_path / "out") == 0

    assert len(times(tmp_path / "out" / "composite.mp4")) == 1
    assert len(alphas(tmp_path / "out" / "alpha.mkv")) == 1


def test_a_photograph_under_a_videos_name_is_matted_as_a_photograph(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture()[:, :, ::-1])
    still = (tmp_path / "a.png").rename(tmp_path / "a.mp4")

    assert run(still, "-o", tmp_path / "out") == 0

    assert (tmp_path / "out" / "a" / "person_0001.png").exists()


def test_of_two_videos_the_marked_one_is_used_and_said(tmp_path, capsys):
    for marked, brightness in ((0, 40), (1, 200)):
        clip = two_videos(tmp_path / f"{marked}.mkv", marked)
        with open_source(clip) as source:
            (first, *_) = source.frames()
        assert abs(int(first.rgb.mean()) - brightness) < 4

        assert run(clip, "-o", tmp_path / f"out{marked}") == 0
        assert f"2 video streams; number {marked} is used" in capsys.readouterr().err


def test_another_video_of_a_file_can_be_chosen_and_everyone_knows_which(tmp_path, capsys):
    clip, out = two_videos(tmp_path / "two.mkv", marked=0), tmp_path / "out"

    assert run(clip, "-o", out, "--video-stream", "1", "--background", "keep") == 0

    assert "video streams" not in capsys.readouterr().err  # nothing was decided for anyone
    with open_source(out / "composite.mp4") as source:
        (first, *_) = source.frames()
    assert abs(int(first.rgb.mean()) - 200) < 4
    assert run("finalize", out, "--preset", "archive,comp", "--background", "keep") == 0
    for made in ("archive/two_everyone.mkv", "comp/two_everyone.mp4"):
        with open_source(out / made) as source:
            (first, *_) = source.frames()
        assert abs(int(first.rgb.mean()) - 200) < 4, made
    sheet = contact_sheet(str(clip), out, moments=1)
    assert abs(int(sheet[100, 100].mean()) - 200) < 6
    for wrong, code in (("7", 3), ("one", 2), ("64", 2)):
        assert run(clip, "-o", tmp_path / "no", "--video-stream", wrong) == code
        assert not (tmp_path / "no").exists()
    assert "there are: 0, 1" in capsys.readouterr().err


def test_what_is_beside_the_video_does_no_harm(tmp_path):
    assert run(with_extras(tmp_path / "a.mkv"), "-o", tmp_path / "out") == 0

    assert len(times(tmp_path / "out" / "composite.mp4")) == 12


@pytest.mark.parametrize("kind", [b"encv", b"zzzz"])
def test_a_codec_that_cannot_be_decoded_is_named(tmp_path, capsys, kind):
    clip = renamed_codec(tmp_path / "a.mp4", kind)

    said = refusal(capsys, clip, tmp_path / "out")

    assert kind.decode() in said or "encrypted" in said
    assert re.search("convert|encrypted", said)


def test_a_damaged_background_is_refused_before_anything_is_written(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", frames=3)
    exr = tmp_path / "sky.exr"  # the magic number of OpenEXR, and a header that breaks off
    exr.write_bytes(struct.pack("<II", 20000630, 2) + b"channels\0chlist\0\xff\xff\xff\x7f")
    jpg = tmp_path / "sky.jpg"
    cv2.imwrite(str(jpg), picture(size=(400, 600)))
    jpg.write_bytes(jpg.read_bytes()[:700])

    for background in (exr, jpg):
        code = run(clip, "-o", tmp_path / "out", "--background", background)

        said = capsys.readouterr().err
        if background == jpg and code == 0:  # half a JPEG is a picture with a gray half
            continue
        assert code == 3
        assert background.name in said
        assert len(said.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()


def test_damage_in_a_folder_of_photographs_is_counted_and_the_rest_is_done(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "abc":
        cv2.imwrite(str(photos / f"{name}.png"), picture())
    cut_short(photos / "b.png", 0.5)

    assert run(photos, "-o", tmp_path / "out") == 4

    assert len(people(tmp_path / "out")["damage"]) == 1
    assert (tmp_path / "out" / "c" / "composite.png").exists()
    assert np.array_equal(cv2.imread(str(tmp_path / "out/a/person_0001.png")),
                          cv2.imread(str(tmp_path / "out/c/person_0001.png")))  # fmt: skip
