"""How well people come out of photographs never trained on, against instance-id masks.

    python -m bench.evaluate_photos --data ../shared/data/scenes

The truth lies beside each photograph, as a PNG of the same name: 0 is the background, every other
value one person.  The photographs are the last --count of those whose name starts with --prefix;
training leaves the last 20 of `penn_PennPed` out.

True and predicted people (alpha > 0.5) of a photograph are matched one to one for the greatest
total IoU; somebody is found where that IoU is 0.5 or more.  Mean IoU is over the people found.
Recall is the share found among those taller than a quarter of the picture.  Precision is the share
of predictions that found someone: a lower bound, because far people carry no label in this data.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from bench.wiring import (
    MISSED,
    LoadEngine,
    TruthError,
    add_options,
    engine_of,
    guarded,
    missed,
    settings_of,
)
from engines.base import Engine
from matting.frames import Frame
from matting.metrics import match, overlap_matrix
from stream.stages import matte_each

FOUND = 0.5  # IoU from which somebody is found
TALL = 0.25  # of the picture's height
PHOTOGRAPHS = (".webp", ".jpg", ".jpeg")


@dataclass(frozen=True)
class PhotoScore:
    """One photograph."""

    name: str
    true_people: int
    predicted_people: int
    found_iou: tuple[float, ...]  # of everyone found
    tall_people: int
    tall_found: int


@dataclass(frozen=True)
class PhotoScores:
    """All photographs together."""

    mean_iou: float  # over people found
    recall: float  # of tall people
    precision: float
    tall_people: int
    photographs: tuple[PhotoScore, ...]


def labelled_photographs(folder: Path, prefix: str, count: int) -> list[tuple[Path, Path]]:
    """(photograph, labels) of the last `count` by name."""
    if not folder.is_dir():
        raise TruthError(f"{folder}: there is no such folder of photographs; name one with --data")
    pairs = [
        (photograph, photograph.with_suffix(".png"))
        for photograph in sorted(folder.glob(prefix + "*"))
        if photograph.suffix.lower() in PHOTOGRAPHS and photograph.with_suffix(".png").is_file()
    ]
    if len(pairs) < count:
        raise TruthError(
            f"{folder}: {count} photographs {prefix}* with a PNG of labels were expected, "
            f"{len(pairs)} found"
        )
    return pairs[-count:]


def read_photograph(photograph: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 RGB and (N, H, W) bool, one mask per person."""
    bgr = cv2.imread(str(photograph), cv2.IMREAD_COLOR)
    ids = cv2.imread(str(labels), cv2.IMREAD_UNCHANGED)
    if bgr is None or ids is None:
        raise TruthError(f"{photograph if bgr is None else labels} cannot be read as a picture")
    if ids.shape != bgr.shape[:2]:
        raise TruthError(
            f"{labels} should be gray {bgr.shape[0]} x {bgr.shape[1]} (H x W) like its photograph, "
            f"found {ids.shape}"
        )
    people = np.unique(ids[ids > 0])
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), ids[None] == people[:, None, None]


def photographed(engine: Engine, rgb: np.ndarray, score: float, closer: bool) -> np.ndarray:
    """(N, H, W) alpha of those in a photograph from this score on, as the program mattes it."""
    ((_, mattes),) = matte_each([Frame(rgb, 0, Fraction(1))], engine, score, closer)
    return mattes.alpha


def photo_score(name: str, predicted: np.ndarray, true: np.ndarray) -> PhotoScore:
    """One photograph's figures from alpha (M, H, W) and true masks (N, H, W)."""
    overlap = overlap_matrix(predicted, true.astype(np.float32), threshold=0.5)
    rows, columns = match(overlap, FOUND)
    tall = np.array([np.ptp(np.flatnonzero(mask.any(1))) + 1 for mask in true], float)
    tall = tall > TALL * true.shape[1]
    return PhotoScore(
        name=name,
        true_people=len(true),
        predicted_people=len(predicted),
        found_iou=tuple(overlap[rows, columns].tolist()),
        tall_people=int(tall.sum()),
        tall_found=int(tall[columns].sum()),
    )


def photo_scores(photographs: Iterable[PhotoScore]) -> PhotoScores:
    photographs = tuple(photographs)
    found = [value for photograph in photographs for value in photograph.found_iou]
    tall = sum(photograph.tall_people for photograph in photographs)
    predicted = sum(photograph.predicted_people for photograph in photographs)
    if not tall:
        raise TruthError("no labelled person is taller than a quarter of the picture")
    return PhotoScores(
        mean_iou=float(np.mean(found)) if found else 0.0,
        recall=sum(photograph.tall_found for photograph in photographs) / tall,
        precision=len(found) / max(predicted, 1),
        tall_people=tall,
        photographs=photographs,
    )


def _print(scores: PhotoScores) -> None:
    for photograph in scores.photographs:
        found = photograph.found_iou
        mean = f"IoU {np.mean(found):.3f}" if found else "IoU   -  "
        print(
            f"  {photograph.name:24} {mean}  found {len(found)}/{photograph.true_people}  "
            f"tall {photograph.tall_found}/{photograph.tall_people}  "
            f"predicted {photograph.predicted_people}"
        )
    print(
        f"mean IoU {scores.mean_iou:.3f} | recall {scores.recall:.3f} of {scores.tall_people} tall "
        f"people | precision {scores.precision:.3f} | {len(scores.photographs)} photographs"
    )


def main(argv: Sequence[str] | None = None, *, load_engine: LoadEngine | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.evaluate_photos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scenes"), metavar="DIR")
    parser.add_argument("--prefix", default="penn_PennPed", help="photographs of this name count")
    parser.add_argument("--count", type=int, default=20, help="how many, from the end")
    parser.add_argument("--min-iou", type=float, help="fail where the mean IoU is lower")
    parser.add_argument("--min-recall", type=float, help="fail where the recall is lower")
    add_options(parser)
    chosen = parser.parse_args(argv)
    if chosen.count < 1:
        parser.error(f"--count should be at least 1, got {chosen.count}")

    def work() -> int:
        settings = settings_of(chosen)
        pairs = labelled_photographs(chosen.data, chosen.prefix, chosen.count)
        found = []
        with closing(engine_of(settings, load_engine)) as engine:
            for photograph, labels in pairs:
                rgb, true = read_photograph(photograph, labels)
                alpha = photographed(engine, rgb, 0.0, settings.engine.look_closer)
                found.append(photo_score(photograph.stem, alpha, true))
        scores = photo_scores(found)
        short = missed(
            [("mean IoU", chosen.min_iou, False), ("recall", chosen.min_recall, False)],
            {"mean IoU": scores.mean_iou, "recall": scores.recall},
        )
        if chosen.json:
            print(json.dumps({**asdict(scores), "missed": short}))
        else:
            _print(scores)
            for line in short:
                print(f"MISSED: {line}")
        return MISSED if short else 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
