"""The nouns every room shares: one decoded picture, and the people matted out of it.

Shapes: N people, H x W pixels of the picture as it is displayed (rotation applied).
Colour is RGB, full range, gamma-encoded, uint8, channels last.  Alpha and score lie in [0, 1].
Time is `pts` ticks of `time_base` seconds, carried untouched from decode to encode.
Arrays are NumPy; nothing here moves or converts one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

MOST_ASPECT = 16  # times its shorter side that a picture may be long
UNTRACKED = -1  # the id of a person the tracker has not named yet


@dataclass(frozen=True, slots=True, eq=False)  # eq: comparing arrays is never what == means
class Frame:
    """One picture and the moment it belongs to."""

    rgb: np.ndarray  # (H, W, 3) uint8
    pts: int  # presentation time, in ticks
    time_base: Fraction  # seconds per tick
    # The same picture with all its depth, (H, W, 3) uint16 full-range RGB in the source's own
    # colours (which may be HDR), where that was asked for and `rgb` holds less.
    deep: np.ndarray | None = None

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


class Alphas(Protocol):
    """Where mattes come from: they may be drawn as late as somebody looks at them.

    Whatever is drawn is kept, so that looking twice costs nothing.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W); known before anything is drawn."""

    def pick(self, rows: np.ndarray) -> Alphas:
        """The mattes of these rows: the same as among the others, drawn or not."""

    def alpha(self) -> np.ndarray:
        """(N, H, W) float32, 0 = background, 1 = fully this person."""

    def codes(self) -> np.ndarray:
        """(N, H, W) uint8: alpha times 255, rounded."""

    def finite(self) -> bool:
        """Whether every alpha is, or will be, a number."""


class _Given:
    """Alphas that are there already, float32 or uint8 codes; the other is made of them once."""

    def __init__(self, given: np.ndarray) -> None:
        coded = given.dtype == np.uint8
        self._given = given
        self._alpha: np.ndarray | None = None if coded else given
        self._codes: np.ndarray | None = given if coded else None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._given.shape

    def pick(self, rows: np.ndarray) -> _Given:
        return _Given(self._given[rows])

    def alpha(self) -> np.ndarray:
        if self._alpha is None:
            self._alpha = self._given * np.float32(1 / 255)
        return self._alpha

    def codes(self) -> np.ndarray:
        if self._codes is None:
            self._codes = np.rint(self._given * np.float32(255)).astype(np.uint8)
        return self._codes

    def finite(self) -> bool:
        # alphas are small, so their sum is a number exactly if they are: one pass without a copy
        return self._codes is self._given or bool(
            np.isfinite(self._given.sum(dtype=self._given.dtype))
        )


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Mattes:
    """Everyone found in one frame: row i of every field is the same person.

    The alphas of one frame never sum to more than 1 at a pixel: a pixel is shared, not owned twice.
    They may be drawn only when `alpha` or `codes` is first asked for, on the thread that asks:
    who needs neither (a tracker), or not everyone's (`pick` first), saves the work.  They are made
    of `alpha` (N, H, W) float32 in 0..1, of codes (N, H, W) uint8, or of what draws them.
    """

    drawn: Alphas
    coarse: np.ndarray  # (N, h, w) float32, the same mattes at about 1/8 of the network's input
    score: np.ndarray  # (N,) float32, how sure the network is that this is a person
    box: np.ndarray  # (N, 4) float32, x0 y0 x1 y1 in pixels of the frame, around alpha > 0.5
    code: np.ndarray  # (N, D) float32, the latent code: what the network knows of this person
    ids: np.ndarray  # (N,) int64, stable over time, or UNTRACKED

    def __init__(
        self, alpha: np.ndarray | Alphas, coarse: np.ndarray, score: np.ndarray,
        box: np.ndarray, code: np.ndarray, ids: np.ndarray,
    ) -> None:  # fmt: skip
        people, shape = alpha.shape[0], alpha.shape
        for name, found, wanted in (
            ("alpha", shape, (people, *shape[1:3])),
            ("coarse", coarse.shape, (people, *coarse.shape[1:3])),
            ("score", score.shape, (people,)),
            ("box", box.shape, (people, 4)),
            ("code", code.shape, (people, *code.shape[1:2])),
            ("ids", ids.shape, (people,)),
        ):
            if found != wanted:
                raise ValueError(f"{name} should be {wanted}, got {found}")
        drawn = _Given(alpha) if isinstance(alpha, np.ndarray) else alpha
        values = {"drawn": drawn, "coarse": coarse, "score": score, "box": box, "code": code}
        for name, value in (values | {"ids": ids}).items():
            object.__setattr__(self, name, value)  # frozen, from here on

    @property
    def alpha(self) -> np.ndarray:
        """(N, H, W) float32, 0 = background, 1 = fully this person."""
        return self.drawn.alpha()

    @property
    def codes(self) -> np.ndarray:
        """(N, H, W) uint8, alpha times 255, rounded: what is composed and saved.  Costs less."""
        return self.drawn.codes()

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the frame in pixels."""
        return self.drawn.shape[1], self.drawn.shape[2]

    def __len__(self) -> int:
        return self.drawn.shape[0]

    def __iter__(self) -> Iterator[Instance]:
        for i in range(len(self)):
            yield Instance(self, i)

    def pick(self, rows: np.ndarray | list[int]) -> Mattes:
        """The people of these rows, in this order."""
        rows = np.asarray(rows, dtype=np.int64)
        return Mattes(
            self.drawn.pick(rows), self.coarse[rows], self.score[rows],
            self.box[rows], self.code[rows], self.ids[rows],
        )  # fmt: skip

    def with_alpha(self, alpha: np.ndarray) -> Mattes:
        """The same people with these mattes (N, H, W), float32 or codes."""
        return Mattes(alpha, self.coarse, self.score, self.box, self.code, self.ids)

    def named(self, ids: np.ndarray) -> Mattes:
        """The same people under these ids."""
        ids = np.asarray(ids, dtype=np.int64)
        return Mattes(self.drawn, self.coarse, self.score, self.box, self.code, ids)


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One person of one frame: a row of `Mattes`, for drawing and for tests."""

    mattes: Mattes
    row: int

    @property
    def alpha(self) -> np.ndarray:
        """(H, W) float32."""
        return self.mattes.alpha[self.row]

    @property
    def codes(self) -> np.ndarray:
        """(H, W) uint8."""
        return self.mattes.codes[self.row]

    @property
    def score(self) -> float:
        return float(self.mattes.score[self.row])

    @property
    def box(self) -> np.ndarray:
        """(4,) float32."""
        return self.mattes.box[self.row]

    @property
    def id(self) -> int:
        return int(self.mattes.ids[self.row])


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
