"""python -m matting.training.finish RECIPE: what is taught to the network once it is finished.

Two small heads read what a person looks like to it: whether they are somebody (verdict.py) and who
they are over time (identity.py).  Mattes stay as they are; only which of them are shown, and under
which number, depends on the heads.  They are put into the weights, and the ONNX beside them is made
anew.  Run it again whenever the network has learned something else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import torch
import yaml

from matting.network import live
from matting.network.export import export
from matting.network.live import LiveNetwork
from matting.synthesis import sources as material
from matting.synthesis.sources import Sources
from matting.training import identity, verdict
from matting.training.recipe import RecipeError, build


@dataclass(frozen=True, slots=True)
class Recipe:
    weights: str  # the finished network; the heads are added to it, and its ONNX made anew
    data: str  # folder with people/ and backgrounds/
    labels: str | None = None  # as for the network: what pictures show, seen by eye
    rendered: str | None = None  # folder of `python -m matting.synthesis humans`
    size: tuple[int, int] = (288, 512)  # (H, W) the network sees
    verdict: verdict.Plan = field(default_factory=verdict.Plan)
    identity: identity.Plan = field(default_factory=identity.Plan)
    seed: int = 1
    seen: str | None = None  # file that keeps what the network saw, until its code changes
    limit: int | None = None  # sources read per kind; for tests

    def digest(self, network: LiveNetwork) -> str:
        """Identity of a network and of the lessons it is shown, not of how they are learned."""
        told = asdict(self)
        for free in ("weights", "seen"):
            told.pop(free)
        for plan, how in (("verdict", verdict.LEARNING), ("identity", identity.LEARNING)):
            for free in how:
                told[plan].pop(free)
        known = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for name, tensor in sorted(network.state_dict().items()):
            known.update(name.encode() + tensor.numpy().tobytes())
        return known.hexdigest()


@dataclass(frozen=True, slots=True)
class Seen:
    """The lessons as the network saw them: what takes the time."""

    people: identity.Sightings
    tried: verdict.Trials
    exam: verdict.Trials

    def write(self, path: Path, digest: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save({"digest": digest, **asdict(self)}, partial)
        partial.replace(path)

    @classmethod
    def read(cls, path: Path, digest: str) -> Seen | None:
        """None where there is no such file, or it is of another network or other lessons."""
        if not path.exists():
            return None
        told = torch.load(path, weights_only=True)
        if told["digest"] != digest:
            print(f"{path}: of another network or other lessons; made anew", file=sys.stderr)
            return None
        trials = (verdict.Trials(**told[name]) for name in ("tried", "exam"))
        return cls(identity.Sightings(**told["people"]), *trials)


def load(path: Path) -> Recipe:
    values = yaml.safe_load(path.read_text())
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected keys and values, found {type(values).__name__}")
    for name, plan in (("verdict", verdict.Plan), ("identity", identity.Plan)):
        if name in values:
            values[name] = build(plan, values[name], f"{path}: {name}")
    if "size" in values:
        values["size"] = tuple(values["size"])
    return build(Recipe, values, str(path))


def run(recipe: Recipe) -> dict[str, dict[str, float]]:
    """Teach both heads and put them into the weights.  Returns what they are worth on people never
    trained on, beside what was there without them."""
    cv2.setNumThreads(1)
    weights, folder, size = Path(recipe.weights), Path(recipe.data), recipe.size
    network, header = live.load(weights)
    network.without_heads().to(memory_format=torch.channels_last)
    labels = Path(recipe.labels) if recipe.labels else None
    unseen = material.load(folder, held_out=True, labels=labels, limit=recipe.limit, tall=400)

    digest, file = recipe.digest(network), Path(recipe.seen) if recipe.seen else None
    seen = Seen.read(file, digest) if file else None
    if seen is None:
        learn = material.load(
            folder, labels=labels, limit=recipe.limit, tall=400,
            rendered=Path(recipe.rendered) if recipe.rendered else None,
        )  # fmt: skip
        seen = look(network, recipe, learn, unseen)
        if file:
            seen.write(file, digest)
    network.looks = identity.usual_looks(seen.people)

    plan = recipe.verdict
    judge = verdict.fitted(plan, seen.tried, network.sizes.width, recipe.seed + plan.seed)
    with torch.inference_mode():
        none, one = judge(seen.exam.evidence).unbind(-1)
    figures = {
        "existence alone": asdict(verdict.worth(seen.exam.score, seen.exam)),
        "with the verdict": asdict(verdict.worth(one - none, seen.exam)),
    }
    network.verdict = judge

    network.identity = identity.fitted(recipe.identity, network.looks, seen.people, recipe.seed)
    met = identity.meetings(network, recipe.identity, unseen, size)
    figures["latent codes"] = identity.separation(met.code, met)
    figures["identity head"] = identity.separation(met.identity, met)

    heads = ("network", "sizes", "identity", "verdict")
    facts = {key: value for key, value in header.items() if key not in heads}
    live.save(network, weights, **facts)
    export(weights, weights.with_suffix(".onnx"))
    return figures


def look(network: LiveNetwork, recipe: Recipe, learn: Sources, unseen: Sources) -> Seen:
    """Show the network all lessons; it is left with the looks that the verdict's are of."""
    plan, size = recipe.verdict, recipe.size
    people = identity.sightings(network, recipe.identity, learn, size, recipe.seed)
    network.looks = identity.usual_looks(people)
    total = plan.scenes + plan.crops * len(learn.backgrounds)
    lessons = verdict.shown(plan, learn, size, recipe.seed)
    tried = verdict.trials(network, lessons, total, plan.doubt)
    total = plan.exam + len(unseen.backgrounds)
    exam = verdict.trials(network, verdict.examined(plan, unseen, size), total, plan.doubt)
    return Seen(people, tried, exam)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m matting.training.finish", description=__doc__.splitlines()[0]
    )
    parser.add_argument("recipe", type=Path, help="YAML, e.g. configs/train_finish.yaml")
    parser.add_argument("--threads", type=int, help="CPU threads; default: all")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        figures = run(load(args.recipe))
    except (RecipeError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in ("existence alone", "with the verdict"):
        found, false, empty = figures[name].values()
        print(f"{name:16} {found} people found and {false} false in made scenes, {empty} false in "
              "pictures without people")  # fmt: skip
    for name in ("latent codes", "identity head"):
        told = ", ".join(f"{where} {value:.3f}" for where, value in figures[name].items())
        print(f"{name:16} area under ROC {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
