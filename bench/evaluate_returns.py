"""Does everyone have their number again when they come back?  Moving scenes, network and tracker.

    python -m bench.evaluate_returns --data ../shared/data

People never trained on, in made scenes whose truth is known: each walks out of the picture, stays
away for 35 to 70 frames, and comes back at another place; meanwhile others cross.  True and found
people are compared by the IoU of their mattes (alpha > 0.5).  Scores are those of
matting/metrics/identity.py; a return counts as in `gap_scores` there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from bench.evaluate_tracking import gap_text
from bench.wiring import (
    MISSED,
    LoadEngine,
    add_options,
    engine_of,
    guarded,
    missed,
    settings_of,
)
from configs.schema import Settings
from matting.frames import Frame, Mattes
from matting.metrics import IdentityFrame, gap_scores, identity_scores
from matting.synthesis.scenes import Motion, Sample, Scene, crop_to, random_actor, render
from matting.synthesis.sources import Cutout, Sources, load
from run_stream import new_tracker
from stream.stages import follow, matte
from tracking.offline import SecondLook

SIZE = (432, 768)  # (H, W)
RATE = 10  # frames a second
SECONDS = 15
PEOPLE = 3
VISIBLE = 0.004  # share of the picture from which somebody counts


@dataclass(frozen=True)
class Visit(Motion):
    """At home, away between two moments, and then at another home."""

    leaves: float = 0.0  # seconds
    returns: float = 0.0
    out: float = 0.0  # dx that is out of the picture, in picture heights
    back: float = 0.0  # dx they come back from
    new_home: float = 0.0  # dx
    walk: float = 1.2  # seconds it takes to leave or to come

    def at(self, t: float) -> tuple[float, float, float]:
        if t < self.leaves:
            x = 0.0
        elif t < self.leaves + self.walk:
            x = self.out * (t - self.leaves) / self.walk
        elif t < self.returns:
            x = self.back
        else:
            done = min((t - self.returns) / self.walk, 1.0)
            x = self.back + (self.new_home - self.back) * done
        wave = float(np.sin(2 * np.pi * self.hertz * t))
        return x + self.sway * wave, 0.01 * abs(wave), 0.03 * wave


def play(sources: Sources, seed: int) -> Scene:
    rng = np.random.default_rng([80_000, seed])
    aspect = SIZE[1] / SIZE[0]
    background = sources.backgrounds[int(rng.integers(len(sources.backgrounds)))]
    background, _ = crop_to(background, None, SIZE, rng, 0.6)
    grounded: list[Cutout] = [c for c in sources.cutouts if c.grounded]
    chosen = rng.choice(len(grounded), PEOPLE, replace=False)
    homes = rng.permutation(PEOPLE)
    actors = []
    for i, cutout in enumerate(chosen.tolist()):
        actor = random_actor(grounded[cutout], SIZE, rng, None, 0.0)
        height, foot = rng.uniform(0.6, 0.85), rng.uniform(0.88, 1.0)
        x = aspect * (homes[i] + 0.5 + rng.uniform(-0.15, 0.15)) / PEOPLE
        leaves = rng.uniform(1.5, 3.0) + 1.2 * i
        away = rng.uniform(3.5, 7.0)
        side = -1 if rng.random() < 0.5 else 1
        far = -x - 0.6 if side < 0 else aspect - x + 0.6
        visit = Visit(
            leaves=leaves, returns=leaves + 1.2 + away, out=far,
            back=far if rng.random() < 0.5 else (aspect - x + 0.6 if side < 0 else -x - 0.6),
            new_home=aspect * (rng.integers(PEOPLE) + 0.5) / PEOPLE - x,
            sway=rng.uniform(0.0, 0.03), hertz=rng.uniform(0.3, 0.9),
        )  # fmt: skip
        actors.append(replace(
            actor, foot=(x, foot), height=height, wide=1.0, turn=0.0, blur=None, motion=visit,
            id=i + 1,
        ))  # fmt: skip
    actors.sort(key=lambda actor: actor.foot[1])
    return Scene(SIZE, background, actors, exposure_seed=int(rng.integers(2**31)))


def samples(scene: Scene) -> Iterator[Sample]:
    for index in range(SECONDS * RATE):
        yield render(scene, index / RATE)


def compared(sample: Sample, mattes: Mattes) -> IdentityFrame:
    true, cells = sample.alpha > 127, sample.everyone.size
    counts = true.mean((1, 2)) >= VISIBLE
    ours = (mattes.alpha > 0.5).reshape(len(mattes), cells).astype(np.float32)
    theirs = true.reshape(len(true), cells).astype(np.float32)
    common = theirs @ ours.T
    overlap = common / np.maximum(theirs.sum(1)[:, None] + ours.sum(1) - common, 1)
    # whoever is found where only a sliver is left is neither right nor wrong
    sliver = (overlap[~counts] > 0.3).any(0) | (ours.sum(1) < VISIBLE * cells)
    return IdentityFrame(
        np.array(sample.ids)[counts], mattes.ids[~sliver], overlap[np.ix_(counts, ~sliver)]
    )


def named(matted: Iterable[tuple[Frame, Mattes]], settings: Settings) -> Iterator[Mattes]:
    """Everyone under their number, as the program gives them: at once, or after a second look."""
    if not settings.people.second_look:
        yield from (mattes for _, mattes in follow(matted, new_tracker(settings)))
        return
    look, waiting = SecondLook(new_tracker(settings)), []
    for frame, mattes in matted:
        look.add(mattes, frame.seconds, frame.rgb)
        waiting.append(mattes.with_alpha(mattes.alpha > 0.5))  # a quarter of the memory
    for mattes, numbers in zip(waiting, look.numbers(), strict=True):
        yield mattes.named(numbers).pick(np.flatnonzero(numbers > 0))


def main(argv: Sequence[str] | None = None, *, load_engine: LoadEngine | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.evaluate_returns", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="DIR")
    parser.add_argument("--scenes", type=int, default=8)
    add = parser.add_argument
    add("--min-return", type=float, metavar="PERCENT",
        help="fail where fewer have their number again after more than 30 frames")  # fmt: skip
    add("--max-strangers", type=float, metavar="PERCENT",
        help="fail where more come back under somebody else's number")  # fmt: skip
    parser.add_argument("--min-idf1", type=float, help="fail where IDF1 is lower")
    add_options(parser)
    chosen = parser.parse_args(argv)

    def work() -> int:
        settings = settings_of(chosen)
        sources = load(chosen.data, held_out=True, tall=500)
        answers: list[list[IdentityFrame]] = []
        engine = engine_of(settings, load_engine)
        for seed in range(chosen.scenes):
            scene = play(sources, seed)
            kept: list[Sample] = []

            def pictures(scene: Scene = scene, kept: list[Sample] = kept) -> Iterator[Frame]:
                for index, sample in enumerate(samples(scene)):
                    kept.append(replace(sample, rgb=sample.rgb[:1, :1]))
                    yield Frame(sample.rgb, index, Fraction(1, RATE))

            people = named(matte(pictures(), engine), settings)
            answers.append([
                compared(kept[index], mattes) for index, mattes in enumerate(people)
            ])  # fmt: skip
            if not chosen.json:
                said, gone = identity_scores([answers[-1]]), gap_text(gap_scores([answers[-1]]))
                print(f"scene {seed}: IDF1 {said.idf1:.3f}, ids {said.predicted_people} for "
                      f"{said.true_people} | {gone}", flush=True)  # fmt: skip
        engine.close()
        scores, gaps = identity_scores(answers), gap_scores(answers)
        long = [gap for gap in gaps if gap.shortest > 30]
        away = max(1, sum(gap.gaps for gap in long))
        figures = {
            "same number after more than 30 frames, %": 100 * sum(g.same for g in long) / away,
            "stranger's number, %": 100 * sum(g.stranger for g in long) / away,
            "IDF1": scores.idf1,
        }
        short = missed(
            [
                ("same number after more than 30 frames, %", chosen.min_return, False),
                ("stranger's number, %", chosen.max_strangers, True),
                ("IDF1", chosen.min_idf1, False),
            ],
            figures,
        )
        if chosen.json:
            print(json.dumps({"scores": asdict(scores), "gaps": [asdict(g) for g in gaps],
                              "figures": figures, "missed": short}))  # fmt: skip
        else:
            print(f"HOTA {scores.hota:.3f}, DetA {scores.deta:.3f}, AssA {scores.assa:.3f}, "
                  f"IDF1 {scores.idf1:.3f}, switches {scores.switches}, ids "
                  f"{scores.predicted_people} for {scores.true_people}")  # fmt: skip
            print("same number after a gap of", gap_text(gaps))
            for line in short:
                print(f"MISSED: {line}")
        return MISSED if short else 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
