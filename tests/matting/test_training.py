"""A run can be killed and goes on to the same bits; worse weights never replace better ones."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from engines.closer import CLOSER  # noqa: E402
from matting.network import live  # noqa: E402
from matting.network.backbone import MobileNetV2  # noqa: E402
from matting.network.looks import Looks  # noqa: E402
from matting.network.memory import Memory, places, remembered  # noqa: E402
from matting.network.pose import Pose  # noqa: E402
from matting.network.verdict import Verdict  # noqa: E402
from matting.synthesis.sources import load as load_sources  # noqa: E402
from matting.training import data, loop, movenet  # noqa: E402
from matting.training import expected as expecting  # noqa: E402
from matting.training.average import average  # noqa: E402
from matting.training.data import Steps, plan  # noqa: E402
from matting.training.expected import expected  # noqa: E402
from matting.training.losses import Shown, steady_loss, taught_seeds, truth  # noqa: E402
from matting.training.matching import match  # noqa: E402
from matting.training.recipe import Recipe, RecipeError, Stage, load  # noqa: E402

SMALL = live.Sizes(codes=6, width=32, heads=4, layers=2, hidden=64, context=16, embedding=8,
                   united=32, trimap=16, fine=8)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture
def recipe(drawn_data, tmp_path) -> Recipe:
    return Recipe(
        run=str(tmp_path / "run"), data=str(drawn_data), sizes=SMALL, warmup=2, workers=0,
        stages=(Stage((64, 96), 4, 2), Stage((96, 128), 2, 2)), validation=2, portrait_every=3,
        weights=str(tmp_path / "published.safetensors"),
    )  # fmt: skip


@pytest.fixture
def filmed(recipe) -> Recipe:
    """Learns from two frames of each scene, after up to two that only fill the memory."""
    return replace(recipe, sizes=replace(SMALL, memory=True), frames=2, before=2, cuts=0.5,
                   spoilt=0.5, memory_rate=4.0, rate=2e-3)  # fmt: skip


@pytest.mark.parametrize("kind", ["recipe", "filmed"])
def test_a_killed_run_goes_on_to_the_same_bits(kind, request, tmp_path):
    recipe = request.getfixturevalue(kind)
    whole = loop.train(recipe, CPU)
    interrupted = replace(recipe, run=str(tmp_path / "other"))
    loop.train(interrupted, CPU, until=3)  # stops as a kill after a checkpoint would

    resumed = loop.train(interrupted, CPU)

    assert resumed.step == whole.step == 6
    for name in ("network", "average"):
        ours, theirs = getattr(whole, name).state_dict(), getattr(resumed, name).state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("able", "learns_in"), [("amx_bf16", torch.bfloat16), (None, torch.float32)]
)
def test_a_processor_without_bfloat16_does_not_imitate_it(
    able, learns_in, recipe, monkeypatch, capsys
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, able: True})
    seen = []
    run = loop.train(recipe, CPU, until=0)
    run.network.backbone.register_forward_hook(lambda *given: seen.append(given[2][-1].dtype))
    step, clip = next(loop.batches(recipe, load_sources(Path(recipe.data)), 0))
    run.train_step(step, clip)

    assert seen == [learns_in]
    assert ("float32" in capsys.readouterr().err) == (learns_in is torch.float32)


def test_a_run_is_not_resumed_under_another_recipe(recipe):
    loop.train(recipe, CPU, until=1)
    with pytest.raises(RecipeError, match="another recipe"):
        loop.train(replace(recipe, rate=1e-3), CPU)


def test_better_weights_are_never_overwritten_by_worse(recipe, monkeypatch):
    loop.train(recipe, CPU)
    published = loop.publish(recipe, CPU)
    before = published.read_bytes()

    with pytest.raises(loop.Worse, match="kept"):  # the same weights are not better
        loop.publish(recipe, CPU)
    assert published.read_bytes() == before


def test_weights_are_compared_without_what_was_taught_afterwards(recipe):
    loop.train(recipe, CPU)
    published = loop.publish(recipe, CPU)
    alone = loop.evaluate(recipe, published, CPU)
    network, _ = live.load(published)
    network.looks, network.verdict = Looks(), Verdict(SMALL.width, 4)
    with torch.no_grad():
        network.verdict.judge.weight.zero_()
        network.verdict.judge.bias.fill_(-40.0)  # nobody is anybody
    live.save(network, published)

    assert alone.extra > 0, "the network itself has to see somebody"
    assert loop.evaluate(recipe, published, CPU) == alone
    with pytest.raises(loop.Worse, match="kept"):
        loop.publish(recipe, CPU)


def test_what_a_step_trains_on_follows_from_its_number(recipe, drawn_data):
    sources = load_sources(drawn_data)
    p, [first] = Steps(recipe, sources, 0)[4]
    _, [again] = Steps(recipe, sources, 3)[1]

    assert p.size == plan(recipe, 4).size == (96, 128)
    assert plan(recipe, 2).size == (96, 64)  # every third stands upright
    assert torch.equal(first.rgb, again.rgb) and torch.equal(first.alpha, again.alpha)


def test_some_steps_see_fewer_pictures_from_closer_by_and_keep_what_pictures_are_like(
    recipe, drawn_data
):
    assert data.CLOSER == CLOSER, "photographs are looked at as was learned"
    recipe = replace(recipe, closer_every=2)
    usual, closer = plan(recipe, 0), plan(recipe, 3)
    assert (usual.size, usual.batch, usual.scale) == ((64, 96), 2, 2)
    assert (closer.size, closer.batch, closer.scale) == ((96, 160), 1, 1)
    assert plan(recipe, 5).size == (224, 160)  # upright ones as well
    run = loop.Run(recipe, CPU)
    norm = next(m for m in run.network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    counted = []
    for p, clip in (Steps(recipe, load_sources(drawn_data), 0)[i] for i in (0, 3)):
        assert clip[0].rgb.shape == (p.batch, 3, *(side * p.scale for side in p.size))
        run.train_step(p, clip)
        counted.append(int(norm.num_batches_tracked))
    assert counted == [1, 1]


def test_people_in_a_bad_light_are_where_they_were(filmed, drawn_data):
    sources = load_sources(drawn_data)

    for wanted, changed in ((1.0, {True}), (0.5, {True, False})):
        dim = Steps(replace(filmed, bad_light=wanted), sources, 0)
        found = set()
        for i in range(4):
            clip, lit = Steps(filmed, sources, 0)[i][1], dim[i][1]
            for frame, other in zip(clip, lit, strict=True):
                assert torch.equal(frame.alpha, other.alpha) and torch.equal(frame.ids, other.ids)
                found |= {not torch.equal(*rows) for rows in zip(frame.rgb, other.rgb, strict=True)}
        assert found == changed


def test_rendered_sequences_are_learned_from(recipe, filmed, drawn_data, drawn_film):
    sources = replace(load_sources(drawn_data), films=[drawn_film])

    for wanted, frames in ((recipe, {1}), (filmed, {2, 3, 4})):
        steps = Steps(replace(wanted, films=1.0), sources, 0)
        for i in range(6):
            p, clip = steps[i]
            assert len(clip) in frames and all(batch.instances.all() for batch in clip)
            assert clip[0].rgb.shape[-2:] == tuple(side * p.scale for side in p.size)
            assert set(torch.cat([batch.ids.flatten() for batch in clip]).tolist()) <= {0, 1, 2}
    nobody = replace(recipe, films=0.0, photos=0.0, empty=1.0)
    assert not Steps(nobody, sources, 0)[1][1][0].people.any()


def test_training_learns_two_pictures_by_heart(recipe, drawn_data):
    torch.manual_seed(0)
    run = loop.Run(replace(recipe, stages=(Stage((64, 96), 400, 4),), rate=2e-3), CPU)
    p, clip = Steps(replace(recipe, photos=0.0, seed=11), load_sources(drawn_data), 0)[1]
    losses = [run.train_step(replace(p, step=20), clip)["loss"] for _ in range(25)]

    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("before", [0, 1])
def test_layers_of_grouping_added_to_trained_weights_change_nothing_until_they_learn(
    recipe, drawn_data, tmp_path, before
):
    torch.manual_seed(3)
    small = replace(SMALL, grouping=before)
    live.save(live.LiveNetwork(small).eval(), tmp_path / "plain.safetensors")
    plain, _ = live.load(tmp_path / "plain.safetensors")
    start = str(tmp_path / "plain.safetensors")
    run = loop.Run(replace(recipe, start=start, grouping_rate=3.0, rate=2e-3), CPU)
    image = torch.randn(1, 3, 64, 96)

    grown = run.network.eval()(image)
    assert torch.allclose(grown.location[-1], plain(image).location[-1], atol=1e-4)

    p, clip = Steps(recipe, load_sources(drawn_data), 0)[0]
    for _ in range(3):
        run.train_step(replace(p, step=20), clip)
    layer = run.network.perception.grouping[before]
    assert layer.self_attn.out_proj.weight.abs().max() > 0
    assert layer.linear2.weight.abs().max() > 0


def test_weights_of_other_sizes_are_no_start(recipe, tmp_path):
    wide = replace(SMALL, united=48)
    live.save(live.LiveNetwork(wide).eval(), tmp_path / "wide.safetensors")
    with pytest.raises(RecipeError, match="are not the recipe's"):
        loop.Run(replace(recipe, start=str(tmp_path / "wide.safetensors")), CPU)


def test_a_memory_added_to_trained_weights_changes_no_single_picture(filmed, drawn_data, tmp_path):
    torch.manual_seed(3)
    without = live.LiveNetwork(SMALL).eval()
    live.save(without, tmp_path / "without.safetensors")
    run = loop.Run(replace(filmed, start=str(tmp_path / "without.safetensors")), CPU)
    without, _ = live.load(tmp_path / "without.safetensors")
    image = torch.randn(1, 3, 64, 96)

    first = run.network.eval()(image)
    # (memory formats differ, so sums are in another order)
    assert torch.allclose(first.location[-1], without(image).location[-1], atol=1e-4)
    assert torch.equal(run.network(image, None, first.memory).heat, first.heat)  # reads as nothing

    learn = replace(filmed, stages=(Stage((64, 96), 40, 2),), still_norms=True)
    for plan_, clip in (Steps(learn, load_sources(drawn_data), 0)[i] for i in range(6)):
        run.train_step(plan_, clip)
    run.network.eval()
    assert torch.isfinite(run.network.memory.look.weight).all()
    assert run.network.memory.look.weight.abs().max() > 0  # and now it means something
    assert not torch.equal(run.network(image, None, first.memory).heat, run.network(image).heat)


def told(recipe, drawn_data, share=1.0, seed=1):
    _, [batch] = Steps(replace(recipe, photos=0.0), load_sources(drawn_data), 0)[1]
    true = truth(batch)
    return batch, true, expected(batch, true, 6, share, torch.Generator().manual_seed(seed))


def test_a_memory_made_of_labels_is_where_people_are_but_for_the_errors_it_is_to_have(
    recipe, drawn_data, monkeypatch
):
    for error in ("MISSED", "STRANGERS", "TWICE", "DOUBTED", "TORN", "CUT", "WORN"):
        monkeypatch.setattr(expecting, error, 0.0)
    monkeypatch.setattr(expecting, "STEPS", (0.0,))
    monkeypatch.setattr(expecting, "GROWN", 0.0)
    batch, true, memory = told(recipe, drawn_data)
    here = torch.nn.functional.avg_pool2d(true.alpha8, 2)
    for b, count in enumerate(batch.people.tolist()):
        channels = memory[b][memory[b].sum((1, 2)) > 0]
        assert len(channels) == count  # each in one, whichever it is
        for person in here[b, :count]:
            assert (channels - person).abs().amax((1, 2)).min() < 1e-5
    assert not told(recipe, drawn_data, share=0.0)[2].any()

    monkeypatch.setattr(expecting, "MISSED", 1.0)
    monkeypatch.setattr(expecting, "STRANGERS", 1.0)
    _, _, memory = told(recipe, drawn_data)
    assert torch.allclose(memory.sum(1), here.roll(1, 0).sum(1), atol=1e-5)  # only who is elsewhere


def test_a_memory_made_of_labels_is_wrong_now_and_then_and_the_same_for_the_same_dice(
    recipe, drawn_data
):
    batch, true, memory = told(recipe, drawn_data)
    assert torch.equal(memory, told(recipe, drawn_data)[2])
    assert memory.min() >= 0 and memory.max() <= 1 and memory.shape[1] == 6
    here = torch.nn.functional.avg_pool2d(true.alpha8, 2).sum(1)
    far = [(told(recipe, drawn_data, seed=s)[2].sum(1) - here).abs().mean() for s in range(8)]
    assert 0.02 * here.mean() < torch.stack(far).mean() < here.mean()


def test_who_is_believed_is_remembered_where_they_are_and_the_doubted_less():
    memory = Memory(3, 4)
    location = torch.full((1, 3, 4, 4), -9.0)
    location[0, :, :2, :2] = 9.0
    sure = torch.tensor([0.05, 0.2, 0.9])
    kept = memory(places(location), sure[None])
    assert kept.shape == (1, 3, 2, 2)
    assert torch.allclose(kept[0, :, 0, 0], torch.tensor([0.0, 0.5, 1.0]), atol=1e-3)
    assert kept[0, :, 1, 1].max() < 1e-3


def test_a_place_that_was_somebodys_is_known():
    location = torch.full((1, 2, 4, 4), -9.0)
    location[0, 0, :2], location[0, 1, 2:] = 9.0, 9.0
    memory = torch.zeros(1, 5, 2, 2)
    memory[0, 3, 0] = 0.8  # in whichever channel
    known = remembered(places(location), memory)
    assert torch.allclose(known, torch.tensor([[0.8, 0.0]]), atol=1e-2)
    half = places(torch.where(location > 0, 0.0, -9.0))  # half claimed, and known
    faint = remembered(half, memory)
    assert torch.allclose(faint, torch.tensor([[1.0, 0.0]]), atol=1e-2)


def test_frames_of_a_step_show_one_scene_and_the_same_people(filmed, drawn_data):
    steps = Steps(replace(filmed, photos=0.0, cuts=0.0), load_sources(drawn_data), 0)
    seen = [steps[i] for i in range(6)]

    assert {len(clip) - p.before for p, clip in seen} == {2}
    assert len({p.before for p, _ in seen}) > 1
    for _, clip in seen:
        for before, now in pairwise(clip):
            assert not torch.equal(before.rgb, now.rgb)
            for b in range(len(now.rgb)):
                old, new = (set(x.ids[b, : x.people[b]].tolist()) for x in (before, now))
                assert old & new or not (old and new)


def test_the_steady_loss_asks_for_the_truths_change_not_for_stillness():
    def shown(alpha, truth):
        return Shown({(0, 7): 0}, alpha, truth, torch.ones_like(truth))

    truth = torch.zeros(2, 8, 8)
    truth[0, :, :4], truth[1, :, 1:5] = 1, 1  # it moves by a column
    right = steady_loss(shown(truth[1:], truth[1:]), shown(truth[:1], truth[:1]))
    still = steady_loss(shown(truth[:1], truth[1:]), shown(truth[:1], truth[:1]))
    constant = steady_loss(shown(truth[1:] * 0.5 + 0.2, truth[1:]), shown(truth[:1], truth[:1]))
    stranger = Shown({(1, 7): 0}, truth[:1], truth[:1], torch.ones(1, 8, 8))

    assert right == 0
    assert still > 0.2
    assert constant > 0
    assert steady_loss(shown(truth[:1], truth[1:]), stranger) == 0  # no one in common


def test_centres_lie_on_people_and_taught_seeds_within_a_cell_of_them(recipe, drawn_data):
    _, [batch] = Steps(recipe, load_sources(drawn_data), 0)[1]
    true = truth(batch)
    small = torch.nn.functional.avg_pool2d(batch.alpha.float() / 255, 16 * batch.scale)
    for b, count in enumerate(batch.people.tolist()):
        for p in range(count):
            assert small[b, p].flatten()[true.cells[b, p]] > 0
            assert true.heat[b, 0].flatten()[true.cells[b, p]] == 1

    given = taught_seeds(batch, true, 1.0, torch.Generator().manual_seed(1))
    assert ((given == 2).sum((1, 2, 3)) <= batch.people).all()
    assert (given.sum() > 0) == bool(batch.people.sum())
    assert taught_seeds(batch, true, 0.0, torch.Generator().manual_seed(1)).sum() == 0


def test_each_person_is_given_the_code_that_shows_them():
    """Three codes, two people: the one in the way of neither is left without a person."""
    alpha = torch.zeros(1, 2, 8, 12)
    alpha[0, 0, 2:6, 1:4], alpha[0, 1, 2:6, 8:11] = 1, 1
    location = torch.full((1, 3, 8, 12), -6.0)
    location[0, 2, 2:6, 1:4], location[0, 0, 2:6, 8:11] = 6.0, 6.0
    centres = torch.tensor([[[0.2, 0.5], [0.8, 0.5]]])
    seeds = torch.tensor([[[0.8, 0.5], [0.5, 0.5], [0.2, 0.5]]])

    pairs = match(torch.zeros(1, 3, 2), location, seeds, alpha, torch.ones(1, 8, 12), centres,
                  torch.tensor([2]))  # fmt: skip

    assert dict(zip(pairs.n.tolist(), pairs.p.tolist(), strict=True)) == {0: 1, 2: 0}


@pytest.mark.parametrize("name", ["train_live.yaml", "train_further.yaml"])
def test_the_recipes_that_come_with_the_project_can_be_read(name):
    assert load(Path(__file__).resolve().parents[2] / "configs" / name).steps > 0


@pytest.mark.parametrize(
    ("text", "told"),
    [("run: r\ndata: d\nstages: []", "expected `stages`"),
     ("run: r\ndata: d\nbatchs: 3\nstages: [{size: [64, 96], steps: 1}]", "unknown key 'batchs'"),
     ("run: r\ndata: d\nstages: [{size: [64, 90], steps: 1}]", "multiples of 32"),
     ("run: r\ndata: d\nrate: 1e-3\nstages: [{size: [64, 96], steps: 1}]", "YAML needs a dot"),
     ("- 1", "expected keys and values")],
)  # fmt: skip
def test_a_recipe_that_cannot_work_says_why(tmp_path, text, told):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=told):
        load(tmp_path / "r.yaml")


def test_an_average_lies_between_its_networks_and_leaves_out_what_not_all_have(tmp_path):
    for i, memory in enumerate((False, True)):
        torch.manual_seed(i)
        network = live.LiveNetwork(replace(SMALL, memory=memory))
        live.save(network, tmp_path / f"{i}.safetensors")
    parts = [(tmp_path / "0.safetensors", 3.0), (tmp_path / "1.safetensors", 1.0)]

    average(parts, tmp_path / "out.safetensors")

    a, b, mixed = (live.load(tmp_path / f"{n}.safetensors")[0] for n in ("0", "1", "out"))
    wanted = 0.75 * a.perception.seed.weight + 0.25 * b.perception.seed.weight
    assert not mixed.sizes.memory
    assert torch.allclose(mixed.perception.seed.weight, wanted, atol=1e-3)
    with pytest.raises(ValueError, match="two networks or more"):
        average(parts[:1], tmp_path / "out.safetensors")


def graph_model(state, names, folder, change=lambda weights: weights):
    """A TensorFlow.js graph model that holds `state`, as MoveNet's are laid out."""
    weights = []
    for ours, kernel, bias in names:
        values = state[f"{ours}.weight"].numpy()
        order = (2, 3, 0, 1) if ours.endswith("depthwise") else (2, 3, 1, 0)
        weights.append((f"x/{kernel}", values.transpose(order)))
        if bias:
            weights.append((f"x/{bias}", state[f"{ours}.bias"].numpy()))
    weights = change(weights)
    told = [
        {"name": name, "shape": value.shape, "dtype": "float32",
         "quantization": {"dtype": "float16", "original_dtype": "float32"}}
        for name, value in weights
    ]  # fmt: skip
    (folder / "m.bin").write_bytes(b"".join(v.astype("<f2").tobytes() for _, v in weights))
    manifest = [{"paths": ["m.bin"], "weights": told}]
    (folder / "m.json").write_text(json.dumps({"weightsManifest": manifest}))
    return folder / "m.json"


@pytest.mark.parametrize(
    ("part", "kind", "names"),
    [("backbone", MobileNetV2, movenet.body), ("pose", Pose, movenet.multipose)],
)
def test_a_network_out_of_a_graph_model_is_the_one_that_was_put_in(
    tmp_path, recipe, part, kind, names
):
    taught = kind()
    model = graph_model(taught.state_dict(), names(), tmp_path)
    assert movenet.main([str(model), str(tmp_path / "b.safetensors")]) == 0
    run = loop.Run(replace(recipe, **{part: str(tmp_path / "b.safetensors")}), CPU)
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        for a, b in zip(getattr(run.network, part)(image), taught(image), strict=True):
            torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)  # half precision in between


@pytest.mark.parametrize("part", ["backbone", "pose"])
def test_a_missing_start_is_told_with_what_makes_one(recipe, tmp_path, part):
    with pytest.raises(RecipeError, match=f"no such {part}.*matting.training.movenet"):
        loop.Run(replace(recipe, **{part: str(tmp_path / "none.safetensors")}), CPU)


def test_a_graph_model_of_something_else_is_refused(tmp_path, capsys):
    state = MobileNetV2().state_dict()
    model = graph_model(state, movenet.body(), tmp_path, lambda weights: weights[:-2])
    assert movenet.main([str(model), str(tmp_path / "b.safetensors")]) == 2
    assert "block_16_project" in capsys.readouterr().err
    model.write_text("[]")
    assert movenet.main([str(model), str(tmp_path / "b.safetensors")]) == 2
    assert "graph model" in capsys.readouterr().err


def test_training_leaves_what_finds_joints_as_it_was(recipe):
    run = loop.train(recipe, CPU, until=2)
    torch.manual_seed(recipe.seed)
    begun = live.LiveNetwork(recipe.sizes).state_dict()
    for name, value in run.network.state_dict().items():
        if name.endswith("weight"):
            assert torch.equal(value, begun[name]) == name.startswith("pose."), name
