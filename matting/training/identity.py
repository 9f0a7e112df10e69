"""python -m matting.training.identity RECIPE: teach the finished network who is who over time.

The network stays as it is; only matting/network/identity.py learns.  *Casts* of a few people play
several scenes: in each with another background, light, place, size and posture, and in each at
several moments.  What the backbone sees where a person is gets computed once; the head is then
found in closed form, in seconds: the directions in which people differ most, measured by how much
one person differs from moment to moment and from scene to scene (Fisher's linear discriminant, with
the spread within a person drawn towards a round one, for casts are few).  A small network trained
on the same sightings by a contrastive loss knew the people it had seen and strangers less well.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from matting.metrics import match, overlap_matrix
from matting.network import live
from matting.network.export import export
from matting.network.identity import IdentityHead, owned
from matting.synthesis import sources as material
from matting.synthesis.scenes import (
    Actor,
    Motion,
    Sample,
    Scene,
    crop_to,
    random_actor,
    random_thing,
    render,
)
from matting.synthesis.sources import Cutout, Sources
from matting.training.recipe import RecipeError

CELLS = 192  # of a person that are kept, drawn at random where there are more
LEAST_CELLS = 12  # of a person who is worth learning from
SEEN = 0.5  # existence from which a code is somebody, and overlap from which it is this person
EXAM = 90211  # seed of the held-out casts; changing it makes older figures incomparable


@dataclass(frozen=True, slots=True)
class Recipe:
    weights: str  # the finished network; the head is added to it, and its ONNX made anew
    data: str  # folder with people/ and backgrounds/
    labels: str | None = None  # as for the network: which photographs show one person
    width: int = 64  # of the embedding
    size: tuple[int, int] = (288, 512)  # (H, W) the network sees
    casts: int = 200
    exam_casts: int = 16  # of held-out people
    people: int = 4  # in a cast
    scenes: int = 2  # a cast plays
    moments: int = 2  # of a scene that are seen
    seconds: float = 3.0  # between the first and the last of them
    hidden: int = 2  # times every sighting is seen again as if partly hidden
    round: float = 0.3  # how far the spread within a person is drawn towards a round one
    seed: int = 1
    limit: int | None = None  # sources read per kind; for tests


@dataclass(frozen=True, slots=True)
class Sightings:
    """S people as the network saw them, each at one moment."""

    person: Tensor  # (S,) int64, which cut-out
    cast: Tensor  # (S,) int64
    scene: Tensor  # (S,) int64, different in different casts
    cells: Tensor  # (S, CELLS, FEATURES) float16
    weight: Tensor  # (S, CELLS) float16, how much a cell is theirs; 0 where there are fewer
    place: Tensor  # (S, CELLS, 2) float16, x and y of a cell within their box, 0..1
    code: Tensor  # (S, D) float32, the latent code: what the head is to improve on

    def __len__(self) -> int:
        return len(self.person)


def load(path: Path) -> Recipe:
    values = yaml.safe_load(path.read_text())
    names = [field.name for field in fields(Recipe)]
    if not isinstance(values, dict) or not values.keys() <= set(names):
        strange = sorted(set(values) - set(names)) if isinstance(values, dict) else type(values)
        raise RecipeError(f"{path}: expected keys among {', '.join(names)}; found {strange}")
    if "size" in values:
        values["size"] = tuple(values["size"])
    try:
        return Recipe(**values)
    except TypeError as error:
        raise RecipeError(f"{path}: {error}") from None


def posed(cutout: Cutout, rng: np.random.Generator) -> Cutout:
    """The same person holding themself a little differently: a smooth bend of the cut-out."""
    height, width = cutout.alpha.shape
    bend = rng.normal(0, 1, (4, 3, 2)).astype(np.float32)
    bend = cv2.resize(bend, (width, height), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + bend[..., 0] * 0.06 * width, y + bend[..., 1] * 0.02 * height
    return replace(
        cutout,
        rgb=cv2.remap(cutout.rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        alpha=cv2.remap(cutout.alpha, x, y, cv2.INTER_LINEAR),
    )


def played(
    sources: Sources, size: tuple[int, int], members: Sequence[int], seed: Sequence[int]
) -> Scene:
    """A scene with these cut-outs; an actor's id is the position of their cut-out plus one."""
    rng = np.random.default_rng(seed)
    background = sources.backgrounds[rng.integers(len(sources.backgrounds))]
    background, _ = crop_to(background, None, size, rng, 0.5)
    actors: list[Actor] = []
    for member in rng.permutation(np.asarray(members)).tolist():
        cutout = posed(sources.cutouts[member], rng)
        actor = random_actor(cutout, size, rng, actors[-1] if actors else None, 0.0)
        slow = replace(actor.motion, speed=(0.5 * actor.motion.speed[0], actor.motion.speed[1]))
        actors.append(replace(actor, id=member + 1, motion=slow))
    if rng.random() < 0.3:
        actors.insert(int(rng.integers(len(actors) + 1)), random_thing(sources, size, rng))
    return Scene(
        size, background, actors, shake=Motion(sway=0.004, hertz=1.3),
        exposure_seed=int(rng.integers(2**31)),
    )  # fmt: skip


def pictures(
    recipe: Recipe, sources: Sources, casts: int, seed: int
) -> Iterator[tuple[int, int, Sample]]:
    """(cast, scene, picture) of every moment of every scene."""
    for cast in range(casts):
        rng = np.random.default_rng([seed, cast])
        count = min(recipe.people, len(sources.cutouts))
        members = rng.choice(len(sources.cutouts), count, replace=False).tolist()
        for scene in range(recipe.scenes):
            made = played(sources, recipe.size, members, [seed, cast, scene])
            for moment in range(recipe.moments):
                when = recipe.seconds * moment / max(1, recipe.moments - 1)
                yield cast, cast * recipe.scenes + scene, render(made, when)


@torch.inference_mode()
def found(
    network: live.LiveNetwork, head: IdentityHead, sample: Sample
) -> tuple[Tensor, Tensor, Tensor, list[tuple[int, int]]]:
    """What the whole network says of a picture: features (F, h, w), whose each cell is (N, h, w),
    latent codes (N, D), and (row, id) of the true people it found."""
    image = _image(sample)
    kept: list[list[Tensor]] = []
    handle = network.backbone.register_forward_hook(lambda _, __, maps: kept.append(maps))
    output = network(image)
    handle.remove()
    _, x4, x8, x16, _ = kept[0]
    sure = output.existence[-1].softmax(-1)[..., 1]
    rows = torch.nonzero(sure[0] >= SEEN)[:, 0]
    pairs: list[tuple[int, int]] = []
    if len(rows) and len(sample.alpha):
        maps = output.location[-1][0, rows].sigmoid().numpy()
        overlap = overlap_matrix(_cells(sample, maps.shape[1:]), maps, SEEN)
        pairs = [
            (int(rows[theirs]), sample.ids[mine])
            for mine, theirs in zip(*match(overlap, SEEN), strict=True)
        ]
    weights = owned(output.location[-1], sure)[0]
    return head.features(image, x4, x8, x16)[0], weights, output.codes[0], pairs


@torch.inference_mode()
def shown(
    network: live.LiveNetwork, head: IdentityHead, sample: Sample, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, list[tuple[int, int]]]:
    """The same from the true mattes, worn as the network's are: a third of the cost, because only
    the backbone runs."""
    image = _image(sample)
    _, x4, x8, x16, _ = network.backbone(image)
    true = np.zeros((0, *x8.shape[2:]), np.float32)
    if len(sample.alpha):
        true = np.stack([
            np.clip(cv2.GaussianBlur(np.roll(a, rng.integers(-1, 2, 2), (0, 1)), (3, 3), 0)
                    * rng.uniform(0.8, 1.2), 0.001, 0.999)
            for a in _cells(sample, x8.shape[2:])
        ])  # fmt: skip
    logits = torch.logit(torch.from_numpy(np.float32(true)))[None]
    weights = owned(logits, torch.ones(logits.shape[:2]))[0]
    codes = torch.zeros(len(weights), 1)
    return head.features(image, x4, x8, x16)[0], weights, codes, list(enumerate(sample.ids))


def _image(sample: Sample) -> Tensor:
    return torch.from_numpy(sample.rgb)[None].permute(0, 3, 1, 2).float() / 127.5 - 1


def _cells(sample: Sample, size: tuple[int, int]) -> np.ndarray:
    """(P, h, w) float32 true alpha on the grid of the location maps."""
    return np.stack([
        cv2.resize(a, size[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        for a in sample.alpha
    ])  # fmt: skip


def sightings(
    network: live.LiveNetwork, recipe: Recipe, sources: Sources, casts: int, seed: int,
    *, whole: bool,
) -> Sightings:  # fmt: skip
    """Every person of every picture of these casts.  `whole`: as the whole network finds them, for
    the exam; otherwise from the true mattes."""
    rows: list[tuple] = []
    rng = np.random.default_rng([seed, casts])
    head = IdentityHead(recipe.width)
    began, told = time.monotonic(), 0.0
    total = casts * recipe.scenes * recipe.moments
    for number, (cast, scene, sample) in enumerate(pictures(recipe, sources, casts, seed)):
        if whole:
            features, weights, codes, pairs = found(network, head, sample)
        else:
            features, weights, codes, pairs = shown(network, head, sample, rng)
        for row, person in pairs:
            there = torch.nonzero(weights[row] > 0.1)
            if len(there) < LEAST_CELLS:
                continue
            chosen = there[torch.from_numpy(rng.permutation(len(there))[:CELLS])]
            low, high = there.min(0).values, there.max(0).values
            place = (chosen - low) / (high - low).clamp(min=1)
            y, x = chosen.unbind(1)
            spare = (0, 0, 0, CELLS - len(chosen))
            rows.append((
                person, cast, scene, F.pad(features[:, y, x].T, spare).half(),
                F.pad(weights[row, y, x], spare[2:]).half(), F.pad(place.flip(1), spare).half(),
                codes[row].clone(),
            ))  # fmt: skip
        now = time.monotonic()
        if now - told > 15:
            told, left = now, (now - began) / (number + 1) * (total - number - 1)
            print(f"seen {number + 1} of {total} pictures, {left / 60:.0f} min left",
                  file=sys.stderr, flush=True)  # fmt: skip
    if not rows:
        raise RecipeError("the network found nobody in the casts' pictures")
    person, cast, scene, *stacked = zip(*rows, strict=True)
    return Sightings(*map(torch.tensor, (person, cast, scene)), *map(torch.stack, stacked))


def thinned(data: Sightings, rows: Tensor, generator: torch.Generator) -> Tensor:
    """(n, CELLS) weights of these rows, some of them as if partly hidden: behind a table, cut by
    the picture's edge, or by someone in front."""
    weight, place = data.weight[rows].float(), data.place[rows].float()
    for axis, share in ((1, 0.5), (0, 0.25)):
        low = torch.rand(len(rows), 1, generator=generator) * 0.9 - 0.35
        wide = 0.4 + 0.7 * torch.rand(len(rows), 1, generator=generator)
        hidden = (place[..., axis] < low) | (place[..., axis] > low + wide)
        hidden &= torch.rand(len(rows), 1, generator=generator) < share
        left = weight * ~hidden
        weight = torch.where(left.sum(1, keepdim=True) > 4, left, weight)
    return weight


def told(head: IdentityHead, data: Sightings, weight: Tensor) -> Tensor:
    """(S, 2 FEATURES): what the head projects, of sightings whose cells weigh (S, CELLS)."""
    parts = [
        head.told(data.cells[rows].float(), weight[rows, None].float())[:, 0]
        for rows in torch.arange(len(data)).split(256)
    ]
    return torch.cat(parts)


def embeddings(head: IdentityHead, data: Sightings) -> Tensor:
    """(S, E)"""
    return F.normalize(head.project(told(head, data, data.weight)), dim=-1)


def separation(code: Tensor, data: Sightings) -> dict[str, float]:
    """How well cosines of codes (S, D) part one person from the others of their cast: the area
    under ROC within a scene, and from one scene to another (somebody comes back)."""
    code = F.normalize(code - code.mean(0), dim=-1)
    cosine = code @ code.T
    first, second = torch.triu_indices(len(data), len(data), 1)
    cast = data.cast[first] == data.cast[second]
    scene = data.scene[first] == data.scene[second]
    same = data.person[first] == data.person[second]
    values = cosine[first, second]
    return {
        "within a scene": area_under_roc(values[cast & scene & same], values[cast & scene & ~same]),
        "between scenes": area_under_roc(
            values[cast & ~scene & same], values[cast & ~scene & ~same]
        ),
    }


def area_under_roc(same: Tensor, other: Tensor) -> float:
    """The probability that a pair of one person is more alike than a pair of two, in [0, 1]."""
    if not len(same) or not len(other):
        return float("nan")
    other = other.sort().values
    below = torch.searchsorted(other, same) + torch.searchsorted(other, same, right=True)
    return float(below.double().mean() / (2 * len(other)))


@torch.inference_mode()
def fitted(recipe: Recipe, data: Sightings) -> IdentityHead:
    generator = torch.Generator().manual_seed(recipe.seed)
    head = IdentityHead(recipe.width)
    filled = data.cells[data.weight > 0].float()
    head.mean.copy_(filled.mean(0))
    head.spread.copy_(filled.std(0) + 1e-3)
    everyone = torch.arange(len(data))
    seen = [told(head, data, data.weight)]
    seen += [told(head, data, thinned(data, everyone, generator)) for _ in range(recipe.hidden)]
    rows = torch.cat(seen).double()
    middle = rows.mean(0)
    rows = rows - middle
    _, person, count = data.person.repeat(len(seen)).unique(
        return_inverse=True, return_counts=True
    )
    centre = torch.zeros(len(count), rows.shape[1], dtype=rows.dtype)
    centre = centre.index_add(0, person, rows) / count[:, None]
    rest = rows - centre[person]
    within, between = rest.T @ rest / len(rest), centre.T @ centre / len(centre)
    within += recipe.round * within.diag().mean() * torch.eye(len(within))
    lower = torch.linalg.cholesky(within)
    whiten = torch.linalg.inv(lower)
    _, directions = torch.linalg.eigh(whiten @ between @ whiten.T)
    project = directions[:, -recipe.width :].T @ whiten
    head.project.weight.copy_(project)
    head.project.bias.copy_(-project @ middle)
    return head.eval()


def run(recipe: Recipe) -> dict[str, dict[str, float]]:
    """Train a head and put it into the weights.  Returns what it and the codes are worth, on people
    never trained on."""
    cv2.setNumThreads(1)
    weights, folder = Path(recipe.weights), Path(recipe.data)
    network, header = live.load(weights)
    labels = material.load_labels(Path(recipe.labels)) if recipe.labels else {}
    train_on = material.load(
        folder, singles=labels.get("single", ()), limit=recipe.limit, tall=400
    )
    held_out = material.load(folder, held_out=True, limit=recipe.limit, tall=400)
    data = sightings(network, recipe, train_on, recipe.casts, recipe.seed, whole=False)
    print(f"{len(data)} sightings of {len(data.person.unique())} people", file=sys.stderr)
    head = fitted(recipe, data)
    exam = sightings(network, recipe, held_out, recipe.exam_casts, EXAM, whole=True)
    with torch.inference_mode():
        worth = {
            "latent codes": separation(exam.code, exam),
            "identity head": separation(embeddings(head, exam), exam),
        }
    network.identity = head
    facts = {
        key: value for key, value in header.items() if key not in ("network", "sizes", "identity")
    }
    live.save(network, weights, **facts)
    export(weights, weights.with_suffix(".onnx"))
    return worth


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m matting.training.identity", description=__doc__.splitlines()[0]
    )
    parser.add_argument("recipe", type=Path, help="YAML, e.g. configs/train_identity.yaml")
    parser.add_argument("--threads", type=int, help="CPU threads; default: all")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        worth = run(load(args.recipe))
    except (RecipeError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, figures in worth.items():
        told = ", ".join(f"{where} {value:.3f}" for where, value in figures.items())
        print(f"{name:14} area under ROC {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
