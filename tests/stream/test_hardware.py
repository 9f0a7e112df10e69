"""NVIDIA's decoder and encoder: machines without, and pictures as such a decoder gives them."""

from fractions import Fraction

import av
import numpy as np
import pytest

import run_stream
from stream import decode, hardware
from stream.decode import InputError, open_source
from stream.encode import Deliverables, OutputError, unfinished
from stream.resume import Begun
from tests.fakes import SquaresEngine, named, write_clip


class Absent(OSError):
    strerror = "no driver"


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", frames=8)


@pytest.fixture
def no_gpu(monkeypatch):
    """A machine without: FFmpeg opens no file with such a decoder, and no such encoder."""
    opened = av.open

    def without(*args, hwaccel=None, **settings):
        if hwaccel is not None:
            raise Absent()
        return opened(*args, **settings)

    monkeypatch.setattr(decode.av, "open", without)
    monkeypatch.setattr(hardware, "without_nvenc", lambda: "no driver")


def pixels(source):
    return [frame.rgb for frame in source.frames()]


def test_auto_decodes_on_the_cpu_where_there_is_no_gpu_and_says_so_once(clip, no_gpu):
    with open_source(clip) as plain, open_source(clip, decoder="auto") as tried:
        right, found = pixels(plain), pixels(tried)
        assert plain.notes == []
        assert tried.notes == ["decoded on the CPU: NVIDIA's decoder cannot be used (no driver)"]
    assert len(found) == 8 and all(map(np.array_equal, found, right))


def test_nvdec_is_an_error_where_there_is_none(clip, tmp_path, no_gpu):
    with pytest.raises(InputError, match=r"no driver.*pipeline.decoder to auto or cpu"):
        open_source(clip, decoder="nvdec")
    (tmp_path / "broken.mp4").write_bytes(b"nothing to see")
    with pytest.raises(InputError, match="not a video"):
        open_source(tmp_path / "broken.mp4", decoder="nvdec")


@pytest.mark.parametrize("decoder", ["auto", "nvdec"])
def test_a_gpu_that_stops_in_the_middle_leaves_the_rest_to_the_cpu(clip, monkeypatch, decoder):
    """Pictures before it are not given twice, and none is lost."""
    opened, tried = decode.open_container, decode._Video._tried
    monkeypatch.setattr(decode, "open_container", lambda path, hwaccel=None: opened(path))

    def stopping(self, container, stream, stop_at_damage=False):
        for i, picture in enumerate(tried(self, container, stream, stop_at_damage)):
            if self._on_gpu and i == 3:
                raise decode._DamagedPacket
            # as NVDEC gives them: one plane for both colours
            yield picture.reformat(format="nv12") if self._on_gpu else picture

    with open_source(clip) as plain:
        right = pixels(plain)
    monkeypatch.setattr(decode._Video, "_tried", stopping)
    with open_source(clip, decoder=decoder) as source:
        found = pixels(source)

    assert len(found) == 8 and all(map(np.array_equal, found, right))


def test_the_encoder_is_the_one_that_is_there(monkeypatch):
    software = {"crf": "18"}
    monkeypatch.setattr(hardware, "without_nvenc", lambda: None)
    assert hardware.h264("auto", software).codec == "h264_nvenc"
    assert hardware.h264("cpu", software) == ("libx264", software, None)
    monkeypatch.setattr(hardware, "without_nvenc", lambda: "no driver")
    codec, options, note = hardware.h264("auto", software)
    assert (codec, options) == ("libx264", software) and "no driver" in note
    with pytest.raises(hardware.HardwareError, match="output.encoder to auto or cpu"):
        hardware.h264("nvenc", software)


def test_nvenc_where_there_is_none_is_an_error_before_anything_is_written(clip, tmp_path, no_gpu):
    with (
        open_source(clip) as source,
        pytest.raises(OutputError, match="there is no NVENC here"),
    ):
        Deliverables(tmp_path / "out", source, encoder="nvenc")
    assert not (tmp_path / "out").exists()


def test_a_run_with_both_on_auto_is_the_run_without_and_notes_it(clip, tmp_path, no_gpu, capsys):
    words = [str(clip), "-o", str(tmp_path / "out"), "--set", "pipeline.decoder=auto",
             "--set", "output.encoder=auto"]  # fmt: skip
    assert run_stream.main(words, load_engine=lambda *_, **__: SquaresEngine()) == 0

    told = capsys.readouterr().err
    assert "decoded on the CPU" in told and "encoded on the CPU: no NVENC here" in told
    assert "no NVENC here" in (tmp_path / "out" / "people.json").read_text()


def broken_off(clip, out, encoder):
    """What a run that died after a few frames leaves, as the next one finds it."""
    with open_source(clip) as source, Deliverables(out, source, encoder=encoder) as files:
        engine, state = SquaresEngine(), 0
        for frame in source.frames():
            mattes, state = engine.step(frame.rgb, state)
            files.write(frame, named(mattes), frame.rgb)
        files.keep(b"")
        files.leave()
    return Begun(unfinished(out), 8, {})


def test_a_run_that_is_gone_on_with_keeps_its_encoder(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "without_nvenc", lambda: "no driver")
    begun = broken_off(clip, tmp_path / "out", "auto")
    monkeypatch.setattr(hardware, "without_nvenc", lambda: None)  # another machine, with a GPU

    with open_source(clip) as source:
        for choice in ("auto", "nvenc"):
            with Deliverables(tmp_path / "out", source, encoder=choice, begun=begun) as files:
                files.leave()  # NVENC would not have opened here


def test_a_run_that_began_on_a_gpu_is_not_gone_on_with_without(clip, tmp_path, monkeypatch):
    begun = broken_off(clip, tmp_path / "out", "cpu")
    begun.store.head["encoder"] = "h264_nvenc"
    monkeypatch.setattr(hardware, "without_nvenc", lambda: "no driver")

    with open_source(clip) as source:
        for choice in ("auto", "cpu"):
            with pytest.raises(OutputError, match="broken-off run was encoded by NVENC"):
                Deliverables(tmp_path / "out", source, encoder=choice, begun=begun)
    assert unfinished(tmp_path / "out") is not None


def test_looking_for_nvenc_never_fails():
    found = hardware.without_nvenc()
    assert found is None or found


@pytest.mark.gpu
def test_gpu_nvdec_gives_the_pixels_the_cpu_gives(clip):
    with open_source(clip) as plain, open_source(clip, decoder="nvdec") as source:
        found, right = pixels(source), pixels(plain)
    assert len(found) == len(right) and all(map(np.array_equal, found, right))


@pytest.mark.gpu
def test_gpu_nvenc_writes_a_film_that_reads_back(tmp_path):
    why = hardware.without_nvenc()
    if why is not None:
        pytest.skip(f"this GPU has no encoder ({why}); data-centre GPUs have none")
    made = hardware.h264("nvenc", {})
    with av.open(str(tmp_path / "film.mp4"), "w") as out:
        stream = out.add_stream(made.codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        stream.codec_context.options = made.options
        for i in range(10):
            gray = np.full((192, 320, 3), 20 * i, np.uint8)
            picture = av.VideoFrame.from_ndarray(gray, format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    with av.open(str(tmp_path / "film.mp4")) as film:
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in film.decode(video=0)]
    assert levels == pytest.approx([20 * i for i in range(10)], abs=3)
