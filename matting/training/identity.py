"""Teaching the finished network who is who over time: matting/network/identity.py.

The network stays as it is.  *Casts* of a few people play several scenes: in each with another
background, light, place, size and posture, and in each at several moments.  What the backbone sees
where a person is gets computed once; the head is then found in closed form, in seconds: the
directions in which people differ most, measured by how much one person differs from moment to
moment and from scene to scene (Fisher's linear discriminant, with the spread within a person drawn
towards a round one, for casts are few).  A small network trained on the same sightings by a
contrastive loss knew the people it had seen and strangers less well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from matting.metrics import match, overlap_matrix
from matting.network.identity import IdentityHead
from matting.network.live import LiveNetwork
from matting.network.looks import Looks, features, owned
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
from matting.training.showing import as_image, on_cells, reported

CELLS = 192  # of a person that are kept, drawn at random where there are more
LEAST_CELLS = 12  # of a person who is worth learning from
SEEN = 0.5  # existence from which a code is somebody, and overlap from which it is this person
EXAM = 90211  # seed of the held-out casts; changing it makes older figures incomparable
LEARNING = ("width", "exam_casts", "hidden", "round")  # of `Plan`: not what is learned from


@dataclass(frozen=True, slots=True)
class Plan:
    width: int = 64  # of the embedding
    casts: int = 200
    exam_casts: int = 16  # of held-out people
    people: int = 4  # in a cast
    scenes: int = 2  # a cast plays
    moments: int = 2  # of a scene that are seen
    seconds: float = 3.0  # between the first and the last of them
    hidden: int = 2  # times every sighting is seen again as if partly hidden
    round: float = 0.3  # how far the spread within a person is drawn towards a round one


@dataclass(frozen=True, slots=True)
class Sightings:
    """S people as the backbone saw them, each at one moment."""

    person: Tensor  # (S,) int64, which cut-out
    cells: Tensor  # (S, CELLS, FEATURES) float16
    weight: Tensor  # (S, CELLS) float16, how much a cell is theirs; 0 where there are fewer
    place: Tensor  # (S, CELLS, 2) float16, x and y of a cell within their box, 0..1

    def __len__(self) -> int:
        return len(self.person)


@dataclass(frozen=True, slots=True)
class Meetings:
    """S people as the whole network found them."""

    person: Tensor  # (S,) int64, which cut-out
    cast: Tensor  # (S,) int64
    scene: Tensor  # (S,) int64, different in different casts
    code: Tensor  # (S, D) float32, the latent code: what the head is to improve on
    identity: Tensor  # (S, E) float32


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
    plan: Plan, sources: Sources, size: tuple[int, int], casts: int, seed: int
) -> Iterator[tuple[int, int, Sample]]:
    """(cast, scene, picture) of every moment of every scene."""
    for cast in range(casts):
        rng = np.random.default_rng([seed, cast])
        count = min(plan.people, len(sources.cutouts))
        members = rng.choice(len(sources.cutouts), count, replace=False).tolist()
        for scene in range(plan.scenes):
            made = played(sources, size, members, [seed, cast, scene])
            for moment in range(plan.moments):
                when = plan.seconds * moment / max(1, plan.moments - 1)
                yield cast, cast * plan.scenes + scene, render(made, when)


@torch.inference_mode()
def sightings(
    network: LiveNetwork, plan: Plan, sources: Sources, size: tuple[int, int], seed: int
) -> Sightings:
    """Every person of every picture of the casts, from the true mattes, worn as the network's are:
    a third of the cost of running all of it, because only the backbone runs."""
    rows: list[tuple[int, Tensor, Tensor, Tensor]] = []
    rng = np.random.default_rng([seed, plan.casts])
    total = plan.casts * plan.scenes * plan.moments
    seen = (sample for _, _, sample in pictures(plan, sources, size, plan.casts, seed))
    for sample in reported(seen, total, "people"):
        image = as_image(sample.rgb)
        _, x4, x8, x16, _ = network.seen(image)
        if not len(sample.alpha):
            continue
        true = np.stack([
            np.clip(cv2.GaussianBlur(np.roll(a, rng.integers(-1, 2, 2), (0, 1)), (3, 3), 0)
                    * rng.uniform(0.8, 1.2), 0.001, 0.999)
            for a in on_cells(sample.alpha, x8.shape[2:])
        ])  # fmt: skip
        logits = torch.logit(torch.from_numpy(np.float32(true)))[None]
        maps = features(image, x4, x8, x16)[0]
        for person, weight in zip(
            sample.ids, owned(logits, torch.ones(logits.shape[:2]))[0], strict=True
        ):
            there = torch.nonzero(weight > 0.1)
            if len(there) < LEAST_CELLS:
                continue
            chosen = there[torch.from_numpy(rng.permutation(len(there))[:CELLS])]
            low, high = there.min(0).values, there.max(0).values
            place = (chosen - low) / (high - low).clamp(min=1)
            y, x = chosen.unbind(1)
            spare = (0, 0, 0, CELLS - len(chosen))
            rows.append((
                person, F.pad(maps[:, y, x].T, spare).half(),
                F.pad(weight[y, x], spare[2:]).half(), F.pad(place.flip(1), spare).half(),
            ))  # fmt: skip
    if not rows:
        raise RecipeError("nobody is large enough in the casts' pictures to learn from")
    person, *stacked = zip(*rows, strict=True)
    return Sightings(torch.tensor(person), *map(torch.stack, stacked))


@torch.inference_mode()
def meetings(
    network: LiveNetwork, plan: Plan, sources: Sources, size: tuple[int, int]
) -> Meetings:
    """The exam: held-out people, as the whole network with its heads finds them."""
    rows: list[tuple[int, int, int, Tensor, Tensor]] = []
    total = plan.exam_casts * plan.scenes * plan.moments
    for cast, scene, sample in reported(
        pictures(plan, sources, size, plan.exam_casts, EXAM), total, "people never seen"
    ):
        output = network(as_image(sample.rgb))
        sure = output.existence[-1][0].softmax(-1)[:, 1]
        codes = torch.nonzero(sure >= SEEN)[:, 0]
        if not len(codes) or not len(sample.alpha):
            continue
        maps = output.location[-1][0, codes].sigmoid().numpy()
        overlap = overlap_matrix(on_cells(sample.alpha, maps.shape[1:]), maps, SEEN)
        for mine, theirs in zip(*match(overlap, SEEN), strict=True):
            code = codes[theirs]
            rows.append((sample.ids[mine], cast, scene, output.codes[0, code],
                         output.identity[0, code]))  # fmt: skip
    if not rows:
        nobody = torch.zeros(0, dtype=torch.int64)
        return Meetings(nobody, nobody, nobody, torch.zeros(0, 1), torch.zeros(0, 1))
    person, cast, scene, code, identity = zip(*rows, strict=True)
    return Meetings(
        torch.tensor(person), torch.tensor(cast), torch.tensor(scene),
        torch.stack(code), torch.stack(identity),
    )  # fmt: skip


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


def told(looks: Looks, data: Sightings, weight: Tensor) -> Tensor:
    """(S, 2 FEATURES): what the head projects, of sightings whose cells weigh (S, CELLS)."""
    parts = [
        looks.told(data.cells[rows].float(), weight[rows, None].float())[:, 0]
        for rows in torch.arange(len(data)).split(256)
    ]
    return torch.cat(parts)


def separation(code: Tensor, data: Meetings) -> dict[str, float]:
    """How well cosines of codes (S, D) part one person from the others of their cast: the area
    under ROC within a scene, and from one scene to another (somebody comes back)."""
    code = F.normalize(code - code.mean(0), dim=-1)
    cosine = code @ code.T
    first, second = torch.triu_indices(len(code), len(code), 1)
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
def usual_looks(data: Sightings) -> Looks:
    """Looks that measure every feature against what is usual in people."""
    looks = Looks()
    filled = data.cells[data.weight > 0].float()
    looks.mean.copy_(filled.mean(0))
    looks.spread.copy_(filled.std(0) + 1e-3)
    return looks.eval()


@torch.inference_mode()
def fitted(plan: Plan, looks: Looks, data: Sightings, seed: int) -> IdentityHead:
    generator = torch.Generator().manual_seed(seed)
    head = IdentityHead(plan.width)
    everyone = torch.arange(len(data))
    seen = [told(looks, data, data.weight)]
    seen += [told(looks, data, thinned(data, everyone, generator)) for _ in range(plan.hidden)]
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
    within += plan.round * within.diag().mean() * torch.eye(len(within))
    lower = torch.linalg.cholesky(within)
    whiten = torch.linalg.inv(lower)
    _, directions = torch.linalg.eigh(whiten @ between @ whiten.T)
    project = directions[:, -plan.width :].T @ whiten
    head.project.weight.copy_(project)
    head.project.bias.copy_(-project @ middle)
    return head.eval()
