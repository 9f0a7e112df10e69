"""How well a whole clip comes out: decode, network and tracker, against true ids per frame.

    python -m bench.evaluate_clip --clip ../shared/data/clips/bedroom.mp4

The truth is a folder of label pictures, 00000.png for the first frame, as large as the video: 0 is
the background, 255 is ignored, every other value is one person.  A person counts in the frames in
which they cover more than 0.5 % of the picture; smaller traces are ignored like 255.

In each frame, true and predicted people (alpha > 0.5) are matched one to one for the greatest total
IoU.  Per person, IoU is averaged over the frames in which they are visible, 0 where nobody was
matched to them; the figure is the mean over people.  Presence is the share of visible frames with a
match of IoU > 0.3, and the figure is the worst person's.  Switches, IDF1 and HOTA are those of
matting/metrics/identity.py on the same IoU.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

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
from configs.schema import Settings
from engines.base import Engine
from matting.frames import Frame, Mattes
from matting.metrics import IdentityFrame, IdentityScores, identity_scores, match
from run_stream import matted
from stream.decode import open_source

IGNORE = 255
VISIBLE = 0.005  # share of the picture a person has to cover to count
PRESENT = 0.3  # IoU from which somebody is there at all


@dataclass(frozen=True)
class PersonScore:
    """One true person over the clip."""

    person: int  # their label
    visible_frames: int
    iou: float
    presence: float


@dataclass(frozen=True)
class ClipScores:
    """A whole clip."""

    frames: int
    mean_iou: float
    presence: float  # the worst person's
    switches: int
    idf1: float
    hota: float
    people: tuple[PersonScore, ...]
    identity: IdentityScores


def label_files(folder: Path) -> list[Path]:
    """The label pictures in the order of their frames: 00000.png, 00001.png, ..."""
    if not folder.is_dir():
        raise TruthError(f"{folder}: no such folder of label pictures; name one with --ids")
    files = sorted(path for path in folder.glob("*.png") if path.stem.isdecimal())
    numbers = [int(path.stem) for path in files]
    if numbers != list(range(len(files))) or not files:
        raise TruthError(
            f"{folder}: expected label pictures 00000.png, 00001.png, ... without a gap, "
            f"found {len(files)}" + (f" from {files[0].name} to {files[-1].name}" if files else "")
        )
    return files


def read_labels(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 labels of one picture."""
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise TruthError(f"{path} cannot be read as a picture")
    if labels.shape != size or labels.dtype != np.uint8:
        raise TruthError(
            f"{path} should be 8-bit gray {size[0]} x {size[1]} (H x W) like the video, "
            f"found {labels.dtype} {labels.shape}"
        )
    return labels


def compare(labels: np.ndarray, mattes: Mattes) -> IdentityFrame:
    """The people of one frame beside the true ones; labels (H, W)."""
    area = np.bincount(labels.ravel(), minlength=256)
    area[[0, IGNORE]] = 0
    true_ids = np.flatnonzero(area > VISIBLE * labels.size)
    counts = (labels == 0) | np.isin(labels, true_ids)
    similarity = np.zeros((len(true_ids), len(mattes)))
    kept = np.zeros(len(mattes), bool)
    for column in range(len(mattes)):
        ours = mattes.alpha[column] > 0.5
        whole, counted = int(ours.sum()), int((ours & counts).sum())
        # whoever lies mostly where nothing is known is neither right nor wrong
        kept[column] = counted > 0 and 2 * counted >= whole
        common = np.bincount(labels[ours], minlength=256)[true_ids]
        similarity[:, column] = common / np.maximum(area[true_ids] + counted - common, 1)
    return IdentityFrame(true_ids, mattes.ids[kept], similarity[:, kept])


def clip_scores(frames: Sequence[IdentityFrame]) -> ClipScores:
    """The figures of a clip from its frames."""
    overlaps: dict[int, list[float]] = {}
    for frame in frames:
        rows, columns = match(frame.similarity)
        found = dict(zip(rows.tolist(), frame.similarity[rows, columns].tolist(), strict=True))
        for row, person in enumerate(frame.true_ids.tolist()):
            overlaps.setdefault(person, []).append(found.get(row, 0.0))
    people = tuple(
        PersonScore(
            person=person,
            visible_frames=len(values),
            iou=float(np.mean(values)),
            presence=float(np.mean(np.array(values) > PRESENT)),
        )
        for person, values in sorted(overlaps.items())
    )
    if not people:
        raise TruthError("the labels hold nobody: no person ever covers 0.5 % of the picture")
    identity = identity_scores([frames])
    return ClipScores(
        frames=len(frames),
        mean_iou=float(np.mean([person.iou for person in people])),
        presence=min(person.presence for person in people),
        switches=identity.switches,
        idf1=identity.idf1,
        hota=identity.hota,
        people=people,
        identity=identity,
    )


def followed(path: Path, engine: Engine, settings: Settings) -> Iterator[tuple[Frame, Mattes]]:
    """Everyone in every frame of a video under their number, as the program has them."""
    with (
        open_source(str(path)) as source,
        closing(cast(Generator[Frame, None, None], source.frames())) as frames,
        TemporaryDirectory() as working,
    ):
        yield from matted(frames, engine, source, settings, working=Path(working))


def compared(shown: Iterable[tuple[Frame, Mattes]], files: list[Path]) -> Iterator[IdentityFrame]:
    """Every labelled frame beside its labels; one picture in memory at a time."""
    count = 0
    for (frame, mattes), path in zip(shown, files, strict=False):
        yield compare(read_labels(path, frame.size), mattes)
        count += 1
    if count < len(files):
        raise TruthError(f"the clip ends after {count} frames, the labels after {len(files)}")


def _print(clip: Path, scores: ClipScores) -> None:
    print(f"{clip.name}: {scores.frames} frames")
    for person in scores.people:
        print(
            f"  person {person.person}: IoU {person.iou:.3f}, present in "
            f"{100 * person.presence:.1f} % of {person.visible_frames} visible frames"
        )
    print(
        f"mean IoU {scores.mean_iou:.3f} | presence {100 * scores.presence:.1f} % | "
        f"switches {scores.switches} | IDF1 {scores.idf1:.3f} | HOTA {scores.hota:.3f} | "
        f"ids {scores.identity.predicted_people} for {scores.identity.true_people} people"
    )


def main(argv: Sequence[str] | None = None, *, load_engine: LoadEngine | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.evaluate_clip",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--clip", type=Path, default=Path("../shared/data/clips/bedroom.mp4"), metavar="VIDEO"
    )
    parser.add_argument(
        "--ids", type=Path, metavar="DIR", help="label pictures; default: VIDEO's name + _ids"
    )
    parser.add_argument("--min-iou", type=float, help="fail where the mean IoU is lower")
    parser.add_argument("--min-presence", type=float, help="fail where anyone's presence is lower")
    parser.add_argument("--max-switches", type=int, help="fail where numbers switch more often")
    parser.add_argument("--min-idf1", type=float, help="fail where IDF1 is lower")
    add_options(parser)
    chosen = parser.parse_args(argv)

    def work() -> int:
        settings = settings_of(chosen)
        files = label_files(chosen.ids or chosen.clip.with_name(chosen.clip.stem + "_ids"))
        with closing(engine_of(settings, load_engine)) as engine:
            shown = followed(chosen.clip, engine, settings)
            scores = clip_scores(list(compared(shown, files)))
        figures = {
            "mean IoU": scores.mean_iou,
            "presence": scores.presence,
            "switches": scores.switches,
            "IDF1": scores.idf1,
        }
        short = missed(
            [
                ("mean IoU", chosen.min_iou, False),
                ("presence", chosen.min_presence, False),
                ("switches", chosen.max_switches, True),
                ("IDF1", chosen.min_idf1, False),
            ],
            figures,
        )
        if chosen.json:
            print(json.dumps({"clip": chosen.clip.name, **asdict(scores), "missed": short}))
        else:
            _print(chosen.clip, scores)
            for line in short:
                print(f"MISSED: {line}")
        return MISSED if short else 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
