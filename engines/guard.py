"""Around any engine: what a network can do wrong costs a frame or ends the run, never a picture.

Numbers that are not finite must not reach a file, and must not stay in the network's memory: the
mattes of the frame before stand in for such a frame, it is told, and the memory is the one from
before.  Memory that has run out is given back and the frame tried once more; then the run ends.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.base import Engine, EngineError, NotFinite, State
from matting.frames import Mattes, no_one

MOST_IN_A_ROW = 25  # frames without an answer: a second of them is not a slip of the network


@dataclass
class _Guarded:
    """The state of one video: the engine's own, and what can stand in for a frame."""

    own: State
    last: Mattes | None = None  # of the last good frame; None before there was one
    frame: int = 0  # how many have been asked for
    failed_in_a_row: int = 0


class GuardedEngine:
    """The same engine, with the promises above.  `tell` takes a sentence for each frame that was
    lost, and `note` what was worked round."""

    def __init__(
        self, engine: Engine, tell: Callable[[str], None], note: Callable[[str], None]
    ) -> None:
        self._engine, self._tell, self._note = engine, tell, note
        self.name = engine.name

    def start(self) -> State:
        return _Guarded(self._engine.start())

    def step(self, rgb: np.ndarray, state: Any) -> tuple[Mattes, State]:
        frame, last = state.frame, state.last
        try:
            mattes, own = self._roomy(rgb, state.own)
            if not finite(mattes):
                raise NotFinite(f"{self.name}: mattes with numbers that are not finite")
        except NotFinite as error:
            if state.failed_in_a_row + 1 >= MOST_IN_A_ROW:
                raise EngineError(
                    f"{error}, {MOST_IN_A_ROW} frames in a row: try another engine with --engine"
                ) from None
            self._tell(f"frame {frame}: {error}; the mattes of the frame before stand in")
            if last is None or last.size != rgb.shape[:2]:
                last = no_one(rgb.shape[:2])
            # `own` as it was: what such a step leaves in a network's memory is not finite either
            return _copied(last), _Guarded(state.own, last, frame + 1, state.failed_in_a_row + 1)
        return mattes, _Guarded(own, mattes, frame + 1)

    def _roomy(self, rgb: np.ndarray, own: State) -> tuple[Mattes, State]:
        """A step; once more after giving memory back, where there was not enough."""
        try:
            return self._engine.step(rgb, own)
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
            return self._engine.step(rgb, own)
        except Exception as error:
            if not out_of_memory(error):
                raise
            height, width = rgb.shape[:2]
            raise EngineError(
                f"{self.name} is out of memory for a picture of {width} x {height}: close other "
                "programs, scale the video down, or choose another engine with --engine"
            ) from error

    def close(self) -> None:
        self._engine.close()


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
