"""What the finished network is taught: who is somebody, and who is who."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from matting.network import live  # noqa: E402
from matting.network.export import export  # noqa: E402
from matting.network.looks import FEATURES, Looks, owned  # noqa: E402
from matting.network.verdict import Verdict, evidence, weighed  # noqa: E402
from matting.synthesis.sources import load as load_sources  # noqa: E402
from matting.training import finish, identity, verdict  # noqa: E402
from matting.training.recipe import RecipeError  # noqa: E402
from matting.training.showing import as_image, side_by_side  # noqa: E402
from tracking.tracker import TrackerSettings  # noqa: E402

ROOT = Path(__file__).parents[2]
CODE = 8


def made_trials(
    seed: int, code: int = CODE, people: int = 1500, things: int = 3500
) -> verdict.Trials:
    """People and things that differ in two features; the network's own score hardly parts them."""
    rng = np.random.default_rng(seed)
    somebody = np.arange(people + things) < people
    seen = rng.normal(0, 1, (len(somebody), 2 * FEATURES + code + 3)).astype(np.float32)
    seen[:, 5] += np.where(somebody, 2.5, -2.5)
    seen[:, 40] += np.where(somebody, 2.0, -2.0)
    score = rng.normal(0, 1, len(somebody)) + np.where(somebody, 2.0, 0.0)
    return verdict.Trials(
        torch.from_numpy(seen), torch.from_numpy(score.astype(np.float32)),
        torch.from_numpy(somebody), torch.ones(len(somebody), dtype=torch.bool),
        torch.from_numpy(rng.integers(0, 900, len(somebody))),
        torch.from_numpy(~somebody & (rng.random(len(somebody)) < 0.7)),
    )  # fmt: skip


def scored(judge: Verdict, data: verdict.Trials) -> torch.Tensor:
    with torch.inference_mode():
        none, one = judge(data.evidence).unbind(-1)
    return one - none


def test_verdict_passes_as_many_people_and_far_fewer_things():
    plan, unseen = verdict.Plan(), made_trials(2)
    judge = verdict.fitted(plan, made_trials(1), CODE, seed=1)
    before = verdict.worth(unseen.score, unseen)
    after = verdict.worth(scored(judge, unseen), unseen)
    assert before.empty > 1000, "the case is too easy"
    assert after.found >= 0.97 * before.found
    assert after.empty <= before.empty / 10


def test_the_bar_lies_where_misses_and_strangers_are_fewest():
    score = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0])
    somebody = torch.tensor([True, True, False, True, True, False, False])
    assert verdict.fairest(score, somebody, 1) == 0.5
    assert verdict.fairest(-score, ~somebody, 1) == -0.5
    assert verdict.fairest(score, torch.ones(7, dtype=torch.bool), 1) == -1.0


def test_the_bar_is_lower_where_misses_weigh_more():
    score = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    somebody = torch.tensor([True, False, False, True, False])
    assert verdict.fairest(score, somebody, 1) == 4.5
    assert verdict.fairest(score, somebody, 3) == 1.5


def test_second_answers_for_a_person_teach_nothing():
    data = made_trials(1)
    doubtful = data.somebody.clone()
    doubtful[torch.arange(len(doubtful)) % 2 == 0] = False  # half of the people called nobody ...
    clear = data.clear & ~(data.somebody & ~doubtful)  # ... and marked as not clear
    told = verdict.Trials(data.evidence, data.score, doubtful, clear, data.picture, data.empty)
    judge = verdict.fitted(verdict.Plan(), told, CODE, seed=1)
    unseen = made_trials(2)
    assert verdict.worth(scored(judge, unseen), unseen).found >= 0.9 * int(
        (unseen.score[unseen.somebody] > 0).sum()
    )


def test_verdict_is_the_same_every_time():
    data = made_trials(3)
    one, two = (verdict.fitted(verdict.Plan(epochs=1), data, CODE, seed=1) for _ in range(2))
    assert torch.equal(scored(one, data), scored(two, data))


def test_evidence_tells_large_from_small_and_firm_from_faint():
    location = torch.full((1, 3, 6, 6), -8.0)
    location[0, 0, :, :] = 8
    location[0, 1, :2, :2] = 8
    location[0, 2, :, :] = -1
    seen = evidence(
        torch.zeros(1, 3, 2 * FEATURES), torch.zeros(1, 3, CODE),
        torch.tensor([[[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]]]), location,
    )[0]  # fmt: skip
    assert seen.shape == (3, 2 * FEATURES + CODE + 3)
    score, area, firm = seen[:, -3:].unbind(-1)
    assert score.tolist() == [1.0, -2.0, 0.0]
    assert area[0] > area[2] > area[1]
    assert firm[0] > 0.99 and firm[1] > 0.95 and firm[2] < 0.5


def test_who_is_doubted_can_be_kept_and_begins_nobody():
    """Logits of the network's belief and of the verdict, and the score that a tracker is given."""
    def logits(*someone):
        return torch.tensor([[[-value / 2, value / 2] for value in someone]])

    believed, verdict_ = logits(9.0, 9.0, 0.0, -9.0, 60.0), logits(6.0, -6.0, -6.0, -6.0, -60.0)
    score = weighed(verdict_, believed).softmax(-1)[0, :, 1]
    settings = TrackerSettings()

    assert score[0] > settings.birth_score
    for doubted in score[[1, 2, 4]]:
        assert settings.weak_score < doubted < min(0.5, settings.confident_score)
    assert score[3] < settings.weak_score
    # where somebody was before: enough to be theirs at once, and for nobody new
    kept = weighed(verdict_, believed, torch.ones(1, 5)).softmax(-1)[0, :, 1]
    assert settings.confident_score < kept[1] < settings.birth_score
    assert kept[0] == score[0] and kept[3] < settings.weak_score
    assert 0.49 < kept[2] < 0.51  # as the network itself believed


def test_looks_are_of_the_person_and_not_of_who_stands_in_front():
    location = torch.full((1, 2, 4, 8), -9.0)
    location[0, 0, :, :6] = 9.0
    location[0, 1, :, 4:] = 9.0
    weight = owned(location, torch.ones(1, 2))[0]
    assert weight[0, :, :4].min() > 0.9 and weight[0, :, 4:6].max() < 0.6
    looks = Looks()
    cells = torch.zeros(1, 32, FEATURES)
    cells[0, :, 0] = torch.arange(8.0).repeat(4)  # a feature that is the column
    told = looks.told(cells, weight.flatten(1)[None])[0]
    assert told[0, 0] < 2.7 < 4.5 < told[1, 0]
    alone = owned(location, torch.tensor([[1.0, 0.0]]))[0]
    assert alone[0, :, :6].min() > 0.9, "a code that is nobody takes nothing away"


def test_pictures_are_shown_side_by_side_and_answered_in_their_order():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    meet = threading.Barrier(2, timeout=20)  # broken unless two are under way at once

    def work(picture: int) -> tuple[int, int]:
        meet.wait()
        if picture == 9:
            raise ValueError("the tenth")
        return picture, torch.get_num_threads()

    try:
        answers = []
        with pytest.raises(ValueError, match="the tenth"):
            for answer in side_by_side(work, range(10)):
                answers.append(answer)
        assert answers == [(i, 1) for i in range(9)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_trials_know_people_from_nobody():
    clip = cv2.VideoCapture(str(ROOT / "demo/bedroom.mp4"))
    clip.set(cv2.CAP_PROP_POS_FRAMES, 160)  # two people apart
    rgb = cv2.resize(clip.read()[1], (512, 288), interpolation=cv2.INTER_AREA)[..., ::-1]
    network, _ = live.load(ROOT / "weights/live.safetensors")
    network.verdict = None
    with torch.inference_mode():
        output = network(as_image(rgb))
    sure = output.existence[-1][0].softmax(-1)[:, 1] > 0.5
    mattes = (output.location[-1][0, sure].sigmoid() > 0.5).numpy().astype(np.uint8) * 255
    alpha = np.stack([cv2.resize(matte, (512, 288)) for matte in mattes])
    pictures = [(0, rgb, alpha), (0, rgb, alpha), (1, rgb, None), (1, rgb, None)]
    seen = verdict.trials(network, iter(pictures), 4, doubt=0.01)
    of_people, of_nothing = seen.picture == 0, seen.picture == 1
    assert int((seen.somebody & (seen.score > 0)).sum()) == 2 * len(alpha) >= 4
    assert seen.somebody[of_people].any() and not seen.somebody[of_nothing].any()
    assert seen.empty[of_nothing].all() and not seen.empty[of_people].any()
    assert seen.clear[of_nothing].all()
    assert int(of_people.sum()) == int(of_nothing.sum())
    sure = seen.score[of_people & seen.somebody].reshape(2, -1).sort(1).values
    assert not torch.equal(*sure)  # every second picture is one that is remembered


def test_lessons_in_a_bad_light_show_the_same_people_and_places(drawn_data):
    sources = load_sources(drawn_data)
    plan = verdict.Plan(scenes=5, crops=1, photos=0.0)

    def lessons(share: float) -> list:
        return list(verdict.shown(replace(plan, bad_light=share), sources, (64, 96), 1))

    usual, dim = lessons(0.0), lessons(1.0)
    assert [number for number, _, _ in usual] == [number for number, _, _ in dim]
    assert any(alpha is None for _, _, alpha in usual), "places without people are lit as well"
    for (_, rgb, alpha), (_, lit, same) in zip(usual, dim, strict=True):
        assert not np.array_equal(rgb, lit)
        assert alpha is None if same is None else np.array_equal(alpha, same)


def test_lessons_show_people_whose_head_is_out_of_the_picture(drawn_data):
    sources = load_sources(drawn_data)
    plan = verdict.Plan(scenes=12, crops=0, photos=0.0, headless=1.0)

    people = [one for _, _, alpha in verdict.shown(plan, sources, (64, 96), 1) for one in alpha]

    assert len(people) > 6
    assert np.mean([one[0].any() for one in people]) > 0.7  # some are behind others there


def test_an_untrained_network_is_not_judged():
    data = made_trials(1)
    nobody = replace(data, somebody=torch.zeros_like(data.somebody))
    with pytest.raises(RecipeError, match="0 are people"):
        verdict.fitted(verdict.Plan(), nobody, CODE, seed=1)


@pytest.fixture(scope="module")
def finished(drawn_data, tmp_path_factory):
    weights = tmp_path_factory.mktemp("weights") / "small.safetensors"
    torch.manual_seed(1)
    live.save(live.LiveNetwork(live.Sizes(codes=6)).eval(), weights, samples="12")
    before, _ = live.load(weights)
    recipe = finish.Recipe(
        weights=str(weights), data=str(drawn_data), size=(96, 160), limit=12,
        verdict=verdict.Plan(judges=2, hidden=4, epochs=1),
        identity=identity.Plan(casts=3, exam_casts=1, people=3, width=8),
    )  # fmt: skip
    exported = []  # what the weights held when they were: exporting takes a minute

    def noted(weights: Path, target: Path) -> None:
        assert target == weights.with_suffix(".onnx")
        exported.append(live.load(weights)[0])

    with pytest.MonkeyPatch.context() as patch:  # it knows nobody yet, so others' trials are used
        patch.setattr(verdict, "trials", lambda *_: made_trials(1, before.sizes.width))
        patch.setattr(finish, "export", noted)
        figures = finish.run(recipe)
    assert [network.verdict is not None for network in exported] == [True]
    return weights, before, figures


def test_finishing_changes_scores_and_codes_and_no_matte(finished):
    weights, before, figures = finished
    after, header = live.load(weights)
    assert header["samples"] == "12" and after.verdict.hidden == 8 and after.identity.width == 8
    image = torch.rand(1, 3, 96, 160, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.inference_mode():
        old, new = before(image), after(image)
    for name in ("trimap", "kernels", "fine", "codes"):
        assert torch.equal(getattr(old, name), getattr(new, name)), name
    assert torch.equal(old.location[-1], new.location[-1])
    assert not torch.equal(old.existence[-1], new.existence[-1])
    assert new.identity.shape == (1, 6, 8)
    assert set(figures) == {"existence alone", "with the verdict", "latent codes", "identity head"}


@pytest.mark.skipif(os.environ.get("SLOW") != "1", reason="a minute: make test-export")
def test_the_export_carries_the_verdict(finished):
    ort = pytest.importorskip("onnxruntime")
    weights, _, _ = finished
    network, _ = live.load(weights)
    export(weights, weights.with_suffix(".onnx"))
    rgb = np.random.default_rng(5).integers(0, 255, (1, 96, 160, 3)).astype(np.uint8)
    with torch.inference_mode():
        true = network(torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 127.5 - 1)
    session = ort.InferenceSession(
        str(weights.with_suffix(".onnx")), providers=["CPUExecutionProvider"]
    )
    memory = np.zeros((1, network.sizes.codes, 96 // 16, 160 // 16), np.float32)
    score, code = session.run(["score", "code"], {"image": rgb, "memory": memory})
    assert np.allclose(score, true.existence[-1].softmax(-1)[..., 1].numpy(), atol=2e-2)
    assert np.allclose(code, true.identity.numpy(), atol=2e-2)


def test_what_was_seen_once_is_learned_from_again(drawn_data, tmp_path, monkeypatch):
    weights, file = tmp_path / "small.safetensors", tmp_path / "kept" / "seen.pt"
    torch.manual_seed(1)
    live.save(live.LiveNetwork(live.Sizes(codes=6)).eval(), weights)
    shown = []

    def trials(network, *_):
        shown.append(network)
        return made_trials(len(shown), network.sizes.width, people=150, things=350)

    monkeypatch.setattr(verdict, "trials", trials)
    monkeypatch.setattr(finish, "export", lambda *_: None)
    recipe = finish.Recipe(
        weights=str(weights), data=str(drawn_data), size=(96, 160), limit=12, seen=str(file),
        verdict=verdict.Plan(judges=2, hidden=4, epochs=1),
        identity=identity.Plan(casts=3, exam_casts=1, people=3, width=8),
    )  # fmt: skip
    finish.run(recipe)
    first = live.load(weights)[0].state_dict()
    assert len(shown) == 2  # lessons and exam
    finish.run(recipe)
    assert len(shown) == 2  # the heads that are in the weights by now are no matter
    again = live.load(weights)[0].state_dict()
    assert all(torch.equal(again[name], value) for name, value in first.items())
    finish.run(replace(recipe, verdict=replace(recipe.verdict, hidden=6)))
    assert len(shown) == 2 and live.load(weights)[0].verdict.hidden == 12
    finish.run(replace(recipe, seed=2))
    assert len(shown) == 4
    torch.manual_seed(2)
    live.save(live.LiveNetwork(live.Sizes(codes=6)).eval(), weights)
    finish.run(replace(recipe, seed=2))
    assert len(shown) == 6


def test_training_on_leaves_the_heads_behind(finished):
    network, _ = live.load(finished[0])
    names = {name.partition(".")[0] for name in network.without_heads().state_dict()}
    assert not names & {"looks", "verdict", "identity"}


def test_a_recipe_with_a_wrong_key_says_which(tmp_path):
    path = tmp_path / "finish.yaml"
    path.write_text("weights: a\ndata: b\nverdict: {scene: 3}\n")
    with pytest.raises(RecipeError, match="verdict: unknown key 'scene'; did you mean scenes"):
        finish.load(path)
