"""Composites with known answers: scenes are painted, so the right result can be painted too."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from matting.frames import Frame, Mattes, no_one
from stream.compose import Backdrop, Composer, Look, Treatment, mark_colour
from stream.decode import InputError, open_source
from tests.fakes import write_clip, write_sound

SIZE = (120, 200)
WALL = np.array([90, 120, 60], np.float32)
COATS = np.array([[220, 40, 40], [40, 60, 210]], np.float32)  # person 1, person 2
RED, GREEN = np.array([255, 0, 0]), np.array([0, 255, 0])


def disc(centre, radius=32.0, softness=6.0, size=SIZE):
    """(H, W) float32: 1 inside, 0 outside, a ramp of `softness` pixels between."""
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    return np.clip((radius - distance) / softness + 0.5, 0, 1).astype(np.float32)


def two_discs(near=(60, 70), far=(60, 110)):
    """Person 1 in front of person 2: visible alphas, which share the pixels of the edge between."""
    front, behind = disc(near), disc(far)
    return np.stack([front, behind * (1 - front)])


def painted(alphas, coats=COATS, wall=WALL):
    """sum of alpha_i F_i + (1 - sum of alpha_i) B, in codes."""
    wall = np.broadcast_to(wall, (*alphas.shape[1:], 3))
    people = np.einsum("nhw,nc->hwc", alphas, coats[: len(alphas)])
    return people + (1 - alphas.sum(axis=0))[..., None] * wall


def mattes_of(alphas, ids=None):
    boxes = []
    for alpha in alphas:
        rows, columns = np.nonzero(alpha > 0.5)
        empty = not len(rows)
        boxes.append(
            [0, 0, 0, 0]
            if empty
            else [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        )
    count = len(alphas)
    return Mattes(
        alphas.astype(np.float32),
        np.zeros((count, 1, 1), np.float32),
        np.ones(count, np.float32),
        np.array(boxes, np.float32).reshape(count, 4),
        np.zeros((count, 1), np.float32),
        np.arange(1, count + 1) if ids is None else np.array(ids),
    )


def frame_of(rgb, seconds=0.0):
    codes = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return Frame(codes, round(seconds * 1000), Fraction(1, 1000))


def composed(look, alphas, rgb=None, **more):
    rgb = painted(alphas) if rgb is None else rgb
    with Composer(look, alphas.shape[1:]) as composer:
        return composer.compose(frame_of(rgb), mattes_of(alphas, **more)).astype(int)


# ------------------------------------------------------------------------------- known answers


def test_with_nothing_asked_for_the_picture_is_untouched():
    alphas = two_discs()
    frame = frame_of(painted(alphas))

    with Composer(Look(), SIZE) as composer:
        np.testing.assert_array_equal(composer.compose(frame, mattes_of(alphas)), frame.rgb)


def test_a_new_background_leaves_no_rim_of_the_old_one():
    alphas = two_discs()[:1]
    truth = painted(alphas, wall=RED)

    result = composed(Look.of("red"), alphas)

    assert np.abs(result - truth).max() <= 6  # codes; the naive mixture is off by 60
    np.testing.assert_array_equal(result[0, 0], RED)
    np.testing.assert_array_equal(result[60, 70], COATS[0])


def test_people_who_overlap_are_both_whole_over_a_new_background():
    alphas = two_discs()

    result = composed(Look.of("#00ff00"), alphas)

    error = np.abs(result - painted(alphas, wall=GREEN))
    assert error.mean() < 0.5
    assert error.max() <= 40  # where all three meet, one guess has to serve two coats
    seam = (alphas[0] > 0.1) & (alphas[1] > 0.1) & (alphas.sum(axis=0) > 0.999)
    assert seam.sum() > 50
    assert error[seam].max() < 2  # between the two nothing of the background shows through


def test_someone_removed_leaves_the_new_background_in_their_place():
    alphas = two_discs()

    result = composed(Look.of("red", {2: "remove"}), alphas)

    truth = painted(alphas[:1], wall=RED)
    assert np.abs(result - truth).mean() < 1.0
    np.testing.assert_array_equal(result[60, 130], RED)  # inside person 2
    np.testing.assert_array_equal(result[60, 70], COATS[0])


def test_everyone_removed_leaves_the_background_alone():
    result = composed(Look.of("red", {1: "remove", 2: "remove"}), two_discs())

    assert (result == RED).all()


def test_nobody_in_the_picture_is_no_special_case():
    with Composer(Look.of("blur", {1: "remove", 2: "red"}), SIZE) as composer:
        result = composer.compose(frame_of(np.broadcast_to(WALL, (*SIZE, 3))), no_one(SIZE))

    assert np.abs(result.astype(int) - WALL).max() <= 1


# ---------------------------------------------------------------------------- removal, original


def striped(width=10):
    """A wall that cannot be guessed from its surroundings."""
    stripes = np.where((np.arange(SIZE[1]) // width) % 2 == 0, 70.0, 170.0)
    return np.broadcast_to(stripes[None, :, None], (*SIZE, 3))


def test_behind_someone_removed_is_what_was_seen_there_before_they_came():
    wall = striped()
    with Composer(Look.of("original", {1: "remove"}), SIZE) as composer:
        for step in range(12):
            alphas = disc((60, -40 + 14 * step))[None]
            rgb = painted(alphas, wall=wall)
            result = composer.compose(frame_of(rgb, step / 30), mattes_of(alphas))

    assert alphas[0].sum() > 1000  # they are in view, and yet
    assert np.abs(result.astype(int) - wall).max() <= 2


def test_a_change_of_light_does_not_leave_a_patch():
    wall = striped()
    with Composer(Look.of("original", {1: "remove"}), SIZE) as composer:
        for step in range(12):
            alphas = disc((60, -40 + 14 * step))[None]
            light = 2.0 * step
            rgb = painted(alphas, wall=wall + light)
            result = composer.compose(frame_of(rgb, step / 30), mattes_of(alphas))

    assert np.abs(result.astype(int) - (wall + light)).max() <= 4


def test_what_was_never_seen_is_filled_smoothly_from_around():
    alphas = disc((60, 100))[None]
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    wall = np.stack([60 + x * 0.5, 80 + y * 0.5, np.full(SIZE, 120.0)], axis=-1)

    result = composed(Look.of("original", {1: "remove"}), alphas, painted(alphas, wall=wall))

    assert np.abs(result - wall).max() <= 16  # a red disc would be off by 150
    assert np.abs(result - wall).mean() <= 2


def test_what_was_remembered_is_forgotten_when_the_camera_moves():
    with Composer(Look.of("original", {1: "remove"}), SIZE) as composer:
        for step in range(6):  # the camera rests, and all is seen
            alphas = disc((60, -60))[None]
            composer.compose(frame_of(striped(), step / 30), mattes_of(alphas))
        alphas = disc((60, 100))[None]
        wall = np.full((*SIZE, 3), 120.0)
        wall[:, ::20] = 60  # another view, and someone in it
        result = composer.compose(frame_of(painted(alphas, wall=wall), 1.0), mattes_of(alphas))

    inside = result[50:70, 90:110].astype(int)
    assert inside.std() < 12  # the stripes of the old view had a deviation of 50


def test_someone_who_stays_is_untouched_before_someone_who_goes():
    alphas = two_discs()
    rgb = painted(alphas)

    result = composed(Look.of("original", {2: "remove"}), alphas, rgb)

    kept = alphas[0] == 1
    np.testing.assert_array_equal(result[kept], np.rint(rgb[kept]).astype(int))
    assert np.abs(result[60, 130] - WALL).max() <= 12  # the wall, where person 2 was
    blue = (result[..., 2] - result[..., 0]) > 60  # and no edge of person 2 is left over
    assert blue.sum() == 0


def test_far_from_someone_removed_the_picture_is_untouched():
    alphas = disc((60, 60))[None]
    rgb = np.random.default_rng(0).integers(60, 200, (*SIZE, 3))

    result = composed(Look.of("original", {1: "remove"}), alphas, rgb)

    away = disc((60, 60), radius=42, softness=1)[..., None] == 0
    np.testing.assert_array_equal(result * away, rgb * away)


# ---------------------------------------------------------------------------------------- blur


def test_someone_blurred_cannot_be_told_and_nothing_else_changes():
    alphas = two_discs()
    checks = np.kron(np.indices((15, 25)).sum(axis=0) % 2, np.ones((8, 8)))[..., None] * 120
    rgb = painted(alphas) * 0.5 + checks  # everyone and everything wears a pattern

    result = composed(Look.of("original", {2: "blur"}), alphas, rgb)

    person = alphas[1] == 1
    detail = cv2.Laplacian(rgb.astype(np.float32)[..., 1], cv2.CV_32F)[person].std()
    left = cv2.Laplacian(result.astype(np.float32)[..., 1], cv2.CV_32F)[person].std()
    assert left < 0.05 * detail
    untouched = alphas[1] == 0
    np.testing.assert_array_equal(result[untouched], np.rint(rgb[untouched]).astype(int))
    # their own colour, not that of the person in front or of the wall
    assert np.abs(result[person].mean(axis=0) - rgb[person].mean(axis=0)).max() < 12


def test_a_blurred_background_is_blurred_and_people_do_not_glow_into_it():
    alphas = disc((60, 100))[None]

    flat = composed(Look.of("blur"), alphas)
    fine = composed(Look.of("blur"), alphas, painted(alphas, wall=striped(width=4)))

    assert np.abs(flat[alphas[0] == 0] - WALL).max() <= 1  # right up to the person
    np.testing.assert_array_equal(flat[60, 100], COATS[0])
    assert fine[:, :40].std() < 0.2 * striped(width=4)[:, :40].std()


# ------------------------------------------------------------------ backgrounds of people's own


def shown(composer, centres, seconds):
    alphas = np.stack([disc(centre, radius=20) for centre in centres])
    frame = frame_of(painted(alphas), seconds)
    return composer.compose(frame, mattes_of(alphas)).astype(int)


def test_each_person_has_their_own_background_around_them():
    with Composer(Look.of("lime", {1: "red"}), SIZE) as composer:
        result = shown(composer, [(60, 40), (60, 160)], 0.0)

    np.testing.assert_array_equal(result[5, 5], RED)
    np.testing.assert_array_equal(result[110, 60], RED)
    np.testing.assert_array_equal(result[5, 195], GREEN)
    np.testing.assert_array_equal(result[60, 40], COATS[0])
    np.testing.assert_array_equal(result[60, 160], COATS[1])
    across = result[5, :, 0]
    assert (np.diff(across) <= 0).all()  # red passes into green, softly
    assert np.abs(np.diff(across)).max() < 40


def test_a_background_of_ones_own_over_the_original_leaves_the_rest_as_it_was():
    with Composer(Look.of("original", {1: "red"}), SIZE) as composer:
        result = shown(composer, [(60, 40), (60, 160)], 0.0)

    np.testing.assert_array_equal(result[5, 5], RED)
    np.testing.assert_array_equal(result[5, 195], WALL.astype(int))


def test_regions_glide_when_people_jump_and_arrive():
    with Composer(Look.of("lime", {1: "red"}), SIZE) as composer:
        shown(composer, [(60, 40), (60, 160)], 0.0)
        soon = shown(composer, [(60, 160), (60, 40)], 1 / 30)
        late = [shown(composer, [(60, 160), (60, 40)], 1 / 30 + i / 10) for i in range(30)][-1]

    assert soon[5, 5, 0] > 200  # still mostly red a frame after they changed places
    assert late[5, 5, 1] > 250  # green at last
    assert late[5, 195, 0] > 250


def test_regions_stay_while_nobody_is_in_view():
    with Composer(Look.of("lime", {1: "red"}), SIZE) as composer:
        shown(composer, [(60, 40)], 0.0)
        result = composer.compose(
            frame_of(np.broadcast_to(WALL, (*SIZE, 3)), 5.0), no_one(SIZE)
        ).astype(int)

    assert (result == RED).all()


# ------------------------------------------------------------------------------ files and words


def test_a_picture_fills_the_frame_and_keeps_its_proportions(tmp_path):
    rgb = np.zeros((100, 400, 3), np.uint8)  # four times as wide as high: the sides must go
    rgb[:, :100], rgb[:, 100:300], rgb[:, 300:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    cv2.circle(rgb, (200, 50), 25, (255, 255, 255), -1)
    cv2.imwrite(str(tmp_path / "wide.png"), rgb[:, :, ::-1])
    nobody = np.zeros((1, *SIZE), np.float32)

    result = composed(Look.of(str(tmp_path / "wide.png")), nobody)

    np.testing.assert_array_equal(result[2, 3], GREEN)
    np.testing.assert_array_equal(result[2, 197], GREEN)
    white = (result > 200).all(axis=-1)
    assert white[60].sum() == pytest.approx(white[:, 100].sum(), abs=2)  # still a circle


def test_a_video_runs_at_its_own_speed_and_starts_over(tmp_path):
    """Four pictures of a quarter second: dark to bright.  Frames come unevenly and start late."""
    path = tmp_path / "steps.mp4"
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=4)
        stream.height, stream.width, stream.pix_fmt = 120, 200, "yuv420p"
        for i in range(4):
            flat = np.full((120, 200, 3), 40 + 50 * i, np.uint8)
            picture = av.VideoFrame.from_ndarray(flat, format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 4)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    seconds = [10.0, 10.1, 10.26, 10.3, 10.8, 11.0, 11.3, 13.55, 20.01]
    expected = [0, 0, 1, 1, 3, 0, 1, 2, 0]

    with Composer(Look.of(str(path)), SIZE) as composer:
        seen = [
            composer.compose(frame_of(np.zeros((*SIZE, 3)), when), no_one(SIZE))[0, 0, 0]
            for when in seconds
        ]

    assert [round((int(level) - 40) / 50) for level in seen] == expected


def test_a_background_may_be_a_banner_that_would_not_be_matted(tmp_path):
    banner = tmp_path / "banner.png"
    cv2.imwrite(str(banner), np.full((20, 700, 3), (50, 100, 200), np.uint8))
    with pytest.raises(InputError, match="700 x 20"):
        open_source(banner)

    with Composer(Look.of(str(banner)), SIZE) as composer:
        shown = composer.compose(frame_of(np.zeros((*SIZE, 3))), no_one(SIZE))

    assert np.abs(shown - np.array([200, 100, 50])).max() <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: "beech", "neither a file nor a colour"),
        (lambda p: str(p / "beach.jpg"), "no such file"),
        (lambda p: str(p), "is a folder"),
        (lambda p: str(write_sound(p / "song.m4a")), "sound but no video"),
    ],
)
def test_a_background_that_cannot_be_had_is_refused_at_once(tmp_path, make, message):
    for look in (Look.of(make(tmp_path)), Look.of("original", {1: make(tmp_path)})):
        with pytest.raises(InputError, match=rf"background.*{message}"):
            Composer(look, SIZE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("keep", Backdrop("original")),
        ("original", Backdrop("original")),
        ("Blur", Backdrop("blur")),
        ("#0b4", Backdrop("colour", colour=(0, 187, 68))),
        ("#00B140", Backdrop("colour", colour=(0, 177, 64))),
        ("white", Backdrop("colour", colour=(255, 255, 255))),
        ("./white", Backdrop("file", path="./white")),
    ],
)
def test_words_for_backgrounds(text, expected):
    assert Backdrop.of(text) == expected


def test_words_for_people():
    assert Treatment.of("remove") == Treatment("remove")
    assert Treatment.of("blur") == Treatment("blur")
    assert Treatment.of("red") == Treatment("keep", Backdrop("colour", colour=(255, 0, 0)))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (65, 49), (16, 700), (300, 20)])
@pytest.mark.parametrize("look", [("red", {}), ("blur", {2: "blur"}), ("original", {2: "remove"}),
                                  ("original", {1: "red", 2: "blur"})])  # fmt: skip
def test_every_size_works_with_every_look(size, look):
    alphas = two_discs(near=(size[0] / 2, size[1] / 3), far=(size[0] / 2, size[1] / 2))
    alphas = np.stack([cv2.resize(a, size[::-1]) for a in alphas])

    with Composer(Look.of(*look), size) as composer:
        for step in range(3):
            rgb = np.random.default_rng(step).integers(0, 256, (*size, 3))
            result = composer.compose(frame_of(rgb, step / 30), mattes_of(alphas))
            assert result.shape == (*size, 3)
            assert result.dtype == np.uint8


def test_photographs_of_many_sizes_may_follow_one_another(tmp_path):
    write_clip(tmp_path / "bg.mp4")
    for background in ("red", "blur", str(tmp_path / "bg.mp4"), "original"):
        with Composer(Look.of(background, {2: "remove"}), SIZE) as composer:
            for size in (SIZE, (64, 80), (200, 130)):
                alphas = np.stack([cv2.resize(a, size[::-1]) for a in two_discs()])
                result = composer.compose(frame_of(painted(alphas)), mattes_of(alphas))
                assert result.shape == (*size, 3)


def test_composing_changes_neither_frame_nor_mattes():
    alphas = two_discs()
    frame, mattes = frame_of(painted(alphas)), mattes_of(alphas)
    rgb, alpha = frame.rgb.copy(), mattes.alpha.copy()

    for look in (Look.of("red"), Look.of("blur", {1: "blur"}), Look.of("keep", {1: "remove"})):
        with Composer(look, SIZE) as composer:
            composer.compose(frame, mattes)

    np.testing.assert_array_equal(frame.rgb, rgb)
    np.testing.assert_array_equal(mattes.alpha, alpha)


def test_the_same_scene_twice_gives_the_same_pictures():
    looks = Look.of("blur", {1: "red", 2: "blur"})
    runs = []
    for _ in range(2):
        with Composer(looks, SIZE) as composer:
            runs.append([shown(composer, [(60, 40 + i), (60, 150)], i / 30) for i in range(4)])

    np.testing.assert_array_equal(runs[0], runs[1])


def test_marks_tint_each_person_in_a_colour_of_their_own_and_nothing_else():
    alphas = two_discs()
    rgb = np.clip(np.rint(painted(alphas)), 0, 255).astype(np.uint8)
    frame = Frame(rgb, 0, Fraction(1, 25))

    with Composer(Look.of("marks"), SIZE) as composer:
        marked = composer.compose(frame, mattes_of(alphas))
    with Composer(Look.of("marks", {1: "remove"}), SIZE) as composer:
        without = composer.compose(frame, mattes_of(alphas))

    nobody = alphas.sum(0) == 0
    np.testing.assert_array_equal(marked[nobody], rgb[nobody])
    for person, (y, x) in ((1, (80, 60)), (2, (80, 125))):  # below the number
        expected = (rgb[y, x].astype(float) + mark_colour(person)) / 2
        np.testing.assert_allclose(marked[y, x], expected, atol=2)
    np.testing.assert_allclose(without[80, 50], WALL, atol=40)  # removed: neither them nor a mark
    assert len({mark_colour(number) for number in range(1, 50)}) == 49
