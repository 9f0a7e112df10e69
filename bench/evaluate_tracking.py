"""How well the tracker keeps identities on public annotations: boxes only, no pictures needed.

    python -m bench.evaluate_tracking --mot17 DIR        MOT17 second halves, YOLOX detections
    python -m bench.evaluate_tracking --dancetrack DIR   DanceTrack, true boxes as detections
    make eval-tracking                                   both, and moving scenes with codes

With --baselines, SORT, ByteTrack, OC-SORT and BoT-SORT follow the same detections, and the figures
are held against the best of them; all are then scored by trackeval.

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
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from bench import tracking_baselines as baselines
from bench.wiring import MISSED, missed
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
    spent = 0.0  # of the processor: other programs on the machine do not count
    for index, detections in enumerate(recording.detected):
        mattes = _boxes_only(detections)
        camera = recording.camera[index] if recording.camera else None
        started = time.process_time()
        names.append(tracker.update(mattes, index / recording.rate, camera))
        spent += time.process_time() - started
    microseconds = 1e6 * spent / max(len(names), 1)
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


def _baseline(name: str, recording: Recording) -> tuple[list[IdentityFrame], float]:
    answers, microseconds = baselines.follow(name, recording.detected, recording.rate)
    frames = [
        _scored(true, ids, box)
        for true, (ids, box) in zip(recording.true, answers, strict=True)
    ]
    return frames, microseconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.evaluate_tracking", description=__doc__.splitlines()[0]
    )
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--mot17", type=Path, metavar="DIR", help="folder of MOT17 sequences")
    data.add_argument("--dancetrack", type=Path, metavar="DIR", help="folder of DanceTrack ones")
    parser.add_argument("--camera", action="store_true", help="use the recorded camera motion")
    parser.add_argument("--baselines", action="store_true", help="others on the same detections")
    parser.add_argument(
        "--min-hota-gain", type=float, metavar="POINTS",
        help="fail where HOTA is not so far above the best baseline's",
    )  # fmt: skip
    parser.add_argument(
        "--min-idf1-gain", type=float, metavar="POINTS", help="the same for IDF1"
    )  # fmt: skip
    parser.add_argument(
        "--min-short-return", type=float, metavar="PERCENT",
        help="fail where fewer have their number again after 6 to 30 frames away",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    chosen = parser.parse_args(arguments)
    root = chosen.mot17 or chosen.dancetrack
    if chosen.camera and not chosen.mot17:
        parser.error("--camera needs --mot17: only it comes with recorded camera motion")
    if not chosen.baselines and (chosen.min_hota_gain or chosen.min_idf1_gain) is not None:
        parser.error("gains are over --baselines")
    if chosen.baselines and (lacking := baselines.missing()):
        print(f"error: {lacking}; `make eval-tracking` installs the baselines", file=sys.stderr)
        return 2
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

    settings = TrackerSettings()
    ours = Answers("ours", *zip(*(follow(r, settings) for r in recordings), strict=True))
    others = [
        Answers(name, *zip(*(_baseline(name, r) for r in recordings), strict=True))
        for name in (baselines.NAMES if chosen.baselines else ())
    ]
    short, figures = _held_to(chosen, ours, others)
    if chosen.json:
        told = {answers.name: answers.told() for answers in (ours, *others)}
        sequences = {
            recording.name: asdict(identity_scores([frames]))
            for recording, frames in zip(recordings, ours.frames, strict=True)
        }
        print(json.dumps({**told["ours"], "sequences": sequences, "baselines": told,
                          "gains": figures, "missed": short}))  # fmt: skip
        return MISSED if short else 0
    print(f"{'sequence':16}   HOTA   DetA   AssA   IDF1   MOTA  IDSW  ids/true  us/frame")
    for recording, frames, microseconds in zip(recordings, ours.frames, ours.times, strict=True):
        _print_row(recording.name, [frames], microseconds)
    for answers in (ours, *others):
        _print_row(f"all, {answers.name}", answers.frames, answers.microseconds)
    for answers in (ours, *others):
        if reference := baselines.reference_scores(answers.frames):
            print(f"trackeval, {answers.name:9} " + ", ".join(
                f"{name} {value if name == 'IDSW' else 100 * value:.4g}"
                for name, value in reference.items()
            ))  # fmt: skip
    for answers in (ours, *others):
        print(f"same number after a gap, {answers.name}:", gap_text(gap_scores(answers.frames)))
    for line in short:
        print(f"MISSED: {line}")
    return MISSED if short else 0


@dataclass(frozen=True, eq=False)
class Answers:
    """What one tracker made of every recording."""

    name: str
    frames: tuple[list[IdentityFrame], ...]
    times: tuple[float, ...]  # microseconds per frame of each recording

    @property
    def microseconds(self) -> float:
        return sum(self.times) / len(self.times)

    def told(self) -> dict[str, Any]:
        return {
            "scores": asdict(identity_scores(self.frames)),
            "gaps": [asdict(gap) for gap in gap_scores(self.frames)],
            "trackeval": baselines.reference_scores(self.frames),
            "microseconds_per_frame": self.microseconds,
        }


def _held_to(
    chosen: argparse.Namespace, ours: Answers, others: Sequence[Answers]
) -> tuple[list[str], dict[str, float]]:
    """What falls short of the bars of the command line, and the figures they are about."""
    mine = identity_scores(ours.frames)
    short_gaps = [gap for gap in gap_scores(ours.frames) if gap.shortest == 6]
    returned = sum(gap.same for gap in short_gaps), sum(gap.gaps for gap in short_gaps)
    figures = {"same number after 6-30 frames, %": 100 * returned[0] / max(returned[1], 1)}
    if others:
        theirs = [identity_scores(answers.frames) for answers in others]
        figures["HOTA over the best baseline"] = 100 * (mine.hota - max(s.hota for s in theirs))
        figures["IDF1 over the best baseline"] = 100 * (mine.idf1 - max(s.idf1 for s in theirs))
    bars = [
        ("HOTA over the best baseline", chosen.min_hota_gain, False),
        ("IDF1 over the best baseline", chosen.min_idf1_gain, False),
        ("same number after 6-30 frames, %", chosen.min_short_return, False),
    ]
    return missed(bars, figures), figures


def gap_text(gaps: Sequence[GapScores]) -> str:
    parts = []
    for gap in gaps:
        if gap.gaps:
            reach = f"{gap.shortest}-{gap.longest}" if gap.longest else f">={gap.shortest}"
            same, stranger = 100 * gap.same / gap.gaps, 100 * gap.stranger / gap.gaps
            parts.append(f"{reach} f: {same:.0f} % of {gap.gaps} (stranger's {stranger:.0f} %)")
    return "; ".join(parts) or "nobody leaves and returns in this data"


def _print_row(name: str, answers: Sequence[list[IdentityFrame]], microseconds: float) -> None:
    s = identity_scores(answers)
    shares = (s.hota, s.deta, s.assa, s.idf1, s.mota)
    print(
        f"{name:16} "
        + " ".join(f"{100 * share:6.2f}" for share in shares)
        + f" {s.switches:5d}  {s.predicted_people:4d}/{s.true_people:<4d} {microseconds:8.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
