"""Case 75: files from strangers, whatever they are, take no more than they are given."""

import pickle
import resource
import time
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import run_stream
from configs.console import Console
from configs.schema import ConfigError, Settings, load
from engines import load_engine
from engines.base import EngineError
from stream.decode import InputError, Limits, open_source
from tests.fakes import write_clip
from tests.faults.builders import png_bomb, run, video_bomb

ROOT = Path(__file__).resolve().parents[2]


def complaint(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "mine.yaml")
    return str(caught.value)


# ------------------------------------------------------------------------------------- media


def listings(secret: Path) -> dict[str, str]:
    """Texts that make FFmpeg open another file or a socket, by the name they go under."""
    return {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{secret}\n#EXT-X-ENDLIST\n",
        "a.ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "a.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
                 "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "a.mpd": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'>"
                 f"<Period><AdaptationSet><Representation id='1'><BaseURL>{secret}</BaseURL>"
                 "</Representation></AdaptationSet></Period></MPD>",
        "a.rtsp": "rtsp://127.0.0.1:1/x",
    }  # fmt: skip


@pytest.mark.parametrize("kind", listings(Path("x")))
@pytest.mark.parametrize("disguise", ["", ".mp4", ".mkv"])
def test_playlists_open_no_other_file_and_no_socket(tmp_path, capsys, kind, disguise):
    secret = write_clip(tmp_path / "secret.mp4")
    path = tmp_path / (kind + disguise)
    path.write_text(listings(secret)[kind])

    assert run(path, "-o", tmp_path / "out") == 3

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["concat:{0}|{0}", "file:{0}", "subfile,,start,0,end,9,,:{0}",
                                  "crypto:{0}", "http://127.0.0.1:1/a.mp4", "data:;base64,AAAA",
                                  "pipe:0", "lavfi:testsrc"])  # fmt: skip
def test_a_name_is_a_file_and_never_a_protocol(tmp_path, name):
    clip = write_clip(tmp_path / "a.mp4")

    assert run(name.format(clip), "-o", tmp_path / "out") == 3


def test_pictures_are_refused_before_their_memory_is_taken(tmp_path, capsys):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bombs = [png_bomb(tmp_path / "a.png"), png_bomb(tmp_path / "b.mp4", 20_000, 20_000),
             video_bomb(tmp_path / "c.mov"), video_bomb(tmp_path / "d.mov", said=False),
    ]  # fmt: skip

    for bomb in bombs:
        assert run(bomb, "-o", tmp_path / "out") == 3
        said = capsys.readouterr().err
        assert "scale it down" in said or "no frame of it can be decoded" in said

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000  # kB: the smallest of them would have been 800 MB


def test_limits_are_kept_whatever_a_header_says(tmp_path, capsys):
    clip = write_clip(tmp_path / "a.mp4", frames=60)  # 2 s of 96 x 160
    out = tmp_path / "out"

    assert run(clip, "-o", out, "--set", "limits.max_seconds=1") == 3
    assert "longer than 1 s" in capsys.readouterr().err
    assert not out.exists()
    assert run(clip, "-o", out, "--set", "limits.max_pixels=10000") == 3
    assert "160 x 96" in capsys.readouterr().err

    raw = write_clip(tmp_path / "a.h264", frames=60)  # says nothing of its length
    with (
        open_source(raw, limits=Limits(seconds=1.0)) as source,
        pytest.raises(InputError, match="longer than 1 s"),
    ):
        list(source.frames())


def test_a_file_of_very_many_streams_is_refused(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("ffv1", rate=5) for _ in range(70)]
        for stream in streams:
            stream.codec_context.height = stream.codec_context.width = 16
            stream.codec_context.pix_fmt = "gray"
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16), np.uint8), format="gray")
        for stream in streams:
            out.mux(stream.encode(picture))

    with pytest.raises(InputError, match="70 streams"):
        open_source(path)


# ------------------------------------------------------------------------------- settings, weights


def test_a_settings_file_cannot_hold_us_up(tmp_path):
    """Nine short lines whose aliases stand for a thousand million values; and deep nesting."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    began = time.monotonic()

    assert "unknown key" in complaint(tmp_path, bomb)
    assert "nested too deeply" in complaint(tmp_path, "[" * 20_000)
    assert "larger than" in complaint(tmp_path, "# " + "x" * 1_100_000)
    assert "keys" in complaint(tmp_path, "&a [*a]")
    assert "YAML" in complaint(tmp_path, "? [1, 2]\n: 3\n")
    assert "cannot be read" in complaint(tmp_path, "engine: {threads: 2026-99-99}")
    assert time.monotonic() - began < 20


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.sampled_from(" \n:-[]{}#&*!?|>'\"%@,engi.lok0123e\t"), max_size=80)
       | st.text(max_size=40)
       | st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
                      | st.dates(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                          st.sampled_from(["engine", "tracking", "look", "limits", "threads",
                                           "people", "max_seconds"]) | st.text(max_size=3),
                          inner, max_size=4), max_leaves=10).map(yaml.safe_dump))  # fmt: skip
def test_any_settings_file_gives_settings_or_one_sentence(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        assert isinstance(load(path), Settings)
    except ConfigError as error:
        assert str(error)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=4))
def test_any_command_line_gives_a_request_or_one_sentence(words):
    from configs.cli import parse

    try:
        parse(words)
    except ConfigError as error:
        assert str(error)
    except SystemExit as asked:  # --help among the words
        assert asked.code == 0


class Trap:
    """Code that runs when a pickle of it is read."""

    def __reduce__(self):
        return print, ("the trap has sprung",)


@pytest.mark.parametrize(
    ("engine", "name"),
    [("openvino", "live.onnx"), ("onnxruntime", "live.pth"), ("torch", "live.safetensors")],
)
def test_weights_in_a_pickle_are_never_unpickled(tmp_path, capsys, engine, name):
    if engine == "torch":
        pytest.importorskip("torch")
    for suffix in ("onnx", "safetensors"):
        (tmp_path / f"live.{suffix}").write_bytes(pickle.dumps(Trap()))
    (tmp_path / name).write_bytes(pickle.dumps(Trap()))

    with pytest.raises(EngineError):
        load_engine([engine], tmp_path / name)

    assert "the trap" not in capsys.readouterr().out


def test_nothing_in_the_rooms_reads_a_pickle_or_unsafe_yaml():
    """Names that would: looked for in the source, where a new one would slip in."""
    refused = ("torch.load(", "pickle.load", "yaml.load(", "yaml.unsafe_load", "allow_pickle=True",
               "joblib.load")  # fmt: skip
    rooms = ("run_stream.py", "configs", "stream", "engines", "tracking", "web", "troupe.py",
             "doctor.py")  # fmt: skip
    files = [file for room in rooms for file in
             ([ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py")))
             if file.exists()]  # fmt: skip

    found = [f"{file.relative_to(ROOT)}: {name}" for file in files for name in refused
             if name in file.read_text(encoding="utf-8")]  # fmt: skip

    assert len(files) > 20
    assert found == []


def test_an_engine_that_answers_out_of_a_stranger_is_told_by_name():
    """An engine nobody knows ends with 6, and is not looked for as a module to import."""
    code = run_stream._report(
        _error(lambda: load_engine(["os"], ROOT / "weights")), Console(), False
    )

    assert code == run_stream.ENGINE


def _error(call):
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")
