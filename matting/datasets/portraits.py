"""Portraits: a picture and one matte for whoever is in it.

P3M-10k (Li et al., ACM MM 2021).  Faces are blurred but in P3M-500-NP:

    P3M-10k/
      train/{blurred_image/x.jpg, mask/x.png}
      validation/P3M-500-P/{blurred_image/x.jpg, mask/x.png}
      validation/P3M-500-NP/{original_image/x.jpg, mask/x.png}

PPM-100 (Ke et al., MODNet, AAAI 2022):

    PPM-100/{image/x.jpg, matte/x.jpg}

RWP-636 (Yu et al., MG Matting, CVPR 2021; unpacks as RealWorldPortrait-636):

    RealWorldPortrait-636/{image/x.jpg, alpha/x.png}
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from matting.datasets.picture import Item, Picture, listing, partner, read_matte, read_rgb


def p3m(root: Path, split: str) -> list[Item]:
    if split == "train":
        return _pairs(root / "train/blurred_image", root / "train/mask")
    images = "blurred_image" if split.endswith("-P") else "original_image"
    return _pairs(root / "validation" / split / images, root / "validation" / split / "mask")


def ppm100(root: Path, split: str) -> list[Item]:
    return _pairs(root / "image", root / "matte")


def rwp636(root: Path, split: str) -> list[Item]:
    return _pairs(root / "image", root / "alpha")


def _pairs(images: Path, mattes: Path) -> list[Item]:
    return [
        Item(image.stem, partial(_load, image, partner(mattes, image.stem, (".png", ".jpg"))))
        for image in listing(images)
    ]


def _load(image: Path, matte: Path) -> Picture:
    rgb = read_rgb(image)
    return Picture(rgb, read_matte(matte, rgb.shape[:2])[None], (0,), instances=False)
