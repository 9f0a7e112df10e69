"""What happens to a picture between the scene and the decoder: light, lens, sensor, codec."""

from __future__ import annotations

import cv2
import numpy as np

LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)  # of a code value: light


def tone_table(rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """(256, 1, 3) uint8 look-up table: exposure, contrast, gamma and white balance."""
    levels = np.linspace(0, 1, 256, dtype=np.float32)
    gamma = np.exp(rng.normal(0, 0.2 * strength))
    gain = np.exp(rng.normal(0, 0.12 * strength) + rng.normal(0, 0.06 * strength, 3))
    contrast, lift = np.exp(rng.normal(0, 0.12 * strength)), rng.normal(0, 0.03 * strength)
    curve = levels[:, None] ** gamma * gain
    curve = (curve - 0.5) * contrast + 0.5 + lift
    return (np.clip(curve, 0, 1) * 255).astype(np.uint8)[:, None]


def apply_table(rgb: np.ndarray, table: np.ndarray) -> np.ndarray:
    return cv2.LUT(rgb, table.reshape(1, 256, 3))


def light_field(rng: np.random.Generator, size: tuple[int, int], depth: float) -> np.ndarray:
    """(H, W, 1) smooth multiplier around 1: a lamp to one side, a shadow to the other."""
    small = 1 + depth * rng.normal(0, 1, (3, 3)).astype(np.float32)
    field = cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(field, 0.3, 1.8)[..., None]


def motion_kernel(rng: np.random.Generator, length: int) -> np.ndarray:
    """Line-shaped averaging kernel of about `length` pixels in a random direction."""
    kernel = np.zeros((length, length), np.float32)
    angle, middle = rng.uniform(0, np.pi), (length - 1) / 2
    dx, dy = np.cos(angle) * middle, np.sin(angle) * middle
    ends = [(round(middle + s * dx), round(middle + s * dy)) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return kernel / kernel.sum()


def expose(rgb: np.ndarray, rng: np.random.Generator, moment: int = 0) -> np.ndarray:
    """One picture through a random camera: (H, W, 3) uint8 -> same.  Geometry does not change.

    The same `rng` is the same camera; another `moment` is other noise.
    """
    height, width = rgb.shape[:2]
    rgb = apply_table(rgb, tone_table(rng, 0.8))
    if rng.random() < 0.25:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.4, 1.4))
    if rng.random() < 0.15:  # a small sensor, or a call's small stream
        scale = rng.uniform(0.4, 0.8)
        rgb = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.4:
        noise = np.zeros((height // 2 + 1, width, 3), np.int16)
        # OpenCV's generator is its own, and global
        cv2.setRNGSeed((int(rng.integers(2**31)) + moment) % 2**31)
        cv2.randn(noise, 0, rng.uniform(1, 9))  # made for half the rows, used twice: half the cost
        noise = np.concatenate([noise, noise[::-1, ::-1]])[:height]
        rgb = np.clip(rgb + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.06:
        rgb = np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        rgb = cv2.imdecode(cv2.imencode(".jpg", rgb, quality)[1], cv2.IMREAD_COLOR)
    return rgb


def spoil(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A frame that says little of what the one before showed: (H, W, 3) uint8 -> same."""
    height, width = rgb.shape[:2]
    how = rng.integers(3)
    if how == 0:  # a lens that hunts
        return cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.01, 0.03) * height)
    if how == 1:  # a stream that breaks up
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(3, 12))]
        return np.asarray(cv2.imdecode(cv2.imencode(".jpg", rgb, quality)[1], cv2.IMREAD_COLOR))
    noise = np.zeros(rgb.shape, np.int16)  # a dark moment, gained up
    cv2.setRNGSeed(int(rng.integers(2**31)))
    cv2.randn(noise, 0, rng.uniform(20, 60))
    return np.clip(rgb * rng.uniform(0.3, 0.8) + noise, 0, 255).astype(np.uint8)


class BadLight:
    """The light of a room no camera likes: too dark, of one colour, gray, hazy, glaring, or behind
    the people.

    The same object is the same light in every frame; the noise of a dark one is that of `moment`.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.seed = int(rng.integers(2**31 - 1000))
        gain, gray, colour = 1.0, 0.0, np.ones(3)
        self.contrast, self.lift, self.noise, self.shade = 1.0, 0.0, 0.0, 1.0
        kinds = ["dark", "coloured", "gray", "haze", "glare", "behind"]
        how = rng.choice(kinds, p=[0.3, 0.25, 0.08, 0.12, 0.1, 0.15])
        if how == "dark":
            gain, self.noise = 2.0 ** -rng.uniform(1.5, 5), rng.uniform(1, 9)
            colour = np.exp(rng.normal(0, 0.15, 3))
        elif how == "coloured":  # a stage, a screen in a dark room
            gray, gain = rng.uniform(0.4, 1), 2.0 ** -rng.uniform(0, 2.5)
            colour, self.noise = rng.dirichlet([0.5] * 3) * 1.6 + 0.03, rng.uniform(0, 5)
        elif how == "gray":
            gray = 1.0
        elif how == "haze":
            self.contrast = rng.uniform(0.25, 0.6)
            self.lift = rng.uniform(0.2, 0.9) * (1 - self.contrast)
        elif how == "behind":  # a window, a sunset: people are exposed for what is behind them
            gain, self.shade = 2.0 ** rng.uniform(0, 1), 2.0 ** -rng.uniform(1.5, 5)
        else:
            gain = 2.0 ** rng.uniform(0.8, 2)
        rows = (1 - gray) * np.eye(3) + gray * np.array([0.21, 0.72, 0.07])
        self.mix = (gain * colour[:, None] * rows).astype(np.float32)
        self.lamp = rng.integers(2**31) if rng.random() < 0.4 else None

    @classmethod
    def sometimes(cls, rng: np.random.Generator, share: float) -> BadLight | None:
        """One for this `share` of pictures."""
        return cls(rng) if rng.random() < share else None

    def on(self, rgb: np.ndarray, people: np.ndarray | None, moment: int = 0) -> np.ndarray:
        """(H, W, 3) uint8 -> same.  `people`: (H, W) uint8, the alpha of everyone together, or
        None where it is not known to a pixel: then nobody is darker than what is behind."""
        light = cv2.transform(LINEAR[rgb], self.mix)
        if self.shade < 1 and people is not None:
            light *= 1 - (1 - self.shade) / 255 * people[..., None].astype(np.float32)
        if self.lamp is not None:
            light *= light_field(np.random.default_rng(self.lamp), rgb.shape[:2], 0.5)
        out = cv2.pow(np.clip(light, 0, 1), 1 / 2.2)
        out = 255 * (out * self.contrast + self.lift)
        if self.noise:
            grain = np.zeros(rgb.shape, np.float32)
            cv2.setRNGSeed(self.seed + moment)
            out += cv2.randn(grain, 0, self.noise)
        return np.clip(out, 0, 255).astype(np.uint8)
