"""python -m matting.training.finish RECIPE: what is taught to the network once it is finished.

Two small heads read what a person looks like to it: whether they are somebody (verdict.py) and who
they are over time (identity.py).  Mattes stay as they are; only which of them are shown, and under
which number, depends on the heads.  They are put into the weights, and the ONNX beside them is made
anew.  Run it again whenever the network has learned something else.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import torch
import yaml

from matting.network import live
from matting.network.export import export
from matting.synthesis import sources as material
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
    limit: int | None = None  # sources read per kind; for tests


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
    network.without_heads()
    labels = Path(recipe.labels) if recipe.labels else None
    learn = material.load(
        folder, labels=labels, limit=recipe.limit, tall=400,
        rendered=Path(recipe.rendered) if recipe.rendered else None,
    )  # fmt: skip
    unseen = material.load(folder, held_out=True, labels=labels, limit=recipe.limit, tall=400)

    people = identity.sightings(network, recipe.identity, learn, size, recipe.seed)
    network.looks = identity.usual_looks(people)

    plan = recipe.verdict
    total = plan.scenes + plan.crops * len(learn.backgrounds)
    tried = verdict.trials(
        network, verdict.shown(plan, learn, size, recipe.seed), total, plan.doubt
    )
    judge = verdict.fitted(plan, tried, network.sizes.width, recipe.seed)
    total = plan.exam + len(unseen.backgrounds)
    exam = verdict.trials(network, verdict.examined(plan, unseen, size), total, plan.doubt)
    with torch.inference_mode():
        none, one = judge(exam.evidence).unbind(-1)
    figures = {
        "existence alone": asdict(verdict.worth(exam.score, exam)),
        "with the verdict": asdict(verdict.worth(one - none, exam)),
    }
    network.verdict = judge

    network.identity = identity.fitted(recipe.identity, network.looks, people, recipe.seed)
    met = identity.meetings(network, recipe.identity, unseen, size)
    figures["latent codes"] = identity.separation(met.code, met)
    figures["identity head"] = identity.separation(met.identity, met)

    heads = ("network", "sizes", "identity", "verdict")
    facts = {key: value for key, value in header.items() if key not in heads}
    live.save(network, weights, **facts)
    export(weights, weights.with_suffix(".onnx"))
    return figures


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
