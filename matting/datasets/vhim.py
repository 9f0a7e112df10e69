"""Videos of human instances (Huynh et al., MaGGIe, CVPR 2024).

V-HIM60 is to measure, V-HIM2K5 to train.

    V-HIM60/{comp_easy,comp_medium,comp_hard}/     V-HIM2K5/train/
      fgr/VIDEO/FRAME.jpg
      pha/VIDEO/FRAME/NN.png

NN is who it is, the same over the frames of a video.  Masks for guided methods lie beside them
(`xmem/VIDEO/FRAME/NN.png`) and are not needed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from matting.datasets.picture import Item, folders, listing, with_instances
from matting.synthesis.sources import DataError


def v_him60(root: Path, split: str) -> list[Item]:
    return _videos(root / split)


def v_him2k5(root: Path, split: str) -> list[Item]:
    return _videos(root / split)


def _videos(root: Path) -> list[Item]:
    items = []
    for video in folders(root / "fgr"):
        for frame in listing(video):
            alphas = root / "pha" / video.name / frame.stem
            if not alphas.is_dir():
                raise DataError(f"{alphas}: no such folder (mattes of {frame.name})")
            name = f"{video.name}/{frame.stem}"
            items.append(Item(name, partial(with_instances, frame, alphas), video.name))
    return items
