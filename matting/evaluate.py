"""How well weights do on a public data set, in the tables the papers print:

    python -m matting.evaluate HIM2K --weights weights/published.safetensors

Weights of either network are taken (the file says which it is); `--predictions DIR` scores mattes
some other program wrote, as DIR/<picture>/NN.png (NN is who, for videos).  A run that was stopped
goes on where it was: what has been measured lies in `--state`, one line a picture or video.

Data sets and their trees: matting/datasets/.  Definitions of the measures: matting/metrics/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from matting import metrics
from matting.datasets import DATASETS, Item, Picture, open_dataset
from matting.datasets.picture import listing, named, read_matte, stacked

ERRORS = ("mad", "mse", "grad", "conn", "iou")
TAUS = (0.5, 0.75)
LIVE_AREA = 288 * 512  # pixels the live network sees of a picture, whatever its shape


class Predictor(Protocol):
    """Mattes of one picture after another; `start` is called where a video, or a still, begins."""

    name: str
    key: str  # what results are kept under: other weights, other results

    def start(self) -> None: ...

    def __call__(self, rgb: np.ndarray, name: str) -> tuple[np.ndarray, tuple[int, ...] | None]:
        """alpha (n, H, W) float32 in 0..1, and who they are where that is known."""
        ...


class Published:
    """The published network, at the size its authors' program uses or another."""

    def __init__(self, weights: Path, device: str, side: int | None) -> None:
        from matting.network.published import network

        made, facts = network.load(weights)
        if "licence" in facts:
            print(f"licence: {facts['licence']}", file=sys.stderr)
        self.network, self.side = made.to(device), side or network.SIDE
        self.name = f"{network.NAME} at {self.side} x {self.side}"
        self.key = f"{_digest(weights)}-{self.side}"

    def start(self) -> None:
        pass

    def __call__(self, rgb: np.ndarray, name: str) -> tuple[np.ndarray, None]:
        from matting.network.published.network import mattes

        return mattes(self.network, rgb, side=self.side)[0], None


class Live:
    """The live network, with its memory over the frames of a video."""

    def __init__(self, weights: Path, device: str) -> None:
        from matting.network import live

        self.network, self.device = live.load(weights)[0].to(device), device
        self.name, self.key, self.memory = live.NAME, _digest(weights), None

    def start(self) -> None:
        self.memory = None

    def __call__(self, rgb: np.ndarray, name: str) -> tuple[np.ndarray, None]:
        import torch

        from matting.network import live

        scale = (LIVE_AREA / (rgb.shape[0] * rgb.shape[1])) ** 0.5
        h, w = (max(32, round(side * scale / 32) * 32) for side in rgb.shape[:2])
        how = cv2.INTER_AREA if rgb.shape[0] > h else cv2.INTER_LINEAR
        small, full = (
            torch.from_numpy(x).to(self.device).permute(2, 0, 1).float() / 127.5 - 1
            for x in (cv2.resize(rgb, (w, h), interpolation=how), np.ascontiguousarray(rgb))
        )
        with torch.no_grad():
            output = self.network(small[None].contiguous(), None, self.memory)
            self.memory = output.memory
            alpha, _, _ = live.mattes(output, full)
        return alpha.cpu().numpy(), None


class Folder:
    """Mattes that are there already."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)
        self.key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        if not folder.is_dir() or not any(folder.iterdir()):
            raise ValueError(f"{folder}: no folder with predictions")

    def start(self) -> None:
        pass

    def __call__(self, rgb: np.ndarray, name: str) -> tuple[np.ndarray, tuple[int, ...]]:
        place = self.folder / name
        files = listing(place, (".png",)) if place.is_dir() and any(place.glob("*.png")) else []
        mattes = stacked([read_matte(f, rgb.shape[:2]) for f in files], rgb.shape[:2])
        return mattes.astype(np.float32) / 255, named(files)


def predictor(weights: Path, device: str, side: int | None = None) -> Predictor:
    """The network a weights file is of, ready to predict."""
    from safetensors import SafetensorError, safe_open

    from matting.network import live
    from matting.network.published import network as published

    try:
        with safe_open(weights, framework="pt") as file:
            name = (file.metadata() or {}).get("network")
    except SafetensorError as error:
        raise ValueError(f"{weights}: not a safetensors file ({error})") from None
    if name == published.NAME:
        return Published(weights, device, side)
    if name == live.NAME:
        if side is not None:
            raise ValueError("--side is for the published network; the live one keeps shapes")
        return Live(weights, device)
    raise ValueError(f"{weights} is of {name!r}, expected {published.NAME!r} or {live.NAME!r}")


def measured(unit: list[Item], predict: Predictor, kind: str) -> dict[str, Any]:
    """What one picture, or one video, adds to the tables; numbers that JSON can keep."""
    predict.start()
    record: dict[str, Any] = {"name": unit[0].video or unit[0].name, "pictures": []}
    motion = Motion()
    for item in unit:
        picture = item.load()
        predicted, ids = predict(picture.rgb, item.name)
        true = picture.alpha.astype(np.float32) / 255
        if picture.known is not None:
            predicted, true = predicted * picture.known, true * picture.known
        if kind == "portraits":
            record["pictures"].append(portrait(predicted, true[0]))
            continue
        told, rows = people(predicted, true)
        record["pictures"].append(told)
        if kind == "videos":
            motion.add(picture, predicted, true, rows)
            if ids is not None:
                frame = metrics.mask_frame(true, picture.ids, predicted, ids)
                record.setdefault("identity", []).append(
                    [list(picture.ids), list(ids), frame.similarity.round(6).tolist()]
                )
    if kind == "videos":
        record["people"] = motion.told()
    return record


def portrait(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """All that was found together against the one matte there is."""
    whole = predicted.sum(0).clip(0, 1) if len(predicted) else np.zeros_like(true)
    names = ("sad", "mse", "mad", "grad", "conn")
    return {name: getattr(metrics, name)(whole, true) for name in names}


def people(predicted: np.ndarray, true: np.ndarray) -> tuple[dict[str, Any], dict[int, int]]:
    """Everyone in a picture; and which prediction is whose, {true row: predicted row}."""
    errors = metrics.error_counts(predicted, true)
    overlap = metrics.overlap_matrix(predicted, true)
    rows, columns = metrics.match(overlap)
    pairs = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        pair = {"overlap": float(overlap[row, column])}
        if overlap[row, column] >= min(TAUS):  # below, no threshold looks at it
            for name in ERRORS[:-1]:
                pair[name] = metrics.pair_error(predicted[row], true[column], name)
        pairs.append(pair)
    solid = metrics.overlap_matrix(predicted, true, 0.5)
    mine = dict(zip(columns.tolist(), rows.tolist(), strict=True))
    told = {
        "predicted": len(predicted), "true": len(true), "pairs": pairs,
        "squared": errors.squared, "absolute": errors.absolute, "counted": errors.people,
        "iou": [float(solid[mine[c], c]) if c in mine else 0.0 for c in range(len(true))],
    }  # fmt: skip
    return told, mine


class Motion:
    """dtSSD and MESSDdt of every person of a video, two frames at a time."""

    def __init__(self) -> None:
        self.before: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.sums: dict[int, np.ndarray] = {}  # id -> dtssd, messddt, mad, mse, frames, pairs

    def add(
        self, picture: Picture, predicted: np.ndarray, true: np.ndarray, mine: dict[int, int]
    ) -> None:
        now = {}
        for row, who in enumerate(picture.ids):
            ours = predicted[mine[row]] if row in mine else np.zeros_like(true[row])
            sums = self.sums.setdefault(who, np.zeros(6))
            sums[2:5] += metrics.mad(ours, true[row]), metrics.mse(ours, true[row]), 1
            if who in self.before:
                both = [np.stack(x) for x in zip(self.before[who], (ours, true[row]), strict=True)]
                sums[[0, 1, 5]] += metrics.dtssd(*both), metrics.messddt(*both), 1
            now[who] = (ours, true[row])
        self.before = now

    def told(self) -> list[dict[str, float]]:
        return [
            {"dtssd": s[0] / max(s[5], 1), "messddt": s[1] / max(s[5], 1),
             "mad": s[2] / s[4], "mse": s[3] / s[4]}
            for s in self.sums.values()
        ]  # fmt: skip


def summed(records: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The figures of the whole set, from what its pictures and videos add."""
    pictures = [p for record in records for p in record["pictures"]]
    told: dict[str, Any] = {"pictures": len(pictures)}
    if kind == "portraits":
        names = pictures[0] if pictures else ()
        return told | {name: float(np.mean([p[name] for p in pictures])) for name in names}
    errors = metrics.combined_errors(
        metrics.ErrorCounts(p["squared"], p["absolute"], p["counted"]) for p in pictures
    )
    ious = [iou for p in pictures for iou in p["iou"]]
    told |= {
        "people": sum(p["true"] for p in pictures), "emse": errors.emse, "emad": errors.emad,
        "iou": float(np.mean(ious)) if ious else 0.0,
        "found": float(np.mean([iou >= 0.5 for iou in ious])) if ious else 0.0,
        "extra": sum(max(0, p["predicted"] - len(p["pairs"])) for p in pictures),
    }  # fmt: skip
    for tau in TAUS:
        for name in ERRORS:
            quality = metrics.combined_quality(_counts(p, name, tau) for p in pictures)
            told[f"{name}@{tau}"] = {"imq": quality.imq, "mq": quality.mq, "rq": quality.rq}
    if kind == "videos":
        people = [p for record in records for p in record["people"]]
        for name in ("mad", "mse", "dtssd", "messddt"):
            told[name] = float(np.mean([p[name] for p in people])) if people else 0.0
        if all("identity" in record for record in records):
            scores = metrics.identity_scores(_frames(record) for record in records)
            told |= {"hota": scores.hota, "idf1": scores.idf1, "switches": scores.switches}
    return told


def _counts(picture: dict[str, Any], error: str, tau: float) -> metrics.QualityCounts:
    hits = [pair for pair in picture["pairs"] if pair["overlap"] >= tau]
    similarity = sum(
        pair["overlap"] if error == "iou" else 1 - min(10 * pair[error], 1.0) for pair in hits
    )
    return metrics.QualityCounts(
        similarity, len(hits), picture["predicted"] - len(hits), picture["true"] - len(hits)
    )


def _frames(record: dict[str, Any]) -> list[metrics.IdentityFrame]:
    return [
        metrics.IdentityFrame(
            np.array(true, int), np.array(predicted, int),
            np.array(similarity, float).reshape(len(true), len(predicted)),
        )
        for true, predicted, similarity in record["identity"]
    ]  # fmt: skip


def table(told: dict[str, Any], kind: str) -> str:
    """The figures as the papers lay them out."""
    if kind == "portraits":
        names = ("sad", "mse", "mad", "grad", "conn")
        head = "".join(f"{name.upper():>10}" for name in names)
        return head + "\n" + "".join(f"{told.get(name, 0):10.2f}" for name in names)
    lines = [
        f"{'EMSE':>8}{'EMAD':>8}{'IoU':>8}{'found':>8}{'extra':>8}",
        f"{told['emse']:8.2f}{told['emad']:8.2f}{told['iou']:8.3f}{told['found']:8.3f}"
        f"{told['extra']:8d}",
        "",
        " " * 10 + "".join(f"{name:>8}" for name in ("MAD", "MSE", "Grad", "Conn", "IoU")),
    ]
    for tau in TAUS:
        for part in ("imq", "mq", "rq"):
            values = "".join(f"{told[f'{name}@{tau}'][part]:8.2f}" for name in ERRORS)
            lines.append(f"{part.upper():>4}@{tau:<5}{values}")
    if kind == "videos":
        names = [n for n in ("mad", "mse", "dtssd", "messddt", "hota", "idf1") if n in told]
        shown = {"dtssd": "dtSSD", "messddt": "MESSDdt"}
        lines += ["", "".join(f"{shown.get(name, name.upper()):>9}" for name in names)]
        lines.append("".join(f"{told[name]:9.3f}" for name in names))
    return "\n".join(lines)


def kept(state: Path) -> dict[str, dict[str, Any]]:
    """What an earlier run has measured, by name.  A last line that was cut short is dropped."""
    if not state.exists():
        return {}
    whole, records = b"", {}
    for line in state.read_bytes().splitlines(keepends=True):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        whole += line
        records[record["name"]] = record
    if len(whole) < state.stat().st_size:
        state.write_bytes(whole)
    return records


def evaluated(
    items: list[Item], predict: Predictor, kind: str, state: Path, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Every unit's record, those of earlier runs as they were kept."""
    records = kept(state)
    state.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    for name, group in groupby(items, lambda item: item.video or item.name):
        unit = list(group)
        old = records.get(name)
        if old is None or len(old["pictures"]) != len(unit):
            old = measured(unit, predict, kind)
            with state.open("a", encoding="utf-8") as file:
                file.write(json.dumps(old) + "\n")
            progress.fresh += len(unit)
        done += len(unit)
        progress.show(done)
        yield old


class Progress:
    """A line that moves on a terminal, and a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.fresh = total, 0
        self.began = self.shown = time.monotonic()
        self.live = sys.stderr.isatty()

    def show(self, done: int) -> None:
        now = time.monotonic()
        if done < self.total and now - self.shown < (0.2 if self.live else 10):
            return
        self.shown = now
        pace = self.fresh / max(1e-9, now - self.began)
        left = f", {(self.total - done) / pace / 60:.0f} min left" if pace else ""
        line = f"[{'#' * (20 * done // self.total):20}] {done}/{self.total}{left}"
        end = "\n" if done == self.total or not self.live else ""
        print(("\r\033[K" if self.live else "") + line, end=end, file=sys.stderr, flush=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m matting.evaluate", description=__doc__.splitlines()[0][:-1]
    )
    parser.add_argument("dataset", help=", ".join(DATASETS))
    parser.add_argument("--data", type=Path, help="where it was unpacked; default: data/DATASET")
    parser.add_argument("--split", help="default: the one papers report")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--weights", type=Path, help=".safetensors of either network")
    what.add_argument("--predictions", type=Path, metavar="DIR", help="mattes to score instead")
    parser.add_argument("--side", type=int, help="published network only: see pictures this large")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: cuda if there is one")
    parser.add_argument("--limit", type=int, help="only the first so many pictures")
    parser.add_argument("--state", type=Path, help="default: runs/evaluate/<set>-<split>-….ndjson")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    return parser


def main(words: list[str] | None = None) -> int:
    args = arguments().parse_args(words)
    try:
        root = args.data or Path("data") / args.dataset
        items = open_dataset(args.dataset, root, args.split)[: args.limit]
        known = DATASETS[args.dataset]
        split = args.split or known.splits[0]
        if args.side is not None and (args.side < 32 or args.side % 32):
            raise ValueError(f"--side should be a multiple of 32, got {args.side}")
        predict: Predictor
        if args.predictions:
            predict = Folder(args.predictions)
        else:
            import torch

            device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
            predict = predictor(args.weights, device, args.side)
        name = f"{args.dataset}-{split}-{predict.key}.ndjson"
        state = args.state or Path("runs/evaluate") / name
        if args.fresh:
            state.unlink(missing_ok=True)
        records = list(evaluated(items, predict, known.kind, state, Progress(len(items))))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    told = summed(records, known.kind)
    if args.json:
        print(json.dumps({"dataset": args.dataset, "split": split, "of": predict.name} | told))
    else:
        print(f"{args.dataset} {split}, {told['pictures']} pictures, of {predict.name}\n")
        print(table(told, known.kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
