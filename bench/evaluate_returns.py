"""Does everyone have their number again when they come back?  Moving scenes, network and tracker.

    python -m bench.evaluate_returns --data ../shared/data

People never trained on, in made scenes whose truth is known: each walks out of the picture, stays
away for 35 to 70 frames, and comes back at another place; meanwhile others cross.  True and found
people are compared by the IoU of their mattes (alpha > 0.5).  Scores are those of
matting/metrics/identity.py; a return counts as in `gap_scores` there.

Each scene is rendered and matted once, and told three times: at *first look*, as it is live; after
a *second look* at the whole of it; and from the *true mattes* with the network's codes, which is
what the tracker makes of people who are all found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch

from bench.evaluate_tracking import gap_text
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
from engines.people import shrink, working_size
from engines.torch_engine import read_network
from matting.frames import UNTRACKED, Frame, Mattes
from matting.metrics import IdentityFrame, gap_scores, identity_scores
from matting.synthesis.scenes import Motion, Sample, Scene, crop_to, random_actor, render
from matting.synthesis.sources import Cutout, Sources, load
from matting.training.showing import as_image, on_cells
from run_stream import WEIGHTS, new_tracker
from stream.stages import Matted, follow, matte
from tracking.offline import SecondLook

SIZE = (432, 768)  # (H, W)
RATE = 10  # frames a second
SECONDS = 15
PEOPLE = 3
VISIBLE = 0.004  # share of the picture from which somebody counts
LOOKS = ("first look", "second look", "true mattes")
AGAIN = "same number after more than 30 frames, %"
STRANGER = "stranger's number, %"


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
        sample = render(scene, index / RATE)
        yield replace(sample, contrast=sample.contrast[:0])  # half a gigabyte nobody looks at


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


class TrueEyes:
    """Sees everyone there is, exactly, and knows each by the code the network has for them."""

    def __init__(self, weights: Path) -> None:
        self._network = read_network(weights).network
        if self._network.identity is None:
            raise TruthError(f"{weights}: there is no identity head in these weights")

    def look(self, sample: Sample) -> Mattes:
        seen = (sample.alpha > 127).mean((1, 2)) >= VISIBLE
        alpha = sample.alpha[seen]
        image = shrink(sample.rgb, working_size(sample.rgb.shape[:2]))
        with torch.inference_mode():
            given = as_image(image[0])
            _, x4, x8, x16, _ = self._network.seen(given)
            coarse = on_cells(alpha, x8.shape[2:])
            location = torch.logit(torch.from_numpy(coarse), 1e-3)[None]
            looks = self._network.looks(given, x4, x8, x16, location, torch.ones(1, len(alpha)))
            code = self._network.identity(looks)[0].numpy()
        corners = [cv2.boundingRect((a > 127).astype(np.uint8)) for a in alpha]
        box = np.array([(x, y, x + w, y + h) for x, y, w, h in corners], np.float32)
        return Mattes(
            alpha=alpha > 127, coarse=coarse, score=np.ones(len(alpha), np.float32),
            box=box.reshape(-1, 4), code=code, ids=np.full(len(alpha), UNTRACKED, np.int64),
        )  # fmt: skip


def at_first_look(matted: Sequence[Matted], settings: Settings) -> Iterator[Mattes]:
    """Everyone under their number, as the program gives them while the video goes on."""
    return (mattes for _, mattes in follow(matted, new_tracker(settings)))


def at_second_look(matted: Sequence[Matted], settings: Settings) -> Iterator[Mattes]:
    """The same once the whole video was seen."""
    look = SecondLook(new_tracker(settings))
    for frame, mattes in matted:
        look.add(mattes, frame.seconds, frame.rgb)
    for (_, mattes), numbers in zip(matted, look.numbers(), strict=True):
        yield mattes.named(numbers).pick(np.flatnonzero(numbers > 0))


def scored(answers: Sequence[Sequence[IdentityFrame]]) -> dict[str, float]:
    """The figures that are held to bars."""
    long = [gap for gap in gap_scores(answers) if gap.shortest > 30]
    away = max(1, sum(gap.gaps for gap in long))
    return {
        AGAIN: 100 * sum(gap.same for gap in long) / away,
        STRANGER: 100 * sum(gap.stranger for gap in long) / away,
        "IDF1": identity_scores(answers).idf1,
    }


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
        answers: dict[str, list[list[IdentityFrame]]] = {look: [] for look in LOOKS}
        eyes = TrueEyes(Path(settings.engine.weights or WEIGHTS))
        engine = engine_of(settings, load_engine)
        for seed in range(chosen.scenes):
            truth = list(samples(play(sources, seed)))
            shown = [Frame(s.rgb, i, Fraction(1, RATE)) for i, s in enumerate(truth)]
            matted = [(f, m.with_alpha(m.alpha > 0.5)) for f, m in matte(shown, engine)]
            true = [(f, eyes.look(s)) for f, s in zip(shown, truth, strict=True)]
            for look, people in (
                ("first look", at_first_look(matted, settings)),
                ("second look", at_second_look(matted, settings)),
                ("true mattes", at_first_look(true, settings)),
            ):
                answers[look].append([compared(*pair) for pair in zip(truth, people, strict=True)])
                if not chosen.json:
                    said, gone = identity_scores(answers[look][-1:]), gap_scores(answers[look][-1:])
                    print(f"scene {seed}, {look:11}: IDF1 {said.idf1:.3f}, ids "
                          f"{said.predicted_people} for {said.true_people} | {gap_text(gone)}",
                          flush=True)  # fmt: skip
        engine.close()
        figures = {look: scored(told) for look, told in answers.items()}
        bars = [
            (AGAIN, chosen.min_return, False),
            (STRANGER, chosen.max_strangers, True),
            ("IDF1", chosen.min_idf1, False),
        ]
        short = [f"{look}: {line}" for look in LOOKS for line in missed(bars, figures[look])]
        if chosen.json:
            print(json.dumps({
                look: {"scores": asdict(identity_scores(told)),
                       "gaps": [asdict(g) for g in gap_scores(told)], "figures": figures[look]}
                for look, told in answers.items()
            } | {"missed": short}))  # fmt: skip
        else:
            for look, told in answers.items():
                scores = identity_scores(told)
                print(f"{look}: HOTA {scores.hota:.3f}, DetA {scores.deta:.3f}, AssA "
                      f"{scores.assa:.3f}, IDF1 {scores.idf1:.3f}, switches {scores.switches}, "
                      f"ids {scores.predicted_people} for {scores.true_people}")  # fmt: skip
                print("  same number after a gap of", gap_text(gap_scores(told)))
            for line in short:
                print(f"MISSED: {line}")
        return MISSED if short else 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
