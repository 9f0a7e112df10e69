"""One labelled picture, and how a file of it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from matting.synthesis.sources import DataError

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """N people, H x W pixels."""

    rgb: np.ndarray  # (H, W, 3) uint8
    alpha: np.ndarray  # (N, H, W) uint8, 255 = fully this person
    ids: tuple[int, ...]  # of the people, the same over the frames of a video
    known: np.ndarray | None = None  # (H, W) bool, False where labels say nothing; None: everywhere
    instances: bool = True  # False: one matte for everyone
    guides: np.ndarray | None = None  # (N, H, W) uint8 0 or 255: masks for methods that need them

    def __post_init__(self) -> None:
        size = self.rgb.shape[:2]
        if self.alpha.shape[1:] != size or len(self.ids) != len(self.alpha):
            raise ValueError(
                f"alpha should be ({len(self.ids)}, {size[0]}, {size[1]}), got {self.alpha.shape}"
            )


@dataclass(frozen=True, slots=True)
class Item:
    """A picture that has not been read yet."""

    name: str  # of the picture within its split: what results are kept under
    load: Callable[[], Picture] = field(compare=False)
    video: str | None = None  # frames of one video follow each other


def listing(folder: Path, kinds: Iterable[str] = PICTURES) -> list[Path]:
    """The pictures of a folder by name.  Raises DataError where there is no such folder, or
    nothing in it."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    kinds = tuple(kinds)
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in kinds)
    if not found:
        raise DataError(f"{folder}: holds no {', '.join(kinds)}")
    return found


def folders(folder: Path) -> list[Path]:
    """The folders in a folder by name."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(p for p in folder.iterdir() if p.is_dir())
    if not found:
        raise DataError(f"{folder}: holds no folders")
    return found


def partner(folder: Path, stem: str, kinds: Iterable[str]) -> Path:
    """The file of `folder` that belongs to a picture's name."""
    for kind in kinds:
        if (folder / f"{stem}{kind}").is_file():
            return folder / f"{stem}{kind}"
    raise DataError(f"{folder / stem}{{{','.join(kinds)}}}: no such file")


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    made = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if made is None:
        raise DataError(f"{path}: not a picture that can be read")
    return np.ascontiguousarray(made[..., ::-1])


def read_matte(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 of a gray file, which must be as large as its picture."""
    made = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if made is None:
        raise DataError(f"{path}: not a picture that can be read")
    if made.shape != size:
        raise DataError(
            f"{path}: is {made.shape[1]} x {made.shape[0]}, its picture {size[1]} x {size[0]}"
        )
    return made


def stacked(mattes: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(N, H, W) uint8, also of none."""
    return np.stack(mattes) if mattes else np.zeros((0, *size), np.uint8)


def with_instances(
    image: Path, alphas: Path, guides: Path | None = None, limit: int | None = None
) -> Picture:
    """A picture and a folder with one matte a person; the number in a file's name is who it is."""
    rgb = read_rgb(image)
    size = rgb.shape[:2]
    files = listing(alphas, (".png", ".jpg"))[:limit]
    masks = None
    if guides is not None:
        masks = stacked([read_matte(guides / f.name, size) for f in files], size)
    return Picture(
        rgb, stacked([read_matte(f, size) for f in files], size), named(files), guides=masks
    )


def named(files: list[Path]) -> tuple[int, ...]:
    """Numbers from file names where all are numbers, else their places."""
    if all(f.stem.isdigit() for f in files):
        return tuple(int(f.stem) for f in files)
    return tuple(range(len(files)))
