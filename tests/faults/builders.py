"""Small makers of files that are hurt, odd or hostile, each from a clip of coloured squares.

Everything is generated on the spot: no sample files are kept, apart from the corpus of the fuzzer.
A maker takes a path, writes the file there and returns the path.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

import run_stream
from tests.fakes import Square, SquaresEngine, picture, write_clip

ROOT = Path(__file__).resolve().parents[2]
STILL = (Square("red", at=(16, 8), step=(0, 0)), Square("green", at=(48, 100), step=(0, 0)))


def run(*argv, engine=None) -> int:
    """The exit code of the program in this process, with an engine that finds squares."""
    return run_stream.main(
        [str(word) for word in argv], load_engine=lambda *_, **__: engine or SquaresEngine()
    )


def program(*argv, **how) -> subprocess.CompletedProcess:
    """The program in a process of its own, with the same engine."""
    how = {"capture_output": True, "text": True, "timeout": 120, "check": False} | how
    return subprocess.run(command(*argv), cwd=ROOT, **how)


def command(*argv) -> list[str]:
    return [sys.executable, "-m", "tests.faults.program", *map(str, argv)]


def times(path: Path, stream: int = 0) -> list[Fraction]:
    """The times of the pictures of a video stream, in seconds."""
    with av.open(str(path)) as file:
        return [frame.pts * frame.time_base for frame in file.decode(video=stream)]


def alphas(path: Path, track: int = 0) -> np.ndarray:
    """(T, H, W) uint8: the mattes of one track."""
    with av.open(str(path)) as file:
        return np.stack([f.to_ndarray(format="gray") for f in file.decode(video=track)])


def decodable(path: Path) -> int:
    """How many pictures FFmpeg gives when every packet is tried on its own: the reference."""
    count = 0
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        packets = file.demux(stream)
        packet: av.Packet | None = av.Packet()
        while packet is not None:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError):
                packet = None  # what the decoder still holds
            with suppress(av.error.FFmpegError, ValueError):
                count += len(stream.codec_context.decode(packet))
    return count


def film(path: Path, frames: int = 90, **how) -> Path:
    """Two people who stand still before a wall with film grain: H.264 with some weight per frame.

    A clip of plain squares is 70 bytes a frame, so that any damage would be damage to its header.
    """
    dice = np.random.default_rng(0)
    with av.open(f"file:{path}", "w", options=how) as out:
        stream = out.add_stream("libx264", rate=30)
        stream.codec_context.height, stream.codec_context.width = 96, 160
        stream.codec_context.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"preset": "veryfast", "crf": "16", "g": "15"}
        for when in range(frames):
            rgb = picture(0, STILL).astype(np.int16) + dice.integers(-9, 10, (96, 160, 1))
            frame = av.VideoFrame.from_ndarray(rgb.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = when, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def random_bytes(path: Path, size: int = 20_000, seed: int = 1) -> Path:
    path.write_bytes(np.random.default_rng(seed).bytes(size))
    return path


def flipped(path: Path, count: int = 40, seed: int = 1, after: float = 0.2) -> Path:
    """Turn over `count` bits of a file, none of them in its first part (`after`, a share)."""
    data = bytearray(path.read_bytes())
    dice = np.random.default_rng(seed)
    for at in dice.integers(int(len(data) * after), len(data), count):
        data[at] ^= 1 << int(dice.integers(0, 8))
    path.write_bytes(data)
    return path


def unfinished_mp4(path: Path) -> Path:
    """An MP4 whose recorder was killed: pictures, but no index (the moov box at the end)."""
    data = write_clip(path).read_bytes()
    path.write_bytes(data[: data.rindex(b"moov") - 4])
    return path


def renamed_codec(path: Path, kind: bytes) -> Path:
    """An MP4 that says its pictures are coded as `kind` (four letters), such as encv: encrypted."""
    data = write_clip(path).read_bytes()
    path.write_bytes(data.replace(b"avc1", kind, 2).replace(b"avcC", b"xxxC"))
    return path


def two_videos(path: Path, marked: int | None = None) -> Path:
    """A Matroska file with a dark and a bright video; `marked` is its default one, if any."""
    with av.open(f"file:{path}", "w") as out:
        streams = []
        for number in range(2):
            stream = out.add_stream("ffv1", rate=10)
            stream.codec_context.height, stream.codec_context.width = 48, 64
            stream.codec_context.pix_fmt = "yuv420p"
            stream.disposition = (
                av.stream.Disposition.default if number == marked else av.stream.Disposition(0)
            )
            streams.append(stream)
        for when in range(5):
            for number, stream in enumerate(streams):
                picture = np.full((48, 64, 3), 40 + 160 * number, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = when, Fraction(1, 10)
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


def with_extras(path: Path) -> Path:
    """A Matroska file with subtitles and an attachment beside its video."""
    silent = write_clip(path.with_name("silent.mkv"), frames=12)
    with av.open(str(silent)) as given, av.open(f"file:{path}", "w") as out:
        video = out.add_stream_from_template(given.streams.video[0])
        out.add_attachment("font.bin", "application/octet-stream", b"\0" * 2000)
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    silent.unlink()
    return path


def sized(path: Path, sizes: Sequence[tuple[int, int]], each: int = 5) -> Path:
    """An MPEG-TS recording in which the size of the picture changes."""
    return _joined(path, [write_clip(path.with_name(f"part{i}.h264"), frames=each, size=size)
                          for i, size in enumerate(sizes)])  # fmt: skip


def reformatted(path: Path, formats: Sequence[str] = ("yuv420p", "yuv444p")) -> Path:
    """Raw H.264 in which the pixel format changes."""
    return _joined(path, [write_clip(path.with_name(f"part{i}.h264"), frames=5, pix_fmt=form)
                          for i, form in enumerate(formats)])  # fmt: skip


def _joined(path: Path, parts: list[Path]) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()
    return path


def png_bomb(path: Path, height: int = 60_000, width: int = 60_000) -> Path:
    """A PNG of a few bytes that says it is huge."""

    def piece(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 100_000, 9)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + piece(b"IHDR", head) + piece(b"IDAT", body) + piece(b"IEND", b"")
    )
    return path


def video_bomb(path: Path, side: int = 16_384, *, said: bool = True) -> Path:
    """A QuickTime video of a few kilobytes whose one picture has `side` x `side` pixels.

    `said`: its header says so; else the header says 64 x 64, and only the picture itself is huge.
    """
    bomb = png_bomb(path.with_suffix(".png"), side, side)
    with av.open(f"file:{path}", "w") as out:
        stream = out.add_stream("png", rate=25)
        stream.codec_context.height = stream.codec_context.width = 64
        stream.codec_context.pix_fmt = "rgb24"
        out.start_encoding()
        packet = av.Packet(bomb.read_bytes())
        packet.stream, packet.pts, packet.dts = stream, 0, 0
        packet.time_base = Fraction(1, 25)
        packet.is_keyframe = True
        out.mux(packet)
    bomb.unlink()
    if said:  # the visual sample entry of ISO/IEC 14496-12: width and height lie 28 bytes in
        data = bytearray(path.read_bytes())
        at = data.index(b"png ", data.index(b"stsd")) + 28
        data[at : at + 4] = struct.pack(">HH", side, side)
        path.write_bytes(data)
    return path


def transparent(path: Path, codec: str = "qtrle", pix_fmt: str = "argb") -> Path:
    """A video that has an alpha channel of its own."""
    return write_clip(path, frames=4, codec=codec, pix_fmt=pix_fmt)
