"""The contract between the network and the program: what an engine promises, for every backend.

An engine turns one picture into the mattes of everyone in it.  Loading does all the slow work
(reading, compiling, allocating, warming up); after that, a step costs the same whoever is in view.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from matting.frames import Mattes

State = Any  # an engine's memory of one video; opaque to everyone else


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
