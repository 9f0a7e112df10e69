"""What pictures are made of: cut-out people, empty backgrounds, labelled photographs.

Every source is split once and for all by its position in the sorted list of names, so that the
people and places of the validation set are never trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

HELD_OUT_PHOTOS = 20  # the last of penn_PennPed*, by name, measure and are never trained on


class DataError(FileNotFoundError):
    """A data folder is not laid out as documented; the message names the first wrong path."""


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """One person, cropped: straight colour that goes on beyond the edge, and alpha."""

    rgb: np.ndarray  # (h, w, 3) uint8
    alpha: np.ndarray  # (h, w) uint8
    grounded: bool  # False: the picture ended below, so the lower edge must leave the frame


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A whole photograph with labels that are right inside and uncertain at outlines."""

    rgb: np.ndarray  # (H, W, 3) uint8
    ids: np.ndarray  # (H, W) uint8, 0 = no one
    instances: bool  # False: `ids` only says someone or no one


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    cutouts: Sequence[Cutout]
    backgrounds: Sequence[np.ndarray]  # (H, W, 3) uint8
    photos: Sequence[Photo]
    rendered: Sequence[Cutout] = ()  # people who never were (matting/synthesis/humans)
    films: Sequence[Path] = ()  # folders of them in motion (matting/synthesis/films.py)


def extend_colour(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Carry the colour of solid pixels outward, so that interpolation never meets a foreign one."""
    out, weight = rgb.astype(np.float32), (alpha > 200).astype(np.float32)
    total, colour = weight.copy(), out * weight[..., None]
    for size in (7, 31, 127):
        w = cv2.blur(weight, (size, size))
        c = cv2.blur(out * weight[..., None], (size, size))
        empty = (total < 1e-3) & (w > 1e-3)
        colour[empty] = c[empty] / w[empty][:, None]
        total[empty] = 1
    colour[total < 1e-3] = rgb[weight > 0].mean(0) if weight.any() else 127
    soft = (alpha > 25)[..., None]  # where the source says something, keep what it says
    return np.where(soft, rgb, np.clip(colour, 0, 255)).astype(np.uint8)


def read_picture(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise DataError(f"{path}: expected a picture, found none that can be read")
    if image.ndim == 3:
        image = np.ascontiguousarray(image[..., [2, 1, 0, 3][: image.shape[2]]])
    return image


def read_cutout(path: Path, tall: int, grounded: bool = True) -> Cutout:
    rgba = read_picture(path, cv2.IMREAD_UNCHANGED)
    if rgba.ndim != 3 or rgba.shape[2] != 4:
        raise DataError(f"{path}: expected RGBA, found shape {rgba.shape}")
    shrink = tall / rgba.shape[0]
    if shrink < 1:
        rgba = cv2.resize(rgba, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    alpha = rgba[..., 3]
    return Cutout(extend_colour(rgba[..., :3], alpha), alpha.copy(), grounded)


def portrait_cutout(photo: Photo, tall: int) -> Cutout | None:
    """A labelled single-person photograph as a cut-out, where its frame cuts the person only below.

    The mask is binary; a guided filter (He et al. 2010) gives it the edge the picture shows.
    """
    mask = (photo.ids > 0).astype(np.float32)
    if mask[0].any() or mask[:, 0].mean() > 0.1 or mask[:, -1].mean() > 0.1:
        return None
    gray = cv2.cvtColor(photo.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    size, epsilon = (9, 9), 1e-3
    mean_i, mean_m = cv2.blur(gray, size), cv2.blur(mask, size)
    variance = cv2.blur(gray * gray, size) - mean_i**2
    slope = (cv2.blur(gray * mask, size) - mean_i * mean_m) / (variance + epsilon)
    offset = mean_m - slope * mean_i
    alpha = np.clip(cv2.blur(slope, size) * gray + cv2.blur(offset, size), 0, 1)
    alpha = np.clip((alpha - 0.1) / 0.8, 0, 1)
    ys, xs = np.nonzero(mask)
    top, left, right = max(0, ys.min() - 4), max(0, xs.min() - 4), xs.max() + 5
    rgb, alpha = photo.rgb[top:, left:right], (alpha[top:, left:right] * 255).astype(np.uint8)
    shrink = min(1.0, tall / rgb.shape[0])
    rgb, alpha = (
        cv2.resize(x, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        for x in (rgb, alpha)
    )
    return Cutout(extend_colour(rgb, alpha), alpha, grounded=bool(ys.max() < mask.shape[0] - 2))


def split(names: Sequence[Path], held_out: bool, every: int = 20) -> list[Path]:
    return [path for i, path in enumerate(names) if (i % every == 7) == held_out]


def load(
    data: Path, *, held_out: bool = False, tall: int = 640, labels: Path | None = None,
    limit: int | None = None, rendered: Path | None = None,
) -> Sources:  # fmt: skip
    """Read the training (or, `held_out`, the validation) part of a data folder into memory.

    data/people/*.webp       RGBA cut-outs, straight alpha
    data/backgrounds/*.webp  photographs without people
    data/scenes/x.webp .png  photographs with instance ids (0 = background)
    data/unions/x.webp .png  photographs with one mask for everyone
    `labels` is a JSON file of what was seen by eye, names of pictures: "single" unions show exactly
    one person, "group" unions several; others are not used.  "peopled" backgrounds do show somebody
    and are left out.
    `rendered` is a folder written by `python -m matting.synthesis humans`.
    `limit` reads only so many of each kind, spread over the list (for tests and quick looks).
    """

    seen = json.loads(labels.read_text()) if labels else {}

    def listed(folder: Path) -> list[Path]:
        found = sorted(folder.glob("*.webp"))
        if not found:
            raise DataError(f"{folder}: expected *.webp pictures, found none")
        if limit:
            found = found[:: max(1, len(found) // limit)]
        return found

    with ThreadPoolExecutor(2) as pool:
        cutouts = list(
            pool.map(lambda p: read_cutout(p, tall), split(listed(data / "people"), held_out))
        )
        empty = split(listed(data / "backgrounds"), held_out)
        empty = [path for path in empty if path.stem not in seen.get("peopled", ())]
        backgrounds = list(pool.map(read_picture, empty))

        def photo(path: Path, instances: bool) -> Photo:
            ids = read_picture(path.with_suffix(".png"), cv2.IMREAD_UNCHANGED)
            ids = ids if instances else (ids > 127).astype(np.uint8)
            return Photo(read_picture(path), ids, instances)

        scenes = sorted((data / "scenes").glob("*.webp"))
        measured = [p for p in scenes if p.name.startswith("penn_PennPed")][-HELD_OUT_PHOTOS:]
        if held_out:  # rendered people teach; only real ones examine
            return Sources(cutouts, backgrounds, [photo(p, True) for p in measured])
        photos = list(
            pool.map(lambda p: photo(p, True), [p for p in scenes if p not in measured][:limit])
        )
        for kind, instances in (("single", True), ("group", False)):
            for stem in seen.get(kind, ())[:limit]:
                path = data / "unions" / f"{stem}.webp"
                if not path.exists():
                    raise DataError(f"{path}: named as a labelled photograph, not found")
                union = photo(path, False)
                photos.append(Photo(union.rgb, union.ids, instances))
                if instances and (cut := portrait_cutout(union, tall)):
                    cutouts.append(cut)
        made = listed(rendered / "people") if rendered else []
        people = list(pool.map(lambda p: read_cutout(p, tall, p.name.startswith("full_")), made))
        films = sorted((rendered / "sequences").glob("*/scene.json")) if rendered else []
    return Sources(cutouts, backgrounds, photos, people, [path.parent for path in films][:limit])
