"""Mattes drawn late and in parts are those drawn at once and whole."""

import cv2
import numpy as np
import pytest

from engines import drawing
from engines.drawing import Drawing, Source
from engines.people import share_out
from matting.frames import Mattes

SIZES = [(90, 160), (61, 200), (33, 47), (10, 7), (1, 1)]


def scene(size, people=5, seed=0, grid=(18, 32)):
    """People at places of their own that overlap; colours with everything from black to white."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    coefficient = rng.normal(0, 0.02, (people, 4, *grid)).astype(np.float32)
    y, x = np.indices(grid, dtype=np.float32)
    location = np.zeros((people, *grid), np.float32)
    for i in range(people):
        away = np.hypot((y - 9) / 7, (x - 4 - 6 * i) / 6)
        coefficient[i, 3] += 40 * (1 - away)
        location[i] = 1 / (1 + np.exp(8 * (away - 1)))
    alike = np.arange(people) < 3
    return Source(rgb, coefficient, location, alike)


def whole(source: Source) -> np.ndarray:
    """The definition, without tiles."""
    rgb, coefficient, location, alike = source
    wide = [cv2.resize(c.transpose(1, 2, 0), rgb.shape[1::-1]) for c in coefficient]
    z = [(w.reshape(*rgb.shape[:2], 4)[..., :3] * rgb).sum(2) + w.reshape(*rgb.shape[:2], 4)[..., 3]
         for w in wide]  # fmt: skip
    alpha = np.clip(1.02 / (1 + np.exp(-np.clip(np.float32(z), -80, 80))) - 0.01, 0, 1)
    place = np.stack([cv2.resize(m, rgb.shape[1::-1]).reshape(rgb.shape[:2]) for m in location])
    share_out(alpha, alike, place)
    return alpha


@pytest.mark.parametrize("size", SIZES)
def test_tiles_make_the_picture_that_is_made_without_them(size):
    source = scene(size)
    drawn = Drawing(source)

    expected = whole(source)

    assert drawn.alpha().shape == drawn.shape == expected.shape
    assert np.abs(drawn.alpha() - expected).max() < 2e-3
    assert np.array_equal(drawn.codes(), np.rint(drawn.alpha() * np.float32(255)).astype(np.uint8))
    assert drawn.alpha().sum(0).max() <= 1 + 1e-5


@pytest.mark.parametrize("rows", [[0], [3], [4, 1], [2, 0, 4], []])
def test_people_who_are_picked_have_the_mattes_they_have_among_everyone(rows):
    everyone = Drawing(scene((90, 160))).alpha()

    picked = Drawing(scene((90, 160))).pick(np.array(rows, int))

    assert np.array_equal(picked.alpha(), everyone[rows])
    assert picked.codes().shape == picked.shape  # also where nobody is left
    assert np.array_equal(picked.pick(np.arange(len(rows))[::-1]).alpha(), everyone[rows[::-1]])


def test_what_is_settled_costs_nothing_and_who_is_dropped_is_not_drawn(monkeypatch):
    drawn = []
    real = drawing._logistic
    monkeypatch.setattr(
        drawing, "_logistic", lambda maps, *rest, **named: (drawn.append(len(maps)),
                                                           real(maps, *rest, **named)),
    )  # fmt: skip
    source = scene((320, 640))

    Drawing(source).codes()
    everyone = sum(drawn)
    drawn.clear()
    Drawing(source).pick(np.array([0])).codes()

    tiles = 20 * 40
    assert everyone < 5 * tiles / 2
    assert sum(drawn) < everyone / 2


def test_mattes_are_drawn_once_however_often_they_are_looked_at(monkeypatch):
    drawn = []
    real = drawing._draw
    monkeypatch.setattr(drawing, "_draw", lambda *given: drawn.append(1) or real(*given))
    few = np.zeros(5, np.float32)
    mattes = Mattes(
        Drawing(scene((90, 160))), np.zeros((5, 2, 3), np.float32), few,
        np.zeros((5, 4), np.float32), np.zeros((5, 2), np.float32), np.full(5, -1),
    )  # fmt: skip

    named = mattes.named(np.arange(5))
    assert mattes.size == (90, 160) and len(mattes) == 5 and not drawn
    for person in [*mattes, *named]:
        assert np.array_equal(person.codes, np.rint(person.alpha * 255))

    assert len(drawn) == 1
