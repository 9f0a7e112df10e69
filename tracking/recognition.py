"""Whose code is this?  How far latent codes can be trusted, and the people we have lost sight of.

A code says little by itself: how alike two codes of one person are, and two codes of different
people, depends on the network and on who is in the picture.  So both are measured while it is
clear who is who, and a cosine is read as *agreement*: 0 where it is what strangers have in common,
1 where it is what a person has in common with themself.  *Trust* says how far apart the two are; at
0 codes decide nothing.

Codes are (D,) float64 of length 1.  The mean code of everyone known is taken off before comparing,
because codes share a large common part.  Where few people are known, that mean is mostly
themselves: taking it off would push them apart, and make any stranger look like one of them.  So
the mean is drawn towards zero by `UNKNOWN` people, which matters less the more are known.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tracking.similarity import code_cosine, unit

PRIOR_FADES = 24  # observations after which the priors below count no more
MEMORY = 400  # observations after which older ones fade
SAME_PRIOR = (0.8, 0.02)  # mean and variance of the cosine with oneself, before any was seen
OTHER_PRIOR = (0.2, 0.04)  # and with someone else
UNKNOWN = 8  # people with a code of zeros that the common code reckons with
PAGES = 4  # codes of a person that are kept beside their usual one
NEW_LOOK = 0.8  # cosine with those kept below which a code shows something new
LEARNING_RATE = 0.1  # how fast a person's code follows what is seen


class Agreement:
    """Learns what cosines mean, and translates them."""

    def __init__(self) -> None:
        self._same = _Spread(*SAME_PRIOR)
        self._other = _Spread(*OTHER_PRIOR)

    @property
    def trust(self) -> float:
        """0 where the cosines of the same and of other people overlap, 1 where they lie apart."""
        spread = np.sqrt((self._same.variance + self._other.variance) / 2)
        apart = (self._same.mean - self._other.mean) / max(spread, 1e-6)
        return float(np.clip(apart - 1, 0, 1))  # from one to two standard deviations

    def of(self, cosine: np.ndarray) -> np.ndarray:
        """0 like a stranger, 1 like the same person; the shape of `cosine`."""
        apart = max(self._same.mean - self._other.mean, 1e-6)
        return np.clip((cosine - self._other.mean) / apart, 0.0, 1.0)

    def state(self) -> list[float]:
        return [*self._same.state(), *self._other.state()]

    def restore(self, state: list[float]) -> None:
        self._same.restore(state[:3])
        self._other.restore(state[3:])

    def learn(self, same: np.ndarray, other: np.ndarray) -> None:
        self._same.add(same)
        self._other.add(other)


class Album:
    """A few codes of everyone in view, as unlike each other as they come: from the front, from
    behind, sitting.  Whoever comes back is compared with each of them."""

    def __init__(self) -> None:
        self._pages: dict[int, np.ndarray] = {}  # id -> (k, D), length 1

    def consider(self, identity: int, code: np.ndarray) -> None:
        """Keep this code (D,) of length 1 where it shows something new, and there is room."""
        pages = self._pages.get(identity)
        if pages is None:
            self._pages[identity] = code[None].copy()
        elif len(pages) < PAGES and (pages @ code).max() < NEW_LOOK:
            self._pages[identity] = np.concatenate([pages, code[None]])

    def open(self, identity: int, code: np.ndarray) -> np.ndarray:
        """(k, D): what is kept of this person, with their usual code (D,) first."""
        pages = self._pages.get(identity)
        return code[None] if pages is None else np.concatenate([code[None], pages])

    def close(self, identity: int) -> None:
        self._pages.pop(identity, None)

    def give(self, identity: int, codes: np.ndarray) -> None:
        """Begin with codes (k, D) kept elsewhere."""
        self._pages[identity] = codes[:PAGES].copy()

    def people(self) -> Iterable[tuple[int, np.ndarray]]:
        return self._pages.items()


class Gallery:
    """Codes of people who have been away too long to be found by motion, oldest first.

    A person may have several codes; `kept` people are never forgotten.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._ids: list[int] = []
        self._codes: list[np.ndarray] = []  # (k, D)
        self._left: list[float] = []  # seconds
        self._mains: np.ndarray | None = None  # stacked once, and again when somebody comes or goes
        self.kept: set[int] = set()

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> np.ndarray:
        return np.array(self._ids, np.int64)

    def people(self) -> Iterable[tuple[int, np.ndarray]]:
        """Everyone with their codes (k, D)."""
        return zip(self._ids, self._codes, strict=True)

    def left(self) -> list[tuple[int, float]]:
        """Everyone with the time they were last seen, seconds."""
        return list(zip(self._ids, self._left, strict=True))

    def mains(self, width: int) -> np.ndarray:
        """(people, D) each one's usual code."""
        if self._mains is None:
            self._mains = np.array([c[0] for c in self._codes]).reshape(len(self._codes), width)
        return self._mains

    def add(self, identity: int, codes: np.ndarray, left: float) -> None:
        """codes (k, D), the usual one first."""
        self._ids.append(identity)
        self._codes.append(np.atleast_2d(codes))
        self._left.append(left)
        self._mains = None
        if len(self._ids) > self._capacity:
            oldest = [i for i, number in enumerate(self._ids) if number not in self.kept]
            if oldest:
                self._drop(oldest[0])

    def take(self, identity: int) -> np.ndarray:
        """Remove this person, and return their codes (k, D)."""
        index = self._ids.index(identity)
        codes = self._codes[index]
        self._drop(index)
        return codes

    def forget_before(self, seconds: float) -> None:
        for index in reversed(range(len(self._ids))):
            if self._left[index] < seconds and self._ids[index] not in self.kept:
                self._drop(index)

    def _drop(self, index: int) -> None:
        del self._ids[index], self._codes[index], self._left[index]
        self._mains = None


def common_code(known: np.ndarray) -> np.ndarray:
    """(D,) the part all codes (n, D) share; see the head of this file for the unknown."""
    return known.sum(0) / (len(known) + UNKNOWN)


def cosines(known: np.ndarray, seen: np.ndarray, everyone: np.ndarray) -> np.ndarray:
    """(n, m) cosines of known and seen people, less what `everyone` has in common."""
    return code_cosine(known, seen, common_code(everyone))


def blended(old: np.ndarray, new: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Codes (n, D) moved from `old` towards `new` by `rate` (n,)."""
    return unit(old + rate[:, None] * (new - old))


class _Spread:
    """Running mean and variance that slowly forgets; the prior has faded after a few values."""

    def __init__(self, mean: float, variance: float) -> None:
        self._prior = mean, variance
        self._count = 0
        self._mean = self._variance = 0.0

    @property
    def mean(self) -> float:
        return self._prior[0] + self._faded * (self._mean - self._prior[0])

    @property
    def variance(self) -> float:
        return self._prior[1] + self._faded * (self._variance - self._prior[1])

    @property
    def _faded(self) -> float:
        return min(self._count / PRIOR_FADES, 1.0)

    def state(self) -> list[float]:
        return [float(self._count), self._mean, self._variance]

    def restore(self, state: list[float]) -> None:
        self._count, self._mean, self._variance = int(state[0]), state[1], state[2]

    def add(self, values: np.ndarray) -> None:
        for value in values.tolist():
            self._count += 1
            rate = 1 / min(self._count, MEMORY)
            step = value - self._mean
            self._mean += rate * step
            self._variance += rate * ((1 - rate) * step**2 - self._variance)
