"""Batches of labelled pictures.  Picture i of a run is always the same picture, so a resumed run
goes on exactly where it stopped, whatever happened in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from matting.synthesis.camera import BadLight, spoil
from matting.synthesis.films import film
from matting.synthesis.scenes import Sample, random_scene, render, sequence
from matting.synthesis.sources import Sources
from matting.training.recipe import Recipe

RATES = (30.0, 15.0, 8.0, 4.0)  # of moving scenes, frames a second
CLOSER = 3  # times the usual pixels, as photographs have (engines/closer.py), in a third as many
MOST = 8  # people of a picture whose labels are carried; the smallest are left out


@dataclass(frozen=True, slots=True)
class Batch:
    """B pictures with at most P people each; H x W is `scale` times what the network sees."""

    rgb: Tensor  # (B, 3, H, W) uint8
    alpha: Tensor  # (B, P, H, W) uint8
    contrast: Tensor  # (B, P, H, W) uint8
    known: Tensor  # (B, H, W) bool
    everyone: Tensor  # (B, H, W) uint8
    people: Tensor  # (B,) int64: rows of alpha in use
    ids: Tensor  # (B, P) int64: who it is, within the scene; 0 where the row is not in use
    instances: Tensor  # (B,) bool
    scale: int

    def to(self, device: torch.device) -> Batch:
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in (
                "rgb", "alpha", "contrast", "known", "everyone", "people", "ids", "instances"
            )
        }
        return Batch(**moved, scale=self.scale)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step trains on."""

    step: int
    size: tuple[int, int]  # the network's
    batch: int
    scale: int  # of the picture against the network's size
    before: int  # frames that only fill the memory
    closer: bool = False  # `size` is larger than the stage's, and `batch` smaller


def plan(recipe: Recipe, step: int) -> Plan:
    passed = step
    for stage in recipe.stages:
        if passed < stage.steps:
            break
        passed -= stage.steps
    upright = step % recipe.portrait_every == recipe.portrait_every - 1
    size = stage.size[::-1] if upright else stage.size
    before = int(np.random.default_rng([recipe.seed, step]).integers(recipe.before + 1))
    if recipe.closer_every and step % recipe.closer_every == recipe.closer_every - 1:
        height, width = (round(side * CLOSER**0.5 / 32) * 32 for side in size)
        return Plan(step, (height, width), max(1, stage.batch // CLOSER), 1, before, closer=True)
    return Plan(step, size, stage.batch, 2 if step % recipe.fine_every == 0 else 1, before)


def collate(samples: list[Sample], scale: int, most: int = MOST) -> Batch:
    height, width = samples[0].rgb.shape[:2]
    most = max(1, min(most, max(len(s.alpha) for s in samples)))
    alpha = np.zeros((len(samples), most, height, width), np.uint8)
    contrast = np.zeros_like(alpha)
    ids = np.zeros((len(samples), most), np.int64)
    for i, sample in enumerate(samples):
        rows = np.argsort(-sample.alpha.sum((1, 2), dtype=np.int64), kind="stable")[:most]
        alpha[i, : len(rows)], contrast[i, : len(rows)] = sample.alpha[rows], sample.contrast[rows]
        ids[i, : len(rows)] = np.array(sample.ids, np.int64)[rows]
    return Batch(
        rgb=torch.from_numpy(np.stack([s.rgb for s in samples])).permute(0, 3, 1, 2),
        alpha=torch.from_numpy(alpha), contrast=torch.from_numpy(contrast),
        known=torch.from_numpy(np.stack([s.known for s in samples])),
        everyone=torch.from_numpy(np.stack([s.everyone for s in samples])),
        people=torch.tensor([min(len(s.alpha), most) for s in samples]),
        ids=torch.from_numpy(ids),
        instances=torch.tensor([s.instances for s in samples]), scale=scale,
    )  # fmt: skip


class Steps(Dataset):
    """Item i is the whole batch of step first + i: its frames, oldest first."""

    def __init__(self, recipe: Recipe, sources: Sources, first: int) -> None:
        self.recipe, self.sources, self.first = recipe, sources, first

    def __len__(self) -> int:
        return self.recipe.steps - self.first

    def __getitem__(self, i: int) -> tuple[Plan, list[Batch]]:
        p = plan(self.recipe, self.first + i)
        rows = [self._lit(p, row) for row in range(p.batch)]
        return p, [collate(list(frames), p.scale) for frames in zip(*rows, strict=True)]

    def _lit(self, p: Plan, row: int) -> list[Sample]:
        rng = np.random.default_rng([self.recipe.seed, p.step, row, 4])
        frames, light = self._scene(p, row), BadLight.sometimes(rng, self.recipe.bad_light)
        if light is None:
            return frames
        return [replace(frame, rgb=light.on(frame.rgb, frame.outline, t))
                for t, frame in enumerate(frames)]  # fmt: skip

    def _scene(self, p: Plan, row: int) -> list[Sample]:
        size = (p.size[0] * p.scale, p.size[1] * p.scale)
        seed, learned = [self.recipe.seed, p.step, row], self.recipe.frames
        shares = ("photos", "empty", "headless", "close_ups")
        who = {name: getattr(self.recipe, name) for name in shares}
        films, dice = self.sources.films, np.random.default_rng([*seed, 3])
        if films and dice.random() < self.recipe.films:
            places = self.sources.backgrounds
            folder, place = films[dice.integers(len(films))], places[dice.integers(len(places))]
            rate = float(dice.choice(RATES))
            return list(film(folder, place, size, dice, frames=p.before + learned, rate=rate))
        if p.before + learned == 1:
            return [render(random_scene(self.sources, size, seed, **who))]
        rng = np.random.default_rng([*seed, 1])
        rate = float(rng.choice(RATES))

        def filmed(seed: list[int], frames: int) -> list[Sample]:
            return list(sequence(self.sources, size, seed, frames=frames, rate=rate, **who))

        if p.before and rng.random() < self.recipe.cuts:
            return filmed([*seed, 2], p.before) + filmed(seed, learned)
        frames = filmed(seed, p.before + learned)
        if rng.random() < self.recipe.spoilt:
            frames[-1] = replace(frames[-1], rgb=spoil(frames[-1].rgb, rng))
        return frames


def batches(
    recipe: Recipe, sources: Sources, first: int
) -> Iterator[tuple[Plan, list[Batch]]]:
    return iter(
        DataLoader(
            Steps(recipe, sources, first), batch_size=None, num_workers=recipe.workers,
            prefetch_factor=3 if recipe.workers else None,
        )
    )  # fmt: skip
