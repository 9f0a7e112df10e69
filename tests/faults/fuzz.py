"""Mutated files through the decoder: none may crash, hang, take much memory or end in a traceback.

    python -m tests.faults.fuzz --count 1000 --seed 1

Files are made from small whole ones and from tests/faults/corpus/, and decoded in a process of
their own that may neither take more than `MEMORY` nor be silent for `SECONDS`.  A file that breaks
a promise is kept in the corpus for good, where every later run and the fault suite try it again;
with `--grow` so is a file that ended in a way not seen before.  Nothing ever leaves the corpus.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"
MEMORY = (
    1_500  # MB that the process may hold at its peak, with OpenCV, FFmpeg and the program in it
)
SECONDS = 60  # without a word
WHOLE_RUN = 20  # every so many files go through the whole program, sound and files included
LARGEST = 40_000  # bytes of a file that is worth keeping


@dataclass(frozen=True)
class Defect:
    """A file that broke a promise."""

    what: str
    path: Path


# ------------------------------------------------------------------------------- making the files


def whole_files(folder: Path) -> list[Path]:
    """One small file of each container and codec that people really send."""
    from tests.fakes import picture, write_clip, write_sound

    small = {"frames": 5, "size": (48, 64)}
    made = [
        write_clip(folder / "a.mp4", audio="aac", **small),
        write_clip(folder / "b.mp4", movflags="faststart", rotation=90, **small),
        write_clip(folder / "c.mov", codec="mpeg4", **small),
        write_clip(folder / "d.mkv", codec="libvpx-vp9", audio="libopus", **small),
        write_clip(folder / "e.mkv", codec="ffv1", **small),
        write_clip(folder / "f.ts", **small),
        write_clip(folder / "g.h264", **small),
        write_clip(folder / "h.avi", codec="mjpeg", pix_fmt="yuvj420p", full_range=True, **small),
        write_clip(folder / "i.mp4", codec="libx265", **small),
        write_clip(folder / "j.gif", codec="gif", pix_fmt="rgb8", **small),
        write_sound(folder / "k.mp3", "mp3"),
    ]
    for name in ("l.png", "m.jpg", "n.webp", "o.bmp", "p.tif"):
        cv2.imwrite(str(folder / name), picture(0, size=(48, 64)))
        made.append(folder / name)
    return made


def mutated(data: bytes, other: bytes, dice: np.random.Generator) -> bytes:
    """A few of the things that happen to files, by accident and on purpose."""
    hurt = bytearray(data)
    for _ in range(int(dice.integers(1, 5))):
        if not hurt:
            break
        at = int(dice.integers(0, len(hurt)))
        span = int(dice.integers(1, 1 + min(200, len(hurt))))
        match int(dice.integers(0, 8)):
            case 0:  # bits turn over
                for place in dice.integers(0, len(hurt), int(dice.integers(1, 20))):
                    hurt[place] ^= 1 << int(dice.integers(0, 8))
            case 1:  # any bytes
                hurt[at : at + span] = dice.bytes(span)
            case 2:  # the end is missing
                del hurt[max(1, at) :]
            case 3:  # a piece is missing
                del hurt[at : at + span]
            case 4:  # a piece twice
                hurt[at:at] = hurt[at : at + span]
            case 5:  # a piece of another file
                start = int(dice.integers(0, max(1, len(other))))
                hurt[at : at + span] = other[start : start + span]
            case 6:  # a length, a count or a size that is a lie
                lies = (
                    b"\0\0\0\0",
                    b"\xff\xff\xff\xff",
                    b"\x7f\xff\xff\xff",
                    b"\0\0\xff\xff",
                    b"\x80\0\0\0",
                )
                hurt[at : at + 4] = lies[int(dice.integers(0, len(lies)))]
            case 7:  # in the header, where every byte says something
                hurt[int(dice.integers(0, min(200, len(hurt))))] = int(dice.integers(0, 256))
    return bytes(hurt[:200_000])


def cases(seed: int, folder: Path) -> Iterator[tuple[str, bytes]]:
    """(suffix, bytes) without end, the same for the same seed and corpus."""
    files = [*whole_files(folder), *sorted(CORPUS.glob("*.*"))]
    contents = [(file.suffix, file.read_bytes()) for file in files]
    dice = np.random.default_rng(seed)
    while True:
        suffix, data = contents[int(dice.integers(0, len(contents)))]
        _, other = contents[int(dice.integers(0, len(contents)))]
        yield suffix, mutated(data, other, dice)


# ------------------------------------------------------------------------------- trying one of them


def tried(path: Path, whole: bool) -> str:
    """How decoding ended, in words without names and numbers.  Raises where a promise is broken."""
    from stream.decode import InputError, Limits, open_source

    if whole:
        from tests.faults.builders import run

        with tempfile.TemporaryDirectory() as out:
            code = run(path, "-o", Path(out) / "out", "--quiet",
                       "--set", "limits.max_pixels=4000000",
                       "--set", "limits.max_seconds=3600")  # fmt: skip
        if code not in (0, 3, 4):
            raise AssertionError(f"exit code {code}")
        return f"whole run: {code}"
    try:
        with open_source(path, limits=Limits(pixels=4_000_000, seconds=3600)) as source:
            sizes = [frame.size for frame in islice(source.frames(), 300)]
            assert source.kind == "images" or set(sizes) <= {source.size}
            told = [*source.damage, *source.notes]
    except InputError as error:
        told = [str(error).replace(str(path), "")]
        sizes = None
    told = sorted({re.sub(r"[\d.]+", "#", line)[:60] for line in told})
    return f"{path.suffix} {'refused' if sizes is None else 'read'}: {'; '.join(told)}"


def work(seed: int, first: int, count: int, folder: Path) -> None:
    """The process of its own: one line of JSON before and after each file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # FFmpeg and OpenCV would have much to say
    for number, (suffix, data) in enumerate(cases(seed, folder)):
        if number >= count:
            return
        if number < first:
            continue
        path = folder / f"case{suffix}"
        path.write_bytes(data)
        print(json.dumps({"begins": number, "path": str(path)}), flush=True)
        try:
            ended, defect = tried(path, number % WHOLE_RUN == 0), None
        except BaseException as error:
            ended, defect = "", f"{type(error).__name__}: {error}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        if peak > MEMORY:
            defect = f"{peak} MB of memory at the peak"
        print(json.dumps({"ends": number, "how": ended, "defect": defect}), flush=True)
        if peak > MEMORY:
            return  # a peak never goes down: the next file deserves a fresh one


def fuzz(count: int, seed: int, *, grow: bool = False, say=lambda line: None) -> list[Defect]:
    """Try `count` files; what broke a promise is in the corpus when this returns."""
    defects: list[Defect] = []
    seen: set[str] = set()
    first = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        while first < count:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.fuzz", "--worker", str(folder),
                 "--seed", str(seed), "--first", str(first), "--count", str(count)],
                cwd=ROOT, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            path = None
            try:
                for told in _lines(process):
                    if "begins" in told:
                        first, path = told["begins"], Path(told["path"])
                        continue
                    first = told["ends"] + 1
                    assert path is not None
                    if told["defect"]:
                        defects.append(Defect(told["defect"], _kept(path)))
                        say(f"defect in file {told['ends']}: {told['defect']}")
                    elif grow and told["how"] not in seen and path.stat().st_size <= LARGEST:
                        _kept(path)
                    seen.add(told["how"])
                    path = None
                    if first % 100 == 0:
                        say(f"{first} files, {len(seen)} ways to end, {len(defects)} defects")
            except TimeoutError:
                process.kill()
            code = process.wait()
            if path is not None and path.exists():  # it never came back from this one
                what = "a hang" if code == -9 else f"a crash (exit {code})"
                defects.append(Defect(what, _kept(path)))
                say(f"defect in file {first}: {what}")
                first += 1
            elif code != 0:
                raise RuntimeError(f"the process that tries the files ended with {code}")
    return defects


def _lines(process: subprocess.Popen) -> Iterator[dict]:
    assert process.stdout is not None
    while True:
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        if not ready:
            raise TimeoutError
        line = process.stdout.readline()
        if not line:
            return
        yield json.loads(line)


def _kept(path: Path) -> Path:
    data = path.read_bytes()
    CORPUS.mkdir(exist_ok=True)
    kept = CORPUS / f"{sha256(data).hexdigest()[:12]}{path.suffix}"
    kept.write_bytes(data)
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="files to try")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same files")
    parser.add_argument("--grow", action="store_true", help="keep files that end in a new way too")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.worker:
        work(said.seed, said.first, said.count, said.worker)
        return 0
    defects = fuzz(said.count, said.seed, grow=said.grow, say=print)
    for defect in defects:
        print(f"{defect.path.relative_to(ROOT)}: {defect.what}")
    print(f"{said.count} files with seed {said.seed}: {len(defects)} defects")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
