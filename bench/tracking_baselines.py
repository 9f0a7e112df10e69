"""Other trackers on the same detections, and the reference program that scores all of them.

SORT, ByteTrack, OC-SORT and BoT-SORT of the `trackers` package (Apache-2.0) with their own
defaults, and `trackeval` (MIT).  Both ask for opencv-python, which cannot live beside the headless
build that we use, so they are installed without their dependencies: `make eval-tracking` knows how.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from matting.metrics import IdentityFrame

NAMES = ("SORT", "ByteTrack", "OC-SORT", "BoT-SORT")


def missing() -> str | None:
    """What has to be installed before the baselines can run, if anything."""
    try:
        import supervision  # noqa: F401
        import trackers  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


def make(name: str, rate: float) -> Any:
    import trackers

    kinds: dict[str, Callable[[], Any]] = {
        "SORT": lambda: trackers.SORTTracker(frame_rate=rate),
        "ByteTrack": lambda: trackers.ByteTrackTracker(frame_rate=rate),
        "OC-SORT": lambda: trackers.OCSORTTracker(frame_rate=rate),
        # its camera compensation needs the pictures, which do not come with these annotations
        "BoT-SORT": lambda: trackers.BoTSORTTracker(frame_rate=rate, enable_cmc=False),
    }
    return kinds[name]()


def follow(
    name: str, detected: Sequence[np.ndarray], rate: float
) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    """Per frame ids (n,) and boxes (n, 4), and the CPU microseconds a frame took.

    `detected` holds (D, 5) xyxy and score per frame.
    """
    import supervision

    tracker = make(name, rate)
    answers, spent = [], 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rows in detected:
            given = supervision.Detections(
                xyxy=rows[:, :4].astype(np.float32),
                confidence=rows[:, 4].astype(np.float32),
                class_id=np.zeros(len(rows), int),
            )
            started = time.process_time()
            made = tracker.update(given)
            spent += time.process_time() - started
            ids = made.tracker_id if made.tracker_id is not None else np.full(len(made), -1)
            kept = np.asarray(ids) >= 0
            answers.append((np.asarray(ids)[kept] + 1, made.xyxy[kept].astype(float)))
    return answers, 1e6 * spent / max(1, len(detected))


def reference_scores(sequences: Sequence[Sequence[IdentityFrame]]) -> dict[str, float] | None:
    """HOTA, DetA, AssA, IDF1 in [0, 1] and IDSW by trackeval; None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from trackeval.metrics import CLEAR, HOTA, Identity
    except ImportError:
        return None
    quiet = {"PRINT_CONFIG": False}
    metrics = {"HOTA": HOTA(), "CLEAR": CLEAR(quiet), "Identity": Identity(quiet)}
    per_sequence: dict[str, dict[str, Any]] = {name: {} for name in metrics}
    for number, frames in enumerate(sequences):
        data = _as_trackeval(frames)
        for name, metric in metrics.items():
            per_sequence[name][str(number)] = metric.eval_sequence(data)
    total = {n: metric.combine_sequences(per_sequence[n]) for n, metric in metrics.items()}
    return {
        "HOTA": float(np.mean(total["HOTA"]["HOTA"])),
        "DetA": float(np.mean(total["HOTA"]["DetA"])),
        "AssA": float(np.mean(total["HOTA"]["AssA"])),
        "IDF1": float(total["Identity"]["IDF1"]),
        "IDSW": float(total["CLEAR"]["IDSW"]),
    }


def _as_trackeval(frames: Sequence[IdentityFrame]) -> dict[str, Any]:
    true: dict[int, int] = {}
    found: dict[int, int] = {}

    def rows(ids: np.ndarray, table: dict[int, int]) -> np.ndarray:
        return np.array([table.setdefault(int(i), len(table)) for i in ids], int)

    true_ids = [rows(frame.true_ids, true) for frame in frames]
    found_ids = [rows(frame.predicted_ids, found) for frame in frames]
    return {
        "num_timesteps": len(frames),
        "num_gt_dets": sum(map(len, true_ids)),
        "num_tracker_dets": sum(map(len, found_ids)),
        "num_gt_ids": len(true),
        "num_tracker_ids": len(found),
        "gt_ids": true_ids,
        "tracker_ids": found_ids,
        "similarity_scores": [np.asarray(frame.similarity, float) for frame in frames],
    }
