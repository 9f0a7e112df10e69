"""COCO's people (Lin et al., ECCV 2014): outlines, not mattes, but of everyday crowds.

    COCO/
      annotations/instances_{train2017,val2017}.json
      {train2017,val2017}/000000000139.jpg

Pictures with at least one person are read.  Regions marked as crowds belong to nobody in
particular: their pixels are not `known`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from matting.datasets.picture import Item, Picture, read_rgb, stacked
from matting.synthesis.sources import DataError


def persons(root: Path, split: str) -> list[Item]:
    labels = root / "annotations" / f"instances_{split}.json"
    if not labels.is_file():
        raise DataError(f"{labels}: no such file")
    try:
        told = json.loads(labels.read_text(encoding="utf-8"))
        person = {c["id"] for c in told["categories"] if c["name"] == "person"}
        people = defaultdict(list)
        for annotation in told["annotations"]:
            if annotation["category_id"] in person:
                people[annotation["image_id"]].append(annotation)
        images = sorted((i for i in told["images"] if i["id"] in people), key=lambda i: i["id"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{labels}: not COCO's instances ({error!r})") from None
    items = []
    for image in images:
        path = root / split / image["file_name"]
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        items.append(Item(path.stem, partial(_load, path, people[image["id"]])))
    return items


def _load(path: Path, annotations: list[dict]) -> Picture:
    rgb = read_rgb(path)
    size = rgb.shape[:2]
    known = np.ones(size, bool)
    mattes = []
    for annotation in sorted(annotations, key=lambda a: a["id"]):
        mask = drawn(annotation["segmentation"], size, path)
        if annotation.get("iscrowd"):
            known &= mask == 0
        else:
            mattes.append(mask)
    return Picture(rgb, stacked(mattes, size), tuple(range(len(mattes))), known=known)


def drawn(outline: list | dict, size: tuple[int, int], where: Path) -> np.ndarray:
    """(H, W) uint8 of 0 and 255: polygons, or runs of a column-by-column mask, written out or as
    COCO's text (six bits a character from '0', five of value and one that more follow; from the
    third run on, the difference to the run before the last)."""
    mask = np.zeros(size, np.uint8)
    if isinstance(outline, list):
        # a vertex at 0 is the picture's corner, not the middle of its first pixel
        corners = [np.float32(p).reshape(-1, 2) - 0.5 for p in outline]
        cv2.fillPoly(mask, [np.rint(c).astype(np.int32) for c in corners], 255)
        return mask
    runs = outline["counts"]
    if isinstance(runs, str):
        runs = _runs(runs)
    if list(outline["size"]) != list(size) or sum(runs) != size[0] * size[1]:
        raise DataError(f"{where}: its outline is of a picture {outline['size']}, not {list(size)}")
    values = np.arange(len(runs)) % 2 * np.uint8(255)
    return np.repeat(values.astype(np.uint8), runs).reshape(size[::-1]).T.copy()


def _runs(text: str) -> list[int]:
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return runs
