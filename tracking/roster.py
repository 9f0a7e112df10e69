"""The people who have a name, kept in a JSON file from one run to the next.

    {"version": 1, "weights": "ab12…", "people": [{"name": "anna", "codes": [[…]]}],
     "pins": {"clip.mp4": [{"name": "anna", "seconds": 12.5, "point": [640, 360]}]}}

Codes mean something only to the network that made them, so the file says which weights these were.
Pins belong to one input, by its name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tracking.recognition import NEW_LOOK, PAGES
from tracking.tracker import Pin, Tracker

VERSION = 1


class RosterError(ValueError):
    """The file of names cannot be used; the message says why."""


@dataclass
class Roster:
    """Names, what their people look like to the network, and who was pointed at where."""

    weights: str  # by which the network is known again
    codes: dict[str, np.ndarray] = field(default_factory=dict)  # name -> (k, D)
    pins: dict[str, list[Pin]] = field(default_factory=dict)  # input -> pins

    @classmethod
    def read(cls, path: Path, weights: str) -> Roster:
        """The file at `path`, or an empty roster where there is none."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(weights)
        except (OSError, ValueError) as error:
            raise RosterError(f"{path} cannot be read ({error})") from None
        try:
            if told["version"] != VERSION:
                raise RosterError(f"{path} is of version {told['version']}, expected {VERSION}")
            if told["people"] and told["weights"] != weights:
                raise RosterError(
                    f"{path} was made with other weights, to which people look different; name "
                    "another file, and enrol them again with --enroll"
                )
            codes = {
                str(person["name"]): np.array(person["codes"], np.float64)
                for person in told["people"]
            }
            pins = {
                str(source): [
                    Pin(str(pin["name"]), float(pin["seconds"]), (float(x), float(y)))
                    for pin in some
                    for x, y in (pin["point"],)
                ]
                for source, some in told["pins"].items()
            }
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, RosterError):
                raise
            raise RosterError(f"{path} is not a file of names as this program writes it") from None
        for name, rows in codes.items():
            if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
                raise RosterError(f"{path}: the codes of {name} should be a table of numbers")
        return cls(weights, codes, pins)

    def save(self, path: Path) -> None:
        """Write the file, in one rename."""
        told = {
            "version": VERSION,
            "weights": self.weights,
            "people": [
                {"name": name, "codes": np.round(codes, 6).tolist()}
                for name, codes in sorted(self.codes.items())
            ],
            "pins": {
                source: [
                    {"name": pin.name, "seconds": pin.seconds, "point": list(pin.point)}
                    for pin in pins
                ]
                for source, pins in sorted(self.pins.items())
            },
        }
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(told) + "\n", encoding="utf-8")
        os.replace(partial, path)

    def brief(self, tracker: Tracker, source: str) -> None:
        """Tell a tracker everything about this input and everyone who may be in it."""
        for name, codes in self.codes.items():
            tracker.enrol(name, codes)
        tracker.pin(self.pins.get(source, ()))

    def learn(self, *seen: Mapping[str, np.ndarray]) -> None:
        """What trackers, each of its own video, know of the people with a name: name -> (k, D).

        Of someone whom several have seen, it is what all of them keep, as far as it is unlike.
        """
        for name in {name for one in seen for name in one}:
            told, before = [one[name] for one in seen if name in one], self.codes.get(name)
            new = [codes for codes in told if before is None or not np.array_equal(codes, before)]
            self.codes[name] = _together(new) if len(new) > 1 else (new or told)[0]


def _together(tables: Sequence[np.ndarray]) -> np.ndarray:
    """(k, D): codes of one person from tables of (k, D), their usual ones before the others."""
    usual, others = [table[:1] for table in tables], [table[1:] for table in tables]
    rows = np.concatenate(usual + others)
    looks = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    kept: list[int] = []
    for row, look in enumerate(looks):
        if len(kept) <= PAGES and (not kept or (looks[kept] @ look).max() < NEW_LOOK):
            kept.append(row)
    return rows[kept]
