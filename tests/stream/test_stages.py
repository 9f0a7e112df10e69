"""The stages between decode and encode, run on lists."""

from concurrent.futures import Future
from contextlib import closing

import numpy as np
import pytest

from stream.stages import compose, follow, matte, matte_each
from tests.fakes import ColourTracker, Square, SquaresEngine, named, picture, video


def test_every_frame_comes_out_with_its_people():
    frames = video()

    matted = list(matte(frames, SquaresEngine()))

    assert [frame for frame, _ in matted] == frames
    assert all(len(mattes) == 2 for _, mattes in matted)
    np.testing.assert_array_equal(matted[3][1].box[0], [14, 16, 38, 40])  # red, after 3 steps of 2


def test_the_memory_of_one_video_does_not_leak_into_the_next():
    engine = SquaresEngine(fail_at=6)

    assert len(list(matte(video(pts=range(6)), engine))) == 6
    assert len(list(matte(video(pts=range(6)), engine))) == 6  # the state began anew


def test_an_engine_failure_comes_after_the_frames_before_it():
    matted = matte(video(), SquaresEngine(fail_at=2))

    assert len([next(matted), next(matted)]) == 2
    with pytest.raises(RuntimeError, match="as it was told"):
        next(matted)


class Overlapping(SquaresEngine):
    """The same, with up to three pictures under way."""

    in_flight = 3

    def __init__(self, refuse_at=None, **kind):
        super().__init__(**kind)
        self.refuse_at, self.taken = refuse_at, 0

    def submit(self, rgb, state):
        if self.taken == self.refuse_at:
            raise RuntimeError("refused, as it was told")
        self.taken += 1
        pending = Future()
        try:
            mattes, state = self.step(rgb, state)
            pending.set_result(mattes)
        except RuntimeError as error:
            pending.set_exception(error)
        return pending, state


@pytest.mark.parametrize("kind", [{"refuse_at": 5}, {"fail_at": 5}])
def test_a_picture_that_fails_comes_after_those_that_were_under_way_before_it(kind):
    found = []
    with pytest.raises(RuntimeError, match="as it was told"):
        for frame, _ in matte(video(), Overlapping(**kind)):
            found.append(frame.pts)

    assert found == [0, 1, 2, 3, 4]


def test_a_film_that_breaks_off_gives_every_frame_that_was_under_way():
    def broken():
        yield from video(pts=range(5))
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        for frame, _ in matte(broken(), Overlapping()):
            found.append(frame.pts)

    assert found == [0, 1, 2, 3, 4]


def test_photographs_are_under_way_at_once_and_know_nothing_of_each_other():
    frames = video(pts=range(6))
    engine = Overlapping(fail_at=3)  # the fourth step of one memory

    matted = list(matte_each(frames, engine))

    assert [frame.pts for frame, _ in matted] == list(range(6)) and engine.taken == 6
    for (_, ours), (_, theirs) in zip(matted, matte_each(frames, SquaresEngine()), strict=True):
        assert np.array_equal(ours.alpha, theirs.alpha)


@pytest.mark.parametrize("delay", [0, 1, 3, 50])
def test_someone_confirmed_late_has_their_id_from_the_first_frame_on(delay):
    followed = list(follow(matte(video(), SquaresEngine()), ColourTracker(delay_frames=delay)))

    assert [frame.pts for frame, _ in followed] == list(range(10))
    if delay < 10:
        assert all(mattes.ids.tolist() == [1, 2] for _, mattes in followed)
    else:  # never confirmed: nobody is shown, but the frames are all there
        assert all(len(mattes) == 0 for _, mattes in followed)


def test_a_visitor_of_one_frame_burns_no_id_and_leaves_no_trace():
    squares = [Square("red", first=4, last=4), Square("green", at=(48, 100), step=(0, -2))]

    followed = follow(matte(video(squares=squares), SquaresEngine()), ColourTracker(delay_frames=2))

    assert [mattes.ids.tolist() for _, mattes in followed] == [[1]] * 10


def test_people_come_in_the_order_of_their_ids():
    squares = [Square("red", first=5), Square("blue", at=(48, 100), step=(0, 0))]

    followed = list(follow(matte(video(squares=squares), SquaresEngine()), ColourTracker()))

    first, last = followed[0][1], followed[-1][1]
    assert first.ids.tolist() == [1]  # blue was there first
    assert last.ids.tolist() == [1, 2]
    assert last.box[0][0] == 100  # although the engine is surer of red


def test_only_the_frames_that_wait_are_held():
    seen = []

    def noting():
        for frame in video(pts=range(30)):
            seen.append(frame.pts)
            yield frame

    followed = follow(matte(noting(), SquaresEngine()), ColourTracker(delay_frames=3))
    next(followed)

    assert len(seen) == 4


def test_photographs_are_numbered_from_the_left_each_on_its_own():
    crossing = [Square("red", step=(0, 8)), Square("green", at=(48, 100), step=(0, -8))]
    frames = video(pts=range(9), squares=crossing)

    matted = list(matte_each(frames, SquaresEngine()))

    assert all(mattes.ids.tolist() == [1, 2] for _, mattes in matted)
    assert matted[0][1].code[0].argmax() == 0  # red is on the left
    assert matted[-1][1].code[0].argmax() == 1  # then green is


def test_the_composer_is_closed_when_the_stage_ends_early():
    class Inverter:
        closed = False

        def compose(self, frame, mattes):
            return 255 - frame.rgb

        def close(self):
            self.closed = True

    inverter = Inverter()
    with closing(compose(matte(video(), SquaresEngine()), inverter)) as pictures:
        frame, mattes, result = next(pictures)

    np.testing.assert_array_equal(result, 255 - picture())
    assert len(named(mattes)) == 2
    assert inverter.closed


def test_a_photograph_leaves_out_whom_the_network_doubts():
    matted = list(matte_each(video(pts=range(1)), SquaresEngine(), confident_score=0.985))

    assert [mattes.score.tolist() for _, mattes in matted] == [[pytest.approx(0.99)]]  # red alone


def test_a_video_of_two_frames_has_people_in_it():
    from tracking import Tracker

    followed = list(follow(matte(video(pts=range(2)), SquaresEngine()), Tracker()))

    assert [mattes.ids.tolist() for _, mattes in followed] == [[1, 2], [1, 2]]
