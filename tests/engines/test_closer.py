"""A photograph is seen twice, and two answers are one."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engines import load_engine
from engines.base import NotFinite
from engines.closer import together
from engines.guard import GuardedEngine
from engines.people import Answer, coefficients
from matting.frames import no_one
from stream.stages import matte_each
from tests.fakes import SquaresEngine, video

ROOT = Path(__file__).resolve().parents[2]
FEATURES, CODE = 5, 4


def answer(boxes: list[tuple[int, int, int, int]], scale: int = 1, seed: int = 0) -> Answer:
    """Codes that claim these boxes (x0, y0, x1, y1 in cells of an 8 x 16 grid), `scale` as fine."""
    rng = np.random.default_rng(seed)
    small = (8 * scale, 16 * scale)
    location = np.zeros((len(boxes), *small), np.float32)
    for one, box in zip(location, boxes, strict=True):
        x0, y0, x1, y1 = (scale * side for side in box)
        one[y0:y1, x0:x1] = 1

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(0, 1, shape).astype(np.float32)

    return Answer(
        score=np.linspace(0.9, 0.6, len(boxes)).astype(np.float32),
        code=drawn(len(boxes), CODE), location=location,
        trimap=np.tile(np.float32([-30, 0, -30])[:, None, None], (len(boxes), 1, *small)),
        kernels=drawn(len(boxes), 4, FEATURES + 1),
        fine=drawn(FEATURES, 4 * small[0], 4 * small[1]),
    )  # fmt: skip


LEFT, MIDDLE, RIGHT = (1, 1, 5, 7), (6, 2, 9, 8), (12, 3, 14, 5)


def test_whoever_both_answers_have_is_once_in_theirs_and_the_others_stay():
    usual, closer = answer([LEFT, MIDDLE]), answer([RIGHT, LEFT], scale=2, seed=1)
    both = together(usual, closer)

    assert both.location.shape == (3, 16, 32)
    places = [closer.location[1], answer([MIDDLE], scale=2).location[0], closer.location[0]]
    for found, place in zip(both.location, places, strict=True):
        assert np.minimum(found, place).sum() / np.maximum(found, place).sum() > 0.8
    assert both.score.tolist() == pytest.approx([0.9, 0.6, 0.9])  # the better of both
    trust = 0.9**2 / (0.9**2 + 0.6**2)
    assert np.allclose(both.code[0], trust * usual.code[0] + (1 - trust) * closer.code[1])
    assert np.array_equal(both.code[1:], [usual.code[1], closer.code[0]])


def test_what_is_drawn_is_the_mean_of_what_either_would_draw_by_how_much_it_is_believed():
    usual, closer = answer([LEFT, MIDDLE]), answer([MIDDLE, LEFT], scale=2, seed=1)
    found = coefficients(together(usual, closer), np.arange(2))

    one, two = coefficients(usual, np.arange(2)), coefficients(closer, np.array([1, 0]))
    one = np.stack([[cv2.resize(plane, (128, 64)) for plane in person] for person in one])
    trust = np.float32([0.9, 0.6])[:, None, None, None] ** 2
    trust /= trust + np.float32([0.6, 0.9])[:, None, None, None] ** 2
    assert np.allclose(found, trust * one + (1 - trust) * two, atol=1e-4)


def test_an_answer_that_is_not_believed_does_not_spoil_the_other():
    usual, closer = answer([LEFT]), answer([LEFT], scale=2, seed=1)
    both = together(usual, closer._replace(score=np.float32([0.02])))
    assert both.score.tolist() == pytest.approx([0.9])
    assert np.allclose(both.code, usual.code, atol=0.01)


def test_who_stands_where_the_other_answer_has_somebody_else_is_not_taken_for_them():
    both = together(answer([(0, 0, 8, 8)]), answer([(6, 0, 16, 8)], scale=2))
    assert len(both.score) == 2


def test_a_group_that_looks_like_one_person_from_close_by_is_not_one_more():
    usual = answer([LEFT, MIDDLE, RIGHT])
    group, child = (1, 1, 10, 8), (10, 1, 11, 3)
    both = together(usual, answer([group, child], scale=2))
    assert len(both.score) == 4, "only the child is new"
    assert both.location[3].sum() == 4 * 2
    nobody_there = together(answer([RIGHT]), answer([group], scale=2))
    assert len(nobody_there.score) == 2


def test_an_arm_that_looks_like_somebody_from_close_by_is_not_one_more():
    arm = (3, 2, 5, 5)
    closer = answer([LEFT, arm], scale=2)
    unsure = answer([LEFT, arm])._replace(score=np.float32([0.9, 0.2]))
    for usual in (answer([LEFT]), unsure):
        both = together(usual, closer)
        assert (both.score >= 0.5).sum() == 1
        assert both.location[0].sum() == pytest.approx(closer.location[0].sum(), rel=0.1)
    assert (together(answer([LEFT, arm]), closer).score >= 0.5).sum() == 2, "both answers have it"
    elsewhere = answer([LEFT, (4, 2, 9, 5)], scale=2)
    assert (together(answer([LEFT]), elsewhere).score >= 0.5).sum() == 2, "a part of it is not all"


@pytest.fixture(scope="module")
def engine():
    loaded = load_engine(["openvino"], ROOT / "weights", in_flight=2)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def far_away() -> np.ndarray:
    """A large picture with the demo clip's two children, a hand high, in a corner."""
    with av.open(str(ROOT / "demo/bedroom.mp4")) as clip:
        rgb = next(f for i, f in enumerate(clip.decode(video=0)) if i == 160)
    made = np.full((720, 1280, 3), 120, np.uint8)
    made[-108:, :192] = cv2.resize(
        rgb.to_ndarray(format="rgb24"), (192, 108), interpolation=cv2.INTER_AREA
    )
    return made


def test_in_a_photograph_somebody_small_is_found_whom_a_frame_of_a_video_misses(engine, far_away):
    def people(mattes):
        return int((mattes.score > 0.6).sum())

    assert people(engine.step(far_away, engine.start())[0]) == 0
    assert people(engine.still(far_away, closer=False)) == 0
    found = engine.still(far_away)
    assert people(found) == 1
    assert found.alpha.shape[1:] == far_away.shape[:2] and found.alpha.sum(0).max() <= 1 + 1e-5
    matte = found.alpha[0] > 0.5
    assert matte.sum() > 1000 and matte[-108:, :192].sum() > 0.99 * matte.sum()


def test_looking_once_is_as_a_frame_of_a_video_is_seen(engine, far_away):
    still, step = engine.still(far_away, closer=False), engine.step(far_away, engine.start())[0]
    assert np.allclose(still.score, step.score, atol=1e-3)
    assert np.abs(still.alpha - step.alpha).max(initial=0) < 2e-2


def test_engines_agree_about_photographs(engine, far_away):
    pytest.importorskip("onnxruntime")
    other = load_engine(["onnxruntime"], ROOT / "weights", threads=1)
    ours, theirs = engine.still(far_away), other.still(far_away)
    other.close()
    assert np.allclose(ours.score, theirs.score, atol=2e-3)
    assert np.abs(ours.alpha - theirs.alpha).mean() < 1e-4


class Patient(SquaresEngine):
    def __init__(self):
        super().__init__()
        self.asked = []

    def still(self, rgb, closer):
        self.asked.append(closer)
        return self.step(rgb, self.start())[0]


@pytest.mark.parametrize("closer", [True, False])
def test_photographs_are_looked_at_as_the_settings_say(closer):
    engine = Patient()
    guarded = GuardedEngine(engine, tell=print, note=print)
    matted = list(matte_each(video(pts=range(3)), guarded, closer=closer))
    assert [len(mattes) for _, mattes in matted] == [2, 2, 2]
    assert engine.asked == [closer] * 3


def test_a_photograph_the_network_fails_at_shows_nobody_and_is_told():
    class Broken(Patient):
        def still(self, rgb, closer):
            raise NotFinite("squares: numbers that are not finite")

    told: list[str] = []
    guarded = GuardedEngine(Broken(), tell=told.append, note=told.append)
    ((frame, mattes),) = matte_each(video(pts=range(1)), guarded)
    assert len(mattes) == 0 and mattes.size == frame.size == no_one(frame.size).size
    assert told == ["squares: numbers that are not finite; nobody is shown in this picture"]


def test_memory_that_runs_out_at_a_photograph_is_given_back_and_the_picture_done():
    class Full(Patient):
        full, released = True, 0

        def release(self):
            self.full, self.released = False, self.released + 1

        def still(self, rgb, closer):
            if self.full:
                raise MemoryError
            return super().still(rgb, closer)

    engine = Full()
    guarded = GuardedEngine(engine, tell=print, note=print)
    ((_, mattes),) = matte_each(video(pts=range(1)), guarded)
    assert len(mattes) == 2 and engine.released == 1
