"""Where everyone should be by now: constant-velocity Kalman filters over boxes, in seconds.

All people are filtered at once.  Each of centre x, centre y, width and height has a filter of its
own with two states, value and velocity, so a covariance is three numbers and no matrix is ever
inverted.  Shapes: n people; every array is (n, 4) float64 in the order cx, cy, w, h.  Values are in
pixels, velocities in pixels per second, and noise grows with elapsed time, so uneven frame times
need no care elsewhere (Kalman, "A new approach to linear filtering and prediction problems", 1960).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

# Relative to the size of the person, because people near the camera move more pixels.
MEASUREMENT = 1 / 20  # standard deviation of a detected box
DRIFT = 0.35  # standard deviation a position gains in a second beyond its velocity
AGILITY = 1.5  # standard deviation a velocity gains in a second, in sizes per second
FIRST_VELOCITY = 1.9  # standard deviation of the unknown velocity of someone new


@dataclass(eq=False)
class Motion:
    """The filters of n people."""

    value: np.ndarray  # (n, 4)
    velocity: np.ndarray  # (n, 4)
    value_variance: np.ndarray  # (n, 4)
    covariance: np.ndarray  # (n, 4) of value and velocity
    velocity_variance: np.ndarray  # (n, 4)

    @classmethod
    def at(cls, boxes: np.ndarray) -> Motion:
        """New filters at these boxes (n, 4) xyxy, of unknown velocity."""
        value = centres_and_sizes(boxes)
        size = _size(value)
        return cls(
            value=value,
            velocity=np.zeros_like(value),
            value_variance=(2 * MEASUREMENT * size) ** 2,
            covariance=np.zeros_like(value),
            velocity_variance=(FIRST_VELOCITY * size) ** 2,
        )

    def predict(self, seconds: float, resting: np.ndarray) -> None:
        """Let `seconds` pass; the size of `resting` people (n,) bool, whom no one sees, is kept."""
        self.velocity[resting, 2:] = 0
        size = _size(self.value)
        drift, agility = (DRIFT * size) ** 2 * seconds, (AGILITY * size) ** 2 * seconds
        self.value += self.velocity * seconds
        self.value_variance += (
            2 * seconds * self.covariance
            + seconds**2 * self.velocity_variance
            + drift
            + agility * seconds**2 / 3
        )
        self.covariance += seconds * self.velocity_variance + agility * seconds / 2
        self.velocity_variance += agility
        # a box must not shrink through zero while nobody sees it
        np.maximum(self.value[:, 2:], 1.0, out=self.value[:, 2:])

    def move_with(self, camera: np.ndarray) -> None:
        """The camera moved: `camera` (2, 3) takes points of the previous picture to this one."""
        linear, shift = camera[:, :2], camera[:, 2]
        zoom = _zoom(camera)
        self.value[:, :2] = self.value[:, :2] @ linear.T + shift
        self.velocity[:, :2] = self.velocity[:, :2] @ linear.T
        self.value[:, 2:] *= zoom
        self.velocity[:, 2:] *= zoom

    def observe(self, rows: np.ndarray, boxes: np.ndarray) -> None:
        """The people of these rows were seen in these boxes (len(rows), 4) xyxy."""
        value = self.value[rows]
        noise = (MEASUREMENT * _size(value)) ** 2
        total = self.value_variance[rows] + noise
        innovation = centres_and_sizes(boxes) - value
        gain = self.value_variance[rows] / total
        velocity_gain = self.covariance[rows] / total
        self.value[rows] = value + gain * innovation
        self.velocity[rows] += velocity_gain * innovation
        self.velocity_variance[rows] -= velocity_gain * self.covariance[rows]
        self.value_variance[rows] *= 1 - gain
        self.covariance[rows] *= 1 - gain

    def boxes(self) -> np.ndarray:
        """(n, 4) xyxy, where everyone is believed to be."""
        half = self.value[:, 2:] / 2
        return np.concatenate([self.value[:, :2] - half, self.value[:, :2] + half], 1)

    def take(self, rows: np.ndarray) -> Motion:
        return Motion(*(getattr(self, field.name)[rows] for field in fields(self)))

    def joined(self, other: Motion) -> Motion:
        return Motion(
            *(
                np.concatenate([getattr(self, field.name), getattr(other, field.name)])
                for field in fields(self)
            )
        )


def centres_and_sizes(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) xyxy -> (n, 4) cx, cy, w, h."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)


def moved_boxes(boxes: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) xyxy of the previous picture where `camera` (2, 3) puts them in this one.

    A box stays upright: its centre moves, and its size follows the zoom, as in `Motion`.
    """
    value = centres_and_sizes(boxes)
    centre = value[:, :2] @ camera[:, :2].T + camera[:, 2]
    half = value[:, 2:] * _zoom(camera) / 2
    return np.concatenate([centre - half, centre + half], 1)


def _zoom(camera: np.ndarray) -> float:
    return float(np.sqrt(abs(np.linalg.det(camera[:, :2]))))


def _size(value: np.ndarray) -> np.ndarray:
    """(n, 4) the length each noise is relative to: width for cx and w, height for cy and h."""
    return np.maximum(np.concatenate([value[:, 2:], value[:, 2:]], 1), 1.0)
