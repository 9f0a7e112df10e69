"""Around any engine: what a network can do wrong costs a frame or ends the run, never a picture.

Numbers that are not finite must not reach a file, and must not stay in the network's memory: the
mattes of the frame before stand in for such a frame, it is told, and the memory is the one from
before.  Memory that has run out is given back and the frame tried once more; then the run ends.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from engines.base import Engine, EngineError, NotFinite, State
from matting.frames import Mattes, no_one

MOST_IN_A_ROW = 25  # frames without an answer: a second of them is not a slip of the network


@dataclass
class _Video:
    """What can stand in for a frame of one video."""

    last: Mattes | None = None  # of the last good frame; None before there was one
    failed_in_a_row: int = 0

    NOT_KEPT: ClassVar[tuple[str, ...]] = ("last",)  # megabytes, for a frame that may never come


@dataclass(frozen=True)
class _Guarded:
    """The state of one video: the engine's own, and which frame comes next."""

    own: State
    video: _Video
    frame: int = 0


class GuardedEngine:
    """The same engine, with the promises above.  `tell` takes a sentence for each frame that was
    lost, and `note` what was worked round."""

    def __init__(
        self, engine: Engine, tell: Callable[[str], None], note: Callable[[str], None]
    ) -> None:
        self._engine, self._tell, self._note = engine, tell, note
        self.name = engine.name
        able: Any = engine
        if hasattr(able, "submit"):  # an engine that overlaps stays one
            self.submit, self.in_flight = self._submit, able.in_flight
        if hasattr(able, "still"):
            self.still = self._still

    def start(self) -> State:
        return _Guarded(self._engine.start(), _Video())

    @staticmethod
    def remembers(state: Any) -> bool:
        """Whether the network keeps anything of a video, as the state after a step tells."""
        return state.own != {}

    def step(self, rgb: np.ndarray, state: Any) -> tuple[Mattes, State]:
        video, size = state.video, rgb.shape[:2]
        try:
            mattes, own = self._roomy(lambda: self._engine.step(rgb, state.own), size)
            video.last, video.failed_in_a_row = self._finite(mattes), 0
        except NotFinite as error:
            # what such a step leaves in a network's memory is not finite either
            mattes, own = self._stand_in(error, video, state.frame, size), state.own
        return mattes, _Guarded(own, video, state.frame + 1)

    def _still(self, rgb: np.ndarray, closer: bool = True) -> Mattes:
        engine: Any = self._engine
        try:
            return self._finite(self._roomy(lambda: engine.still(rgb, closer), rgb.shape[:2]))
        except NotFinite as error:  # and no frame before it that could stand in
            self._tell(f"{error}; nobody is shown in this picture")
            return no_one(rgb.shape[:2])

    def _submit(self, rgb: np.ndarray, state: Any) -> tuple[_GuardedPending, State]:
        """As `step`, for an engine that overlaps.  The next picture is under way before anyone can
        look at this one, so such an engine keeps its memory finite itself (engines/base.py)."""
        engine: Any = self._engine
        pending, own = self._roomy(lambda: engine.submit(rgb, state.own), rgb.shape[:2])
        guarded = _GuardedPending(self, pending, state, rgb)
        return guarded, _Guarded(own, state.video, state.frame + 1)

    def _finite(self, mattes: Mattes) -> Mattes:
        if not finite(mattes):
            raise NotFinite(f"{self.name}: mattes with numbers that are not finite")
        return mattes

    def _stand_in(
        self, error: NotFinite, video: _Video, frame: int, size: tuple[int, int]
    ) -> Mattes:
        """The mattes of the frame before, in memory of their own."""
        video.failed_in_a_row += 1
        if video.failed_in_a_row >= MOST_IN_A_ROW:
            raise EngineError(
                f"{error}, {MOST_IN_A_ROW} frames in a row: try another engine with --engine"
            ) from None
        self._tell(f"frame {frame}: {error}; the mattes of the frame before stand in")
        if video.last is None or video.last.size != size:
            video.last = no_one(size)
        return _copied(video.last)

    def _roomy(
        self, work: Callable[[], Any], size: tuple[int, int], again: Callable[[], Any] | None = None
    ) -> Any:
        """Do `work`; where memory was short, give some back and do it, or else `again`, anew."""
        try:
            return work()
        except Exception as error:
            if not out_of_memory(error):
                raise
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
        self._note(f"{self.name} is out of memory ({told}); giving back what is spare, once more")
        release = getattr(self._engine, "release", None)
        if release:
            release()
        gc.collect()
        try:
            return (again or work)()
        except Exception as error:
            if not out_of_memory(error):
                raise
            height, width = size
            raise EngineError(
                f"{self.name} is out of memory for a picture of {width} x {height}: close other "
                "programs, scale the video down, or choose another engine with --engine"
            ) from error

    def close(self) -> None:
        self._engine.close()


class _GuardedPending:
    """The mattes of a picture that is under way; taken in the order of the video."""

    def __init__(
        self, guard: GuardedEngine, pending: Any, state: _Guarded, rgb: np.ndarray
    ) -> None:
        self._guard, self._pending, self._state, self._rgb = guard, pending, state, rgb
        self._mattes: Mattes | None = None

    def result(self) -> Mattes:
        if self._mattes is None:
            guard, state, size = self._guard, self._state, self._rgb.shape[:2]
            try:
                mattes = guard._roomy(
                    self._pending.result, size,
                    again=lambda: guard._engine.step(self._rgb, state.own)[0],
                )  # fmt: skip
                self._mattes = guard._finite(mattes)
                state.video.last, state.video.failed_in_a_row = self._mattes, 0
            except NotFinite as error:
                self._mattes = guard._stand_in(error, state.video, state.frame, size)
        return self._mattes


def _copied(mattes: Mattes) -> Mattes:
    """What a step returns is the caller's to keep: it must not be the arrays of an earlier one."""
    return mattes.pick(np.arange(len(mattes)))


def finite(mattes: Mattes) -> bool:
    """Whether every number of these mattes is one; draws nothing."""
    fields = (mattes.coarse, mattes.score, mattes.box, mattes.code)
    return mattes.drawn.finite() and all(bool(np.isfinite(field.sum())) for field in fields)


def out_of_memory(error: BaseException) -> bool:
    """Whether this is a way in which a backend says so: each has an exception of its own."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    told = str(error).lower()
    signs = (
        "out of memory",
        "bad_alloc",
        "failed to allocate",
        "cannot allocate",
        "cudaerrormemory",
    )
    return any(sign in told for sign in signs)
