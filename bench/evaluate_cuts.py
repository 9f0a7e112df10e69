"""Do people keep their numbers where a video is cut into parts?  A long clip, one process and many.

    python -m bench.evaluate_cuts --data ../shared/data

A made clip of ten minutes with three people never trained on, whose truth is known: every 15 s two
of them change places, the nearer walking in front of the other, and 15 s is what the parts are
multiples of, so that every cut falls into a crossing.  The program mattes it in one process, and
with workers in 8 and in 40 parts.  Printed are IDF1 of each (mattes against mattes, IoU above 0.5),
and how many pictures of the tracks differ from those of the one process, near cuts and away from
them.  Small pictures at a low rate: the network works at a size of its own, whatever comes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import numpy as np

import run_stream
from bench.evaluate_returns import compared
from bench.machine import described
from bench.wiring import MISSED, guarded
from matting.frames import Mattes
from matting.metrics import IdentityFrame, identity_scores
from matting.synthesis.scenes import Motion, Sample, Scene, crop_to, random_actor, render
from matting.synthesis.sources import Cutout, Sources, load

SIZE = (180, 320)  # (H, W)
EVERY = 15  # seconds from crossing to crossing
WALK = 3.0  # seconds a crossing takes
PEOPLE = 3
NEAR = 2.0  # seconds from a cut in which the network may still remember differently
HELD_TO = 0.5  # points of IDF1 that cutting may cost


@dataclass(frozen=True)
class Places(Motion):
    """One place after the other; walks between them are centred on multiples of EVERY."""

    stops: tuple[float, ...] = ()  # dx in picture heights

    def at(self, t: float) -> tuple[float, float, float]:
        at = int((t + EVERY / 2) // EVERY)  # the crossing this moment is nearest to
        before, after = (self.stops[min(max(i, 0), len(self.stops) - 1)] for i in (at - 1, at))
        done = float(np.clip((t - at * EVERY) / WALK + 0.5, 0, 1)) if at else 1.0
        wave = float(np.sin(2 * np.pi * self.hertz * t + self.phase))
        x = before + (after - before) * done
        return x + self.sway * wave, 0.01 * abs(wave), 0.03 * wave


def play(sources: Sources, seed: int, seconds: int) -> Scene:
    rng = np.random.default_rng([90_000, seed])
    aspect = SIZE[1] / SIZE[0]
    background = sources.backgrounds[int(rng.integers(len(sources.backgrounds)))]
    background, _ = crop_to(background, None, SIZE, rng, 0.6)
    grounded: list[Cutout] = [c for c in sources.cutouts if c.grounded]
    chosen = rng.choice(len(grounded), PEOPLE, replace=False).tolist()
    homes = [aspect * (i + 0.5) / PEOPLE for i in range(PEOPLE)]
    order = list(range(PEOPLE))  # who stands at which home
    stops: list[list[float]] = [[] for _ in range(PEOPLE)]
    pairs = list(combinations(range(PEOPLE), 2))
    for crossing in range(seconds // EVERY + 1):
        if crossing:
            a, b = pairs[crossing % len(pairs)]
            order[a], order[b] = order[b], order[a]
        for home, who in enumerate(order):
            stops[who].append(homes[home] - homes[who])
    actors = []
    for who, cutout in enumerate(chosen):
        actor = random_actor(grounded[cutout], SIZE, rng, None, 0.0)
        motion = Places(
            stops=tuple(stops[who]), sway=0.02, hertz=rng.uniform(0.3, 0.9), phase=2.0 * who
        )
        actors.append(replace(
            actor, foot=(homes[who], rng.uniform(0.9, 1.0)), height=rng.uniform(0.65, 0.85),
            wide=1.0, turn=0.0, blur=None, motion=motion, id=who + 1,
        ))  # fmt: skip
    actors.sort(key=lambda actor: actor.foot[1])
    return Scene(SIZE, background, actors, exposure_seed=int(rng.integers(2**31)))


def film(scene: Scene, seconds: int, rate: int, path: Path) -> list[Sample]:
    """Write the clip; its truth, with the alphas as bits (P, H * W / 8)."""
    truth = []
    with av.open(f"file:{path}", "w") as out:
        stream = out.add_stream("libx264", rate=rate)
        stream.codec_context.height, stream.codec_context.width = SIZE
        stream.codec_context.pix_fmt = "yuv420p"
        stream.codec_context.options = {"preset": "veryfast", "crf": "16", "g": str(4 * rate)}
        for number in range(seconds * rate):
            sample = render(scene, number / rate)
            bits = np.packbits(sample.alpha.reshape(len(sample.alpha), -1) > 127, axis=1)
            truth.append(replace(sample, rgb=sample.rgb[:1, :1], alpha=bits))
            frame = av.VideoFrame.from_ndarray(sample.rgb, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return truth


def unpacked(sample: Sample) -> Sample:
    alpha = np.unpackbits(sample.alpha, axis=1).reshape(-1, *SIZE) * np.uint8(255)
    return replace(sample, alpha=alpha)


def tracks(out: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per frame the ids (P,) and mattes (P, H, W) uint8 of everyone in the results of a run."""
    ids = np.array([p["id"] for p in json.loads((out / "people.json").read_text())["people"]])
    files = [av.open(str(out / "alpha.mkv")) for _ in ids]  # one reader a track, in step
    try:
        streams = [file.decode(video=track) for track, file in enumerate(files)]
        for pictures in zip(*streams, strict=True):
            yield ids, np.stack([picture.to_ndarray(format="gray") for picture in pictures])
    finally:
        for file in files:
            file.close()


def scored(truth: Sequence[Sample], out: Path) -> Any:
    frames: list[IdentityFrame] = []
    for sample, (ids, codes) in zip(truth, tracks(out), strict=True):
        there = codes.max((1, 2)) > 127
        count = int(there.sum())
        mattes = Mattes(
            codes[there].astype(np.float32) / 255, np.zeros((count, 1, 1), np.float32),
            np.ones(count, np.float32), np.zeros((count, 4), np.float32),
            np.zeros((count, 0), np.float32), ids[there],
        )  # fmt: skip
        frames.append(compared(unpacked(sample), mattes))
    return identity_scores([frames])


def differing(one: Path, other: Path, part_seconds: float, rate: int) -> tuple[float, float, int]:
    """Share of frames whose tracks differ by more than a hundredth of somebody's matte, near cuts
    and away from them; and the most that any pixel differs by, away from them."""
    counts = np.zeros((2, 2))
    most = 0
    for number, (ours, theirs) in enumerate(zip(tracks(one), tracks(other), strict=True)):
        seconds = number / rate
        since = seconds % part_seconds
        near = seconds >= part_seconds and since < NEAR
        same = np.array_equal(ours[0], theirs[0])
        apart = np.abs(ours[1].astype(int) - theirs[1]) if same else np.full((1, 1, 1), 255)
        size = np.maximum(ours[1].sum((1, 2), dtype=float), 1) if same else 1
        counts[int(near)] += 1, bool((apart.sum((1, 2)) / size > 0.01).any())
        most = max(most, 0 if near else int(apart.max(initial=0)))
    shares = counts[:, 1] / np.maximum(counts[:, 0], 1)
    return float(shares[1]), float(shares[0]), most


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.evaluate_cuts", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data"), metavar="DIR")
    add("--minutes", type=float, default=10)
    add("--rate", type=int, default=3, help="frames a second")
    add("--parts", type=float, nargs="+", default=[75, 15], metavar="SECONDS",
        help="lengths of parts, multiples of 15; default 75 15: 8 and 40 parts")  # fmt: skip
    add("--workers", type=int, default=2)
    add("--seed", type=int, default=0)
    add("--engine", default="openvino-bf16", help="of one process and of the workers")
    add("--json", type=Path, metavar="FILE", help="keep the figures here")
    chosen = parser.parse_args(argv)

    def work() -> int:
        seconds = round(chosen.minutes * 60)
        scene = play(load(chosen.data, held_out=True, tall=240), chosen.seed, seconds)
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "crossings.mp4"
            truth = film(scene, seconds, chosen.rate, clip)
            print(f"{len(truth)} frames, {seconds // EVERY - 1} crossings", flush=True)
            rows: list[dict[str, Any]] = []
            for length in [None, *chosen.parts]:
                out = Path(folder) / f"{length}"
                words = [str(clip), "-o", str(out), "--tracks-only", "--quiet",
                         "--engine", chosen.engine, "--threads", "1"]  # fmt: skip
                if length:
                    words += ["--workers", str(chosen.workers)]
                    words += ["--set", f"cluster.part_seconds={length}"]
                if code := run_stream.main(words):
                    return code
                scores = scored(truth, out)
                row = {"parts": round(seconds / length) if length else 1, **asdict(scores)}
                if length:
                    near, away, most = differing(Path(folder) / "None", out, length, chosen.rate)
                    row |= {"differing_near_cuts": near, "differing_elsewhere": away,
                            "most_elsewhere": most}  # fmt: skip
                rows.append(row)
                print(json.dumps(row), flush=True)
        lost = [100 * (rows[0]["idf1"] - row["idf1"]) for row in rows[1:]]
        print("points of IDF1 lost by cutting: " + ", ".join(f"{points:.2f}" for points in lost))
        if chosen.json:
            told = {"machine": described(), "rows": rows, "points_lost": lost}
            chosen.json.write_text(json.dumps(told, indent=1) + "\n")
        return MISSED if max(lost) > HELD_TO else 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
