"""Rendered people: what is drawn, how they are posed, and the folder they end up in."""

import json

import numpy as np
import pytest

pytest.importorskip("numba")

from matting.synthesis import films
from matting.synthesis.humans import body, command, light, pose, raster, render, sequences, stills
from matting.synthesis.humans.assets import Library, _ranges, read_target
from matting.synthesis.humans.gesture import ARMS, STANCES, gesture, limb
from matting.synthesis.sources import DataError
from tests.matting import toy_human


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_human.build(tmp_path_factory.mktemp("humans3d"))


@pytest.fixture(scope="module")
def library(folder):
    return Library(folder)


@pytest.fixture(scope="module")
def poser(library):
    return pose.Poser(library)


@pytest.fixture(scope="module")
def figure(library):
    rng = np.random.default_rng(0)
    return render.pack(body.assemble(library, body.random_traits(rng, library), rng), library.rig)


# --- the rasteriser ------------------------------------------------------------------------------


def drawn(corners, triangles, size, one_sided=False):
    near, owner = np.zeros(size, np.float32), np.full(size, -1, np.int32)
    count = len(triangles)
    raster.solid(
        np.float32(corners), np.int32(triangles), np.ones(count, bool),
        np.full(count, one_sided), near, owner,
    )  # fmt: skip
    return near, owner


def test_the_alpha_of_a_triangle_is_the_area_it_covers():
    """Half a square of 8 pixels, 16 samples along a pixel."""
    grid = 16
    corners = np.float32([[0, 0, 1], [8, 0, 1], [0, 8, 1]]) * [grid, grid, 1]

    _, owner = drawn(corners, [(0, 1, 2)], (8 * grid, 8 * grid))
    alpha = render.to_pixels((owner == 0).astype(np.float32), grid)

    assert alpha.sum() == pytest.approx(32, abs=0.3)
    assert np.diag(alpha[:, ::-1]) == pytest.approx(0.5, abs=1 / grid)
    assert alpha[0, 0] == 1 and alpha[7, 7] == 0


def test_triangles_that_share_an_edge_leave_no_gap():
    corners = [[0.3, 0.2, 1], [31.7, 1.1, 1], [30.9, 31.8, 1], [0.9, 30.7, 1], [14.2, 17.9, 1]]
    fan = [(0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)]

    _, owner = drawn(corners, fan, (32, 32))

    assert (owner[3:29, 3:29] >= 0).all()


def test_what_is_nearer_is_seen():
    corners = [[0, 0, 1.0], [9, 0, 1.0], [0, 9, 1.0], [0, 0, 2.0], [9, 0, 2.0], [0, 9, 2.0]]

    for order in ([(0, 1, 2), (3, 4, 5)], [(3, 4, 5), (0, 1, 2)]):
        near, owner = drawn(corners, order, (4, 4))
        assert order[owner[1, 1]] == (3, 4, 5)
        assert near[1, 1] == pytest.approx(2)


def test_a_one_sided_triangle_is_seen_from_its_front_only():
    corners = [[0, 0, 1], [9, 0, 1], [0, 9, 1]]

    assert drawn(corners, [(0, 1, 2)], (4, 4), one_sided=True)[1].max() == -1
    assert drawn(corners, [(0, 2, 1)], (4, 4), one_sided=True)[1].max() == 0


# --- bodies and clothes --------------------------------------------------------------------------


def test_ranges_of_vertices_are_read_with_both_ends():
    assert _ranges(["3", "5", "-", "8", "10"]) == [3, 5, 6, 7, 8, 10]


def test_a_target_with_a_licence_at_its_head_is_read(tmp_path):
    (tmp_path / "t.target").write_text("# free\n# 3 words here\n7 .1 -2 0\n9 1 2 3\n")

    vertices, offsets = read_target(tmp_path / "t.target")

    assert vertices.tolist() == [7, 9]
    assert offsets == pytest.approx(np.float32([[0.1, -2, 0], [1, 2, 3]]))


def test_clothes_hang_where_their_body_vertices_are(library):
    thing = library.worn("clothes", "shoes01")
    base = library.base.vertices

    fitted = thing.fit(base + np.float32([0, 2, 0]))

    assert fitted == pytest.approx(base[thing.corners[:, 0]] + np.float32([0, 2, 0.5]))


def test_a_body_is_a_mixture_whose_shares_sum_to_one():
    traits = body.Traits(0.35, 0.3, 0.5, 0.8, 0.2, 0.5, 0.2, 0.3, 0.5)

    found = body.target_weights(traits)

    races = sum(w for name, w in found.items() if name.split("/")[1].startswith(
        ("african", "asian", "caucasian")))  # fmt: skip
    universal = sum(w for name, w in found.items() if "universal" in name)
    assert races == pytest.approx(1, abs=1e-3) and universal == pytest.approx(1, abs=1e-3)
    child = (0.5 - 0.35) / (0.5 - 0.1875)
    assert found["macrodetails/asian-male-child"] == pytest.approx(0.3 * 0.3 * child)
    assert not any("old" in name or "baby" in name for name in found)


def test_a_style_whose_texture_is_missing_is_never_worn(library):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        worn = body.dress(library, body.random_traits(rng, library), rng)
        assert all(thing.texture is not None for kind, thing in worn if kind == "hair")


def test_a_folder_that_is_not_the_assets_says_what_it_lacks(tmp_path):
    with pytest.raises(DataError, match=r"base\.obj"):
        Library(tmp_path)


# --- poses ---------------------------------------------------------------------------------------


def test_the_rest_pose_leaves_every_vertex_where_it_is(figure):
    still = np.tile(np.eye(3), (len(figure.rig.names), 1, 1))

    posed = render.pose(figure, still)

    assert posed.vertices == pytest.approx(figure.person.vertices, abs=1e-5)
    assert posed.joints == pytest.approx(figure.heads, abs=1e-5)


def test_a_turned_forearm_keeps_its_length_and_moves_nothing_else(figure, poser):
    number, rig = figure.rig.number, figure.rig
    bones = np.tile(np.eye(3), (len(rig.names), 1, 1))
    turn = pose.rotation((0, 0, 1), 1.1)
    below = ("lowerarm", "wrist", "finger")
    names = enumerate(rig.names)
    forearm = [i for i, name in names if name.endswith(".L") and name.startswith(below)]
    bones[forearm] = turn

    posed = render.pose(figure, bones)

    elbow = number["lowerarm01.L"]
    before = figure.heads[number["wrist.L"]] - figure.heads[elbow]
    after = posed.joints[number["wrist.L"]] - posed.joints[elbow]
    assert after == pytest.approx(turn @ before, abs=1e-5)
    others = [i for i in range(len(rig.names)) if i not in forearm]
    assert posed.joints[others] == pytest.approx(figure.heads[others], abs=1e-5)


def test_hanging_arms_of_another_skeleton_hang_on_ours_too(poser, figure):
    """Ours are half lowered in rest, theirs hang: the correction between rests is what is asked."""
    clip = next(c for c in poser.clips if c.name == "stand")

    bones, place = poser.at(clip, 0.85)
    posed = render.pose(figure, bones)

    for side in "LR":
        for upper, lower in (("upperarm01", "lowerarm01"), ("upperleg01", "lowerleg01")):
            limb_now = posed.joint(f"{lower}.{side}") - posed.joint(f"{upper}.{side}")
            assert limb_now / np.linalg.norm(limb_now) == pytest.approx([0, -1, 0], abs=0.02)
    assert place[2] > 0.2 and abs(place[0]) < 1e-6  # their forward is +x, ours +z


@pytest.mark.parametrize("arms", sorted(ARMS))
def test_a_gesture_without_chance_points_where_it_says(poser, figure, arms):
    turns = gesture(poser, np.random.default_rng(0), "stand", (arms, arms), looseness=0.0)

    posed = render.pose(figure, poser.spread(turns))

    found = posed.joint("wrist.L") - posed.joint("lowerarm01.L")
    wanted = np.float64(ARMS[arms][1])
    assert found / np.linalg.norm(found) == pytest.approx(wanted / np.linalg.norm(wanted), abs=0.03)


@pytest.mark.parametrize("stance", sorted(STANCES))
def test_every_stance_turns_bones_rigidly(poser, stance):
    bones = poser.spread(gesture(poser, np.random.default_rng(3), stance))

    assert bones @ bones.swapaxes(1, 2) == pytest.approx(np.tile(np.eye(3), (len(bones), 1, 1)),
                                                         abs=1e-6)  # fmt: skip
    assert np.linalg.det(bones) == pytest.approx(1)


def test_a_bent_limb_takes_both_directions_at_once():
    rest = (np.float64([0.6, -0.8, 0]), np.float64([0.5, -0.6, 0.6]))
    wanted = (np.float64([0, 0, 1]), np.float64([0, 1, 0]))

    upper, lower = limb(rest, np.cross(*rest), wanted)

    assert upper @ rest[0] == pytest.approx(wanted[0])
    unit = rest[1] / np.linalg.norm(rest[1])
    assert lower @ unit == pytest.approx(wanted[1])


# --- light ---------------------------------------------------------------------------------------


def test_an_even_sky_lights_a_free_surface_with_one(figure):
    harmonics = light.project(light.sphere(400), np.ones((400, 3), np.float32))
    sky = light.Light(harmonics, np.float32([0, 1, 0]), np.zeros(3, np.float32))
    rest = render.pose(figure, np.tile(np.eye(3), (len(figure.rig.names), 1, 1)))

    around = render.ambient(rest, sky)

    assert np.percentile(around, 95) == pytest.approx(1, abs=0.12)
    assert np.percentile(around, 5) < 0.8  # somewhere the body hides the sky from itself


# --- stills and sequences ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(library, poser):
    return [stills.random_still(library, poser, [5, i], 96) for i in range(8)]


def test_a_seed_is_one_still_forever(library, poser, made):
    again = stills.random_still(library, poser, [5, 2], 96)

    assert np.array_equal(again.rgb, made[2].rgb) and np.array_equal(again.alpha, made[2].alpha)
    assert not np.array_equal(made[2].alpha, made[3].alpha)


def test_a_whole_person_has_room_around_and_a_cut_one_reaches_the_lower_edge(made):
    assert {s.cut for s in made} == {True, False}
    for still in made:
        assert max(still.alpha.shape) <= stills.WIDEST and still.alpha.shape[0] <= 96
        assert still.alpha.max() == 255
        assert still.alpha[0].max() <= 2
        if not still.cut:
            assert still.alpha[-1].max() <= 2


def scene_of(library, poser, seed=0, size=(64, 96)):
    return sequences.random_scene(library, poser, [seed], size, 1.0)


def test_one_before_the_other_hides_them_and_alpha_never_exceeds_one(library, poser):
    scene = next(s for s in (scene_of(library, poser, seed) for seed in range(40))
                 if len(s.acts) == 2)  # fmt: skip
    behind, front = scene.acts
    eye = scene.camera.eye
    ahead = sequences._with(front, place=np.float32([0, 0, eye[2] * 0.3]))
    back = sequences._with(behind, place=np.float32([0, 0, -eye[2] * 0.3]))
    scene = sequences.Scene((back, ahead), scene.camera, scene.light, (0, 1, 0), 0.0, 0.4, 1)

    frame = next(sequences.frames(scene, poser, np.array([0.5])))

    assert frame.hidden[1] < 0.01 < frame.hidden[0]
    assert frame.alpha.sum(0, dtype=int).max() <= 255


def test_a_sequence_is_read_back_as_it_was_made(library, poser, tmp_path):
    scene = scene_of(library, poser, 3)
    rendered = list(sequences.frames(scene, poser, np.arange(2) / 2))

    sequences.write(scene, poser, tmp_path / "000003", [3], 1.0, 2.0)
    about, frames = films.read(tmp_path / "000003")
    found = list(frames)

    assert about["ids"] == list(range(1, len(scene.acts) + 1)) and len(found) == 2
    for one, other in zip(rendered, found, strict=True):
        assert np.array_equal(one.alpha, other.alpha)
        assert one.boxes == other.boxes
        assert np.abs(one.rgb.astype(int) - other.rgb)[one.alpha.max(0) > 200].mean() < 12
    assert not list(tmp_path.glob("*.part"))


def test_over_a_background_it_shows_where_nobody_is(library, poser):
    scene = scene_of(library, poser, 4)
    rng = np.random.default_rng(0)
    place = rng.integers(0, 255, (64, 96, 3), np.uint8)
    frames = list(sequences.frames(scene, poser, np.array([0.0])))

    sample = next(films.over(iter(frames), place))

    empty = sample.everyone == 0
    assert np.array_equal(sample.rgb[empty], place[empty]) and empty.any()
    assert len(sample.ids) == len(sample.alpha) == len(sample.contrast)


# --- the command ---------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_stopped(folder, tmp_path, capsys):
    words = ["humans", "--assets", str(folder), "--out", str(tmp_path), "--tall", "64"]
    assert command.main([*words, "--stills", "2"]) == 0
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "people").iterdir()}

    (tmp_path / "people" / "full_000002.part").write_bytes(b"broken off")
    more = ["--stills", "3", "--sequences", "1", "--seconds", "0.2", "--rate", "5"]
    assert command.main([*words, *more]) == 0

    now = {p: p.stat().st_mtime_ns for p in (tmp_path / "people").glob("*.webp")}
    assert len(now) == 3 and first.items() <= now.items()
    about = json.loads((tmp_path / "sequences" / "000000" / "scene.json").read_text())
    assert len(about["frames"]) == 1
    assert command.main([*words, *more]) == 0
    assert "everything asked for is there" in capsys.readouterr().err


def test_missing_assets_end_with_the_code_for_input(tmp_path, capsys):
    code = command.main(["humans", "--assets", str(tmp_path), "--out", str(tmp_path / "o")])

    assert code == 3
    assert "humans3d" in capsys.readouterr().err
