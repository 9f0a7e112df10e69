"""Public data sets as they are unpacked, read one picture at a time.

    for item in open_dataset("HIM2K", Path("data/HIM2K"), "natural"):
        picture = item.load()

Nothing is downloaded and nothing is rearranged: each reader's docstring shows the tree it expects,
and a tree that is otherwise ends in a DataError that names the first wrong path.  Terms of use are
those of each set's authors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matting.datasets import coco, him, portraits, vhim
from matting.datasets.picture import Item, Picture

Reader = Callable[[Path, str], list[Item]]


@dataclass(frozen=True, slots=True)
class Known:
    """A data set that can be read."""

    read: Reader
    splits: tuple[str, ...]  # the first is what is meant where none is named
    kind: str  # "instances", "portraits" or "videos": what its pictures can measure


DATASETS: dict[str, Known] = {
    "HIM-100K": Known(him.him100k, ("test", "train"), "instances"),
    "HIM2K": Known(him.him2k, ("natural", "comp"), "instances"),
    "M-HIM2K": Known(him.m_him2k, ("natural", "comp"), "instances"),
    "V-HIM60": Known(vhim.v_him60, ("comp_hard", "comp_medium", "comp_easy"), "videos"),
    "V-HIM2K5": Known(vhim.v_him2k5, ("train",), "videos"),
    "P3M-10k": Known(portraits.p3m, ("P3M-500-NP", "P3M-500-P", "train"), "portraits"),
    "PPM-100": Known(portraits.ppm100, ("all",), "portraits"),
    "RWP-636": Known(portraits.rwp636, ("all",), "portraits"),
    "COCO": Known(coco.persons, ("val2017", "train2017"), "instances"),
    "folder": Known(him.folder, ("all",), "instances"),
}


def open_dataset(name: str, root: Path, split: str | None = None) -> list[Item]:
    """The pictures of a split, in a fixed order; nothing is decoded yet.

    Raises ValueError for a name or split there is not, DataError for a tree that is otherwise.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known are {', '.join(DATASETS)}")
    known = DATASETS[name]
    split = split or known.splits[0]
    if split not in known.splits:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(known.splits)}")
    return known.read(Path(root), split)


__all__ = ["DATASETS", "Item", "Known", "Picture", "open_dataset"]
