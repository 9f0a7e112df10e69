"""The run itself: resume, schedule, moving average, checkpoints, validation, publishing."""

from __future__ import annotations

import copy
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import torch
from torch import Tensor, nn

from matting.network import live
from matting.synthesis import sources as material
from matting.training import validate
from matting.training.data import Batch, Plan, batches
from matting.training.expected import expected
from matting.training.losses import WEIGHTS, losses, taught_seeds, truth
from matting.training.precision import computes_bfloat16, mixed
from matting.training.recipe import Recipe, RecipeError

SCALE = 2  # validation pictures are so many times what the network sees


class Worse(RuntimeError):
    """A finished run scores below the weights that are already published."""


def rate_at(recipe: Recipe, step: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine down to `last`."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.last + (1 - recipe.last) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Run:
    """A network in training, with everything a bit-exact resume needs."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.device, self.step = recipe, device, 0
        self.folder = Path(recipe.run)
        torch.manual_seed(recipe.seed)
        self.network = live.LiveNetwork(recipe.sizes)
        if recipe.start:
            loaded, _ = live.load(Path(recipe.start))
            grown = replace(
                recipe.sizes, memory=loaded.sizes.memory and recipe.sizes.memory,
                grouping=min(loaded.sizes.grouping, recipe.sizes.grouping),
            )  # fmt: skip
            if loaded.sizes != grown:
                raise RecipeError(f"{recipe.start}: sizes {loaded.sizes} are not the recipe's")
            # memory and layers of grouping may be added to a network: at first they add nothing
            self.network.load_state_dict(loaded.without_heads().state_dict(), strict=False)
        for name in ("backbone", "pose"):
            begun = getattr(recipe, name)
            if begun and not Path(begun).exists():
                raise RecipeError(
                    f"{begun}: no such {name}; `python -m matting.training.movenet` makes one "
                    "(weights/README.md, Recipe)"
                )
            if begun:
                getattr(self.network, name).load(Path(begun))
        self.network.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        rates = {
            "backbone.": recipe.backbone_rate, "memory.": recipe.memory_rate,
            "perception.grouping.": recipe.grouping_rate,
        }  # fmt: skip
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            if not parameter.requires_grad:
                continue
            rate = next((rate for part, rate in rates.items() if name.startswith(part)), 1.0)
            groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
        self.optimiser = torch.optim.AdamW(
            [
                {"params": parameters, "weight_decay": recipe.decay if decays else 0.0,
                 "peak": recipe.rate * rate}
                for (rate, decays), parameters in groups.items()
            ],
            lr=recipe.rate, fused=True,
        )  # fmt: skip

    def train_step(self, plan: Plan, clip: list[Batch]) -> dict[str, float]:
        """One step of the optimiser on `clip`, the frames of a batch of scenes, oldest first."""
        recipe, network = self.recipe, self.network
        network.train()
        if recipe.still_norms or plan.closer:  # few pictures a step say little
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate_at(recipe, plan.step)
        # everything random in a step comes from its number
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + plan.step)
        order = torch.rand(len(clip[0].rgb), 64, generator=generator)
        share = recipe.teach * max(0.0, 1 - 2 * plan.step / recipe.steps)
        loss: Tensor = torch.zeros(())
        sums: dict[str, float] = {}
        memory, earlier = None, None
        learned = len(clip) - plan.before
        for i, batch in enumerate(clip):
            batch = batch.to(self.device)
            image = batch.rgb.float() / 127.5 - 1
            if batch.scale > 1:
                image = nn.functional.avg_pool2d(image, batch.scale)
            image = image.contiguous(memory_format=torch.channels_last)
            autocast = mixed(self.device)
            if i < plan.before:
                with torch.no_grad(), autocast:
                    memory = network(image, None, memory).memory
                continue
            true = truth(batch)
            if i == 0 and recipe.sizes.memory:  # no frames before it are seen
                memory = expected(batch, true, recipe.sizes.codes, recipe.expected, generator)
            taught = taught_seeds(batch, true, share, generator)
            with autocast:
                output = network(image, taught, memory)
            memory = output.memory
            terms, earlier = losses(
                output, batch, true, most=recipe.matched, order=order, earlier=earlier
            )
            for name, term in terms.items():
                loss = loss + WEIGHTS[name] * term / learned
                sums[name] = sums.get(name, 0.0) + term.item() / learned
        if not torch.isfinite(loss):
            raise FloatingPointError(f"step {plan.step}: loss is {loss.item()}: {sums}")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        self.optimiser.step()
        self.step = plan.step + 1
        keep = min(recipe.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            slow, fast = (list(_floats(net)) for net in (self.average, network))
            torch._foreach_lerp_(slow, fast, 1 - keep)
        return {"loss": loss.item()} | sums

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "digest": self.recipe.digest(), "step": self.step,
            "network": self.network.state_dict(), "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip
        partial = self.folder / "state.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / "state.pt")

    def resume(self) -> None:
        state = torch.load(self.folder / "state.pt", map_location=self.device, weights_only=True)
        if state["digest"] != self.recipe.digest():
            raise RecipeError(
                f"{self.folder} was started with another recipe ({state['digest']}, this one is "
                f"{self.recipe.digest()}); give the new one another `run` folder"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def _floats(network: nn.Module) -> Iterator[Tensor]:
    """Weights and running statistics, in a fixed order; step counters are not averaged."""
    return (value for value in network.state_dict().values() if value.is_floating_point())


def train(recipe: Recipe, device: torch.device, until: int | None = None) -> Run:
    """Train to the end of the recipe (or to step `until`), going on where the run folder stands."""
    torch.backends.cudnn.benchmark = True
    cv2.setNumThreads(1)  # before its pool exists: a forked worker would wait for threads it lacks
    run = Run(recipe, device)
    if not computes_bfloat16(device):
        print("learning in float32: this processor does not compute in bfloat16", file=sys.stderr)
    if (run.folder / "state.pt").exists():
        run.resume()
        print(f"going on from step {run.step} of {recipe.steps}", file=sys.stderr)
    train_on = material.load(
        Path(recipe.data), labels=Path(recipe.labels) if recipe.labels else None,
        limit=recipe.limit, rendered=Path(recipe.rendered) if recipe.rendered else None,
    )  # fmt: skip
    exam = Exam(recipe, device)
    progress = Progress(recipe.steps, run.folder / "log.ndjson")
    end = recipe.steps if until is None else min(recipe.steps, until)
    for plan, clip in batches(recipe, train_on, run.step):
        if plan.step >= end:
            break
        progress.show(plan, run.train_step(plan, clip))
        if run.step % recipe.save_every == 0 or run.step == end:
            run.save()
        if run.step % recipe.validate_every == 0 or run.step == recipe.steps:
            progress.note(run.step, examine(run, exam))
    return run


class Exam:
    """Pictures never trained on, at the size the recipe ends with; the same for every network."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        held_out = material.load(Path(recipe.data), held_out=True, limit=recipe.limit)
        size = tuple(side * SCALE for side in recipe.stages[-1].size)
        self.scenes = validate.validation_scenes(held_out, size, recipe.validation)
        self.photos = validate.photo_samples(held_out, size)
        smaller = tuple(side // SCALE for side in size)  # flicker is the network's, at any size
        self.clips = validate.validation_clips(held_out, smaller, max(1, recipe.validation // 4))
        self.device = device

    def score(self, network: live.LiveNetwork) -> validate.Scores:
        return validate.score(
            network, self.scenes, self.photos, self.clips, SCALE, self.device
        )

    def draw(self, network: live.LiveNetwork, path: Path) -> None:
        picked = self.scenes[:12] + self.photos[:6]
        validate.sheet(network, picked, SCALE, self.device, path)


def examine(run: Run, exam: Exam) -> validate.Scores:
    """Score the averaged weights, draw a sheet, keep them as `best` if they are."""
    scores = exam.score(run.average)
    exam.draw(run.average, run.folder / f"sheet_{run.step:06d}.png")
    best = run.folder / "best.safetensors"
    if not best.exists() or scores.headline > _headline(best):
        live.save(
            run.average, best, step=str(run.step), scores=json.dumps(asdict(scores)),
            headline=repr(scores.headline),
        )  # fmt: skip
    return scores


def _headline(path: Path) -> float:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return float((file.metadata() or {}).get("headline", "-inf"))


def evaluate(recipe: Recipe, weights: Path, device: torch.device) -> validate.Scores:
    """Score trained weights on the recipe's held-out pictures, as `publish` does."""
    return Exam(recipe, device).score(_bare(weights, device))


def _bare(weights: Path, device: torch.device) -> live.LiveNetwork:
    """Only what a run trains.  Shipped weights have the heads of finish.py as well and a run's have
    not: with them, two different things would be compared."""
    return live.load(weights)[0].without_heads().to(device)


def publish(recipe: Recipe, device: torch.device) -> Path:
    """Put the run's best weights where the recipe says, unless what is there is better.

    Both are scored now, on the same pictures, so that a file's own claim is not believed.
    """
    if not recipe.weights:
        raise RecipeError("the recipe names no `weights` to publish to")
    best, target = Path(recipe.run) / "best.safetensors", Path(recipe.weights)
    if not best.exists():
        raise RecipeError(f"{best}: the run has no validated weights yet")
    if target.exists():
        exam = Exam(recipe, device)
        mine, theirs = (exam.score(_bare(path, device)) for path in (best, target))
        if mine.headline <= theirs.headline:
            raise Worse(
                f"{best} scores {mine.headline:.4f}, {target} already {theirs.headline:.4f}: "
                f"kept.\n  new: {mine.told()}\n  old: {theirs.told()}"
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_bytes(best.read_bytes())
    partial.replace(target)
    return target


class Progress:
    """A line that moves on a terminal, a line now and then elsewhere, and a log to plot."""

    def __init__(self, steps: int, log: Path) -> None:
        self.steps, self.log, self.shown = steps, log, 0.0
        self.mean: dict[str, float] = {}
        self.began, self.first = time.monotonic(), None
        self.live = sys.stderr.isatty()

    def show(self, plan: Plan, terms: dict[str, float]) -> None:
        self.first = plan.step if self.first is None else self.first
        for name, value in terms.items():
            self.mean[name] = value + 0.98 * (self.mean.get(name, value) - value)
        now = time.monotonic()
        if now - self.shown < (0.5 if self.live else 30) and plan.step + 1 < self.steps:
            return
        self.shown = now
        pace = (plan.step + 1 - self.first) / max(1e-9, now - self.began)
        left = (self.steps - plan.step - 1) / max(pace, 1e-9)
        bar = "#" * int(20 * (plan.step + 1) / self.steps)
        parts = " ".join(f"{name} {value:.3f}" for name, value in self.mean.items())
        line = f"[{bar:20}] {plan.step + 1}/{self.steps} {pace:.2f} steps/s, "
        line += f"{left / 60:.0f} min left  {parts}"
        print(("\r\033[K" if self.live else "") + line, end="" if self.live else "\n",
              file=sys.stderr, flush=True)  # fmt: skip
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as file:
            file.write(json.dumps({"step": plan.step + 1, **self.mean}) + "\n")

    def note(self, step: int, scores: validate.Scores) -> None:
        print(f"\nstep {step}: {scores.told()}", file=sys.stderr, flush=True)
        with self.log.open("a") as file:
            file.write(json.dumps({"step": step, "scores": asdict(scores)}) + "\n")
