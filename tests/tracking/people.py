"""People made by hand for the tests of the tracker: boxes that move, their mattes and codes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from matting.frames import UNTRACKED, Mattes

SIZE = (90, 160)  # (H, W) of the picture
GRID = (45, 80)  # of the coarse mattes
CODES = 16


@dataclass(frozen=True)
class Person:
    """Someone at a place, with a look of their own."""

    x: float  # left edge, pixels
    y: float = 20.0
    width: float = 20.0
    height: float = 60.0
    score: float = 0.95
    look: float = 0  # whose code; between two whole numbers, like both

    @property
    def box(self) -> tuple[float, float, float, float]:
        return self.x, self.y, self.x + self.width, self.y + self.height


def code(look: float) -> np.ndarray:
    """A code shared in part by everyone, as networks' codes are, and in part their own."""
    made, (part, whole) = np.ones(CODES), math.modf(look)
    made[int(whole) % CODES] += 6 * (1 - part)
    made[int(whole + 1) % CODES] += 6 * part
    return made


def picture(*people: Person, codes: bool = True, mattes: bool = True) -> Mattes:
    """The mattes of a frame with these people, nearer ones first: they hide those behind."""
    alpha = np.zeros((len(people), *SIZE), np.float32)
    hidden = np.zeros(SIZE, bool)
    rows, columns = np.arange(SIZE[0])[:, None] + 0.5, np.arange(SIZE[1]) + 0.5
    for matte, person in zip(alpha, people, strict=True):
        x0, y0, x1, y1 = person.box
        inside = (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)
        matte[inside & ~hidden] = 1
        hidden |= inside
    coarse = alpha.reshape(len(people), GRID[0], 2, GRID[1], 2).mean((2, 4))
    return Mattes(
        alpha=alpha,
        coarse=coarse if mattes else np.zeros((len(people), 1, 1), np.float32),
        score=np.array([person.score for person in people], np.float32),
        box=np.array([person.box for person in people], np.float32).reshape(-1, 4),
        code=np.array(
            [code(person.look) for person in people] if codes else np.zeros((len(people), 0)),
            np.float32,
        ).reshape(len(people), CODES if codes else 0),
        ids=np.full(len(people), UNTRACKED, np.int64),
    )
