"""What the network said of a part of a video: every detection of every frame, in one file."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from matting.frames import UNTRACKED, Mattes
from stream.store import AlphaCoder, AlphaDecoder, CodedAlphas

VERSION = 1


class ChunkError(ValueError):
    """The file is not a chunk, or one of another version."""


def packed(
    size: tuple[int, int], frames: Iterable[tuple[int, Mattes]], rate: Fraction | None = None
) -> bytes:
    """A chunk of frames, each its pts and everyone in it, of pictures of `size` (H, W).  With the
    `rate` of the video, the run that gathers writes these very packets where it calms nobody."""
    coder = AlphaCoder(size, rate)
    pts, counts, packets = [], [], []
    fields: dict[str, list[np.ndarray]] = {"coarse": [], "score": [], "box": [], "code": []}
    for moment, mattes in frames:
        pts.append(moment)
        counts.append(len(mattes))
        if not len(mattes):
            continue  # widths of what is empty say nothing
        packets += [coder.coded(codes) for codes in mattes.codes]
        for name, values in fields.items():
            values.append(getattr(mattes, name))
    joined = {name: np.concatenate(values) for name, values in fields.items() if values}
    kept = io.BytesIO()
    joined |= {
        "version": np.array(VERSION), "size": np.array(size), "pts": np.array(pts, np.int64),
        "counts": np.array(counts, np.int64),
        "lengths": np.array([len(packet) for packet in packets], np.int64),
        "packets": np.frombuffer(b"".join(packets), np.uint8),
        "parameters": np.frombuffer(coder.parameters, np.uint8),
    }  # fmt: skip
    np.savez(kept, **joined)  # type: ignore[arg-type]  # NumPy's stub forgets the names
    return kept.getvalue()


class Chunk:
    """A chunk to read.  Raises ChunkError where the file is none."""

    def __init__(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
            if int(found["version"]) != VERSION:
                raise ChunkError(f"{path} is a chunk of version {found['version']}")
            self.size: tuple[int, int] = (int(found["size"][0]), int(found["size"][1]))
            self.pts: list[int] = found["pts"].tolist()
            self._rows = [0, *accumulate(found["counts"].tolist())]
            self._ends = [0, *accumulate(found["lengths"].tolist())]
            self._packets = found["packets"].tobytes()
            self._parameters = found["parameters"].tobytes()
            self._decoder = AlphaDecoder(self._parameters)
        except (OSError, ValueError, KeyError, IndexError, BadZipFile) as error:
            raise ChunkError(f"{path} cannot be read as a chunk ({error})") from None
        people = self._rows[-1]
        self._coarse = found.get("coarse", np.zeros((people, 1, 1), np.float32))
        self._score = found.get("score", np.zeros(people, np.float32))
        self._box = found.get("box", np.zeros((people, 4), np.float32))
        self._code = found.get("code", np.zeros((people, 0), np.float32))

    def __len__(self) -> int:
        return len(self.pts)

    def mattes(self, index: int) -> Mattes:
        """Everyone in frame `index` of the chunk, as the network gave them, to the code value."""
        rows = np.arange(self._rows[index], self._rows[index + 1])
        packets = tuple(self._packets[self._ends[r] : self._ends[r + 1]] for r in rows)
        return Mattes(
            alpha=CodedAlphas(packets, self._parameters, self._decoder, self.size),
            coarse=self._coarse[rows], score=self._score[rows], box=self._box[rows],
            code=self._code[rows], ids=np.full(len(rows), UNTRACKED, np.int64),
        )  # fmt: skip
