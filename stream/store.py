"""The working store: everything a run has found out so far, in one file that survives a crash.

A journal that only grows.  Each frame is one record, checked by a CRC and written by one call: its
time, and for everyone in it their number, box, score and matte.  A process that is killed loses
at most the frame it was writing, a machine that loses its power at most `SYNC_SECONDS`.  A reader
stops where the file breaks off; a writer that goes on cuts the torn end away first.

A matte is stored as one packet of lossless gray video that stands alone, at full size.  So a
finished run copies packets into the tracks of `alpha.mkv` without coding anything again, and a
person's track reaches from the first frame to the last although nothing is stored where they are
not.  docs/decisions/0007-outputs.md has the layout byte by byte, and why.
"""

from __future__ import annotations

import io
import json
import os
import struct
import time
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np

from matting.frames import Mattes

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not kept apart there
    fcntl = None  # type: ignore[assignment]

STORE = "store.troupe"  # its name in the folder of a run that is under way
MAGIC = b"TROUPE\x00\x01"  # the last byte is the version of the layout
RECORD = struct.Struct("<IIB")  # bytes of the body, its CRC-32, its kind
FRAME = struct.Struct("<qI")  # pts, people
PERSON = struct.Struct("<I4ffI")  # id, box x0 y0 x1 y1, score, bytes of the packet
HEAD, FRAMES, CHECKPOINT = 1, 2, 3
MAX_BODY = 1 << 30  # a length beyond this is not a length
SYNC_SECONDS = 1.0

# Lossless gray, 960 x 540, mattes of the bundled clip, one thread, CPU-ms and kB a frame (python -m
# bench.tracks; two busy cores, 2026-11-22, so read the times as ratios):
#   H.264 intra, qp 0, ultrafast, CABAC   2.0   12.1     blank 1.1 ms, 0.7 kB at any size
#   H.264 intra, qp 0, ultrafast, CAVLC   1.3   13.4     blank 1.0 ms, 1.8 kB, and 6 kB at 1080p
#   FFV1 level 3, Golomb-Rice             3.6    8.5     blank 3.2 ms, 0.2 kB
# So mattes are CAVLC, and the one blank frame, which is coded once and written wherever somebody is
# not, is CABAC: a picture of its own names the parameters it was coded with.
CODEC = "libx264"
OPTIONS = {"preset": "ultrafast", "qp": "0", "tune": "zerolatency"}
MATTE = "sliced-threads=0:cabac=0"
BLANK = "sliced-threads=0:cabac=1:sps-id=1"
FULL = 2  # alpha is coverage: codes 0..255 mean 0..1, whatever the range of the video is


class StoreError(OSError):
    """The store cannot be used; the message says why."""


class AlphaCoder:
    """Mattes as packets that stand alone, so that one coder serves everyone.

    `rate` is only written down, for players that go by it.
    """

    def __init__(self, size: tuple[int, int], rate: Fraction | None = None) -> None:
        empty = _Encoder(size, rate, BLANK)
        self._mattes = _Encoder(size, rate, MATTE)
        self._size = tuple(size)
        self.blank = empty.coded(np.zeros(size, np.uint8))
        self.parameters = self._mattes.parameters + empty.parameters  # what a decoder must know

    def coded(self, alpha: np.ndarray) -> bytes:
        """One packet of (H, W) uint8 codes."""
        nobody = alpha.shape == self._size and not alpha.any()
        return self.blank if nobody else self._mattes.coded(alpha)


class _Encoder:
    """x264 with these parameters: one packet for each picture."""

    def __init__(self, size: tuple[int, int], rate: Fraction | None, parameters: str) -> None:
        self._codec = codec = av.CodecContext.create(CODEC, "w")
        codec.height, codec.width = size
        codec.pix_fmt = "gray"
        codec.framerate = rate or Fraction(25)
        codec.time_base = 1 / codec.framerate
        codec.gop_size = 1  # every frame stands alone
        codec.thread_count = 1
        codec.color_range = FULL
        codec.flags |= av.codec.context.Flags.global_header  # parameters once, not in every packet
        codec.options = {**OPTIONS, "x264-params": parameters}
        # one picture for all: the encoder has taken what it needs when it hands out the packet
        self._picture = av.VideoFrame(codec.width, codec.height, "gray")
        self._picture.color_range, self._picture.time_base = FULL, codec.time_base
        plane = self._picture.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        self._rows = rows[:, : plane.width]
        self._count = 0
        self.coded(np.zeros(size, np.uint8))  # the first packet has a note of the encoder in it
        self.parameters: bytes = codec.extradata

    def coded(self, alpha: np.ndarray) -> bytes:
        if alpha.shape != self._rows.shape or alpha.dtype != np.uint8:
            raise ValueError(f"codes should be {self._rows.shape} uint8, got {alpha.shape}")
        self._rows[...] = alpha
        self._picture.pts = self._count
        self._count += 1
        (packet,) = self._codec.encode(self._picture)
        return bytes(packet)


def alpha_template(parameters: bytes, packet: bytes) -> av.container.InputContainer:
    """A file whose first stream is what an alpha track is made after."""
    return av.open(io.BytesIO(parameters + packet), format="h264")


class AlphaDecoder:
    """Packets of an `AlphaCoder` as codes again, in any order."""

    def __init__(self, parameters: bytes) -> None:
        self._decoder = av.CodecContext.create("h264", "r")
        self._decoder.extradata = parameters
        self._decoder.thread_count = 1

    def decoded(self, packet: bytes) -> np.ndarray:
        """(H, W) uint8."""
        (picture,) = self._decoder.decode(av.Packet(packet))
        plane = picture.planes[0]  # monochrome comes back as 4:2:0; only luma was coded
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        return rows[:, : plane.width].copy()


@dataclass(eq=False)
class CodedAlphas:
    """The mattes of one frame as packets of an `AlphaCoder` (matting.frames.Alphas): they are
    decoded when somebody looks, and written to a store as they are."""

    packets: tuple[bytes, ...]  # one a person
    parameters: bytes  # of the coder
    decoder: AlphaDecoder
    size: tuple[int, int]  # (H, W)
    drawn: np.ndarray | None = None  # the codes, once somebody has looked

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.packets), *self.size)

    def pick(self, rows: np.ndarray) -> CodedAlphas:
        drawn = None if self.drawn is None else self.drawn[rows]
        packets = tuple(self.packets[r] for r in rows)
        return CodedAlphas(packets, self.parameters, self.decoder, self.size, drawn)

    def codes(self) -> np.ndarray:
        if self.drawn is None:
            self.drawn = np.zeros(self.shape, np.uint8)
            for row, packet in zip(self.drawn, self.packets, strict=True):
                row[:] = self.decoder.decoded(packet)
        return self.drawn

    def alpha(self) -> np.ndarray:
        return self.codes() * np.float32(1 / 255)

    def finite(self) -> bool:
        return True


@dataclass(frozen=True)
class StoredPerson:
    """One person of one frame."""

    id: int
    box: tuple[float, float, float, float]  # x0 y0 x1 y1 in pixels
    score: float
    packet: bytes


@dataclass(frozen=True)
class StoredFrame:
    """One frame: its time, and everyone in it."""

    index: int  # from 0
    pts: int
    people: list[StoredPerson]


@dataclass
class Register:
    """Times of all frames, and per person their boxes and scores: 24 bytes a sighting."""

    pts: array = field(default_factory=lambda: array("q"))
    indices: dict[int, array] = field(default_factory=dict)  # id -> the frames they are in
    numbers: dict[int, array] = field(default_factory=dict)  # id -> box and score, five each

    @property
    def people(self) -> list[int]:
        return sorted(self.indices)

    def add(self, frame: StoredFrame) -> None:
        for person in frame.people:
            self.indices.setdefault(person.id, array("L")).append(frame.index)
            numbers = self.numbers.setdefault(person.id, array("f"))
            numbers.extend((*person.box, person.score))
        self.pts.append(frame.pts)


class StoreWriter:
    """Adds frames to a store; `resume` goes on with one that was left behind.

    `head` is kept as it is, and needs `size`, [H, W], `time_base` and `rate`, as text.  `register`
    holds what is in the store so far.  Raises StoreError where another process is writing to
    the same file, and OSError where the disk is full; the file then ends with the last whole frame.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self._coder = AlphaCoder(head["size"], _rate(head))
        self._begin(path, os.O_CREAT | os.O_EXCL)
        self.register = Register()
        about = {**head, "codec": "h264", "parameters": self._coder.parameters.hex()}
        os.write(self._file, MAGIC)
        self._append(HEAD, json.dumps(about).encode())

    @classmethod
    def resume(cls, path: Path, frames: int | None = None) -> StoreWriter:
        """Go on after the last whole frame, or after the first `frames`; the rest is cut away."""
        store = Store(path)
        writer = cls.__new__(cls)
        writer._coder = AlphaCoder(store.size, _rate(store.head))
        if writer._coder.parameters != store.parameters:
            raise StoreError(f"{path} was written by another version of the encoder: start over")
        writer._begin(path, 0)
        writer.register, end = store.walk(frames)
        os.ftruncate(writer._file, end)
        return writer

    def _begin(self, path: Path, flags: int) -> None:
        binary = getattr(os, "O_BINARY", 0)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | binary | flags, 0o644)
        self._synced = time.monotonic()
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise StoreError(f"another run is writing to {path.parent}") from None

    @property
    def frames(self) -> int:
        return len(self.register.pts)

    def add(self, pts: int, mattes: Mattes) -> None:
        """One frame, and everyone in it under their ids."""
        people = [
            StoredPerson(person.id, tuple(person.box.tolist()), person.score, packet)
            for person, packet in zip(mattes, self._packets(mattes), strict=True)
        ]
        frame = StoredFrame(self.frames, pts, people)
        parts = [FRAME.pack(pts, len(people))]
        for person in people:
            begun = PERSON.pack(person.id, *person.box, person.score, len(person.packet))
            parts += begun, person.packet
        self._append(FRAMES, b"".join(parts))
        self.register.add(frame)

    def _packets(self, mattes: Mattes) -> Sequence[bytes]:
        given = mattes.drawn
        if isinstance(given, CodedAlphas) and given.parameters == self._coder.parameters:
            return given.packets  # a worker has done it
        return [self._coder.coded(codes) for codes in mattes.codes]

    def checkpoint(self, state: bytes) -> None:
        """What is needed to go on after the frames so far, whatever it is; the last one counts."""
        self._append(CHECKPOINT, state)

    def _append(self, kind: int, body: bytes) -> None:
        record = memoryview(RECORD.pack(len(body), zlib.crc32(body), kind) + body)
        while record:  # a disk that fills takes a part, then refuses
            record = record[os.write(self._file, record) :]
        now = time.monotonic()
        if now - self._synced >= SYNC_SECONDS:
            os.fsync(self._file)
            self._synced = now

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Store:
    """A store to read, whole or broken off, also while it is being written.

    `head` is what the writer was given.  Raises StoreError where the file is no store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                first = next(self._records(file), None) if self._is_ours(file) else None
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror})") from None
        if first is None or first[0] != HEAD:
            raise StoreError(f"{path} is not the store of a run, or breaks off at its head")
        self.head: dict[str, Any] = json.loads(first[1])
        self.size: tuple[int, int] = tuple(self.head["size"])
        self.time_base = Fraction(self.head["time_base"])
        self.parameters = bytes.fromhex(self.head["parameters"])

    @staticmethod
    def _is_ours(file: BinaryIO) -> bool:
        return file.read(len(MAGIC)) == MAGIC

    @staticmethod
    def _records(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
        """Kind, body and end of every whole record; what is torn or damaged ends the file."""
        while True:
            begun = file.read(RECORD.size)
            if len(begun) < RECORD.size:
                return
            length, crc, kind = RECORD.unpack(begun)
            body = file.read(length) if length <= MAX_BODY else b""
            if len(body) < length or zlib.crc32(body) != crc:
                return
            yield kind, body, file.tell()

    def frames(self) -> Iterator[StoredFrame]:
        """Every whole frame, in order."""
        with self.path.open("rb") as file:
            self._is_ours(file)
            index = 0
            for kind, body, _ in self._records(file):
                if kind == FRAMES:
                    yield _frame(index, body)
                    index += 1

    def walk(self, frames: int | None = None) -> tuple[Register, int]:
        """What is in the first `frames` (default: all that are whole), and the byte they end at."""
        register = Register()
        with self.path.open("rb") as file:
            self._is_ours(file)
            end = file.tell()
            for kind, body, after in self._records(file):
                if kind == FRAMES:
                    if frames is not None and len(register.pts) == frames:
                        break
                    register.add(_frame(len(register.pts), body))
                end = after
        return register, end

    def checkpoint(self) -> tuple[int, bytes] | None:
        """The last state that was kept, and the number of frames before it."""
        found = None
        frames = 0
        with self.path.open("rb") as file:
            self._is_ours(file)
            for kind, body, _ in self._records(file):
                frames += kind == FRAMES
                if kind == CHECKPOINT:
                    found = frames, body
        return found


def _rate(head: Mapping[str, Any]) -> Fraction | None:
    return Fraction(head["rate"]) if head.get("rate") else None


def _frame(index: int, body: bytes) -> StoredFrame:
    pts, count = FRAME.unpack_from(body)
    at = FRAME.size
    people = []
    for _ in range(count):
        number, x0, y0, x1, y1, score, length = PERSON.unpack_from(body, at)
        at += PERSON.size
        people.append(StoredPerson(number, (x0, y0, x1, y1), score, body[at : at + length]))
        at += length
    return StoredFrame(index, pts, people)
