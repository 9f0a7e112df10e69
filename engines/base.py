"""The contract between the network and the program: what an engine promises, for every backend.

An engine turns one picture into the mattes of everyone in it.  Loading does all the slow work
(reading, compiling, allocating, warming up); after that, a step costs the same whoever is in view.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from matting.frames import Mattes

AREA = 288 * 512  # pixels of the picture the network works on, whatever its shape

LAG = 2  # pictures after which it is given what the network remembers: so many may be under way

State = Any  # an engine's memory of one video; opaque to everyone else


def due(state: tuple[Any, ...] | None) -> Any:
    """What the next picture of a video is told, of what the latest `LAG` left; None at first."""
    return state[0] if state and len(state) == LAG else None


def passed_on(state: tuple[Any, ...] | None, left: Any) -> tuple[Any, ...]:
    """The state after a picture that `left` something for the one `LAG` later."""
    return (*(state or ()), left)[-LAG:]


class EngineError(RuntimeError):
    """The engine asked for cannot run here, or failed; the message names it, and the cure."""


class PictureError(ValueError):
    """This picture cannot be matted, whatever runs the network; the message says what it is."""


class NotFinite(EngineError):
    """The network answered one picture with numbers that are not finite; the next may be well."""


class Engine(Protocol):
    """Runs the matting network on one picture at a time.

    * Loading does all the slow work: no compile or download happens afterwards.  The first picture
      of a new size may compile once more, because static shapes are faster.
    * `step` takes (H, W, 3) uint8 RGB of any size, refuses anything else with ValueError before
      running, and returns mattes at the picture's own size with `ids` all UNTRACKED.
    * People come in falling order of score, all of them above the engine's score threshold; where
      no one is in view, N = 0.
    * The arrays returned are the caller's: a later step does not overwrite them.
    * `state` is passed in and out; one state belongs to one video.  Steps of several videos may
      interleave on one engine, each with its own state.
    """

    name: str  # the backend, as the configuration spells it

    def start(self) -> State: ...

    def step(self, rgb: np.ndarray, state: State) -> tuple[Mattes, State]: ...

    def close(self) -> None: ...


class Patient(Engine, Protocol):
    """An engine that does better than `step` for a picture that belongs to no video, in a few times
    its time."""

    def still(self, rgb: np.ndarray, closer: bool = True) -> Mattes:
        """The mattes of one photograph; not `closer`: as `step` has them.  Takes and refuses what
        `step` does, and sizes that were not met before cost nothing more."""


class Pending(Protocol):
    """The mattes of a picture that is under way."""

    def result(self) -> Mattes:
        """The mattes, waiting for them; the caller's, as those of `step`.  Raises what went wrong
        with this picture, here and not where it was submitted."""


class Overlapping(Engine, Protocol):
    """An engine that works on several pictures at once: more of them are done in all, and each is
    done later than by `step`.

    * `submit` puts a picture under way and returns without waiting for it.  It refuses what `step`
      refuses, before anything is enqueued, and may be given the state it returned at once.
    * `in_flight` pictures are under way at most: one more waits for the oldest, whose mattes are
      kept for whoever holds its `Pending`.
    * Results do not depend on how many pictures are under way, bit for bit.
    * What is remembered stays finite: a picture that is answered with numbers that are not finite
      leaves the memory as it was, because the next may be under way already.
    """

    in_flight: int

    def submit(self, rgb: np.ndarray, state: State) -> tuple[Pending, State]: ...
