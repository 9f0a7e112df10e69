"""How well the tracker keeps identities on public annotations: boxes only, no pictures needed.

    python -m bench.evaluate_tracking --mot17 DIR        MOT17 second halves, YOLOX detections
    python -m bench.evaluate_tracking --dancetrack DIR   DanceTrack, true boxes as detections

DIR holds one folder per sequence with `seqinfo.ini` and `gt/gt.txt`; for MOT17 also
`det_yolox_full_sequence.txt` and, for --camera, `gmc_full_sequence.txt`, both numbered as in the
full video whose second half the ground truth covers.  MOT17 is scored as its benchmark does: a
detection on a person-like thing (someone on a vehicle, a statue, a reflection) is neither right nor
wrong.  The annotations are for non-commercial research and are not part of this repository.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from configparser import ConfigParser
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from matting.frames import Mattes
from matting.metrics import GapScores, IdentityFrame, gap_scores, identity_scores
from tracking.similarity import box_overlap
from tracking.tracker import Tracker, TrackerSettings

PERSON = 1  # MOT17 class
DISTRACTORS = (2, 7, 8, 12)  # on a vehicle, standing still, distractor, reflection
MIN_AREA, MAX_ASPECT = 100.0, 1.6  # smaller or wider boxes are not whole people (as in ByteTrack)


class DataError(ValueError):
    """The annotations are not where, or not what, they should be."""


@dataclass(frozen=True, eq=False)
class Recording:
    """One sequence: what is true and what was detected, frame by frame."""

    name: str
    rate: float  # frames per second
    true: list[np.ndarray]  # per frame (T, 3 + 4): id, counts (0/1), distractor (0/1), xyxy
    detected: list[np.ndarray]  # per frame (D, 5): xyxy, score
    camera: list[np.ndarray] | None  # per frame (2, 3), previous picture to this one


def mot17(folder: Path, camera: bool) -> Recording:
    rate, frames = _sequence_info(folder)
    truth = _table(folder / "gt" / "gt.txt", columns=8)
    detections = _table(folder / "det_yolox_full_sequence.txt", columns=7)
    offset = int(detections[:, 0].max()) - frames  # the ground truth is the second half, from 1
    if offset < 0:
        raise DataError(f"{folder}: the detections end before the ground truth does")
    labels = np.stack(
        [
            truth[:, 1],
            (truth[:, 7] == PERSON) & (truth[:, 6] != 0),
            np.isin(truth[:, 7], DISTRACTORS),
        ],
        1,
    )
    true = _by_frame(truth[:, 0], np.concatenate([labels, _xyxy(truth[:, 2:6])], 1), frames)
    rows = np.concatenate([_xyxy(detections[:, 2:6]), detections[:, 6:7]], 1)
    detected = _by_frame(detections[:, 0] - offset, rows, frames)
    motion = None
    if camera:
        table = _table(folder / "gmc_full_sequence.txt", columns=7)
        by_number = {int(row[0]) - offset: row[1:7].reshape(2, 3) for row in table}
        motion = [by_number.get(frame, np.eye(2, 3)) for frame in range(frames)]
    return Recording(folder.name, rate, true, detected, motion)


def dancetrack(folder: Path) -> Recording:
    rate, frames = _sequence_info(folder)
    truth = _table(folder / "gt" / "gt.txt", columns=6)
    box = _xyxy(truth[:, 2:6])
    ones, zeros = np.ones(len(truth)), np.zeros(len(truth))
    true = np.concatenate([np.stack([truth[:, 1], ones, zeros], 1), box], 1)
    detected = np.concatenate([box, ones[:, None]], 1)
    return Recording(
        folder.name,
        rate,
        _by_frame(truth[:, 0], true, frames),
        _by_frame(truth[:, 0], detected, frames),
        None,
    )


def follow(recording: Recording, settings: TrackerSettings) -> tuple[list[IdentityFrame], float]:
    """The tracker's answer beside the truth, and the microseconds it took per frame."""
    tracker = Tracker(settings)
    names: list[np.ndarray] = []
    started = time.perf_counter()
    for index, detections in enumerate(recording.detected):
        mattes = _boxes_only(detections)
        camera = recording.camera[index] if recording.camera else None
        names.append(tracker.update(mattes, index / recording.rate, camera))
    microseconds = 1e6 * (time.perf_counter() - started) / max(len(names), 1)
    tracker.finish()
    frames = []
    for true, detections, ids in zip(recording.true, recording.detected, names, strict=True):
        ids = np.array([tracker.resolved.get(int(i), int(i)) for i in ids], np.int64)
        frames.append(_scored(true, ids[ids > 0], detections[ids > 0, :4]))
    return frames, microseconds


def _scored(true: np.ndarray, ids: np.ndarray, box: np.ndarray) -> IdentityFrame:
    size = box[:, 2:] - box[:, :2]
    whole = (size.prod(1) > MIN_AREA) & (size[:, 0] <= MAX_ASPECT * size[:, 1])
    if not true[:, 2].any() and true[:, 1].all():
        whole[:] = True  # true boxes: nothing to filter
    ids, box = ids[whole], box[whole]
    overlap = box_overlap(true[:, 3:], box)
    rows, columns = linear_sum_assignment(np.where(overlap >= 0.5, overlap, 0), maximize=True)
    distracted = (overlap[rows, columns] >= 0.5) & (true[rows, 2] > 0)
    keep = np.ones(len(ids), bool)
    keep[columns[distracted]] = False
    counts = true[:, 1] > 0
    return IdentityFrame(
        true_ids=true[counts, 0].astype(np.int64),
        predicted_ids=ids[keep],
        similarity=overlap[np.ix_(counts, keep)],
    )


def _boxes_only(detections: np.ndarray) -> Mattes:
    count = len(detections)
    return Mattes(
        alpha=np.zeros((count, 1, 1), np.float32),
        coarse=np.zeros((count, 1, 1), np.float32),
        score=detections[:, 4].astype(np.float32),
        box=detections[:, :4].astype(np.float32),
        code=np.zeros((count, 0), np.float32),
        ids=np.full(count, -1, np.int64),
    )


def _sequence_info(folder: Path) -> tuple[float, int]:
    parser = ConfigParser()
    if not parser.read(folder / "seqinfo.ini"):
        raise DataError(f"{folder / 'seqinfo.ini'} is missing: expected a MOTChallenge sequence")
    try:
        section = parser["Sequence"]
        return float(section["frameRate"]), int(section["seqLength"])
    except (KeyError, ValueError) as error:
        raise DataError(f"{folder / 'seqinfo.ini'}: {error}") from None


def _table(path: Path, columns: int) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path} is missing")
    try:
        text = path.read_text().replace(",", " ").splitlines()
        table = np.array([line.split() for line in text if line.strip()], np.float64)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    if table.ndim != 2 or table.shape[1] < columns:
        raise DataError(f"{path}: expected at least {columns} columns of numbers")
    return table


def _xyxy(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def _by_frame(numbers: np.ndarray, rows: np.ndarray, frames: int) -> list[np.ndarray]:
    """Rows split by frame, numbered from 1; frames outside the recording are left out."""
    return [rows[numbers == frame] for frame in range(1, frames + 1)]


def _gap_text(gaps: Sequence[GapScores]) -> str:
    parts = []
    for gap in gaps:
        if gap.gaps:
            reach = f"{gap.shortest}-{gap.longest}" if gap.longest else f">={gap.shortest}"
            same, stranger = 100 * gap.same / gap.gaps, 100 * gap.stranger / gap.gaps
            parts.append(f"{reach} f: {same:.0f} % of {gap.gaps} (stranger's {stranger:.0f} %)")
    return "; ".join(parts) or "any length: nobody leaves and returns in this data"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.evaluate_tracking", description=__doc__.splitlines()[0]
    )
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--mot17", type=Path, metavar="DIR", help="folder of MOT17 sequences")
    data.add_argument("--dancetrack", type=Path, metavar="DIR", help="folder of DanceTrack ones")
    parser.add_argument("--camera", action="store_true", help="use the recorded camera motion")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    chosen = parser.parse_args(arguments)
    root = chosen.mot17 or chosen.dancetrack
    if chosen.camera and not chosen.mot17:
        parser.error("--camera needs --mot17: only it comes with recorded camera motion")
    try:
        folders = sorted(path for path in root.glob("*") if (path / "gt" / "gt.txt").is_file())
        if not folders:
            raise DataError(f"{root}: no folder here holds gt/gt.txt")
        recordings = [
            mot17(folder, chosen.camera) if chosen.mot17 else dancetrack(folder)
            for folder in folders
        ]
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3

    answers, times = [], []
    for recording in recordings:
        frames, microseconds = follow(recording, TrackerSettings())
        answers.append(frames)
        times.append(microseconds)
    total = identity_scores(answers)
    gaps = gap_scores(answers)
    if chosen.json:
        print(
            json.dumps(
                {
                    "scores": asdict(total),
                    "gaps": [asdict(gap) for gap in gaps],
                    "sequences": {
                        recording.name: asdict(identity_scores([frames]))
                        for recording, frames in zip(recordings, answers, strict=True)
                    },
                    "microseconds_per_frame": sum(times) / len(times),
                }
            )
        )
        return 0
    print(f"{'sequence':16}   HOTA   DetA   AssA   IDF1   MOTA  IDSW  ids/true  us/frame")
    for recording, frames, microseconds in zip(recordings, answers, times, strict=True):
        _print_row(recording.name, [frames], microseconds)
    _print_row("all", answers, sum(times) / len(times))
    print("same number after a gap of", _gap_text(gaps))
    return 0


def _print_row(name: str, answers: list[list[IdentityFrame]], microseconds: float) -> None:
    s = identity_scores(answers)
    shares = (s.hota, s.deta, s.assa, s.idf1, s.mota)
    print(
        f"{name:16} "
        + " ".join(f"{100 * share:6.2f}" for share in shares)
        + f" {s.switches:5d}  {s.predicted_people:4d}/{s.true_people:<4d} {microseconds:8.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
