"""Lives across cuts, restarts and interruptions, and of people who have a name."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.tracking.people import SIZE, Person, code, picture
from tracking import Pin, Tracker, TrackerSettings

RATE = 30


def view(seed: int) -> np.ndarray:
    """(H, W, 3) a place that looks like no other."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (12, 20, 3)).astype(np.uint8)
    return cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def live(frames, tracker, views=None, seconds=None) -> list[list[int]]:
    """As in test_lives, with the pictures where `views` names them."""
    names = []
    for t, people in enumerate(frames):
        now = t / RATE if seconds is None else seconds[t]
        rgb = None if views is None else view(views[t])
        names.append(tracker.update(picture(*people), now, rgb=rgb))
    tracker.finish()
    return [[max(tracker.resolved.get(i, i), 0) for i in row.tolist()] for row in names]


ANNA, BERT, CARL = ({"look": look} for look in (1, 2, 3))


def test_at_a_cut_everyone_is_known_by_their_code_wherever_they_stand():
    """Shot and reverse shot: they have changed sides, and the places would swap them."""
    before = [Person(x=20, **ANNA), Person(x=110, **BERT)]
    after = [Person(x=110, **ANNA), Person(x=20, **BERT)]
    frames = [before] * 30 + [after] * 10

    numbers = live(frames, Tracker(), views=[1] * 30 + [2] * 10)

    assert numbers[29] == [1, 2]
    assert numbers[30:] == [[1, 2]] * 10


def test_at_a_cut_nobody_inherits_the_number_of_who_stood_there():
    frames = [[Person(x=20, **ANNA), Person(x=110, **BERT)]] * 30
    frames += [[Person(x=20, **CARL)]] * 10

    assert live(frames, Tracker(), views=[1] * 30 + [2] * 10)[-1] == [3]
    # without the cut they would: there is only one who can be meant
    without = live(frames, Tracker(TrackerSettings(code_weight=0.0)))
    assert without[-1] != [3] or without[30] == [3]


def test_a_cut_back_brings_the_numbers_back():
    first, second = [Person(x=20, **ANNA)], [Person(x=60, **BERT)]
    frames = ([first] * 15 + [second] * 15) * 3
    views = ([1] * 15 + [2] * 15) * 3

    numbers = live(frames, Tracker(), views=views)

    assert numbers == ([[1]] * 15 + [[2]] * 15) * 3


def test_a_camera_that_starts_again_with_a_new_clock_knows_its_people():
    tracker = Tracker()
    live([[Person(x=20, **ANNA), Person(x=110, **BERT)]] * 20, tracker)
    tracker.restart()

    numbers = live([[Person(x=90, **BERT), Person(x=40, **ANNA)]] * 6, tracker)  # from 0 s again

    assert numbers[-1] == [2, 1]


def test_after_seconds_without_pictures_places_are_not_believed():
    """The stream hung for five seconds; meanwhile they have changed places."""
    frames = [[Person(x=20, **ANNA), Person(x=110, **BERT)]] * 20
    frames += [[Person(x=110, **ANNA), Person(x=20, **BERT)]] * 6
    seconds = [t / RATE + (5 if t >= 20 else 0) for t in range(26)]

    assert live(frames, Tracker(), seconds=seconds)[-1] == [1, 2]


def test_uneven_times_and_dropped_frames_change_nobody():
    rng = np.random.default_rng(0)
    seconds = np.cumsum(rng.choice([1 / 60, 1 / 30, 1 / 10, 1 / 5], 80))
    frames = [
        [Person(x=10 + 12 * s, **ANNA), Person(x=130 - 12 * s, y=16, height=56, **BERT)]
        for s in seconds - seconds[0]
    ]

    assert set(map(tuple, live(frames, Tracker(), seconds=seconds))) == {(1, 2)}


@pytest.mark.parametrize("stop", [1, 17, 30, 44])
def test_a_run_that_is_taken_up_again_goes_on_to_the_bit(stop):
    """Saved amid tentative, missing and remembered people, and restored elsewhere."""
    settings = TrackerSettings(coast_seconds=0.2)
    frames = [[Person(x=10 + t, **ANNA), Person(x=120, **BERT)] for t in range(20)]
    frames += [[Person(x=30 + t, **ANNA)] for t in range(20)]
    frames += [[Person(x=50 + t, **ANNA), Person(x=110, **BERT)] for t in range(20)]
    views = [1] * 60

    def step(tracker: Tracker, t: int) -> list[int]:
        return tracker.update(picture(*frames[t]), t / RATE, rgb=view(views[t])).tolist()

    whole = Tracker(settings)
    whole.enrol("carl", code(3))
    whole.pin([Pin("anna", 40 / RATE, (58, 40))])
    first = Tracker(settings)
    first.enrol("carl", code(3))
    first.pin([Pin("anna", 40 / RATE, (58, 40))])
    expected = [step(whole, t) for t in range(60)]
    begun = [step(first, t) for t in range(stop)]
    second = Tracker(settings)
    second.restore(first.save())

    assert begun + [step(second, t) for t in range(stop, 60)] == expected
    assert second.save() == whole.save()
    assert second.names == whole.names == {1: "anna"}


def test_streaming_and_batch_give_the_same_numbers():
    """Told frame by frame with other videos in between, or all at once."""
    rng = np.random.default_rng(7)
    frames = [
        [Person(x=float(v), look=i) for i, v in enumerate(rng.uniform(0, 140, 4))]
        for _ in range(40)
    ]
    batch = live(frames, Tracker())
    one, other = Tracker(), Tracker()
    streamed = []
    for t, people in enumerate(frames):
        streamed.append(one.update(picture(*people), t / RATE))
        other.update(picture(*frames[-1 - t]), t / RATE)
    one.finish()

    assert [[max(one.resolved.get(i, i), 0) for i in row.tolist()] for row in streamed] == batch


def test_the_enrolled_are_called_by_their_name_and_others_are_not():
    tracker = Tracker()
    tracker.enrol("bert", code(2))
    tracker.enrol("dora", code(5))

    numbers = live([[Person(x=20, **ANNA), Person(x=110, **BERT)]] * 6, tracker)

    assert numbers[-1] == [1, 2]
    assert tracker.names == {2: "bert"}


def test_someone_with_a_name_is_known_after_an_hour():
    tracker = Tracker(TrackerSettings(memory_seconds=10))
    tracker.enrol("bert", code(2))
    there = [Person(x=20, **ANNA), Person(x=110, **BERT)]
    frames = [there] * 6 + [[]] + [there] * 6
    seconds = [t / RATE + (3600 if t > 5 else 0) for t in range(13)]

    numbers = live(frames, tracker, seconds=seconds)

    assert numbers[-1] == [3, 2]  # Anna, of whom nothing was told, is someone new


def test_a_pin_settles_who_it_is_and_the_other_becomes_someone_else():
    """The tracker took one for the other; from the frame somebody points at, it is right."""
    tracker = Tracker()
    tracker.pin([Pin("anna", 0.2, (30, 50)), Pin("anna", 1.0, (120, 50))])

    numbers = live([[Person(x=20, **ANNA), Person(x=110, **BERT)]] * 60, tracker)

    assert numbers[20] == [1, 2]
    assert numbers[30][1] == 1  # the second pin: it is the other one who is Anna
    assert numbers[-1] == [3, 1]
    assert all(len(set(row)) == len(row) for row in numbers)
    assert tracker.names == {1: "anna"} and not tracker.missed_pins


def test_a_pin_on_nobody_is_reported():
    tracker = Tracker()
    tracker.pin([Pin("anna", 0.1, (80, 5))])
    live([[Person(x=20, **ANNA)]] * 10, tracker)

    assert [pin.name for pin in tracker.missed_pins] == ["anna"]
    assert tracker.names == {}


def test_where_there_are_two_people_there_is_no_third():
    """The code of someone who returns has changed a good deal; but nobody else can have come."""

    def numbers(most):
        tracker = Tracker(TrackerSettings(max_people=most, coast_seconds=0.5))
        frames = [[Person(x=20, **ANNA), Person(x=110, **BERT)]] * 20
        frames += [[Person(x=20, **ANNA)]] * 40
        names = []
        for t in range(100):  # longer than anybody is waited for
            people = frames[t] if t < 60 else [Person(x=20, **ANNA), Person(x=70, **BERT)]
            mattes = picture(*people)
            if t >= 60:
                mattes.code[1] += 2.5 * code(9)
            names.append(tracker.update(mattes, t / RATE))
        return [max(tracker.resolved.get(i, i), 0) for i in names[-1].tolist()]

    assert numbers(2) == [1, 2]
    assert numbers(None) == [1, 3]


def test_codes_of_another_network_are_refused():
    tracker = Tracker()
    tracker.enrol("anna", np.ones(5))

    with pytest.raises(ValueError, match="enrol them with the same network"):
        live([[Person(x=20, **ANNA)]] * 5, tracker)


def test_twenty_four_hours_of_comings_and_goings_leave_no_more_behind_than_one():
    """Two frames a minute, every guest another: what is kept is as much after a day as after an
    hour."""

    def size(hours: int) -> int:
        tracker = Tracker(TrackerSettings(confirm_hits=1, confirm_frames=1, max_remembered=20))
        rng = np.random.default_rng(1)
        for t in range(120 * hours):
            mattes = picture(Person(x=float(rng.uniform(0, 140))), mattes=False)
            mattes.code[:] = rng.normal(size=(1, mattes.code.shape[1]))
            tracker.update(mattes, 30.0 * t)
        tracker.resolved.clear()  # bounded on its own, far above these
        return len(tracker.save())

    assert size(24) < 1.1 * size(2)
