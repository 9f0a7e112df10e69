"""Mattes put aside on disk until it is known whose they are; memory stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from matting.frames import Frame, Mattes
from stream.decode import Source
from stream.store import AlphaDecoder, Store, StoreWriter


class Aside:
    """Takes every frame's mattes, and gives them back with the frames, read once more.

    Mattes come back as they will be written, in 8 bits, and without codes and thumbnails.
    """

    def __init__(self, path: Path, source: Source) -> None:
        self._path, self._source = path, source
        rate = str(source.rate) if source.rate else None
        head = {"size": list(source.size), "time_base": str(source.time_base), "rate": rate}
        self._writer = StoreWriter(path, head)

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._path.unlink(missing_ok=True)

    def put(self, frame: Frame, mattes: Mattes) -> None:
        self._writer.add(frame.pts, mattes.named(np.arange(1, len(mattes) + 1)))

    def named(self, numbers: Sequence[np.ndarray]) -> Iterator[tuple[Frame, Mattes]]:
        """Every frame with its people, whose numbers are given per frame and row; 0 is nobody."""
        self._writer.close()
        store = Store(self._path)
        decoder = AlphaDecoder(store.parameters)
        with self._source.again() as again:
            for frame, stored, ids in zip(again.frames(), store.frames(), numbers, strict=False):
                if frame.pts != stored.pts:
                    raise RuntimeError(f"{self._source.uri} has changed while it was matted")
                rows = [i for i in np.argsort(ids, kind="stable").tolist() if ids[i] > 0]
                count = len(rows)
                alphas = np.zeros((count, *frame.size), np.float32)
                for alpha, row in zip(alphas, rows, strict=True):
                    alpha[:] = decoder.decoded(stored.people[row].packet)
                alphas /= 255
                yield frame, Mattes(
                    alpha=alphas,
                    coarse=np.zeros((count, 1, 1), np.float32),
                    score=np.array([stored.people[row].score for row in rows], np.float32),
                    box=np.array([stored.people[row].box for row in rows], np.float32).reshape(
                        count, 4
                    ),
                    code=np.zeros((count, 0), np.float32),
                    ids=np.asarray(ids)[rows].astype(np.int64),
                )
