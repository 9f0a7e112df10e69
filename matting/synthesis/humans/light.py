"""Light around a person: second-order spherical harmonics for the surroundings, and one lamp.

Irradiance is scaled so that a white surface facing an average direction sends back about 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

DIRECTIONS = 14  # in which a vertex looks for the surroundings


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    harmonics: np.ndarray  # (9, 3) float32: radiance of the surroundings
    key: np.ndarray  # (3,) float32 unit vector towards the lamp
    key_colour: np.ndarray  # (3,) float32

    def radiance(self, directions: np.ndarray) -> np.ndarray:
        """(N, 3) of the surroundings in these (N, 3) directions, never below a faint glow."""
        glow = 0.15 * self.harmonics[0] * BASIS_0
        return np.maximum(basis(directions) @ self.harmonics, glow).astype(np.float32)


BASIS_0 = 0.282095


def basis(d: np.ndarray) -> np.ndarray:
    """(N, 9): the real spherical harmonics up to order 2 in (N, 3) unit directions.

    Ramamoorthi and Hanrahan 2001, equation 3.
    """
    x, y, z = d[:, 0], d[:, 1], d[:, 2]
    return np.stack(
        [
            np.full_like(x, BASIS_0), 0.488603 * y, 0.488603 * z, 0.488603 * x,
            1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1),
            1.092548 * x * z, 0.546274 * (x * x - y * y),
        ],
        axis=1,
    )  # fmt: skip


def sphere(count: int) -> np.ndarray:
    """(count, 3) unit directions, evenly spread (a Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    y = 1 - 2 * k / count
    angle = np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - y * y)
    return np.stack([flat * np.cos(angle), y, flat * np.sin(angle)], 1).astype(np.float32)


def project(directions: np.ndarray, radiance: np.ndarray) -> np.ndarray:
    """(9, 3) harmonics of radiance (N, 3) known in evenly spread directions."""
    return (basis(directions).T @ radiance * (4 * np.pi / len(directions))).astype(np.float32)


def _tint(rng: np.random.Generator, spread: float) -> np.ndarray:
    """(3,) colour of a lamp or sky, from warm to cold, green and magenta a little."""
    warm = rng.normal(0, spread)
    return np.exp([warm, rng.normal(0, spread / 4), -warm]).astype(np.float32)


def random_light(rng: np.random.Generator, picture: np.ndarray | None = None) -> Light:
    """Rooms, overcast days, evenings and stages; with a `picture` (H, W, 3) uint8, its light."""
    around = sphere(400)
    if picture is not None:
        radiance = seen_around(picture, around)
    else:
        up = around[:, 1:2]
        sky, ground = rng.uniform(0.4, 1.2), rng.uniform(0.1, 0.6)
        radiance = np.where(up > 0, sky, ground) * (0.8 + 0.4 * np.abs(up)) * _tint(rng, 0.08)
        for _ in range(rng.integers(1, 4)):  # windows, walls, screens
            where = rng.normal(0, 1, 3)
            where /= np.linalg.norm(where)
            wide = rng.uniform(1.5, 6)
            lobe = np.exp(wide * (around @ where - 1))[:, None]
            radiance = radiance + rng.uniform(0.3, 3.0) * lobe * _tint(rng, 0.2)
    radiance = np.float32(radiance / radiance.mean())
    azimuth = rng.normal(0, 1.1)  # mostly from the front, as people place themselves
    height = rng.uniform(0.1, 1.25)
    key = np.float32(
        [np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)]
    )
    share = rng.beta(1.6, 1.6)  # of the lamp in all light
    bright = rng.uniform(0.5, 1.0)
    return Light(
        project(around, radiance * np.float32((1 - share) * bright * 0.9)),
        key, np.float32(share * bright * 1.25 * _tint(rng, 0.1)),
    )  # fmt: skip


def seen_around(picture: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(N, 3) linear radiance: the picture bent half around the person, mirrored behind."""
    small = cv2.resize(picture, (32, 16), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    small = small**2.2
    azimuth = np.arctan2(directions[:, 0], -directions[:, 2])  # the picture lies behind, at -z
    column = np.clip((1 - np.abs(np.abs(azimuth / np.pi) * 2 - 1)) * 16, 0, 15)
    column = np.where(azimuth > 0, 16 + column, 15 - column).astype(int)
    row = np.clip((0.5 - np.arcsin(np.clip(directions[:, 1], -1, 1)) / np.pi) * 16, 0, 15)
    return small[row.astype(int), column] + 0.05


def frame_of(direction: np.ndarray) -> np.ndarray:
    """(3, 3) rotation whose rows are right, up and `direction`."""
    helper = np.float32([0, 1, 0]) if abs(direction[1]) < 0.95 else np.float32([1, 0, 0])
    right = np.cross(helper, direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction]).astype(np.float32)
