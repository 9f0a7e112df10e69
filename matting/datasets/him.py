"""Human instance matting: a picture, and one matte a person in a folder of the picture's name.

HIM2K (Sun et al., CVPR 2022), as its authors describe it:

    HIM2K/
      images/{comp,natural}/x.jpg
      alphas/{comp,natural}/x/NN.png

M-HIM2K (Huynh et al., MaGGIe, CVPR 2024) is the same pictures with binary masks for methods that
are guided by them, one folder of masks a segmentation model:

    M-HIM2K/
      images/{comp,natural}/x.jpg
      alphas/{comp,natural}/x/NN.png
      masks_matched_<model>/{comp,natural}/x/NN.png

HIM-100K (Liu et al., E2E-HIM).  Its authors describe what it holds and not its tree; this is the
tree that was assumed, which links can make of another:

    HIM-100K/
      {train,test}/images/x.jpg
      {train,test}/alphas/x/NN.png

`folder` is the same without a split, for sets of your own: images/x.jpg and alphas/x/NN.png.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from matting.datasets.picture import Item, listing, with_instances
from matting.synthesis.sources import DataError


def him100k(root: Path, split: str) -> list[Item]:
    return _pairs(root / split / "images", root / split / "alphas")


def him2k(root: Path, split: str) -> list[Item]:
    return _pairs(root / "images" / split, root / "alphas" / split)


def m_him2k(root: Path, split: str) -> list[Item]:
    """The masks are those of the first model by name; a mask is missing where a model found
    no one, and is an error then: the set has matched them all."""
    models = sorted(p for p in root.glob("masks_matched_*") if p.is_dir())
    if not models:
        raise DataError(f"{root}/masks_matched_*: no such folder")
    return _pairs(root / "images" / split, root / "alphas" / split, models[0] / split)


def folder(root: Path, split: str) -> list[Item]:
    return _pairs(root / "images", root / "alphas")


def _pairs(images: Path, alphas: Path, guides: Path | None = None) -> list[Item]:
    items = []
    for image in listing(images):
        for place in (alphas, guides):
            if place is not None and not (place / image.stem).is_dir():
                raise DataError(f"{place / image.stem}: no such folder (mattes of {image.name})")
        guide = guides / image.stem if guides else None
        items.append(Item(image.stem, partial(with_instances, image, alphas / image.stem, guide)))
    return items
