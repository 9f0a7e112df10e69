"""Training of the published network: python -m matting.training configs/train_paper.yaml

The authors released no training program.  What is here follows the paper's description (E2E-HIM,
section 3.5: one-to-one matching; existence, location, trimap and matte are asked of the code that
answers for a person).  Weights of the terms and the schedule are ours, and the recipe says which.

Pictures come from public data sets (matting/datasets/) or from synthesis, mixed by share; picture i
of a run is always the same picture, so that a resumed run goes on exactly where it stopped.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from matting.datasets import DATASETS, Item, Picture, open_dataset
from matting.network.published.network import (
    MEAN,
    NAME,
    SPREAD,
    Output,
    PublishedNetwork,
    Sizes,
    load,
    save,
)  # fmt: skip
from matting.network.published.parts import up
from matting.synthesis import sources as material
from matting.synthesis.scenes import Sample, random_scene, render
from matting.training.data import Batch, Plan, collate
from matting.training.loop import Progress, rate_at
from matting.training.losses import pyramid
from matting.training.matching import Matches, dice, match
from matting.training.recipe import RecipeError, build

WEIGHTS = {"existence": 2.0, "location": 2.0, "attention": 1.0, "trimap": 1.0, "matte": 2.0,
           "pyramid": 1.0}  # fmt: skip
NO_ONE = 0.1  # weight of codes without a person, as in DETR
SYNTHESIS = "synthesis"  # in the place of a data set: people over backgrounds


@dataclass(frozen=True, slots=True)
class Source:
    """Where a share of the pictures comes from."""

    name: str  # of a data set, or `synthesis`
    root: str
    split: str | None = None
    share: float = 1.0  # against the other sources


@dataclass(frozen=True, slots=True)
class PaperRecipe:
    run: str  # folder for checkpoints and weights
    data: tuple[Source, ...]
    steps: int
    network: str = NAME
    size: tuple[int, int] = (640, 640)  # (H, W), multiples of 32
    batch: int = 8
    sizes: Sizes = field(default_factory=Sizes)
    start: str | None = None  # weights of this network to go on from
    seed: int = 1
    rate: float = 1e-4  # peak learning rate
    encoder_rate: float = 0.1  # of the Swin Transformer, times `rate`
    decay: float = 1e-4  # weight decay
    warmup: int = 1000  # steps
    last: float = 0.01  # of the peak rate, at the end of the cosine
    clip: float = 0.1  # gradient norm
    smallest_crop: float = 0.6  # of a picture's sides
    save_every: int = 1000  # steps
    workers: int = 4


def read(path: Path) -> PaperRecipe:
    values = yaml.safe_load(path.read_text())
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected keys and values, found {type(values).__name__}")
    if "sizes" in values:
        told = dict(values["sizes"])
        if "depths" in told:
            told["depths"] = tuple(told["depths"])
        try:
            values["sizes"] = build(Sizes, told, f"{path}: sizes")
        except RecipeError:
            raise
        except ValueError as error:
            raise RecipeError(f"{path}: sizes: {error}") from None
    if not values.get("data"):
        raise RecipeError(f"{path}: expected `data`, a list of name and root")
    values["data"] = tuple(
        build(Source, source, f"{path}: data[{i}]") for i, source in enumerate(values["data"])
    )
    for source in values["data"]:
        if source.name != SYNTHESIS and source.name not in DATASETS:
            known = ", ".join([SYNTHESIS, *DATASETS])
            raise RecipeError(f"{path}: data: unknown {source.name!r}; known are {known}")
    size = tuple(values.get("size", (640, 640)))
    if len(size) != 2 or any(side % 32 for side in size):
        raise RecipeError(f"{path}: size should be [H, W], multiples of 32")
    recipe = build(PaperRecipe, values | {"size": size}, str(path))
    if recipe.network != NAME:
        raise RecipeError(f"{path}: network {recipe.network!r} is not {NAME!r}")
    return recipe


# Pictures ---------------------------------------------------------------------------------------


class Steps(Dataset):
    """Item i is the batch of step first + i."""

    def __init__(self, recipe: PaperRecipe, first: int) -> None:
        self.recipe, self.first = recipe, first
        # looked through now, so that a tree that is otherwise is an error before the first step
        self.items: dict[int, list[Item]] = {
            i: open_dataset(source.name, Path(source.root), source.split)
            for i, source in enumerate(recipe.data)
            if source.name != SYNTHESIS
        }

    def __len__(self) -> int:
        return self.recipe.steps - self.first

    def __getitem__(self, i: int) -> tuple[int, Batch]:
        step = self.first + i
        samples = [self.sample(step, row) for row in range(self.recipe.batch)]
        return step, collate(samples, 1, most=self.recipe.sizes.codes)

    def sample(self, step: int, row: int) -> Sample:
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step, row])
        shares = np.array([source.share for source in recipe.data])
        chosen = int(rng.choice(len(shares), p=shares / shares.sum()))
        source = recipe.data[chosen]
        if source.name == SYNTHESIS:
            scene = random_scene(
                _material(source.root), recipe.size, [recipe.seed, step, row], photos=0.0
            )
            return render(scene)
        items = self.items[chosen]
        picture = items[int(rng.integers(len(items)))].load()
        hard = source.name == "COCO"
        return augmented(picture, recipe.size, rng, recipe.smallest_crop, hard)


@lru_cache(maxsize=4)
def _material(root: str) -> material.Sources:
    return material.load(Path(root))


def augmented(
    picture: Picture, size: tuple[int, int], rng: np.random.Generator, smallest: float = 0.6,
    hard: bool = False,
) -> Sample:  # fmt: skip
    """A part of a picture, perhaps mirrored, stretched to `size` as the network sees pictures.

    hard: labels are outlines drawn by hand, and say nothing within a few pixels of an edge.  Of a
    portrait the one matte there is counts as one person.
    """
    h, w = picture.rgb.shape[:2]
    part = [max(1, round(side * rng.uniform(smallest, 1))) for side in (h, w)]
    y, x = (int(rng.integers(side - p + 1)) for side, p in zip((h, w), part, strict=True))
    window = np.s_[y : y + part[0], x : x + part[1]]
    mirror = rng.random() < 0.5

    def seen(plane: np.ndarray, how: int = cv2.INTER_AREA) -> np.ndarray:
        made = cv2.resize(plane[window], size[::-1], interpolation=how)
        return np.ascontiguousarray(made[:, ::-1] if mirror else made)

    alpha = [seen(matte) for matte in picture.alpha]
    alpha = [matte for matte in alpha if (matte > 127).sum() > 0.0008 * matte.size]
    known = np.ones(size, bool)
    if picture.known is not None:
        known = seen(picture.known.astype(np.uint8), cv2.INTER_NEAREST) > 0
    if hard:
        reach = max(3, size[0] // 60) | 1
        for matte in alpha:
            edge = cv2.morphologyEx(matte, cv2.MORPH_GRADIENT, np.ones((reach, reach), np.uint8))
            known &= edge == 0
    stack = np.stack(alpha) if alpha else np.zeros((0, *size), np.uint8)
    together = stack.sum(0, dtype=np.int64).clip(0, 255).astype(np.uint8)
    ids = tuple(range(1, len(stack) + 1))
    return Sample(seen(picture.rgb), stack, np.zeros_like(stack), known, together, True, ids)


# What is asked ----------------------------------------------------------------------------------


def trimaps(alpha: Tensor) -> Tensor:
    """(M, H, W) in 0..1 -> (M, H, W) int64: 0 background, 1 unknown, 2 foreground.  Unknown is
    within 1/60 of the picture's height of anything that is neither."""
    reach = max(3, alpha.shape[1] // 30) | 1
    high = F.max_pool2d(alpha[:, None], reach, 1, reach // 2)[:, 0]
    low = -F.max_pool2d(-alpha[:, None], reach, 1, reach // 2)[:, 0]
    classes = torch.ones_like(alpha, dtype=torch.int64)
    classes[high < 0.05] = 0
    classes[low > 0.95] = 2
    return classes


def losses(
    network: PublishedNetwork, output: Output, image: Tensor, batch: Batch
) -> tuple[dict[str, Tensor], Matches]:
    """The terms of section 3.5, unweighted, and who was matched with whom.

    Matching: one code a person, the cheapest in all (DETR, Carion et al. 2020, eq. 1), by location
    and existence.
    existence: cross-entropy over all codes, those of no one weighed down (DETR, eq. 2).
    location: soft Dice (V-Net, Milletari et al. 2016, section 3) and cross-entropy of the location
    maps, at 1/8.
    attention: cross-entropy of what share of each pixel each code is given, both heads (ours: it
    gives the spatial attention of section 3.3 its meaning from the first step on).
    trimap: cross-entropy over the three classes, at full size.
    matte: absolute difference where the trimap is unknown (Deep Image Matting, Xu et al. 2017,
    eq. 2), before the clamp, whose gradient would be zero outside 0..1.
    pyramid: Laplacian-pyramid L1 (Hou and Liu 2019, eq. 6), of the matte within the unknown band.
    """
    people = batch.people * batch.instances
    alpha = batch.alpha.float() / 255
    alpha8 = F.avg_pool2d(alpha, 8)
    known = batch.known.float()
    known8 = 1 - F.max_pool2d(1 - known[:, None], 8)[:, 0]
    b, n = output.existence.shape[:2]
    nowhere = alpha.new_zeros(b, n, 2)  # queries stand at no place: it costs nothing
    pairs = match(
        output.existence, output.location, nowhere, alpha8, known8,
        alpha.new_zeros(b, alpha.shape[1], 2), people,
    )  # fmt: skip
    terms: dict[str, Tensor] = {}

    someone = torch.zeros(b, n, dtype=torch.int64, device=alpha.device)
    someone[pairs.b, pairs.n] = 1
    weight = torch.where(someone == 1, 1.0, NO_ONE) * batch.instances[:, None]
    crossed = F.cross_entropy(output.existence.flatten(0, 1), someone.flatten(), reduction="none")
    terms["existence"] = (crossed * weight.flatten()).sum() / weight.sum().clamp(min=1e-6)

    shares = alpha.new_zeros(b, n + 1, *alpha8.shape[2:])
    shares[pairs.b, pairs.n] = alpha8[pairs.b, pairs.p]
    shares[:, -1] = (1 - shares[:, :-1].sum(1)).clamp(min=0)
    weight8 = (known8 * batch.instances[:, None, None])[:, None]
    missed = -(shares[:, None] * output.attention.log_softmax(2)).sum(2)  # (B, 2, h8, w8)
    terms["attention"] = (missed * weight8).sum() / (2 * weight8.sum()).clamp(min=1)

    if not len(pairs.b):
        nothing = output.trimap.sum() * 0 + output.fine.sum() * 0
        return terms | dict.fromkeys(("location", "trimap", "matte", "pyramid"), nothing), pairs
    mine, sure8 = output.location[pairs.b, pairs.n], known8[pairs.b]
    true8 = alpha8[pairs.b, pairs.p]
    crossed = F.binary_cross_entropy_with_logits(mine, true8, reduction="none") * sure8
    area = sure8.sum((1, 2)).clamp(min=1)
    terms["location"] = (dice(mine, true8, sure8) + crossed.sum((1, 2)) / area).mean()

    true, sure = alpha[pairs.b, pairs.p], known[pairs.b]
    classes = trimaps(true)
    crossed = F.cross_entropy(
        up(output.trimap[pairs.b, pairs.n], 8), classes, reduction="none"
    ) * sure  # fmt: skip
    terms["trimap"] = crossed.sum() / sure.sum().clamp(min=1)

    made = network.alpha(output, image)[pairs.b, pairs.n]
    band = (classes == 1).float() * sure
    off = (made - true).abs() * band
    terms["matte"] = (off.sum((1, 2)) / band.sum((1, 2)).clamp(min=1)).mean()
    terms["pyramid"] = pyramid((made * band)[:, None], (true * band)[:, None])
    return terms, pairs


# The run ----------------------------------------------------------------------------------------


class Run:
    """The network in training, with everything a bit-exact resume needs."""

    def __init__(self, recipe: PaperRecipe, device: torch.device) -> None:
        self.recipe, self.device, self.step = recipe, device, 0
        self.folder = Path(recipe.run)
        torch.manual_seed(recipe.seed)
        if recipe.start:
            self.network, _ = load(Path(recipe.start))
            if self.network.sizes != recipe.sizes:
                raise RecipeError(
                    f"{recipe.start}: sizes {self.network.sizes} are not the recipe's"
                )
        else:
            self.network = PublishedNetwork(recipe.sizes)
        self.network.to(device)
        swin = set(self.network.perception.swin.parameters())
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.network.parameters():
            groups.setdefault((parameter in swin, parameter.ndim > 1), []).append(parameter)
        self.optimiser = torch.optim.AdamW(
            [
                {"params": parameters, "weight_decay": recipe.decay if decays else 0.0,
                 "peak": recipe.rate * (recipe.encoder_rate if encoder else 1.0)}
                for (encoder, decays), parameters in groups.items()
            ],
            lr=recipe.rate, fused=True,
        )  # fmt: skip

    def train_step(self, step: int, batch: Batch) -> dict[str, float]:
        network = self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate_at(self.recipe, step)
        torch.manual_seed(self.recipe.seed * 1_000_003 + step)  # dropout follows from the step
        batch = batch.to(self.device)
        image = seen(batch.rgb)
        cuda = self.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
            output = network(image)
        output = Output(*(part.float() for part in output))
        terms, _ = losses(network, output, image, batch)
        loss = torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"step {step}: loss is {loss.item()}: {terms}")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), self.recipe.clip)
        self.optimiser.step()
        self.step = step + 1
        return {"loss": loss.item()} | {name: term.item() for name, term in terms.items()}

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "digest": _identity(self.recipe), "step": self.step,
            "network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip
        partial = self.folder / "state.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / "state.pt")
        save(self.network, self.folder / "weights.safetensors", step=str(self.step))

    def resume(self) -> None:
        state = torch.load(self.folder / "state.pt", map_location=self.device, weights_only=True)
        if state["digest"] != _identity(self.recipe):
            raise RecipeError(
                f"{self.folder} was started with another recipe; give the new one another `run`"
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def _identity(recipe: PaperRecipe) -> str:
    """Of everything that changes what is learned but where the data lies."""
    data = tuple(replace(source, root="") for source in recipe.data)
    told = repr(replace(recipe, data=data, run="", start=None, workers=0, save_every=0))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def seen(rgb: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> as the network takes it."""
    mean, spread = (rgb.new_tensor(v, dtype=torch.float32)[:, None, None] for v in (MEAN, SPREAD))
    return (rgb.float() / 255 - mean) / spread


def batches(recipe: PaperRecipe, first: int) -> Iterator[tuple[int, Batch]]:
    return iter(
        DataLoader(
            Steps(recipe, first), batch_size=None, num_workers=recipe.workers,
            prefetch_factor=2 if recipe.workers else None,
        )
    )  # fmt: skip


def train(recipe: PaperRecipe, device: torch.device, until: int | None = None) -> Run:
    """Train to the end of the recipe (or to step `until`), going on where the run folder stands.

    Weights to use lie in the run folder as weights.safetensors; `python -m matting.evaluate`
    measures them.
    """
    cv2.setNumThreads(1)  # before its pool exists: a forked worker would wait for threads it lacks
    run = Run(recipe, device)
    if (run.folder / "state.pt").exists():
        run.resume()
        print(f"going on from step {run.step} of {recipe.steps}", file=sys.stderr)
    end = min(recipe.steps, until or recipe.steps)
    progress = Progress(recipe.steps, run.folder / "log.ndjson")
    for step, batch in batches(recipe, run.step):
        if step >= end:
            break
        plan = Plan(step, recipe.size, recipe.batch, 1, 0)
        progress.show(plan, run.train_step(step, batch))
        if run.step % recipe.save_every == 0 or run.step == end:
            run.save()
    return run
