"""Deliverables read back: what an editor, a compositor or a browser finds in them."""

import itertools
import json
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import stream.writers
from matting.frames import Mattes
from stream.cryptomatte import shares_of
from stream.decode import InputError, open_source
from stream.encode import Deliverables, OutputError
from stream.finalize import WishError, Wishes, deliver
from tests.fakes import SquaresEngine, named, picture, write_clip

SIZE = (66, 90)


def hair(index, number, size=SIZE):
    """A matte with every code: a soft disc that drifts, with strands; codes / 255."""
    y, x = np.mgrid[: size[0], : size[1]]
    at = (size[1] * (0.3 + 0.4 * (number - 1)) + index, size[0] / 2)
    far = np.hypot(x - at[0], y - at[1])
    strands = 1 + 0.3 * np.sin(np.arctan2(y - at[1], x - at[0]) * 23)
    alpha = np.clip((size[0] * 0.22 * strands - far) / 6 + 0.5, 0, 1) * (0.5 if number > 2 else 1)
    return (np.rint(alpha * 255) / 255).astype(np.float32)


def truth(index, numbers, size=SIZE):
    """Codes per person, uint8; later people are behind: the sum stays at 1 or less."""
    left, found = np.full(size, 255, np.int32), {}
    for number in numbers:
        codes = np.minimum(np.rint(hair(index, number, size) * 255).astype(np.int32), left)
        left = left - codes
        found[number] = codes.astype(np.uint8)
    return found


def run(tmp_path, *, numbers=(1, 2), frames=5, late=None, size=SIZE, clip=None, **how):
    """A finished run with known mattes; `late` is the frame person 2 appears in."""
    clip = clip or write_clip(tmp_path / "clip.mkv", frames=frames, size=size, codec="ffv1",
                              pix_fmt=how.pop("pix_fmt", "yuv444p"), **how)  # fmt: skip
    out = tmp_path / "out"
    template = SquaresEngine().step(picture(), 0)[0]
    with open_source(clip) as source, Deliverables(out, source) as files:
        for index, frame in enumerate(source.frames()):
            codes = truth(index, numbers, source.size)
            here = [n for n in numbers if not (late is not None and n == 2 and index < late)]
            alpha = np.stack([codes[n] for n in here]).astype(np.float32) / 255
            rows = [0] * len(here)
            mattes = Mattes(
                alpha, template.coarse[rows], template.score[rows], template.box[rows],
                template.code[rows], np.array(here),
            )  # fmt: skip
            files.write(frame, mattes, frame.rgb)
    return out


def made(out, *presets, **wishes):
    return deliver(out, Wishes(presets=presets, **wishes))


def video(path, codec=None):
    """Times and frames of a file; `codec` names the decoder, where FFmpeg's own loses alpha."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        if codec is None:
            frames = list(file.decode(stream))
        else:
            decoder = av.CodecContext.create(codec, "r")
            decoder.extradata = stream.codec_context.extradata
            frames = [f for packet in file.demux(stream) for f in decoder.decode(packet)]
            for frame in frames:
                frame.time_base = stream.time_base
        return [frame.pts * frame.time_base for frame in frames], frames


def plane(frame, number, kind=np.uint8):
    given = frame.planes[number]
    rows = np.frombuffer(given, kind).reshape(given.height, -1)
    return rows[:, : given.width].copy()


def eight(rows, bits):
    return rows.astype(float) * 255 / (2**bits - 1)


# -------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("size", [SIZE, (65, 49)])
def test_prores_brings_alpha_colour_tags_times_and_timecode(tmp_path, size):
    pts = [0, 1001, 2002, 4004, 5005]
    out = run(
        tmp_path, size=size, late=3, pts=pts, time_base=Fraction(1, 30000), matrix=1,
        metadata={"timecode": "01:02:03;04"},
    )  # fmt: skip

    made(out, "nle")

    for number in (1, 2):
        times, frames = video(out / f"nle/clip_person_{number:04}.mov")
        assert times == [Fraction(p, 30000) for p in pts] or times == pytest.approx(
            [p / 1000 for p in [0, 33, 67, 133, 167]], abs=1e-9
        )  # Matroska counted milliseconds
        for index, frame in enumerate(frames):
            expected = truth(index, (1, 2), size)[number] * (number == 1 or index >= 3)
            bits = frame.format.components[3].bits
            assert np.abs(eight(plane(frame, 3, np.uint16), bits) - expected).max() <= 2
            tags = frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range
            assert tuple(map(int, tags)) == (1, 1, 1, 1)
    with av.open(str(out / "nle/clip_person_0001.mov")) as file:
        assert file.streams.video[0].codec_context.codec_tag == "ap4h"
        assert file.streams.video[0].metadata["timecode"] == "01:02:03;04"


def test_where_alpha_is_0_or_1_the_source_comes_back(tmp_path):
    """Over the background they came from, people make the source again."""
    out = run(tmp_path)
    made(out, "png")

    with open_source(tmp_path / "clip.mkv") as source:
        for index, frame in enumerate(source.frames()):
            again = frame.rgb.astype(float)
            for number in (1, 2):
                file = out / f"png/clip_person_{number:04}/person_{number:04}.{index + 1:06}.png"
                bgra = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
                np.testing.assert_array_equal(bgra[..., 3], truth(index, (1, 2))[number])
                alpha = bgra[..., 3:].astype(float) / 255
                again = again * (1 - alpha) + bgra[..., 2::-1] * alpha
            hard = np.isin(np.stack(list(truth(index, (1, 2)).values())), (0, 255)).all(axis=0)
            assert hard.sum() > 1000
            assert np.abs(again - frame.rgb)[hard].max() <= 2


@pytest.mark.parametrize("size", [SIZE, (65, 49)])
def test_vp9_carries_alpha_that_libvpx_reads(tmp_path, size):
    out = run(tmp_path, size=size)

    report = made(out, "web")

    assert [path.name for path in report.paths] == [
        "clip_person_0001.webm", "clip_person_0002.webm", "clip_everyone.webm"
    ]  # fmt: skip
    times, frames = video(out / "web/clip_person_0001.webm", "libvpx-vp9")
    assert len(times) == 5
    for index, frame in enumerate(frames):
        error = np.abs(plane(frame, 3).astype(int) - truth(index, (1, 2), size)[1])
        assert error.mean() <= 0.5
    _, frames = video(out / "web/clip_everyone.webm", "libvpx-vp9")
    both = sum(codes.astype(int) for codes in truth(4, (1, 2), size).values())
    assert np.abs(plane(frames[4], 3) - both).mean() <= 0.8


def test_luma_mattes_are_coverage(tmp_path):
    out = run(tmp_path, size=(65, 49), late=2)
    made(out, "matte")

    times, frames = video(out / "matte/clip_person_0002.mp4")

    assert len(times) == 5
    for index, frame in enumerate(frames):
        seen = (plane(frame, 0)[:65, :49].astype(float) - 16) * 255 / 219
        expected = truth(index, (1, 2), (65, 49))[2] * (index >= 2)
        assert np.abs(seen - expected).max() <= 4
        assert np.abs(seen - expected).mean() <= 0.6
        assert int(frame.color_range) == 1


def test_disco_packs_three_people_and_png_packs_them_exactly(tmp_path):
    out = run(tmp_path, numbers=(1, 2, 3, 4), frames=2)
    made(out, "disco")
    made(out, "disco", codec="png", template="{preset}/exact_{person}")

    assert (out / "disco/clip_1-2-3.mov").exists()
    _, frames = video(out / "disco/clip_1-2-3.mov")
    with open_source(out / "disco/clip_1-2-3.mov", deep=True) as source:
        rgb = [frame.deep / 257 for frame in source.frames()]
    _, exact = video(out / "disco/exact_1-2-3.mov")
    _, rest = video(out / "disco/exact_4.mov")
    for index in range(2):
        codes = truth(index, (1, 2, 3, 4))
        packed = np.dstack([codes[1], codes[2], codes[3]])
        assert np.abs(rgb[index] - packed).mean() <= 0.6
        np.testing.assert_array_equal(exact[index].to_ndarray(format="rgb24"), packed)
        np.testing.assert_array_equal(rest[index].to_ndarray(format="rgb24")[..., 0], codes[4])


def test_the_archive_has_source_sound_and_exact_mattes(tmp_path):
    out = run(tmp_path, late=2, audio="flac")
    made(out, "archive")

    path = out / "archive/clip_everyone.mkv"
    with av.open(str(path)) as file:
        titles = [stream.metadata.get("title") for stream in file.streams.video]
        assert titles == ["source", "person_0001", "person_0002"]
        assert file.streams.video[2].metadata["PERSON_ID"] == "2"
        assert len(file.streams.audio) == 1
        (attached,) = file.streams.attachments
        assert len(json.loads(bytes(attached.data))["pts"]) == 5
    for number in (1, 2):
        with av.open(str(path)) as file:
            frames = list(file.decode(file.streams.video[number]))
        assert len(frames) == 5
        for index, frame in enumerate(frames):
            expected = truth(index, (1, 2))[number] * (number == 1 or index >= 2)
            np.testing.assert_array_equal(plane(frame, 0), expected)
            assert frame.format.name == "gray"

    def packets(path, kind):
        with av.open(str(path)) as file:
            stream = file.streams.video[0] if kind == "video" else file.streams.audio[0]
            return [bytes(packet) for packet in file.demux(stream) if packet.size]

    for kind in ("video", "audio"):
        assert packets(path, kind) == packets(tmp_path / "clip.mkv", kind)


def test_exr_has_the_plate_and_a_layer_per_person_on_every_frame(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    out = run(tmp_path, late=3, matrix=1)
    made(out, "exr", names={2: "Zoë"})

    sets = set()
    for index in range(5):
        file = out / f"exr/clip_everyone/clip.{index + 1:06}.exr"
        with exr.File(str(file), separate_channels=True) as read:
            channels = {name: channel.pixels for name, channel in read.channels().items()}
        sets.add(tuple(sorted(channels)))
        codes = truth(index, (1, 2))[2] * (index >= 3)
        expected = (codes / np.float32(255)).astype(np.float16)
        np.testing.assert_array_equal(channels["Zoë.A"], expected)
        solid = codes == 255
        for name in "RGB":  # premultiplied: the plate itself where she is all there, else less
            np.testing.assert_allclose(
                channels[f"Zoë.{name}"][solid], channels[name][solid], atol=2e-3
            )
            assert (channels[f"Zoë.{name}"][codes == 0] == 0).all()
    (names,) = sets
    assert {"R", "G", "B", "A", "person_0001.R", "person_0001.A", "Zoë.R"} <= set(names)
    grey = (120 / 255 + 0.099) / 1.099  # the wall of the clip, in linear light
    assert channels["G"][2, 2] == pytest.approx(grey ** (1 / 0.45), abs=0.01)


def test_cryptomatte_is_exact_and_keeps_its_layers(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    out = run(tmp_path, late=3)
    made(out, "cryptomatte", names={1: "равнина"})

    for index in range(5):
        file = out / f"cryptomatte/clip_everyone/clip.{index + 1:06}.exr"
        with exr.File(str(file), separate_channels=True) as read:
            channels = {name: channel.pixels for name, channel in read.channels().items()}
            head = dict(read.header())
        shares = shares_of(channels, head)
        for number, name in ((1, "равнина"), (2, "person_0002")):
            expected = truth(index, (1, 2))[number] * (number == 1 or index >= 3)
            np.testing.assert_array_equal(shares[name], expected / np.float32(255))
        ranks = [channels[f"CryptoPerson{i // 2:02}.{'GA'[i % 2]}"] for i in range(6)]
        assert np.sum(ranks, axis=0).max() <= 1 + 1e-6
        assert all((a >= b).all() for a, b in itertools.pairwise(ranks))
        assert channels["CryptoPerson02.A"].dtype == np.float32


def test_the_composite_can_have_another_look_and_keeps_its_sound(tmp_path):
    out = run(tmp_path, frames=20, audio="flac", matrix=6)
    made(out, "comp", background="#0000ff", treatments={2: "remove"})

    path = out / "comp/clip_everyone.mp4"
    with open_source(path) as source:
        frames = list(source.frames())
        assert source.has_audio
    assert len(frames) == 20
    alone = truth(3, (1, 2))[1]
    assert np.abs(frames[3].rgb[alone == 0].astype(int)[::7] - (0, 0, 255)).mean() < 12
    assert frames[3].rgb[33, 30, 2] < 130  # who stays is no blue
    entry = json.loads((out / "manifest.json").read_text())["comp"]
    assert entry["look"] == {"background": "#0000ff", "people": {"2": "remove"}}


def test_light_adds_up_where_that_is_asked_for(tmp_path):
    out = run(tmp_path, frames=1)
    for blend in ("display", "linear"):
        made(out, "comp", background="#ffffff", blend=blend, template=blend)

    values = []
    for blend in ("display", "linear"):
        with open_source(out / f"{blend}.mp4") as source:
            (frame,) = source.frames()
        half = np.abs(truth(0, (1, 2))[1].astype(int) - 128) < 20
        values.append(frame.rgb[half].mean())
    assert values[1] > values[0] + 4  # half of white light is brighter than half of its code


# --------------------------------------------------------------------------- depth, time, span


def deep_clip(path, transfer=1, primaries=1, matrix=1, bits=10):
    """A ramp with every code of its depth, so that lost bits show."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = SIZE[0], 1024, f"yuv444p{bits}le"
        for index in range(2):
            frame = av.VideoFrame(1024, SIZE[0], f"yuv444p{bits}le")
            for i, given in enumerate(frame.planes):
                rows = np.frombuffer(given, np.uint16).reshape(SIZE[0], -1)
                ramp = np.clip(np.arange(1024) % 877 + 64, 64, 940)
                rows[:, :1024] = ramp if i == 0 else 512
            frame.pts, frame.time_base = index, Fraction(1, 25)
            frame.colorspace, frame.color_primaries = matrix, primaries
            frame.color_trc, frame.color_range = transfer, 1
            context = stream.codec_context
            context.colorspace, context.color_primaries = matrix, primaries
            context.color_trc, context.color_range = transfer, 1
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("transfer", "primaries", "matrix"), [(1, 1, 1), (16, 9, 9), (18, 9, 9)])
def test_ten_bits_stay_ten_bits(tmp_path, transfer, primaries, matrix):
    clip = deep_clip(tmp_path / "clip.mkv", transfer, primaries, matrix)
    with open_source(clip) as source:
        proxy = next(source.frames())
        note = " ".join(source.notes)
    assert proxy.deep is None and proxy.rgb.dtype == np.uint8
    assert ("tone-mapped" in note) == (transfer != 1)
    out = run(tmp_path, clip=clip, numbers=(1,), size=(SIZE[0], 1024))
    made(out, "nle", "png")

    _, frames = video(out / "nle/clip_person_0001.mov")
    shift = frames[0].format.components[0].bits - 10
    luma = plane(frames[0], 0, np.uint16).astype(int) >> shift
    solid = truth(0, (1,), (SIZE[0], 1024))[1] == 255
    given = np.broadcast_to(np.clip(np.arange(1024) % 877 + 64, 64, 940), luma.shape)
    assert np.abs(luma - given)[solid].max() <= 3  # the codec's own loss; 8 bits would lose 4
    tags = [int(t) for t in (frames[0].colorspace, frames[0].color_primaries, frames[0].color_trc)]
    assert tags == [matrix, primaries, transfer]
    bgra = cv2.imread(str(out / "png/clip_person_0001/person_0001.000001.png"), -1)
    assert bgra.dtype == np.uint16
    levels = np.unique(bgra[..., 1][solid])
    assert len(levels) > 256 * 0.5 or len(np.unique(given[solid])) < 300
    assert np.diff(levels).min() >= 60  # 1/876 of 65535 is 75


def test_uneven_times_stay_or_are_made_even(tmp_path):
    pts = [0, 40, 80, 200, 240]
    out = run(tmp_path, pts=pts, time_base=Fraction(1, 1000), rate=25)
    made(out, "matte", "nle")
    made(out, "matte", cfr=Fraction(25), template="even/{person}")

    for name in ("matte/clip_person_0001.mp4", "nle/clip_person_0001.mov"):
        assert video(out / name)[0] == [Fraction(p, 1000) for p in pts]
    times, frames = video(out / "even/person_0001.mp4")
    assert times == [Fraction(i, 25) for i in range(7)]
    shown = [0, 1, 2, 2, 2, 3, 4]  # the third frame stands until the next comes
    for frame, index in zip(frames, shown, strict=True):
        seen = (plane(frame, 0)[: SIZE[0], : SIZE[1]].astype(float) - 16) * 255 / 219
        assert np.abs(seen - truth(index, (1, 2))[1]).mean() < 0.6


def test_a_part_is_exact_to_the_frame_and_moves_the_timecode(tmp_path):
    out = run(tmp_path, frames=12, rate=25, metadata={"timecode": "10:00:00:20"})
    made(out, "nle", "png", start="3f", end="0.28")

    times, frames = video(out / "nle/clip_person_0002.mov")
    assert times == [Fraction(i, 25) for i in range(5)]  # frames 3 to 7
    for index, frame in enumerate(frames):
        bits = frame.format.components[3].bits
        seen = eight(plane(frame, 3, np.uint16), bits)
        assert np.abs(seen - truth(index + 3, (1, 2))[2]).max() <= 2
    with av.open(str(out / "nle/clip_person_0002.mov")) as file:
        assert file.streams.video[0].metadata["timecode"] == "10:00:00:23"
    assert len(list((out / "png/clip_person_0001").iterdir())) == 5
    with pytest.raises(InputError, match="no frame of this run"):
        made(out, "matte", start="9")


def test_rotated_and_oblong_pixels_come_out_upright(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=2, size=(48, 90), rotation=90,
                      pixel_aspect=Fraction(4, 3))  # fmt: skip
    out = run(tmp_path, clip=clip, numbers=(1,))
    made(out, "nle")

    with open_source(out / "nle/clip_person_0001.mov") as source, open_source(clip) as given:
        assert source.size == given.size == (90, 48)
        assert source.pixel_aspect == given.pixel_aspect == Fraction(3, 4)


# ------------------------------------------------------------------------ names and refusals


@pytest.mark.parametrize(
    ("presets", "how", "reason"),
    [
        (("disco",), {"codec": "h264"}, "4:2:0.*hair"),
        (("disco",), {"codec": "prores422"}, "4:2:2"),
        (("nle",), {"codec": "h264"}, "cannot be h264"),
        (("nle",), {"template": "{source}"}, "put {person}"),
        (("nle",), {"template": "{sauce}"}, "no token {sauce}"),
        (("nle",), {"template": "../{person}"}, "leads out"),
        (("nle", "matte", "png"), {"template": "{person}", "names": {1: "a", 2: "a"}}, "same name"),
        (("web",), {"alpha_mode": "premultiplied"}, "rims"),
        (("archive",), {"start": "1"}, "as it is"),
        (("nle",), {"people": (7,)}, "no person 7"),
        (("prores",), {}, "no preset 'prores'"),
        ((), {}, "name a preset"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(tmp_path, presets, how, reason):
    out = run(tmp_path, frames=1)
    before = sorted(os.listdir(out))

    with pytest.raises(WishError, match=reason):
        made(out, *presets, **how)

    assert sorted(os.listdir(out)) == before


def test_nothing_is_replaced_unasked_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    out = run(tmp_path, frames=3)
    made(out, "matte")
    first = (out / "matte/clip_person_0001.mp4").read_bytes()

    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        made(out, "nle", "matte")
    assert not (out / "nle").exists()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stream.writers.PngPerson.write", full)
    with pytest.raises(OutputError, match="No space left"):
        made(out, "matte", "png", overwrite=True)
    assert (out / "matte/clip_person_0001.mp4").read_bytes() == first
    assert list(out.rglob("*.partial*")) == []
    monkeypatch.undo()
    made(out, "matte", "png", overwrite=True)
    made(out, "png", overwrite=True)
    assert len(list((out / "png/clip_person_0001").iterdir())) == 3


def test_another_source_is_refused(tmp_path):
    out = run(tmp_path, frames=2)
    other = write_clip(tmp_path / "other.mkv", frames=2, size=SIZE)

    with pytest.raises(InputError, match="not the file this run was made of"):
        deliver(out, Wishes(("matte",)), source=str(other))
    (tmp_path / "clip.mkv").rename(tmp_path / "moved.mkv")
    with pytest.raises(InputError, match="--source"):
        made(out, "matte")
    assert deliver(out, Wishes(("matte",)), source=str(tmp_path / "moved.mkv")).frames == 2


def test_the_manifest_says_what_made_each_file(tmp_path):
    out = run(tmp_path, frames=2)
    made(out, "nle", names={2: "Zoë"})
    made(out, "matte", people=(2,))

    told = json.loads((out / "manifest.json").read_text())

    assert told["nle"]["files"][1] == {"path": "nle/clip_Zoë.mov", "people": {"2": "Zoë"}}
    assert [f["path"] for f in told["matte"]["files"]] == ["matte/clip_person_0002.mp4"]
    assert told["nle"]["alpha_mode"] == "straight"
    assert told["nle"]["input"]["name"] == "clip.mkv"
    assert len(told["nle"]["input"]["edges_sha256"]) == 64
    assert {"av", "numpy", "python"} <= told["nle"]["versions"].keys()
    assert all((out / f["path"]).exists() for entry in told.values() for f in entry["files"])


def test_frames_without_their_person_cost_next_to_nothing(tmp_path, monkeypatch):
    out = run(tmp_path, frames=12, late=11)
    coded = []
    planes = stream.writers.yuv_planes
    monkeypatch.setattr(
        "stream.writers.yuv_planes", lambda *how: coded.append(how) or planes(*how)
    )

    made(out, "nle", people=(2,))

    assert len(coded) == 2  # one blank, and the frame she is in
    times, frames = video(out / "nle/clip_person_0002.mov")
    assert len(times) == 12
    seen = [bool(plane(frame, 3, np.uint16).any()) for frame in frames]
    assert seen == [False] * 11 + [True]


def test_four_k(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    size = (2160, 3840)
    out = run(tmp_path, size=size, frames=1, pix_fmt="yuv420p", numbers=(1,))

    made(out, "nle", "cryptomatte")

    expected = truth(0, (1,), size)[1]
    _, (frame,) = video(out / "nle/clip_person_0001.mov")
    seen = eight(plane(frame, 3, np.uint16), frame.format.components[3].bits)
    assert np.abs(seen - expected).max() <= 2
    file = out / "cryptomatte/clip_everyone/clip.000001.exr"
    with exr.File(str(file), separate_channels=True) as read:
        share = read.channels()["CryptoPerson00.G"].pixels
    np.testing.assert_array_equal(share, expected / np.float32(255))


def test_an_edit_list_is_honoured(tmp_path):
    """B-frames and a late start: an MP4 says in an edit list where its pictures really are."""
    clip = write_clip(
        tmp_path / "clip.mp4", pts=[1000 + 40 * i for i in range(8)], rate=25,
        time_base=Fraction(1, 1000), options={"bf": "2", "b-adapt": "0"}, audio="aac", size=SIZE,
    )  # fmt: skip
    assert b"elst" in clip.read_bytes()
    out = run(tmp_path, clip=clip)

    made(out, "nle", "comp")

    when = [Fraction(1000 + 40 * i, 1000) for i in range(8)]
    for name in ("composite.mp4", "nle/clip_person_0001.mov", "comp/clip_everyone.mp4"):
        assert video(out / name)[0] == when


def test_the_composite_of_an_hdr_clip_is_made_to_be_seen(tmp_path):
    clip = deep_clip(tmp_path / "clip.mkv", 16, 9, 9)
    out = run(tmp_path, clip=clip, numbers=(1,))
    made(out, "web")

    with open_source(out / "composite.mp4") as source:
        assert source.deep_colour.transfer == source.deep_colour.matrix == 1
        levels = next(source.frames()).rgb[40, 200:800].mean(axis=1)
    assert (np.diff(levels.astype(int)) >= -2).all()  # brighter stays brighter
    assert levels.max() > 240
    told = json.loads((out / "manifest.json").read_text())["web"]
    assert told["tone_mapped"] is True
    assert told["colour"]["transfer"] == 1


def test_thirty_people_in_one_clip(tmp_path):
    pytest.importorskip("OpenEXR")
    out = run(tmp_path, numbers=tuple(range(1, 31)), frames=2, size=(34, 40))

    report = made(out, "matte", "cryptomatte")

    assert len(report.paths) == 31
    assert all(len(video(path)[0]) == 2 for path in report.paths if path.suffix == ".mp4")
    assert named(SquaresEngine().step(picture(), 0)[0]).ids.tolist() == [1, 2]
    assert isinstance(out, Path)
