"""Teaching the finished network to tell people from things: matting/network/verdict.py.

The network looks at made scenes, labelled photographs and many pictures without people, and every
code it half believes in becomes a *trial*: what it claims, and whether somebody is there.  A small
network learns from these; several are trained, each without a share of the pictures, and added up
into one.  On the pictures with people each did not see, the bar is set: where people who are
missed and things that pass are fewest together, somebody missed counting as `Plan.missed` things.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from matting.metrics import match, overlap_matrix
from matting.network.live import LiveNetwork
from matting.network.verdict import Verdict, evidence
from matting.synthesis.camera import BadLight
from matting.synthesis.scenes import crop_to, random_scene, render
from matting.synthesis.sources import Sources
from matting.training.precision import mixed
from matting.training.recipe import RecipeError
from matting.training.showing import as_image, on_cells, reported, side_by_side

SAME = 0.5  # overlap of what a code claims with a person from which it is that person
PART = 0.4  # and below which it is nobody; between, and for second answers, nothing is learned
EXAM = 90212  # seed of the held-out scenes; changing it makes older figures incomparable
BATCH = 256
REMEMBERED = 2  # times; a thing that is remembered is believed in more from frame to frame


# of `Plan`: not what is seen
LEARNING = ("judges", "hidden", "epochs", "rate", "decay", "dropout", "missed", "seed")


@dataclass(frozen=True, slots=True)
class Plan:
    scenes: int = 3000  # made, a share of them labelled photographs
    photos: float = 0.3
    headless: float = 0.0  # share of their people whose head is out of the picture
    close_ups: float = 0.0  # share of their half figures whose face may fill the picture
    crops: int = 3  # of every picture without people
    bad_light: float = 0.0  # share of these pictures in a light no camera likes
    exam: int = 120  # made scenes of held-out people
    doubt: float = 0.05  # existence from which a code is tried
    judges: int = 5  # each learns without one part in so many of the pictures
    hidden: int = 32  # of each
    epochs: int = 12
    rate: float = 2e-3
    decay: float = 0.1
    dropout: float = 0.3
    missed: float = 1.0  # somebody who is missed is as bad as so many things that pass
    seed: int = 0  # of the judges, beside that of all lessons


@dataclass(frozen=True, slots=True)
class Trials:
    """T codes and the truth about them."""

    evidence: Tensor  # (T, E)
    score: Tensor  # (T,) logits of the network itself
    somebody: Tensor  # (T,) bool
    clear: Tensor  # (T,) bool: there is no doubt about `somebody`
    picture: Tensor  # (T,) int64; what was made of one picture without people has one number
    empty: Tensor  # (T,) bool: of a picture without people


@dataclass(frozen=True, slots=True)
class Worth:
    """On people and places never trained on."""

    found: int  # people, of made scenes
    false: int  # nobody, in the same scenes
    empty: int  # nobody, in pictures without people


def shown(
    plan: Plan, sources: Sources, size: tuple[int, int], seed: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """(number, rgb, alpha (P, h, w) or None without people); a fifth of the pictures upright."""

    def lit(rgb: np.ndarray, people: np.ndarray | None, *which: int) -> np.ndarray:
        light = BadLight.sometimes(np.random.default_rng([seed, *which, 4]), plan.bad_light)
        return light.on(rgb, people) if light else rgb

    for i in range(plan.scenes):
        upright = size[::-1] if i % 5 == 4 else size
        sample = render(random_scene(sources, upright, [seed, i], photos=plan.photos,
                                     headless=plan.headless,
                                     close_ups=plan.close_ups))  # fmt: skip
        if sample.instances:
            yield i, lit(sample.rgb, sample.outline, i), sample.alpha
    for i, background in enumerate(sources.backgrounds):
        rng = np.random.default_rng([seed, plan.scenes + i])
        for crop in range(plan.crops):
            upright = size[::-1] if (i + crop) % 5 == 4 else size
            rgb, _ = crop_to(background, None, upright, rng, 0.5)
            yield plan.scenes + i, lit(rgb, None, i, crop), None


def examined(
    plan: Plan, sources: Sources, size: tuple[int, int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    for i in range(plan.exam):
        sample = render(random_scene(sources, size, [EXAM, i], photos=0.0))
        yield i, sample.rgb, sample.alpha
    for i, background in enumerate(sources.backgrounds):
        height, width = background.shape[:2]
        scale = (size[0] * size[1] / (height * width)) ** 0.5
        to = [max(32, round(side * scale / 32) * 32) for side in (width, height)]
        yield plan.exam + i, cv2.resize(background, to, interpolation=cv2.INTER_AREA), None


def trials(
    network: LiveNetwork, pictures: Iterator[tuple[int, np.ndarray, np.ndarray | None]],
    total: int, doubt: float,
) -> Trials:  # fmt: skip
    """What a network with looks and without a verdict says of pictures; of every second one when it
    remembers them, as one of a video that stands still."""
    assert network.looks is not None and network.verdict is None
    mine = threading.local()  # what the looks are made of, of the picture of this thread
    handle = network.looks.register_forward_pre_hook(
        lambda _, given: setattr(mine, "seen", [part.float() for part in given])
    )

    @torch.inference_mode()
    def tried(shown: tuple[int, tuple[int, np.ndarray, np.ndarray | None]]) -> list[tuple]:
        turn, (number, rgb, alpha) = shown
        assert network.looks is not None
        image = as_image(rgb)
        with mixed(image.device):  # as it is trained: half the time
            output = network(image)
            for _ in range(REMEMBERED * (turn % 2) if network.memory is not None else 0):
                output = network(image, None, output.memory)
        looks = network.looks(*mine.seen)  # in float32, or they would lose by it
        known = evidence(looks, output.codes, output.existence[-1], output.location[-1])[0]
        none, one = output.existence[-1][0].unbind(-1)
        codes = torch.nonzero((one - none).sigmoid() >= doubt)[:, 0]
        if not len(codes):
            return []
        somebody, best = np.zeros(len(codes), bool), np.zeros(len(codes))
        if alpha is not None and len(alpha):
            maps = output.location[-1][0, codes].sigmoid().numpy()
            overlap = overlap_matrix(on_cells(alpha, maps.shape[1:]), maps, 0.5)
            somebody[match(overlap, SAME)[1]] = True
            best = overlap.max(0)
        return [
            (known[code], (one - none)[code], bool(somebody[i]),
             bool(somebody[i] or best[i] < PART), number, alpha is None)
            for i, code in enumerate(codes)
        ]  # fmt: skip

    answers = side_by_side(tried, enumerate(pictures))
    rows = [row for some in reported(answers, total, "people and things") for row in some]
    handle.remove()
    if not rows:
        raise RecipeError("the network sees nobody in any picture: there is nothing to judge")
    seen, score, *rest = zip(*rows, strict=True)
    return Trials(torch.stack(seen), torch.stack(score), *map(torch.tensor, rest))


def fitted(plan: Plan, data: Trials, code: int, seed: int) -> Verdict:
    """`code`: width of a latent code."""
    if not data.somebody.any() or data.somebody.all():
        raise RecipeError(
            f"of {len(data.somebody)} answers of the network {int(data.somebody.sum())} are "
            "people: there is nothing to tell apart; is it trained?"
        )
    made = Verdict(code, plan.judges * plan.hidden)
    learned = data.evidence[data.clear]
    made.mean.copy_(learned.mean(0))
    made.spread.copy_(learned.std(0) + 1e-3)
    seen = (data.evidence - made.mean) / made.spread
    judges, unseen = [], torch.zeros(len(seen))
    for judge in range(plan.judges):
        aside = data.picture % plan.judges == judge
        use = data.clear & ~aside if plan.judges > 1 else data.clear
        torch.manual_seed(seed + judge)
        judges.append(_taught(plan, seen[use], data.somebody[use].float()))
        with torch.inference_mode():
            unseen[aside] = judges[-1](seen[aside])[:, 0]
    used = data.clear & ~data.empty
    bar = fairest(unseen[used], data.somebody[used], plan.missed)
    with torch.no_grad():
        made.read.weight.copy_(torch.cat([j[1].weight for j in judges]))
        made.read.bias.copy_(torch.cat([j[1].bias for j in judges]))
        made.judge.weight.copy_(torch.cat([j[4].weight for j in judges], 1) / plan.judges)
        made.judge.bias.copy_(torch.stack([j[4].bias for j in judges]).mean(0) - bar)
    return made.eval()


def fairest(score: Tensor, somebody: Tensor, missed: float) -> Tensor:
    """The bar, of scores (T,), above which people, each worth `missed` others, less others are
    most."""
    order = score.argsort(descending=True)
    gain = torch.where(somebody[order], missed, -1.0).cumsum(0)
    last = int(gain.argmax())  # the last that passes
    below = order[min(last + 1, len(order) - 1)]
    return (score[order[last]] + score[below]) / 2


def _taught(plan: Plan, seen: Tensor, somebody: Tensor) -> nn.Sequential:
    judge = nn.Sequential(
        nn.Dropout(plan.dropout), nn.Linear(seen.shape[1], plan.hidden), nn.ReLU(),
        nn.Dropout(plan.dropout), nn.Linear(plan.hidden, 1),
    )  # fmt: skip
    optimiser = torch.optim.AdamW(judge.parameters(), plan.rate, weight_decay=plan.decay)
    for _ in range(plan.epochs):
        for rows in torch.randperm(len(seen)).split(BATCH):
            loss = F.binary_cross_entropy_with_logits(judge(seen[rows])[:, 0], somebody[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return judge.eval()


def worth(score: Tensor, data: Trials) -> Worth:
    """What passes by logits (T,)."""
    passed = score > 0
    false = passed & data.clear & ~data.somebody
    return Worth(
        int((passed & data.somebody).sum()), int((false & ~data.empty).sum()),
        int((false & data.empty).sum()),
    )  # fmt: skip
