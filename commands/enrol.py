"""People get their names before a run: from a picture of them, or from a frame and a point in it.

`--enroll anna=anna.jpg` shows the network a picture; the person who fills most of it is Anna.
`--enroll anna=12.5@640,360` points at a person of the input itself: whoever is at x 640, y 360 of
the first frame from 12.5 seconds on.  That is also a *pin*: there the tracker does not doubt it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import ConfigError
from stream.decode import InputError, open_source
from stream.identities import IdentityError, checked_name
from stream.stages import matte_each
from tracking import Pin, Tracker
from tracking.roster import Roster, RosterError

if TYPE_CHECKING:
    from engines.base import Engine

POINT = re.compile(r"(\d+(?:\.\d+)?)@(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)$")


def roster_of(path: str | None, weights: Path) -> Roster:
    """The names kept at `path`, made with these weights; an empty roster where there are none."""
    known_by = _digest(weights)
    try:
        return Roster.read(Path(path), known_by) if path else Roster(known_by)
    except RosterError as error:
        raise ConfigError(str(error)) from None


def enrol(
    roster: Roster, wanted: Mapping[str, str], uri: str, engine: Engine, **opening: Any
) -> None:
    """Add these people to the roster: name -> picture, or seconds@x,y in the input `uri`."""
    for name, how in wanted.items():
        try:
            checked_name(name)
        except IdentityError as error:
            raise ConfigError(f"--enroll {name}={how}: {error}") from None
        if pointed := POINT.match(how):
            seconds, x, y = map(float, pointed.groups())
            roster.codes[name] = _pointed_at(uri, seconds, (x, y), engine, **opening)
            pins = [pin for pin in roster.pins.get(Path(uri).name, []) if pin.name != name]
            roster.pins[Path(uri).name] = [*pins, Pin(name, seconds, (x, y))]
        else:
            roster.codes[name] = _pictured(how, engine)


class SharedNames:
    """Who has a name, for many live sources: each has a tracker of its own, all know everyone."""

    def __init__(
        self, path: str | None, weights: Path, wanted: Mapping[str, str], engine: Engine
    ) -> None:
        """`path` is the roster's, if it is kept, and `wanted` is name -> picture.

        Raises ConfigError where somebody is pointed at in an input: there is not one.
        """
        for name, how in wanted.items():
            if POINT.match(how):
                raise ConfigError(
                    f"--enroll {name}={how} points at a moment of one file, and here there is "
                    f"none; give a picture: --enroll {name}=PICTURE"
                )
        self._path = path
        self._roster = roster_of(path, weights)
        enrol(self._roster, wanted, "", engine)
        self._trackers: dict[str, Tracker] = {}  # by source

    def brief(self, tracker: Tracker, source: str) -> Tracker:
        """Tell a source's new tracker who has a name."""
        if source in self._trackers:  # it was taken away, and comes again
            self._roster.learn(self._trackers[source].known_codes())
        self._roster.brief(tracker, source)
        self._trackers[source] = tracker
        return tracker

    def finish(self) -> None:
        """What all of them have seen goes into the roster.  Called when all have ended."""
        self._roster.learn(*(tracker.known_codes() for tracker in self._trackers.values()))
        if self._path is not None:
            self._roster.save(Path(self._path))


def _pictured(path: str, engine: Engine) -> np.ndarray:
    """(1, D) code of the person who fills most of a picture."""
    with open_source(path) as source, closing(source.frames()) as frames:
        frame = next(iter(frames))
    # looked at once, as frames are: codes are compared with those of a video
    ((_, mattes),) = matte_each([frame], engine, closer=False)
    if not len(mattes):
        raise InputError(f"{path}: nobody is found in this picture; choose a clearer one")
    largest = int(np.argmax(mattes.alpha.sum((1, 2))))
    return mattes.code[largest : largest + 1].astype(np.float64)


def _pointed_at(
    uri: str, seconds: float, point: tuple[float, float], engine: Engine, **opening: Any
) -> np.ndarray:
    x, y = point
    with open_source(uri, **opening) as source, closing(source.frames()) as frames:
        if source.kind != "video":
            raise ConfigError(f"--enroll …={seconds:g}@{x:g},{y:g}: {uri} is not a video")
        height, width = source.size
        if not (0 <= x < width and 0 <= y < height):
            raise ConfigError(f"the point {x:g},{y:g} is outside the picture, {width} x {height}")
        frame = next((frame for frame in frames if frame.seconds >= seconds - 1e-6), None)
    if frame is None:
        raise ConfigError(f"{uri} ends before {seconds:g} s, where someone is pointed at")
    mattes, _ = engine.step(frame.rgb, engine.start())
    there = mattes.alpha[:, int(y), int(x)]
    if not len(mattes) or there.max() < 0.5:
        raise InputError(f"{uri}: nobody is found at {x:g},{y:g} of {frame.seconds:.2f} s")
    row = int(np.argmax(there))
    return mattes.code[row : row + 1].astype(np.float64)


def _digest(weights: Path) -> str:
    """By which weights are known again: of the safetensors, which the exported graph is made of."""
    for file in (weights / "live.safetensors", weights.with_suffix(".safetensors"), weights):
        if file.is_file():
            return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return "none"
