"""The published network can be trained: a step helps, a run resumes, scenes are learned by heart.

The last takes minutes and runs with `make test-published` only.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from matting import evaluate, metrics  # noqa: E402
from matting.datasets import Picture  # noqa: E402
from matting.network.published import network as published  # noqa: E402
from matting.network.published.network import Sizes  # noqa: E402
from matting.synthesis.sources import DataError  # noqa: E402
from matting.training import __main__ as program  # noqa: E402
from matting.training import published as training  # noqa: E402
from matting.training.published import PaperRecipe, Run, Source, Steps, losses  # noqa: E402
from matting.training.recipe import RecipeError  # noqa: E402

CPU = torch.device("cpu")
THIN = Sizes(codes=6, layers=2, depths=(1, 1, 1, 1), thin=8)


@pytest.fixture
def recipe(drawn_data, tmp_path) -> PaperRecipe:
    return PaperRecipe(
        run=str(tmp_path / "run"), data=(Source("synthesis", str(drawn_data)),), steps=4,
        sizes=THIN, size=(64, 96), batch=2, workers=0, warmup=1, rate=1e-3,
    )  # fmt: skip


def loss_of(run: Run, batch) -> float:
    image = training.seen(batch.rgb)
    with torch.no_grad():
        terms, _ = losses(run.network.eval(), run.network(image), image, batch)
    return float(sum(training.WEIGHTS[name] * term for name, term in terms.items()))


def test_one_step_reduces_the_loss(recipe):
    run = Run(recipe, CPU)
    step, batch = Steps(recipe, 0)[0]
    before = loss_of(run, batch)

    run.train_step(step, batch)

    assert loss_of(run, batch) < before


def test_every_term_teaches_what_it_should(recipe):
    """Each part of the network is reached by some term, and no term is idle."""
    run = Run(recipe, CPU)
    _, batch = Steps(recipe, 0)[0]
    image = training.seen(batch.rgb)
    terms, pairs = losses(run.network, run.network(image), image, batch)
    sum(terms.values()).backward()

    assert set(terms) == set(training.WEIGHTS) and all(t > 0 for t in terms.values())
    assert len(pairs.b) == int(batch.people.sum())
    idle = [n for n, p in run.network.named_parameters() if p.grad is None or not p.grad.any()]
    # gamma starts at 0 and the codes at nothing: what they weigh waits for the first step
    asleep = ("instances.attend.", "perception.layers.0.self_attn.", "perception.layers.0.norm1.")
    assert [n for n in idle if not n.startswith(asleep)] == []


def test_a_killed_run_goes_on_to_the_same_bits(recipe, tmp_path):
    whole = training.train(recipe, CPU)
    training.train(replace(recipe, run=str(tmp_path / "other")), CPU, until=2)
    resumed = training.train(replace(recipe, run=str(tmp_path / "other")), CPU)

    ours, theirs = whole.network.state_dict(), resumed.network.state_dict()
    assert resumed.step == 4 and all(torch.equal(ours[key], theirs[key]) for key in ours)
    back, facts = published.load(tmp_path / "other" / "weights.safetensors")
    assert facts["step"] == "4" and back.sizes == THIN
    with pytest.raises(RecipeError, match="another recipe"):
        training.train(replace(recipe, rate=5e-4), CPU)


def test_real_pictures_are_cut_and_turned_with_their_labels():
    rgb = np.zeros((60, 80, 3), np.uint8)
    alpha = np.zeros((2, 60, 80), np.uint8)
    rgb[10:50, 10:40], alpha[0, 10:50, 10:40] = 255, 255  # white is the first person
    alpha[1, 58:, 78:] = 255  # too small to count in most parts
    picture = Picture(rgb, alpha, (0, 1))
    sizes = set()
    for seed in range(8):
        made = training.augmented(picture, (64, 96), np.random.default_rng(seed))
        assert made.rgb.shape == (64, 96, 3) and made.known.all()
        assert np.abs(made.alpha[0].astype(int) - made.rgb[..., 0]).max() <= 2
        sizes.add(int((made.alpha[0] > 127).sum()))
    assert len(sizes) > 4

    outlined = training.augmented(picture, (64, 96), np.random.default_rng(0), hard=True)
    assert 0.5 < outlined.known.mean() < 1


def test_the_unknown_band_lies_around_soft_pixels_and_edges():
    alpha = torch.zeros(1, 60, 60)
    alpha[0, 20:40, 20:40] = 1
    classes = training.trimaps(alpha)[0]

    assert classes[30, 30] == 2 and classes[5, 5] == 0
    assert classes[20, 30] == classes[19, 30] == 1


def test_the_recipe_of_the_paper_can_be_read():
    made = training.read(Path(__file__).resolve().parents[2] / "configs/train_paper.yaml")

    assert made.size == (640, 640) and made.sizes == Sizes()


@pytest.mark.parametrize(
    ("text", "told"),
    [("data: []", "expected `data`"),
     ("data: [{name: HIM2k, root: x}]", "unknown 'HIM2k'"),
     ("data: [{name: HIM2K, rot: x}]", "unknown key 'rot'"),
     ("data: [{name: HIM2K, root: x}]\nsize: [100, 96]", "multiples of 32"),
     ("data: [{name: HIM2K, root: x}]\nsizes: {thin: 3}", "thin should be"),
     ("data: [{name: HIM2K, root: x}]\nrate: 1e-4", "YAML needs a dot")],
)  # fmt: skip
def test_a_recipe_that_cannot_work_says_why(tmp_path, text, told):
    (tmp_path / "r.yaml").write_text(f"network: e2e_him_swin_t\nrun: r\nsteps: 1\n{text}")
    with pytest.raises(RecipeError, match=told):
        training.read(tmp_path / "r.yaml")


def test_the_program_trains_the_network_its_recipe_names(tmp_path, monkeypatch, capsys):
    """The first wrong path of a data set is told before anything is computed."""
    (tmp_path / "r.yaml").write_text(
        "network: e2e_him_swin_t\nrun: r\nsteps: 1\nworkers: 0\nsizes: {thin: 8, layers: 1}\n"
        f"data: [{{name: HIM2K, root: {tmp_path}/no}}]"
    )
    monkeypatch.setattr("sys.argv", ["training", str(tmp_path / "r.yaml"), "--device", "cpu"])

    assert program.main() == 2
    assert "no/images/natural: no such folder" in capsys.readouterr().err
    with pytest.raises(DataError):
        Steps(training.read(tmp_path / "r.yaml"), 0)


def test_data_sets_and_synthesis_are_mixed_and_the_weights_can_be_measured(
    drawn_data, tmp_path, monkeypatch, capsys
):
    """From a recipe and a folder of pictures to a table."""
    figure = np.zeros((64, 96), np.uint8)
    figure[10:60, 20:50] = 255
    for name in ("a", "b"):
        for path in (tmp_path / f"set/images/{name}.png", tmp_path / f"set/alphas/{name}/00.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), figure)
    (tmp_path / "r.yaml").write_text(
        f"network: e2e_him_swin_t\nrun: {tmp_path}/run\nsteps: 2\nworkers: 0\nbatch: 2\n"
        "size: [64, 64]\nsizes: {thin: 8, layers: 1, codes: 4, depths: [1, 1, 1, 1]}\n"
        f"data: [{{name: folder, root: {tmp_path}/set}}, {{name: synthesis, root: {drawn_data}}}]"
    )
    monkeypatch.setattr("sys.argv", ["training", str(tmp_path / "r.yaml"), "--device", "cpu"])
    seen = set()
    for step in range(4):
        sample = Steps(training.read(tmp_path / "r.yaml"), 0).sample(step, 0)
        seen.add(bool(np.ptp(sample.rgb, axis=2).any()))  # the folder's pictures are gray

    assert seen == {False, True}
    assert program.main() == 0
    words = ["folder", "--data", str(tmp_path / "set"), "--side", "64", "--json",
             "--weights", str(tmp_path / "run/weights.safetensors"),
             "--state", str(tmp_path / "s.ndjson")]  # fmt: skip
    assert evaluate.main(words) == 0
    assert json.loads(capsys.readouterr().out)["people"] == 2


@pytest.mark.skipif(os.environ.get("SLOW") != "1", reason="minutes: make test-published")
def test_two_hundred_steps_learn_four_scenes_by_heart(recipe):
    """Mean IoU of everyone in them above 0.95."""
    torch.manual_seed(0)
    recipe = replace(recipe, size=(128, 128), batch=4, steps=200, warmup=10, rate=2e-3,
                     encoder_rate=1.0, clip=1.0, sizes=replace(THIN, thin=4))  # fmt: skip
    run = Run(recipe, CPU)
    _, batch = Steps(recipe, 0)[0]
    for step in range(200):
        terms = run.train_step(step, batch)
        if step % 20 == 19:
            print(step, {name: round(value, 4) for name, value in terms.items()}, flush=True)
    reached = mean_iou(run, batch)
    print(f"mean IoU {reached:.4f}")
    assert reached > 0.95


def mean_iou(run: Run, batch) -> float:
    image = training.seen(batch.rgb)
    with torch.no_grad():
        output = run.network.eval()(image)
    overlaps = []
    for row, count in enumerate(batch.people.tolist()):
        mattes, _, _ = run.network.people(output, image, row)
        true = batch.alpha[row, :count].numpy() / np.float32(255)
        overlap = metrics.overlap_matrix(mattes.numpy(), true, 0.5)
        rows, columns = metrics.match(overlap)
        overlaps += [0.0] * (count - len(rows)) + overlap[rows, columns].tolist()
    return float(np.mean(overlaps))
