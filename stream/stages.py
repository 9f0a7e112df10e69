"""The stages between decode and encode, one generator each: who is in the picture, and who is who.

No stage knows about threads or files, so each can be run on a list; the code after a loop is its
flush.  Every frame that goes in comes out, once, in order, also when nobody is in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, Protocol

import numpy as np

from matting.frames import Frame, Mattes

Matted = tuple[Frame, Mattes]


class Engine(Protocol):
    """The part of an engine that these stages use."""

    def start(self) -> Any: ...

    def step(self, rgb: np.ndarray, state: Any) -> tuple[Mattes, Any]: ...

    # Where there is also `submit`, as engines/base.py has it, up to `in_flight` pictures are put
    # under way before the mattes of the first are taken.


class Coming:
    """The frames of the stage before.  Where it fails they end there, so that those that wait can
    still be given; `settle` raises the failure after them."""

    def __init__(self, frames: Iterable[Any]) -> None:
        self._frames = iter(frames)
        self.failure: Exception | None = None

    def __iter__(self) -> Coming:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._frames)
        except StopIteration:
            raise
        except Exception as error:
            self.failure = error
            raise StopIteration from None

    def settle(self) -> None:
        if self.failure is not None:
            raise self.failure


class Tracker(Protocol):
    """The part of a tracker that these stages use.

    `update` names each matte: an id > 0, a handle < -1 that `resolved` may turn into an id within
    `delay_frames` more updates, or -1 for a detection to drop.
    """

    delay_frames: int
    resolved: dict[int, int]

    def update(
        self, mattes: Mattes, seconds: float, *, rgb: np.ndarray | None = None
    ) -> np.ndarray: ...

    def finish(self) -> None:
        """The video is over: what is still undecided is decided now."""


def matte(
    frames: Iterable[Frame], engine: Engine, state: Any = None, keeper: Keeper | None = None, *,
    remember: bool = True,
) -> Iterator[Matted]:  # fmt: skip
    """Matte each frame.  The network's memory lives here, one per video: it begins with `state`, or
    anew, and is shown to the `keeper` between frames.  Where the pictures have nothing to do with
    one another (`remember` False) it begins anew with each.

    An engine that works on several pictures at once is kept busy: a frame's mattes are taken when
    `engine.in_flight` frames are under way, or no more come.  Where the stage before fails, or a
    picture cannot be matted, those under way still come, and then the failure.
    """
    state = engine.start() if state is None else state
    submit = getattr(engine, "submit", None)
    if submit is None:
        for frame in frames:
            if keeper is not None:
                keeper.before(state)
            mattes, after = engine.step(frame.rgb, state)
            state = after if remember else engine.start()
            yield frame, mattes
        return
    under_way: deque[tuple[Frame, Any]] = deque()
    coming = Coming(frames)
    for frame in coming:
        if keeper is not None:
            while under_way and keeper.wants():  # it keeps what everyone knows at one moment
                earlier, pending = under_way.popleft()
                yield earlier, pending.result()
            keeper.before(state, settled=not under_way)
        try:
            pending, after = submit(frame.rgb, state)
        except Exception as error:
            coming.failure = error
            break
        state = after if remember else engine.start()
        under_way.append((frame, pending))
        if len(under_way) >= engine.in_flight:  # type: ignore[attr-defined]
            frame, pending = under_way.popleft()
            yield frame, pending.result()
    for frame, pending in under_way:
        yield frame, pending.result()
    coming.settle()


def matte_each(
    frames: Iterable[Frame], engine: Engine, confident_score: float = 0.5, closer: bool = True
) -> Iterator[Matted]:
    """Matte photographs that have nothing to do with one another: no memory, no tracker.

    People are numbered from the left, 1, 2, ..., anew in every picture.  No later picture can
    speak for someone the network doubts, so those below `confident_score` are left out.  With
    `closer`, engines that can (engines/base.py, Patient) take their time for each.
    """
    still = getattr(engine, "still", None)
    matted = (
        ((frame, still(frame.rgb, closer)) for frame in frames) if still
        else matte(frames, engine, remember=False)
    )  # fmt: skip
    for frame, mattes in matted:
        mattes = mattes.pick(np.flatnonzero(mattes.score >= confident_score))
        mattes = mattes.pick(np.argsort(mattes.box[:, 0] + mattes.box[:, 2], kind="stable"))
        yield frame, mattes.named(np.arange(1, len(mattes) + 1))


def follow(matted: Iterable[Matted], tracker: Tracker) -> Iterator[Matted]:
    """Name the people.  Frames wait `tracker.delay_frames` so that a person who is confirmed late
    is named from the first frame on; whoever is never confirmed is left out.  Where the stage
    before fails, the frames that wait still come, and then its failure."""
    waiting: deque[Matted] = deque()
    coming = Coming(matted)
    for frame, mattes in coming:
        ids = tracker.update(mattes, frame.seconds, rgb=frame.rgb)
        waiting.append((frame, mattes.named(ids)))
        if len(waiting) > tracker.delay_frames:
            yield _settled(*waiting.popleft(), tracker.resolved)
    tracker.finish()
    while waiting:
        yield _settled(*waiting.popleft(), tracker.resolved)
    coming.settle()


def _settled(frame: Frame, mattes: Mattes, resolved: dict[int, int]) -> Matted:
    ids = np.array([resolved.get(int(i), int(i)) for i in mattes.ids], np.int64)
    mattes = mattes.named(ids)
    order = np.argsort(ids, kind="stable")
    return frame, mattes.pick(order[ids[order] > 0])


class Keeper(Protocol):
    """Keeps what is needed to go on between two frames, from time to time."""

    def wants(self) -> bool:
        """Whether it is time."""

    def before(self, state: Any, settled: bool = True) -> None:
        """Called once per frame, before it, with the network's memory; `settled`: all frames before
        have been through every stage that remembers."""


class Composer(Protocol):
    """The part of a composer that `compose` uses."""

    def compose(self, frame: Frame, mattes: Mattes) -> np.ndarray: ...

    def close(self) -> None: ...


def uncomposed(matted: Iterable[Matted]) -> Iterator[tuple[Frame, Mattes, None]]:
    """The same shape as `compose` leaves, where no composite is wanted."""
    for frame, mattes in matted:
        yield frame, mattes, None


def compose(
    matted: Iterable[Matted], composer: Composer
) -> Iterator[tuple[Frame, Mattes, np.ndarray]]:
    """Put the people over their backgrounds.  The composer is closed with the stage."""
    with closing(composer):
        for frame, mattes in matted:
            yield frame, mattes, composer.compose(frame, mattes)
