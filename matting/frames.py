"""The nouns every room shares: one decoded picture, and the people matted out of it.

Shapes: N people, H x W pixels of the picture as it is displayed (rotation applied).
Colour is RGB, full range, gamma-encoded, uint8, channels last.  Alpha and score lie in [0, 1].
Time is `pts` ticks of `time_base` seconds, carried untouched from decode to encode.
Arrays are NumPy; nothing here moves or converts one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

UNTRACKED = -1  # the id of a person the tracker has not named yet


@dataclass(frozen=True, slots=True, eq=False)  # eq: comparing arrays is never what == means
class Frame:
    """One picture and the moment it belongs to."""

    rgb: np.ndarray  # (H, W, 3) uint8
    pts: int  # presentation time, in ticks
    time_base: Fraction  # seconds per tick

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8:
            raise ValueError(
                f"rgb should be (H, W, 3) uint8, got {self.rgb.shape} {self.rgb.dtype}"
            )

    @property
    def seconds(self) -> float:
        return float(self.pts * self.time_base)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One person of one frame: a row of `Mattes`, for drawing and for tests."""

    alpha: np.ndarray  # (H, W) float32
    score: float
    box: np.ndarray  # (4,) float32
    id: int


@dataclass(frozen=True, slots=True, eq=False)
class Mattes:
    """Everyone found in one frame: row i of every field is the same person.

    The alphas of one frame never sum to more than 1 at a pixel: a pixel is shared, not owned twice.
    """

    alpha: np.ndarray  # (N, H, W) float32, 0 = background, 1 = fully this person
    coarse: np.ndarray  # (N, h, w) float32, the same mattes at about 1/8 of the network's input
    score: np.ndarray  # (N,) float32, how sure the network is that this is a person
    box: np.ndarray  # (N, 4) float32, x0 y0 x1 y1 in pixels of the frame, around alpha > 0.5
    code: np.ndarray  # (N, D) float32, the latent code: what the network knows of this person
    ids: np.ndarray  # (N,) int64, stable over time, or UNTRACKED

    def __post_init__(self) -> None:
        people = self.alpha.shape[0]
        wanted = {
            "alpha": (people, *self.alpha.shape[1:3]),
            "coarse": (people, *self.coarse.shape[1:3]),
            "score": (people,),
            "box": (people, 4),
            "code": (people, *self.code.shape[1:2]),
            "ids": (people,),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} should be {shape}, got {getattr(self, name).shape}")

    def __len__(self) -> int:
        return self.alpha.shape[0]

    def __iter__(self) -> Iterator[Instance]:
        for i in range(len(self)):
            yield Instance(self.alpha[i], float(self.score[i]), self.box[i], int(self.ids[i]))

    def pick(self, rows: np.ndarray | list[int]) -> Mattes:
        """The people of these rows, in this order."""
        rows = np.asarray(rows, dtype=np.int64)
        return Mattes(
            self.alpha[rows], self.coarse[rows], self.score[rows],
            self.box[rows], self.code[rows], self.ids[rows],
        )  # fmt: skip

    def named(self, ids: np.ndarray) -> Mattes:
        """The same people under these ids."""
        return replace(self, ids=np.asarray(ids, dtype=np.int64))


def no_one(size: tuple[int, int], coarse: tuple[int, int] = (1, 1), code: int = 0) -> Mattes:
    """The mattes of an empty picture of `size` (H, W)."""
    return Mattes(
        alpha=np.zeros((0, *size), np.float32),
        coarse=np.zeros((0, *coarse), np.float32),
        score=np.zeros(0, np.float32),
        box=np.zeros((0, 4), np.float32),
        code=np.zeros((0, code), np.float32),
        ids=np.zeros(0, np.int64),
    )
