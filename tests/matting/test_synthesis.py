"""What is known of a made picture is exactly true of it."""

from dataclasses import replace

import numpy as np
import pytest

from matting.synthesis import films
from matting.synthesis.camera import BadLight
from matting.synthesis.scenes import Actor, Motion, Scene, random_scene, render, sequence
from matting.synthesis.sources import Cutout, DataError, Sources, load

SIZE = (96, 160)


def block(colour, height=60, width=40) -> Cutout:
    rgb = np.broadcast_to(np.uint8(colour), (height, width, 3)).copy()
    return Cutout(rgb, np.full((height, width), 255, np.uint8), grounded=True)


def standing(cutout, x, name, **more) -> Actor:
    """A block of 60 x 40 pixels, unscaled, its feet at y = 80 of 96."""
    return Actor(cutout, (x / 96, 80 / 96), 60 / 96, id=name, **more)


def test_who_stands_in_front_takes_the_pixels_of_who_stands_behind():
    back, front = standing(block((200, 0, 0)), 60, 1), standing(block((0, 200, 0)), 80, 2)
    scene = Scene(SIZE, np.zeros((*SIZE, 3), np.uint8), [back, front])

    sample = render(scene)

    assert sample.ids == (1, 2)
    assert (sample.alpha[1] > 127).sum() == pytest.approx(60 * 40, rel=0.05)  # whole
    assert (sample.alpha[0] > 127).sum() == pytest.approx(60 * 20, rel=0.08)  # half is hidden
    assert tuple(sample.rgb[50, 45]) == (200, 0, 0)
    assert tuple(sample.rgb[50, 75]) == (0, 200, 0)
    assert sample.contrast[1][50, 95] == pytest.approx(200 / 3, abs=1)  # green before black
    assert sample.contrast[1][50, 70] == pytest.approx(400 / 3, abs=1)  # green before red


def test_a_thing_in_front_hides_a_person_and_is_no_person():
    someone = standing(block((200, 0, 0)), 60, 1)
    thing = standing(block((9, 9, 9)), 80, 0, person=False)

    sample = render(Scene(SIZE, np.zeros((*SIZE, 3), np.uint8), [someone, thing]))

    assert sample.ids == (1,)
    assert (sample.alpha[0] > 127).sum() == pytest.approx(60 * 20, rel=0.08)
    assert sample.everyone[50, 90] == 0


def test_alphas_of_any_scene_share_each_pixel_and_agree_with_everyone(drawn_data):
    sources = load(drawn_data)
    for seed in range(25):
        sample = render(random_scene(sources, SIZE, seed))
        total = sample.alpha.sum(0, dtype=int)
        assert total.max(initial=0) <= 255 + len(sample.alpha)  # rounding, one each
        sure = sample.known & (total > 0)
        assert (np.abs(total - sample.everyone.astype(int))[sure] <= 2 + len(sample.alpha)).all()


def test_one_seed_is_one_picture_and_another_seed_another(drawn_data):
    sources = load(drawn_data)
    first, again, other = (render(random_scene(sources, SIZE, [5, s])) for s in (1, 1, 2))

    assert np.array_equal(first.rgb, again.rgb) and np.array_equal(first.alpha, again.alpha)
    assert not np.array_equal(first.rgb, other.rgb)


def test_as_many_scenes_show_nobody_as_was_asked_for(drawn_data):
    sources = load(drawn_data)
    scenes = [random_scene(sources, SIZE, [9, i], photos=0.0, empty=0.5) for i in range(200)]
    nobody = sum(not any(actor.person for actor in scene.actors) for scene in scenes)
    assert 80 < nobody < 130  # half, and 7 per cent of the rest


def test_the_heads_of_as_many_people_as_asked_are_out_of_the_picture(drawn_data):
    sources = load(drawn_data)

    def scenes(share: float) -> list[Scene]:
        return [random_scene(sources, SIZE, [9, i], photos=0.0, headless=share) for i in range(60)]

    def above(actor: Actor) -> float:
        return (actor.height - actor.foot[1]) / actor.height  # share of a body above the picture

    every, some, none = (
        [actor for scene in scenes(share) for actor in scene.actors if actor.person]
        for share in (1.0, 0.3, 0.0)
    )
    assert len(every) == len(some) == len(none) > 60
    assert all(0.19 < above(actor) < 0.81 and actor.foot[1] >= 0.5 for actor in every)
    cut = np.mean([above(actor) > 0.19 for actor in some])
    assert 0.2 < cut - np.mean([above(actor) > 0.19 for actor in none]) < 0.4
    assert all(actor.foot[1] >= 1 for actor in every if not actor.cutout.grounded)


def test_half_figures_come_near_where_close_ups_are_asked_for_and_nobody_else_does(drawn_data):
    sources = load(drawn_data)
    half = replace(sources, cutouts=[replace(one, grounded=False) for one in sources.cutouts])

    def people(sources: Sources, share: float) -> list[Actor]:
        scenes = (random_scene(sources, SIZE, [9, i], photos=0.0, close_ups=share)
                  for i in range(60))  # fmt: skip
        return [actor for scene in scenes for actor in scene.actors if actor.person]

    near, some, usual = (people(half, share) for share in (1.0, 0.3, 0.0))
    assert len(near) == len(some) == len(usual) > 60
    assert all(actor.height > 1.5 and actor.foot[1] > 1 for actor in near)  # they go on below
    assert all(abs(actor.foot[1] - actor.height) < 0.3 for actor in near)  # and begin at the top
    assert 0.2 < np.mean([actor.height > 1.5 for actor in some]) < 0.4
    assert all(actor.height < 1.5 for actor in usual)
    assert [a.height for a in people(sources, 1.0)] == [a.height for a in people(sources, 0.0)]


def test_people_of_a_moving_scene_keep_their_ids_and_move_as_told(drawn_data):
    walker = standing(block((200, 0, 0)), 40, 7, motion=Motion(speed=(0.5, 0.0)))
    scene = Scene(SIZE, np.zeros((*SIZE, 3), np.uint8), [walker])

    middles = []
    for t in (0.0, 1.0):
        sample = render(scene, t)
        assert sample.ids == (7,)
        middles.append(np.nonzero(sample.alpha[0] > 127)[1].mean())

    assert middles[1] - middles[0] == pytest.approx(0.5 * 96, abs=1)

    frames = list(sequence(load(drawn_data), SIZE, 3, frames=4, rate=25))
    assert not np.array_equal(frames[0].rgb, frames[3].rgb)
    assert set(frames[3].ids) <= set(range(1, 7))


def test_hand_drawn_outlines_are_not_called_exact(drawn_data):
    sources = load(drawn_data)
    photo = sources.photos[0]
    scene = Scene(photo.ids.shape, photo.rgb, [], photo.ids)

    sample = render(scene)

    assert len(sample.alpha) == 2
    edge = (photo.ids[:, 1:] != photo.ids[:, :-1])
    assert not sample.known[:, 1:][edge].any()
    assert sample.known.mean() > 0.5


def test_people_of_the_validation_set_are_never_trained_on(drawn_data):
    train, held_out = load(drawn_data), load(drawn_data, held_out=True)

    colours = [{tuple(c.rgb[48, 24]) for c in part.cutouts} for part in (train, held_out)]

    assert len(held_out.cutouts) == 1 and len(train.cutouts) == 20
    assert not colours[0] & colours[1]
    assert len(held_out.photos) == 20 and len(train.photos) == 2


def test_a_folder_that_is_not_laid_out_as_documented_names_the_first_wrong_path(tmp_path):
    with pytest.raises(DataError, match="people"):
        load(tmp_path)


def test_rendered_people_teach_and_never_examine(drawn_data, tmp_path):
    (tmp_path / "people").mkdir()
    for i, path in enumerate(sorted((drawn_data / "people").glob("*.webp"))[:2]):
        name = ("full", "cut")[i]
        (tmp_path / "people" / f"{name}_{i:06d}.webp").write_bytes(path.read_bytes())

    teaching = load(drawn_data, rendered=tmp_path)
    examining = load(drawn_data, rendered=tmp_path, held_out=True)

    assert [cutout.grounded for cutout in teaching.rendered] == [False, True]
    assert examining.rendered == ()
    used = {id(a.cutout) for seed in range(30) for a in random_scene(teaching, SIZE, seed).actors}
    assert all(id(cutout) in used for cutout in teaching.rendered)


def test_a_folder_without_rendered_people_is_named(drawn_data, tmp_path):
    with pytest.raises(DataError, match="people"):
        load(drawn_data, rendered=tmp_path)


def test_backgrounds_that_show_somebody_are_left_out_and_nothing_else_moves(drawn_data, tmp_path):
    labels = tmp_path / "labels.json"
    labels.write_text('{"peopled": ["b_00", "b_07"]}')
    for held_out, there in ((False, 20), (True, 1)):
        every = load(drawn_data, held_out=held_out).backgrounds
        empty = load(drawn_data, held_out=held_out, labels=labels).backgrounds
        assert len(every) == there and len(empty) == there - 1
        left = every[1:] if not held_out else []
        assert all(np.array_equal(a, b) for a, b in zip(empty, left, strict=True))


def test_a_rendered_sequence_is_cropped_and_mirrored_with_its_alpha(drawn_film, monkeypatch):
    monkeypatch.setattr(films, "expose", lambda rgb, *_: rgb)
    green = np.full((80, 120, 3), (0, 200, 0), np.uint8)
    ways = set()
    for seed in range(12):
        size = (160, 96) if seed % 3 == 2 else (96, 160)
        rng = np.random.default_rng(seed)
        samples = list(films.film(drawn_film, green, size, rng, frames=3, rate=10.0))

        assert len(samples) == 3
        at = []
        for sample in samples:
            assert sample.rgb.shape[:2] == sample.alpha.shape[1:] == size
            for name, alpha in zip(sample.ids, sample.alpha, strict=True):
                inside = alpha == 255
                colour = (200, 0, 0) if name == 1 else (0, 0, 200)
                assert np.abs(sample.rgb[inside].astype(int) - colour).max() <= 12
            assert np.abs(sample.rgb[sample.everyone == 0].astype(int) - (0, 200, 0)).max() <= 2
            if 1 in sample.ids:
                row = sample.alpha[sample.ids.index(1)]
                if not row[:, 0].any() and not row[:, -1].any():  # not cut by the picture's side
                    at.append(row.sum(0) @ np.arange(size[1]) / row.sum())
        if len(at) == 3:
            assert at[1] - at[0] == pytest.approx(at[2] - at[1], abs=0.5)
            ways.add(np.sign(at[1] - at[0]))
    assert ways == {-1, 1}  # mirrored sometimes


def test_rendered_sequences_are_found_beside_rendered_people(drawn_data, drawn_film):
    rendered = drawn_film.parents[1]
    (rendered / "people").symlink_to(drawn_data / "people")

    assert load(drawn_data, rendered=rendered).films == [drawn_film]
    assert not load(drawn_data, held_out=True, rendered=rendered).films


def test_a_bad_light_shows_in_the_picture_and_stays_what_it_is_from_frame_to_frame():
    rng = np.random.default_rng(1)
    rgb = np.clip(rng.normal((150, 120, 90), 40, (64, 96, 3)), 0, 255).astype(np.uint8)
    lights = [BadLight(np.random.default_rng(seed)) for seed in range(60)]

    everyone = np.full(rgb.shape[:2], 255, np.uint8)
    shown = [light.on(rgb, everyone) for light in lights]

    assert all(np.abs(one.astype(float) - rgb).mean() > 8 for one in shown)
    assert min(one.mean() for one in shown) < 30 and max(one.mean() for one in shown) > 165
    colourless = [np.ptp(one.astype(int), 2).max() < 3 for one in shown]
    of_one_colour = [one.mean((0, 1)).max() > 3 * one.mean((0, 1)).min() for one in shown]
    assert 2 <= sum(colourless) <= 20 and sum(of_one_colour) >= 5
    for light, one in zip(lights, shown, strict=True):
        assert np.array_equal(light.on(rgb, everyone), one)
        later = light.on(rgb, everyone, 1)
        assert np.array_equal(later, one) != bool(light.noise), "grain, and only grain, moves"
        assert np.abs(later.astype(float) - one).mean() < 15


def test_people_with_the_light_behind_them_are_dark_and_the_rest_is_not():
    rgb = np.full((64, 96, 3), 150, np.uint8)
    people = np.zeros((64, 96), np.uint8)
    people[:, :48] = 255
    dark = 0
    for seed in range(60):
        light = BadLight(np.random.default_rng(seed))
        with_them, without = light.on(rgb, people), light.on(rgb, None)
        assert np.array_equal(with_them[:, 48:], without[:, 48:])
        if light.shade < 1:
            dark += 1
            assert with_them[:, :48].mean() < 0.8 * without[:, :48].mean()
        else:
            assert np.array_equal(with_them, without)
    assert 3 <= dark <= 20
