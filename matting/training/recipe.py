"""What a training run is: a YAML file, turned into a checked dataclass."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path

import yaml

from matting.network.live import NAME, Sizes


class RecipeError(ValueError):
    """The recipe does not say what a run needs; the message names file and key."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Part of a run at one size."""

    size: tuple[int, int]  # (H, W) the network sees, multiples of 32
    steps: int
    batch: int = 8


@dataclass(frozen=True, slots=True)
class Recipe:
    run: str  # folder for checkpoints and sheets
    data: str  # folder with people/, backgrounds/, scenes/, unions/
    stages: tuple[Stage, ...]
    rendered: str | None = None  # folder of `python -m matting.synthesis humans`
    start: str | None = None  # trained weights to go on from
    backbone: str | None = None  # weights of the backbone alone, from another task; over `start`'s
    # weights of what finds joints (matting/network/pose.py), likewise; never trained: noise without
    pose: str | None = None
    labels: str | None = None  # what pictures show, seen by eye
    weights: str | None = None  # where a finished run is published, if it is better
    sizes: Sizes = field(default_factory=Sizes)
    seed: int = 1
    rate: float = 5e-4  # peak learning rate of new parts
    backbone_rate: float = 0.25  # times `rate`
    memory_rate: float = 1.0  # of the memory, times `rate`: it starts as nothing
    grouping_rate: float = 1.0  # of the layers of grouping, as above
    decay: float = 0.02  # weight decay
    warmup: int = 300  # steps
    last: float = 0.02  # of the peak rate, at the end of the cosine
    clip: float = 2.0  # gradient norm
    average: float = 0.998  # of the moving average of weights, per step
    photos: float = 0.35  # share of pictures that are labelled photographs
    films: float = 0.1  # share of scenes that are sequences of `rendered`, where it has any
    empty: float = 0.0  # share of made scenes without anyone, beside those that chance leaves empty
    headless: float = 0.0  # share of people in made scenes whose head is out of the picture
    close_ups: float = 0.0  # share of half figures in made scenes whose face may fill the picture
    teach: float = 0.5  # share of pictures whose seeds are given, falling to 0 at half the run
    expected: float = 0.55  # share of pictures told where everyone was, more or less (expected.py)
    frames: int = 1  # of each scene that are learned from in a step
    before: int = 0  # at most so many frames are seen first, only to fill the memory
    spoilt: float = 0.0  # share of scenes whose last frame is spoilt: noise, blur, darkness
    bad_light: float = 0.0  # share of scenes in a light no camera likes (synthesis/camera.py)
    cuts: float = 0.1  # share of scenes whose earlier frames are of another scene
    still_norms: bool = False  # keep batch norms' statistics: few pictures a step say little
    fine_every: int = 4  # every so many steps the picture is twice the network's size
    portrait_every: int = 5  # every so many steps the picture stands upright
    closer_every: int = 0  # every so many steps the network sees three times the pixels; 0: never
    matched: int = 10  # people of a batch whose full-size alpha is compared
    save_every: int = 250  # steps
    validate_every: int = 1000  # steps
    validation: int = 64  # synthetic pictures
    limit: int | None = None  # sources read per kind; for tests
    workers: int = 1

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def digest(self) -> str:
        """Identity of everything that changes what is learned; a resume must agree with it."""
        told = asdict(self)
        for free in ("run", "data", "rendered", "start", "backbone", "pose", "labels", "weights",
                     "workers", "save_every", "validate_every", "validation"):  # fmt: skip
            told.pop(free)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def load(path: Path) -> Recipe:
    values = yaml.safe_load(path.read_text())
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected keys and values, found {type(values).__name__}")
    for section, kind in (("sizes", Sizes),):
        if section in values:
            values[section] = build(kind, values[section], f"{path}: {section}")
    if values.pop("network", NAME) != NAME:
        raise RecipeError(f"{path}: `network` should be {NAME} or that of configs/train_paper.yaml")
    if not values.get("stages"):
        raise RecipeError(f"{path}: expected `stages`, a list of size, steps and batch")
    stages = []
    for i, stage in enumerate(values["stages"]):
        made = build(Stage, stage, f"{path}: stages[{i}]")
        if len(made.size) != 2 or any(side % 32 for side in made.size):
            raise RecipeError(f"{path}: stages[{i}].size should be [H, W], multiples of 32")
        stages.append(Stage(tuple(made.size), made.steps, made.batch))
    values["stages"] = tuple(stages)
    return build(Recipe, values, str(path))


def network_of(path: Path) -> str:
    """Which network a recipe trains: what its `network` says, and the live one without it."""
    values = yaml.safe_load(path.read_text())
    return values.get("network", NAME) if isinstance(values, dict) else NAME


def build(kind: type, values: dict, where: str):
    names = [f.name for f in fields(kind)]
    for key in values:
        if key not in names:
            hint = get_close_matches(str(key), names, n=1) or names
            raise RecipeError(f"{where}: unknown key {key!r}; did you mean {' or '.join(hint)}?")
    for f in fields(kind):
        if f.type == "float" and isinstance(values.get(f.name), str):
            raise RecipeError(f"{where}: {f.name} should be a number, found {values[f.name]!r}"
                              " (YAML needs a dot: 1.0e-3)")  # fmt: skip
    try:
        return kind(**values)
    except TypeError as error:
        raise RecipeError(f"{where}: {error}") from None
