"""Decoding: times, orientation and colours as the file means them; files that lie or are hurt."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from stream.decode import InputError, index_of, open_source
from tests.fakes import COLOURS, Square, cut_short, picture, write_clip, write_sound

BIG_RED = Square("red", at=(0, 0), step=(0, 0), side=40)  # in the top left corner


def decoded(path):
    with open_source(path) as source:
        return source, list(source.frames())


# ----------------------------------------------------------------------------------------- time

GROUPS = {"g": "12", "bf": "3"}  # a picture that stands alone every 12


@pytest.mark.parametrize(
    ("name", "options", "movflags"),
    [("a.mp4", GROUPS, None), ("a.mov", GROUPS, "frag_keyframe+empty_moov"),
     ("a.mkv", GROUPS, None), ("open.mp4", GROUPS | {"x264-params": "open-gop=1"}, None),
     ("all.mp4", {"g": "1"}, None)],
)  # fmt: skip
def test_a_file_entered_at_a_door_gives_the_frames_it_gives_from_its_start(
    tmp_path, name, options, movflags
):
    path = write_clip(tmp_path / name, frames=60, options=options, movflags=movflags)
    _, whole = decoded(path)
    index = index_of(path, 0)

    assert index.pts == [frame.pts for frame in whole]
    assert index.before(11 if options is GROUPS else 0) is None
    for first in (12, 30, 55):
        door = index.before(first)
        assert first - 12 < door.frame <= first
        with open_source(path, start=f"{first}f", end=f"{first + 3}f", door=door) as source:
            for ours, theirs in zip(source.frames(), whole[first : first + 4], strict=True):
                assert ours.pts == theirs.pts and np.array_equal(ours.rgb, theirs.rgb)


def test_nothing_before_a_door_is_read_and_a_door_that_is_not_there_only_costs_time(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=60, options=GROUPS)
    _, whole = decoded(path)
    door = index_of(path, 0).before(40)
    for wrong in (door._replace(pts=door.pts + 1), door._replace(seek=10**9)):
        with open_source(path, start="40f", end="40f", door=wrong) as source:
            (frame,) = source.frames()
            assert frame.pts == whole[40].pts and np.array_equal(frame.rgb, whole[40].rgb)

    with av.open(str(path)) as container:
        spoilt = [(p.pos, p.size) for p in container.demux(video=0) if p.size][1:20]
    with path.open("r+b") as file:
        for at, size in spoilt:
            file.seek(at)
            file.write(bytes(size))
    with open_source(path, threads=1, start="40f", door=door) as source:
        assert len(list(source.frames())) == 20


def test_a_file_whose_packets_tell_too_little_has_no_index(tmp_path):
    assert index_of(write_clip(tmp_path / "a.ts"), 0) is None
    assert index_of(write_clip(tmp_path / "a.h264"), 0) is None
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert index_of(tmp_path / "a.mp4", 0) is None


def test_uneven_times_survive(tmp_path):
    """A webcam drops frames; the gaps must still be there."""
    pts = [0, 3000, 12000, 12100, 90000]

    source, frames = decoded(write_clip(tmp_path / "a.mp4", pts=pts, time_base=Fraction(1, 90000)))

    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(p, 90000) for p in pts]
    assert source.damage == []


def test_frames_come_in_the_order_of_their_times_although_stored_in_another(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=30, options={"bf": "3", "b-adapt": "0"})
    with av.open(str(path)) as container:
        stored = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert stored != sorted(stored)  # there are B-frames

    _, frames = decoded(path)

    assert [frame.pts for frame in frames] == sorted(stored)
    assert all(np.abs(f.rgb - picture(i).astype(int)).mean() < 3 for i, f in enumerate(frames))


def test_a_late_start_is_kept(tmp_path):
    pts = [45000, 48000, 51000]

    _, frames = decoded(write_clip(tmp_path / "a.mp4", pts=pts, time_base=Fraction(1, 90000)))

    assert frames[0].seconds == pytest.approx(0.5)


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), 1, 240])
def test_rates_are_exact(tmp_path, rate):
    source, frames = decoded(write_clip(tmp_path / "a.mp4", rate=rate))

    assert source.rate == rate
    assert frames[3].pts * frames[3].time_base == 3 / Fraction(rate)


def test_a_stream_without_times_is_counted_out_at_its_rate(tmp_path):
    source, frames = decoded(write_clip(tmp_path / "raw.h264", frames=12, rate=25))

    assert [round(frame.seconds, 6) for frame in frames] == [round(i / 25, 6) for i in range(12)]
    assert "12 frames had no time of their own" in source.notes[0]


def test_repeated_times_keep_every_frame(tmp_path):
    """Two frames of one millisecond: each needs a time of its own, the rest stay as they are."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        packets = []
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(picture(i, size=(48, 64)), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            packets += stream.encode(frame)
        for packet, pts in zip(packets, [0, 40, 40, 80, 120], strict=True):
            packet.pts = packet.dts = pts
            packet.time_base = Fraction(1, 1000)
            out.mux(packet)

    source, frames = decoded(path)

    assert [frame.pts for frame in frames] == [0, 40, 41, 80, 120]
    assert "1 frames" in source.notes[0]


def test_frames_may_be_read_again(tmp_path):
    with open_source(write_clip(tmp_path / "a.mp4")) as source:
        first, second = list(source.frames()), list(source.frames())

    assert len(first) == len(second) == 10
    np.testing.assert_array_equal(first[9].rgb, second[9].rgb)


# --------------------------------------------------------------------------- geometry and colour


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_pictures_come_out_upright(tmp_path, rotation, mirrored):
    """The header asks for a counter-clockwise turn, then a mirror; NumPy's turns are the truth."""
    path = write_clip(
        tmp_path / "a.mp4", frames=2, squares=[BIG_RED], rotation=rotation, mirrored=mirrored
    )
    upright = np.rot90(picture(0, [BIG_RED]), rotation // 90)
    upright = upright[:, ::-1] if mirrored else upright

    source, frames = decoded(path)

    assert source.size == upright.shape[:2]
    assert np.abs(frames[0].rgb.astype(int) - upright).mean() < 3


@pytest.mark.parametrize(
    ("size", "matrix", "tag"),
    [
        ((720, 1280), 1, 2),  # untagged HD is BT.709
        ((480, 640), 6, 2),  # untagged SD is BT.601
        ((480, 640), 1, 1),  # a tag is believed, whatever the size
        ((720, 1280), 6, 6),
        ((720, 1280), 9, 9),
    ],
)
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_are_what_the_file_means(tmp_path, size, matrix, tag, full_range):
    square = Square("red", at=(100, 100), step=(0, 0), side=200)
    path = write_clip(
        tmp_path / "a.mp4", frames=1, squares=[square], size=size,
        matrix=matrix, tag=tag, full_range=full_range,
    )  # fmt: skip

    _, frames = decoded(path)

    assert np.abs(frames[0].rgb[200, 200].astype(int) - COLOURS["red"]).max() <= 3
    assert np.abs(frames[0].rgb[50, 50].astype(int) - 120).max() <= 1


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name"),
    [
        ("libx264", "yuv420p10le", "a.mp4"),
        ("libx264", "yuv422p", "a.mp4"),
        ("libx264", "yuv444p10le", "a.mp4"),
        ("libx264", "nv12", "a.mp4"),
        ("libx264", "gray", "a.mp4"),
        ("ffv1", "bgr0", "a.mkv"),
        ("ffv1", "yuv411p", "a.mkv"),
        ("ffv1", "yuva420p", "a.mkv"),
    ],
)
def test_all_pixel_formats_give_the_same_picture(tmp_path, codec, pix_fmt, name):
    square = Square("blue", at=(20, 20), step=(0, 0), side=60)
    path = write_clip(tmp_path / name, frames=3, squares=[square], codec=codec, pix_fmt=pix_fmt)
    blue = COLOURS["blue"] if pix_fmt != "gray" else (52, 52, 52)  # its luma

    _, frames = decoded(path)

    assert len(frames) == 3
    assert np.abs(frames[2].rgb[50, 50].astype(int) - blue).max() <= 3
    assert np.abs(frames[2].rgb[5, 5].astype(int) - 120).max() <= 2


def test_full_range_is_respected_at_ten_bits_too(tmp_path):
    path = write_clip(
        tmp_path / "a.mkv", frames=1, squares=[BIG_RED], codec="ffv1", pix_fmt="yuv420p10le",
        full_range=True,
    )  # fmt: skip

    _, frames = decoded(path)

    assert np.abs(frames[0].rgb[80, 100].astype(int) - 120).max() <= 1
    assert np.abs(frames[0].rgb[20, 20].astype(int) - COLOURS["red"]).max() <= 3


@pytest.mark.parametrize("size", [(65, 49), (1, 1), (2, 2), (16, 1024)])
def test_any_size_is_kept(tmp_path, size):
    path = write_clip(tmp_path / "a.mkv", frames=2, size=size, codec="ffv1")

    source, frames = decoded(path)

    assert source.size == frames[1].size == size


def test_a_change_of_size_within_the_video_is_rescaled_to_the_first_and_said(tmp_path):
    for name, size in (("a.h264", (96, 160)), ("b.h264", (192, 320))):
        square = Square("green", at=(size[0] // 2, 0), step=(0, 0), side=size[0] // 2)
        write_clip(tmp_path / name, frames=4, size=size, squares=[square])
    both = tmp_path / "both.h264"
    both.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())

    source, frames = decoded(both)

    assert [frame.size for frame in frames] == [(96, 160)] * 8
    assert np.abs(frames[7].rgb[80, 20].astype(int) - COLOURS["green"]).max() < 6
    assert any("4 frames were of another size" in note for note in source.notes)


# ------------------------------------------------------------------------------- hurt and hostile


def test_a_truncated_video_gives_all_that_can_be_decoded_and_says_so(tmp_path):
    path = tmp_path / "a.mkv"
    write_clip(path, frames=60, options={"g": "10"})

    source, frames = decoded(cut_short(path, 0.6))

    assert 20 < len(frames) < 60
    assert [f.pts for f in frames] == sorted({f.pts for f in frames})
    assert len(source.damage) >= 1
    assert "the file" in source.damage[0]


def test_a_truncated_mp4_with_its_index_in_front_is_read_to_the_cut(tmp_path):
    path = tmp_path / "a.mp4"
    write_clip(path, frames=60, options={"g": "10"}, movflags="faststart")

    source, frames = decoded(cut_short(path, 0.6))

    assert 20 < len(frames) < 60
    assert source.damage


def test_an_mp4_without_its_index_is_called_unfinished(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=30)

    with pytest.raises(InputError, match="unfinished recording or an incomplete copy"):
        open_source(cut_short(path, 0.7))


def test_flipped_bits_cost_no_more_than_their_packets(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=60, options={"g": "10"})
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 2000
    for at in range(start, start + 3000, 500):
        data[at] ^= 0xFF
    path.write_bytes(data)

    source, frames = decoded(path)

    assert len(frames) >= 50
    assert source.damage


def test_damage_found_in_one_reading_is_not_carried_into_the_next(tmp_path):
    path = tmp_path / "a.mkv"
    write_clip(path, frames=60, options={"g": "10"})
    with open_source(cut_short(path, 0.6)) as source:
        list(source.frames())
        once = list(source.damage)
        list(source.frames())

    assert source.damage == once


def test_many_mutilated_files_end_in_frames_or_in_an_input_error(tmp_path):
    dice = np.random.default_rng(5)
    whole = write_clip(tmp_path / "a.mp4", frames=8, audio="aac").read_bytes()
    path = tmp_path / "hurt.mp4"
    readable = 0
    for _ in range(40):
        data = bytearray(whole)
        for at in dice.integers(0, len(data), dice.integers(1, 60)):
            data[at] = dice.integers(0, 256)
        path.write_bytes(data[: dice.integers(1, len(data) + 1)])
        try:
            _, frames = decoded(path)
        except InputError:
            continue
        readable += 1
        assert all(frame.size == frames[0].size for frame in frames)
    assert readable > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "missing.mp4", "there is no such file or folder"),
        (lambda p: p, "holds no pictures"),
        (lambda p: _bytes(p / "a.mp4", b""), "is empty"),
        (lambda p: _bytes(p / "a.mp4", b"hello " * 99), "not a video or picture"),
        (lambda p: write_sound(p / "a.m4a"), "sound but no video stream"),
        (lambda p: _with_cover(p / "a.mp4"), "a cover picture does not count"),
        (lambda p: _without_frames(p / "a.mkv"), "no frame of it can be decoded"),
        (lambda p: _bytes(p / "a.m3u8", b"#EXTM3U\nb.mp4\n"), "is a playlist"),
        (lambda p: _bytes(p / "a.mp4", b"ffconcat version 1.0\nfile b.mp4\n"), "is a playlist"),
        (lambda p: "rtsp://camera/1", "is an address"),
        (lambda p: p / ("x" * 300), "cannot be opened"),
        (lambda p: _bytes(p / "a.jpg", b"\xff\xd8\xff\xe0 no more"), "cannot be decoded"),
        (lambda p: cut_short(save(p / "a.png", picture()), 0.7), "breaks off or is damaged"),
        (lambda p: save(p / "a.png", np.zeros((99, 6, 3), np.uint8)), "the picture is 6 x 99"),
    ],
)
def test_what_cannot_be_read_is_refused_in_plain_words(tmp_path, make, message):
    with pytest.raises(InputError, match=message):
        open_source(make(tmp_path))


def test_no_permission_is_told_apart_from_no_video(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4")

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # the tests may run as root, who may read anything

    with pytest.raises(InputError, match="no permission"):
        open_source(path)


def test_a_playlist_cannot_make_us_open_other_files(tmp_path):
    """Under a video's name, and with the first line pushed out of sight."""
    secret = write_clip(tmp_path / "secret.mp4")
    listing = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{secret}\n#EXT-X-ENDLIST\n"
    with av.open(str(_bytes(tmp_path / "b.m3u8", listing.encode()))) as opened:
        assert opened.streams.video  # FFmpeg would follow it

    for name in ("a.m3u8", "a.mp4", "a.txt"):
        for text in (listing, "\n" + listing):
            with pytest.raises(InputError):
                open_source(_bytes(tmp_path / name, text.encode()))


@pytest.mark.parametrize("name", ["a:b.mp4", "-y.mp4", "é 漢 🎬.mp4", "pipe:1.mp4", "%d.mp4"])
def test_strange_names_are_only_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "plain.mp4").rename(tmp_path / name)

    _, frames = decoded(name)

    assert len(frames) == 10


def _bytes(path, data):
    path.write_bytes(data)
    return path


def _without_frames(path):
    """A video stream in the header, and not one packet of it."""
    sound = write_sound(path.with_name("sound.m4a"))
    with av.open(str(sound)) as given, av.open(str(path), "w") as out:
        audio = out.add_stream_from_template(given.streams.audio[0])
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for packet in given.demux(audio=0):
            if packet.dts is not None:
                packet.stream = audio
                out.mux(packet)
    return path


def _with_cover(path):
    sound = write_sound(path.with_name("sound.m4a"))
    with av.open(str(sound)) as given, av.open(str(path), "w") as out:
        audio = out.add_stream_from_template(given.streams.audio[0])
        cover = out.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(picture(size=(48, 64)), format="rgb24")
        out.mux(cover.encode(frame.reformat(format="yuvj420p")))
        out.mux(cover.encode(None))
        for packet in given.demux(audio=0):
            if packet.dts is not None:
                packet.stream = audio
                out.mux(packet)
    return path


# ------------------------------------------------------------------------------------ photographs


def with_exif(data: bytes, orientation: int) -> bytes:
    """A JPEG or PNG that asks to be turned."""
    tiff = struct.pack("<4sIHHHIII", b"II*\0", 8, 1, 0x112, 3, 1, orientation, 0)
    if data[:2] == b"\xff\xd8":
        body = b"Exif\0\0" + tiff
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    chunk = b"eXIf" + tiff
    return (
        data[:33]
        + struct.pack(">I", len(tiff))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + data[33:]
    )


def save(path, rgb, orientation=None):
    data = cv2.imencode(path.suffix, rgb[:, :, ::-1])[1].tobytes()
    path.write_bytes(with_exif(data, orientation) if orientation else data)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_photograph_is_a_source_of_one_frame(tmp_path, suffix):
    source, frames = decoded(save(tmp_path / f"me{suffix}", picture()))

    assert (source.kind, source.names, source.size) == ("images", ["me"], (96, 160))
    assert len(frames) == 1
    assert np.abs(frames[0].rgb.astype(int) - picture()).mean() < 6  # JPEG bleeds at edges


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_photograph_that_claims_to_be_huge_is_refused_before_memory_is_taken(tmp_path, suffix):
    path = save(tmp_path / f"bomb{suffix}", picture(size=(100, 200)))
    data = path.read_bytes()
    small = {".png": struct.pack(">II", 200, 100), ".jpg": struct.pack(">HH", 100, 200)}[suffix]
    huge = {".png": struct.pack(">II", 30000, 30000), ".jpg": struct.pack(">HH", 30000, 30000)}
    path.write_bytes(data.replace(small, huge[suffix], 1))

    with pytest.raises(InputError, match="30000 x 30000"):
        open_source(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_photograph_taken_sideways_stands_upright(tmp_path, suffix):
    lying = picture(0, [BIG_RED])

    source, frames = decoded(save(tmp_path / f"me{suffix}", lying, orientation=6))

    assert source.size == (160, 96)
    assert frames[0].rgb[10, 85, 0] > 180  # the corner is at the top right after a turn clockwise


def test_a_folder_of_photographs_comes_in_counting_order_whatever_their_sizes(tmp_path):
    for name, size in (("p10.png", (48, 64)), ("p2.png", (64, 48)), ("p1.jpg", (96, 160))):
        save(tmp_path / name, picture(size=size))
    (tmp_path / "notes.txt").write_text("not a picture")

    source, frames = decoded(tmp_path)

    assert source.names == ["p1", "p2", "p10"]
    assert [frame.pts for frame in frames] == [0, 1, 2]
    assert [frame.size for frame in frames] == [(96, 160), (64, 48), (48, 64)]


def test_one_broken_photograph_does_not_stop_the_others(tmp_path):
    save(tmp_path / "a.png", picture())
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    save(tmp_path / "c.png", picture())

    source, frames = decoded(tmp_path)

    assert [source.names[frame.pts] for frame in frames] == ["a", "c"]
    assert len(source.damage) == 1
    assert "b.png" in source.damage[0]


def test_a_strip_among_photographs_does_not_stop_the_others(tmp_path):
    save(tmp_path / "a.png", np.zeros((20, 330, 3), np.uint8))
    save(tmp_path / "b.png", picture())

    source, frames = decoded(tmp_path)

    assert [source.names[frame.pts] for frame in frames] == ["b"]
    assert "a.png: the picture is 330 x 20" in source.damage[0]


def test_photographs_of_one_stem_get_names_of_their_own(tmp_path):
    save(tmp_path / "a.png", picture())
    save(tmp_path / "a.jpg", picture())

    assert sorted(open_source(tmp_path).names) == ["a_jpg", "a_png"]


def test_a_photograph_under_a_videos_name_is_still_a_photograph(tmp_path):
    path = save(tmp_path / "a.png", picture()).rename(tmp_path / "a.mp4")

    assert open_source(path).kind == "images"
