"""Can codes tell people apart?  How alike one person is to themself, and to the others, over time.

    python -m bench.evaluate_codes                          the shipped network
    python -m bench.evaluate_codes --clips ../shared/data/clips

For moving scenes of people never trained on, and for clips of real people, the cosine of codes is
compared over 1, 10 and 100 frames: of the same person, and of different people of the same scene
(of all clips, for the real ones).  The figure is the area under ROC: the probability that a pair of
one person is more alike than a pair of two; 0.5 is chance.  Three codes are measured: the latent
code that makes a person's kernels; the same less the mean of its query slot; and what the identity
head says (matting/network/identity.py), which is what the tracker is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

REACHES = (1, 10, 100)  # frames between the two sightings of a pair
STARTS = (0, 1, 10, 20, 100, 101, 110)  # frames that are looked at
RATE = 30  # frames a second of the made scenes
SCORE = 0.5
ENOUGH = 0.5  # overlap with the true person

Sighting = tuple[str, int, int, int, np.ndarray, np.ndarray]  # scene, frame, person, slot, codes


def made_scenes(data: Path, count: int) -> Iterator[tuple[str, int, np.ndarray, dict]]:
    """(scene, frame, rgb, {person: true alpha}) of scenes of held-out people."""
    from matting.synthesis.scenes import random_scene, render
    from matting.synthesis.sources import load

    sources = load(data, held_out=True, tall=400)
    for seed in range(count):
        scene = random_scene(sources, (288, 512), [70_000, seed], photos=0.0)
        if sum(actor.person for actor in scene.actors) < 2:
            continue
        for frame in STARTS:
            sample = render(scene, frame / RATE)
            alphas = dict(zip(sample.ids, sample.alpha.astype(np.float32) / 255, strict=True))
            yield f"scene {seed}", frame, sample.rgb, alphas


def real_clips(folder: Path) -> Iterator[tuple[str, int, np.ndarray, dict | None]]:
    """The same of real clips: with ids where there are any; else the largest person is the one."""
    for path in sorted(folder.glob("*.m*")):
        if path.stem.startswith(("one-by-one", "help")):
            continue  # nobody has written down who is who; the man of `help` is that of `again`
        labels = path.with_name(path.stem + "_ids")
        film = cv2.VideoCapture(str(path))
        index = 0
        while film.grab():
            if index in STARTS:
                rgb = np.ascontiguousarray(film.retrieve()[1][:, :, ::-1])
                if labels.is_dir():
                    ids = cv2.imread(str(labels / f"{index:05d}.png"), cv2.IMREAD_UNCHANGED)
                    people = [int(v) for v in np.unique(np.asarray(ids)) if v not in (0, 255)]
                    yield path.stem, index, rgb, {v: np.float32(ids == v) for v in people}
                else:
                    yield path.stem, index, rgb, None
            index += 1


def sightings(pictures: Iterator, weights: Path) -> list[Sighting]:
    import torch

    from matting.metrics import match, overlap_matrix
    from matting.network import live

    network, _ = live.load(weights)
    found: list[Sighting] = []
    for scene, frame, rgb, true in pictures:
        small = cv2.resize(rgb, (512, 288), interpolation=cv2.INTER_AREA)
        image = torch.from_numpy(small)[None].permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            output = network(image)
        score = output.existence[-1][0].softmax(-1)[:, 1].numpy()
        rows = np.flatnonzero(score >= SCORE)
        if not len(rows):
            continue
        maps = output.location[-1][0].sigmoid().numpy()[rows]
        if true is None:
            pairs = [(int(rows[np.argmax((maps > 0.5).sum((1, 2)))]), 0)]
        elif true:
            grid = maps.shape[:0:-1]
            alphas = np.stack(
                [cv2.resize(a, grid, interpolation=cv2.INTER_AREA) for a in true.values()]
            )
            mine, theirs = match(overlap_matrix(alphas, maps, 0.5), ENOUGH)
            pairs = [
                (int(rows[t]), list(true)[m]) for m, t in zip(mine, theirs, strict=True)
            ]
        else:
            continue
        for row, person in pairs:
            found.append((scene, frame, person, row, output.codes[0, row].numpy().copy(),
                          output.identity[0, row].numpy().copy()))  # fmt: skip
    return found


def areas(found: Sequence[Sighting], codes: np.ndarray, strangers: str) -> dict[str, float]:
    """Area under ROC for each reach; `strangers` are others of the same "scene", or of "other"
    scenes."""
    unit = codes - codes.mean(0)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
    cosine = unit @ unit.T
    scene = np.array([f[0] for f in found])
    frame, person = np.array([f[1] for f in found]), np.array([f[2] for f in found])
    together = scene[:, None] == scene
    same = together & (person[:, None] == person)
    other = ~same & together if strangers == "scene" else ~same
    made = {}
    for reach in REACHES:
        away = (frame[None] - frame[:, None]) == reach
        own = cosine[same & away]
        foreign = cosine[other & (away if strangers == "scene" else np.ones_like(away))]
        made[str(reach)] = area_under_roc(own, foreign)
    return made


def area_under_roc(same: np.ndarray, other: np.ndarray) -> float:
    if not len(same) or not len(other):
        return float("nan")
    ranked = np.sort(other)
    below = np.searchsorted(ranked, same) + np.searchsorted(ranked, same, side="right")
    return float(below.mean() / (2 * len(ranked)))


def less_slots(found: Sequence[Sighting]) -> np.ndarray:
    """Latent codes, each less the mean of all that came from its query slot."""
    codes, slots = np.stack([f[4] for f in found]), np.array([f[3] for f in found])
    for slot in np.unique(slots):
        codes[slots == slot] -= codes[slots == slot].mean(0)
    return codes


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.evaluate_codes", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="DIR")
    parser.add_argument("--clips", type=Path, metavar="DIR", help="default: clips/ of the data")
    parser.add_argument("--weights", type=Path, default=Path("weights/live.safetensors"))
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    said = parser.parse_args(argv)
    table = {}
    for where, pictures, strangers in (
        ("made scenes", made_scenes(said.data, said.scenes), "scene"),
        ("real clips", real_clips(said.clips or said.data / "clips"), "other"),
    ):
        found = sightings(pictures, said.weights)
        if not found:
            print(f"error: the network found nobody in the {where}", file=sys.stderr)
            return 3
        for kind, codes in (
            ("latent code", np.stack([f[4] for f in found])),
            ("less its slot's mean", less_slots(found)),
            ("identity head", np.stack([f[5] for f in found])),
        ):
            table[f"{where}, {kind}"] = areas(found, codes, strangers)
    if said.json:
        print(json.dumps(table))
        return 0
    print(f"{'area under ROC after … frames':38}" + "".join(f"{r:>8}" for r in REACHES))
    for name, row in table.items():
        print(f"{name:38}" + "".join(f"{row[str(r)]:8.3f}" for r in REACHES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
