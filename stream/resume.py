"""Going on with a run that was broken off, as if it never had been.

Twice a second the stages' memories are taken down just before a frame, and laid in the working
store once all earlier frames are there.  So whatever kills the process, a later one reads back what
the network and the tracker knew, does the few frames since then again, and comes to the same
numbers and the same mattes.  A run that would not, because its input, its settings or its weights
are others, is refused with what has changed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from matting.frames import Frame, Mattes
from stream import register
from stream.decode import InputError
from stream.snapshot import SnapshotError, freeze, thaw
from stream.store import AlphaDecoder, Store

EVERY_SECONDS = 0.5  # between two notes of what the stages remember
ROOMS = ("engines", "matting")  # whose classes an engine's state may consist of

# Settings that change how a run goes and not what comes of it.
INDIFFERENT = ("output.", "pipeline.", "limits.", "live.", "cluster.", "engine.threads")


class ChangedError(ValueError):
    """The broken-off run was another one; the message says in what."""


@dataclass(frozen=True)
class Begun:
    """What a broken-off run has left: `frames` of them are done, and `state` comes after them."""

    store: Store
    frames: int
    state: dict[str, Any] | None  # None: nothing was noted yet, so nothing is kept

    def again(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Mattes]]:
        """The frames that are done, with their mattes from the store."""
        decoder = AlphaDecoder(self.store.parameters)
        for frame, stored in zip(frames, islice(self.store.frames(), self.frames), strict=False):
            if frame.pts != stored.pts:
                raise ChangedError("the input has other frame times than the broken-off run had")
            count = len(stored.people)
            codes = np.zeros((count, *frame.size), np.uint8)
            for row, person in zip(codes, stored.people, strict=True):
                row[:] = decoder.decoded(person.packet)
            yield frame, Mattes(
                alpha=codes, coarse=np.zeros((count, 1, 1), np.float32),
                score=np.array([person.score for person in stored.people], np.float32),
                box=np.array([p.box for p in stored.people], np.float32).reshape(-1, 4),
                code=np.zeros((count, 0), np.float32),
                ids=np.array([person.id for person in stored.people], np.int64),
            )  # fmt: skip


def begun(store: Store, head: Mapping[str, Any]) -> Begun:
    """The run in this store, if it is the one `head` describes.  Raises ChangedError if not."""
    changes = changed(store.head, head)
    if changes:
        raise ChangedError(
            f"{store.path.parent.parent} holds another run, which cannot be gone on with: "
            f"{'; '.join(changes)}; undo that, or start over with --overwrite"
        )
    kept = store.checkpoint()
    if kept is None:
        return Begun(store, 0, None)
    try:
        state = thaw(kept[1], ROOMS)
        return Begun(store, min(int(state["frame"]), kept[0]), state)
    except (SnapshotError, KeyError, TypeError):
        return Begun(store, 0, None)  # of another version: the work is done again


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what two runs differ, of what decides about their results: a phrase each."""
    told = []
    old, new = before.get("input", {}), now.get("input", {})
    if (old.get("bytes"), old.get("edges_sha256")) != (new.get("bytes"), new.get("edges_sha256")):
        told.append(f"the input is another file ({old.get('bytes')} bytes, now {new.get('bytes')})")
    old, new = before.get("about", {}), now.get("about", {})
    if old.get("engine") != new.get("engine"):
        told.append(f"the engine was {old.get('engine')}, now {new.get('engine')}")
    if old.get("weights") != new.get("weights"):
        told.append("the weights are others")
    was, is_ = _flat(old.get("settings", {})), _flat(new.get("settings", {}))
    for name in sorted(was.keys() | is_.keys()):
        if was.get(name) != is_.get(name) and not name.startswith(INDIFFERENT):
            told.append(f"{name} was {was.get(name)!r}, now {is_.get(name)!r}")
    return told


def _flat(settings: Mapping[Any, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}{key}.")
        else:  # as JSON has it: the store's head went through it
            found[f"{path}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


class Notes:
    """Takes down what the stages remember, and hands it out when it may be kept.

    `before` is called on the stages' thread with the engine's state, once per frame and before it;
    `due` on the writer's, with the number of frames that are on the disk.
    """

    def __init__(
        self,
        tracker: Any,
        first: int = 0,
        *,
        every_seconds: float = EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tracker, self._frame = tracker, first
        self._every, self._clock = every_seconds, clock
        self._last = clock()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self.impossible: str | None = None  # why nothing can be noted with this engine

    def wants(self) -> bool:
        return not self.impossible and self._clock() - self._last >= self._every

    def before(self, state: Any, settled: bool = True) -> None:
        frame, self._frame = self._frame, self._frame + 1
        if not settled or not self.wants():
            return
        try:
            note = {"frame": frame, "state": state, "tracker": self.tracker.save()}
            self._waiting.append((frame, freeze(note, ROOMS)))
        except SnapshotError as error:
            self.impossible = str(error)
        self._last = self._clock()

    def due(self, written: int) -> bytes | None:
        """The latest note that needs no more than the first `written` frames."""
        note = None
        while self._waiting and self._waiting[0][0] <= written:
            _, note = self._waiting.popleft()
        return note


def finished(out: Path, head: Mapping[str, Any]) -> dict[str, Any] | None:
    """people.json of a run that is complete already, if it is the one `head` describes."""
    try:
        document = register.read(out, "they are finished one by one")
    except InputError:
        return None
    if not document["complete"]:
        return None
    return None if changed(document, head) else document
