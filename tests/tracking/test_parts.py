"""The parts of the tracker against what can be worked out by hand."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from tracking.motion import Motion, centres_and_sizes, moved_boxes
from tracking.recognition import PAGES, Agreement, Album, Gallery, common_code, cosines
from tracking.scenery import Scenery
from tracking.similarity import (
    ENOUGH_CELLS,
    box_and_height_overlap,
    box_overlap,
    code_cosine,
    matte_overlap,
    shifted,
    thumbnails,
    unit,
)

NOBODY_RESTS = np.zeros(1, bool)


def walk(speed: float, seconds: np.ndarray) -> Motion:
    """Someone 20 x 60 who walks right at `speed` pixels a second, seen at these times."""
    box = np.array([[100.0, 50, 120, 110]])
    motion = Motion.at(box)
    for before, now in pairwise(seconds):
        motion.predict(now - before, NOBODY_RESTS)
        motion.observe(np.array([0]), box + np.array([1, 0, 1, 0]) * speed * now)
    return motion


def test_a_steady_walk_is_foreseen():
    motion = walk(30, np.arange(60) / 30)
    motion.predict(1.0, NOBODY_RESTS)

    expected = 110 + 30 * (59 / 30 + 1)
    assert motion.value[0] == pytest.approx([expected, 80, 20, 60], abs=1.0)


def test_speed_does_not_depend_on_the_frame_rate():
    slow, fast = walk(30, np.arange(40) / 10), walk(30, np.arange(240) / 60)

    assert slow.velocity[0, 0] == pytest.approx(30, rel=0.05)
    assert fast.velocity[0, 0] == pytest.approx(30, rel=0.05)


def test_one_long_step_is_as_uncertain_as_many_short_ones():
    once, often = walk(0, np.arange(20) / 30), walk(0, np.arange(20) / 30)
    once.predict(0.5, NOBODY_RESTS)
    for _ in range(50):
        often.predict(0.01, NOBODY_RESTS)

    assert often.value_variance == pytest.approx(once.value_variance, rel=1e-6)
    assert often.covariance == pytest.approx(once.covariance, rel=1e-6)


def test_nobody_grows_while_unseen():
    motion = walk(0, np.arange(20) / 30)
    motion.velocity[0] = [0, 0, 50, 50]
    motion.predict(1.0, np.array([True]))

    assert motion.value[0, 2:] == pytest.approx([20, 60], abs=0.5)


def test_a_camera_that_zooms_and_pans_takes_boxes_along():
    camera = np.array([[2.0, 0, 10], [0, 2, -4]])
    box = np.array([[10.0, 20, 30, 60]])
    motion = Motion.at(box)
    motion.move_with(camera)

    assert moved_boxes(box, camera).tolist() == [[30, 36, 70, 116]]
    assert motion.boxes() == pytest.approx(moved_boxes(box, camera))


def test_boxes_overlap_by_area_and_by_height():
    a, b = (
        np.array([[0.0, 0, 10, 10]]),
        np.array([[5.0, 0, 15, 10], [0, 5, 10, 15], [20, 0, 30, 5]]),
    )

    assert box_overlap(a, b)[0] == pytest.approx([1 / 3, 1 / 3, 0])
    boxes, heights = box_and_height_overlap(a, b)
    assert np.array_equal(boxes, box_overlap(a, b))
    assert heights[0] == pytest.approx([1, 1 / 3, 0.5])
    assert centres_and_sizes(b)[0].tolist() == [10, 5, 10, 10]


def test_half_of_a_shared_person_is_the_same_matte_and_half_of_a_body_is_not():
    body = np.zeros((1, 4, 4), np.float32)
    body[0, :, :2] = 1
    share, top = body * 0.5, body.copy()
    top[0, 2:] = 0

    assert matte_overlap(share, share)[0, 0] == pytest.approx(1)
    assert matte_overlap(body, top)[0, 0] == pytest.approx(0.5)
    assert matte_overlap(body, body[:0]).shape == (1, 0)


def test_mattes_move_by_whole_cells_and_leave_at_the_edge():
    matte = np.arange(12, dtype=np.float32).reshape(1, 3, 4)

    assert shifted(matte, np.array([[1, 1]]))[0].tolist() == [
        [0, 0, 0, 0],
        [0, 0, 1, 2],
        [0, 4, 5, 6],
    ]
    assert shifted(matte, np.array([[-2, 0]]))[0, 0].tolist() == [2, 3, 0, 0]
    assert not shifted(matte, np.array([[9, 0]])).any()
    assert shifted(matte, np.array([[0, 0]])) is not matte


def test_large_mattes_are_compared_small():
    mattes = np.zeros((2, 45, 80), np.float32)
    mattes[0, :20, :40] = 1
    small = thumbnails(mattes)

    assert small.shape == (2, 22, 40)
    assert small.shape[1] * small.shape[2] <= ENOUGH_CELLS
    assert small[0, :10, :20].min() == 1 and small.sum() == 200
    assert thumbnails(small) is small


def test_what_everyone_shares_is_taken_off_a_code():
    codes = unit(np.array([[1.0, 0, 3], [0, 1, 3]]))

    assert code_cosine(codes, codes, np.zeros(3))[0, 1] == pytest.approx(0.9)
    mean = codes.mean(0)
    assert code_cosine(codes, codes, mean)[0, 1] == pytest.approx(-1)
    plain = unit(codes - mean) @ unit(codes - mean).T
    assert code_cosine(codes, codes, mean) == pytest.approx(plain)


def test_few_people_hardly_have_a_common_code():
    """Two people known: a third is no more like either than the two are like each other."""
    codes = unit(np.eye(3) + 0.5)
    table = cosines(codes[:2], codes, codes[:2])

    assert np.linalg.norm(common_code(codes[:2])) < 0.25
    assert table[0, 2] - table[0, 1] < 0.15


def test_cosines_are_read_as_what_they_have_meant_so_far():
    """A network whose codes are all alike: 0.99 is oneself, 0.95 is already someone else."""
    agreement = Agreement()
    for _ in range(200):
        agreement.learn(same=np.array([0.985, 0.995]), other=np.array([0.945, 0.955]))

    assert agreement.trust > 0.9
    assert agreement.of(np.array([0.99, 0.95, 0.5, 1.0])) == pytest.approx([1, 0, 0, 1], abs=0.1)


def test_codes_that_tell_nobody_apart_are_not_trusted():
    agreement = Agreement()
    rng = np.random.default_rng(0)
    for _ in range(200):
        same, other = rng.normal(0.7, 0.1, 2), rng.normal(0.65, 0.1, 2)
        agreement.learn(same=same, other=other)

    assert agreement.trust == 0


def test_the_gallery_forgets_the_oldest_first():
    gallery = Gallery(capacity=2)
    for identity in (1, 2, 3):
        gallery.add(identity, np.full(4, identity / 10), left=float(identity))

    assert gallery.ids.tolist() == [2, 3]
    assert gallery.take(2)[0].tolist() == pytest.approx([0.2] * 4)
    gallery.forget_before(3.5)
    assert len(gallery) == 0
    assert gallery.mains(width=4).shape == (0, 4)


def test_somebody_with_a_name_is_never_forgotten():
    gallery = Gallery(capacity=2)
    gallery.kept.add(1)
    for identity in (1, 2, 3, 4):
        gallery.add(identity, np.ones((1, 4)), left=0.0)
    gallery.forget_before(100.0)

    assert gallery.ids.tolist() == [1]


def test_an_album_keeps_what_looks_new_and_no_more_than_a_few():
    album, front, back = Album(), np.eye(8)[0], np.eye(8)[1]
    for look in (front, unit((front + 0.1 * back)[None])[0], back):
        album.consider(7, look)
    assert album.open(7, front).tolist() == [front.tolist(), front.tolist(), back.tolist()]

    for look in np.eye(8)[2:]:
        album.consider(7, look)
    assert len(album.open(7, front)) == 1 + PAGES


# -- what happens behind the people ----------------------------------------------------------------


def room(seed: int, size=(270, 480)) -> np.ndarray:
    """Something to look at: patches of all sizes."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((*size, 3), np.uint8)
    for scale in (4, 12, 40):
        shape = (size[0] // scale + 2, size[1] // scale + 2, 3)
        part = rng.integers(0, 85, shape).astype(np.uint8)
        picture += cv2.resize(part, size[::-1], interpolation=cv2.INTER_CUBIC)
    return picture


NOBODY = np.zeros((0, 1, 1), np.float32)


def test_a_pan_and_a_zoom_are_told_to_a_pixel():
    scene, scenery = room(1), Scenery()
    scenery.change(scene, NOBODY, 0)
    move = np.array([[1.02, 0, -7.0], [0, 1.02, 3.0]])
    moved = cv2.warpAffine(scene, move, (480, 270), borderMode=cv2.BORDER_REFLECT)

    change = scenery.change(moved, NOBODY, 1 / 30)

    corners = np.array([[0, 0, 1], [479, 0, 1], [0, 269, 1], [479, 269, 1.0]]).T
    assert not change.cut
    assert change.camera @ corners == pytest.approx(move @ corners, abs=1.0)


def test_someone_who_walks_past_is_not_the_camera():
    """Half of the picture is a person walking right; the wall behind them stands."""
    wall, coat, scenery = room(2), room(3), Scenery()
    coarse = np.zeros((1, 27, 48), np.float32)
    for t in range(3):
        picture = wall.copy()
        x = 100 + 9 * t
        picture[:, x : x + 240] = coat[:, :240]
        coarse[:] = 0
        coarse[0, :, x // 10 : (x + 240) // 10 + 1] = 1
        change = scenery.change(picture, coarse, 1 / 30)

    assert not change.cut
    assert np.abs(change.camera - np.eye(2, 3)).max() < 0.5


def test_another_room_is_a_cut_and_a_flash_is_not():
    scenery = Scenery()
    for _ in range(4):
        scenery.change(room(4), NOBODY, 1 / 30)
    flash = np.clip(room(4).astype(int) + 90, 0, 255).astype(np.uint8)

    assert not scenery.change(flash, NOBODY, 1 / 30).cut
    assert not scenery.change(room(4), NOBODY, 1 / 30).cut
    assert scenery.change(room(5), NOBODY, 1 / 30).cut


def test_a_picture_without_texture_has_no_camera_and_no_cut():
    scenery, gray = Scenery(), np.full((270, 480, 3), 90, np.uint8)
    for _ in range(3):
        change = scenery.change(gray, NOBODY, 1 / 30)

    assert change.camera is None and not change.cut
