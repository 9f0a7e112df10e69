"""Rendered people in motion, as they lie on the disk and as samples of training.

A sequence is a folder, whole or not there (matting/synthesis/humans/sequences.py writes it):
  scene.json      seed, rate, size, ids; for every frame the camera's shake in pixels and for every
                  person the visible box, the box of all of them (xyxy pixels, null = out of view)
                  and the share of them that others hide
  rgb_000.webp    straight colour of everyone, carried on beyond the edge
  alpha_000.png   visible alpha, one channel a person (one, three or four channels; more than
                  there are people are empty); together they never exceed 255
Row i of everything is person ids[i].
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from matting.synthesis.camera import expose
from matting.synthesis.scenes import SMALLEST, Sample, a_part, crop_to, cut
from matting.synthesis.sources import DataError, read_picture

SEEN = 4  # code value of alpha from which a pixel belongs to a box


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One moment of P people, H x W pixels."""

    rgb: np.ndarray  # (H, W, 3) uint8 straight
    alpha: np.ndarray  # (P, H, W) uint8, visible part
    whole: list[list[int] | None]  # box of each person as if alone
    hidden: list[float]  # share of each that others cover, 0 to 1
    shake: tuple[float, float]  # x, y pixels by which the camera's picture has moved

    @property
    def boxes(self) -> list[list[int] | None]:
        return [box_of(a) for a in self.alpha]


def box_of(alpha: np.ndarray) -> list[int] | None:
    """[x0, y0, x1, y1] around what is seen, the far edges excluded, or None."""
    rows, columns = (np.nonzero(alpha.max(axis) >= SEEN)[0] for axis in (1, 0))
    if not len(rows):
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def read(folder: Path) -> tuple[dict, Iterator[Frame]]:
    """scene.json, and the frames one by one.  Raises DataError naming what is missing."""
    about = _about(folder)
    return about, (_frame(folder, about, k) for k in range(len(about["frames"])))


def _about(folder: Path) -> dict:
    try:
        return json.loads((folder / "scene.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder / 'scene.json'}: not found; is this a sequence?") from None


def _frame(folder: Path, about: dict, k: int) -> Frame:
    row = about["frames"][k]
    rgb = read_picture(folder / f"rgb_{k:03d}.webp")
    planes = cv2.imread(str(folder / f"alpha_{k:03d}.png"), cv2.IMREAD_UNCHANGED)
    if planes is None:
        raise DataError(f"{folder / f'alpha_{k:03d}.png'}: not found or not a picture")
    planes = planes.reshape(*planes.shape[:2], -1)[..., : len(about["ids"])]
    alpha = np.ascontiguousarray(planes.transpose(2, 0, 1))
    return Frame(rgb, alpha, row["whole"], row["hidden"], tuple(row["shake"]))


def over(
    sequence: Iterator[Frame], background: np.ndarray, ids: tuple[int, ...] | None = None
) -> Iterator[Sample]:
    """The people before a background (H, W, 3) uint8 that shakes with the camera, as samples of
    training.  Someone of whom less than SMALLEST of the picture is seen is left out."""
    height, width = background.shape[:2]
    for frame in sequence:
        move = np.array([[1, 0, frame.shake[0]], [0, 1, frame.shake[1]]], np.float32)
        behind = cv2.warpAffine(background, move, (width, height), borderMode=cv2.BORDER_REFLECT)
        everyone = frame.alpha.sum(0, dtype=np.uint16).clip(0, 255).astype(np.uint8)
        share = everyone[..., None].astype(np.float32) / 255
        rgb = (frame.rgb * share + behind * (1 - share) + 0.5).astype(np.uint8)
        contrast = cv2.absdiff(frame.rgb, behind).mean(2)
        kept = [i for i, a in enumerate(frame.alpha) if a.mean() / 255 >= SMALLEST]
        known = np.ones((height, width), bool)
        for i, a in enumerate(frame.alpha):
            if i not in kept:
                known &= a < 5
        names = ids or tuple(range(1, len(frame.alpha) + 1))
        yield Sample(
            rgb, frame.alpha[kept],
            np.stack([np.where(frame.alpha[i] > 0, contrast, 0) for i in kept]).astype(np.uint8)
            if kept else np.zeros((0, height, width), np.uint8),
            known, everyone, True, tuple(names[i] for i in kept),
        )  # fmt: skip


def film(
    folder: Path, background: np.ndarray, size: tuple[int, int], rng: np.random.Generator, *,
    frames: int, rate: float,
) -> Iterator[Sample]:  # fmt: skip
    """`frames` samples of (H, W) `size`, about `rate` a second, from somewhere in a sequence: a
    part of its picture, maybe mirrored, before a part of `background`, through a random camera."""
    about = _about(folder)
    count = len(about["frames"])
    step = max(1, min(round(about["rate"] / rate), (count - 1) // max(1, frames - 1)))
    first = int(rng.integers(max(1, count - step * (frames - 1))))
    wanted = [min(first + step * k, count - 1) for k in range(frames)]
    behind, _ = crop_to(background, None, size, rng, 0.5)
    part = a_part(about["size"], size, rng, 0.6)
    seed = int(rng.integers(2**31))
    shown = (_part(_frame(folder, about, k), part, size) for k in wanted)
    for k, sample in zip(wanted, over(shown, behind, tuple(about["ids"])), strict=True):
        rgb = expose(sample.rgb, np.random.default_rng(seed), round(1000 * k / about["rate"]))
        yield replace(sample, rgb=rgb)


def _part(
    frame: Frame, part: tuple[tuple[slice, slice], bool], size: tuple[int, int]
) -> Frame:
    """This part of a frame, at (H, W) `size`.  Its boxes are not carried along."""
    (rows, columns), mirrored = part
    x, y = frame.shake
    x *= size[1] / (columns.stop - columns.start) * (-1 if mirrored else 1)
    y *= size[0] / (rows.stop - rows.start)
    alpha = np.stack([cut(plane, part, size) for plane in frame.alpha])
    return Frame(cut(frame.rgb, part, size), alpha, [], frame.hidden, (x, y))
