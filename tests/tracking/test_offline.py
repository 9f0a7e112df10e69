"""The second look: what looking back and looking at everyone at once puts right."""

from __future__ import annotations

import numpy as np

from matting.metrics import IdentityFrame, identity_scores
from tests.tracking.people import Person, picture
from tracking import Tracker
from tracking.offline import SecondLook

RATE = 30
ANNA, BERT = {"look": 1}, {"look": 2}


def twice(frames, tracker=None, **kind):
    look = SecondLook(tracker or Tracker())
    for t, people in enumerate(frames):
        look.add(picture(*people, **kind), t / RATE)
    return [row.tolist() for row in look.numbers()]


def once(frames, **kind):
    tracker = Tracker()
    names = [tracker.update(picture(*p, **kind), t / RATE) for t, p in enumerate(frames)]
    tracker.finish()
    return [[max(tracker.resolved.get(i, i), 0) for i in row.tolist()] for row in names]


def test_a_plain_life_is_told_as_at_first_look():
    frames = [[Person(x=10 + t, **ANNA), Person(x=120 - t, y=16, **BERT)] for t in range(60)]

    assert twice(frames) == once(frames) == [[1, 2]] * 60


def test_a_swap_at_a_crossing_is_taken_apart_and_put_right():
    """They meet, one is hidden, and they part as they came; boxes alone would swap them."""
    frames = []
    for t in range(100):
        gap = abs(50 - t)
        one, other = Person(x=70 - gap, **ANNA), Person(x=70 + gap, **BERT)
        frames.append([one, other] if gap > 8 else [one])

    numbers = twice(frames)

    assert all(row == [1, 2] for row in numbers if len(row) == 2)


def test_someone_whose_number_was_lost_has_one_number_in_the_end():
    """Away for so long that motion cannot say, and at first seen too briefly to be sure."""
    stays = Person(x=120, look=3)
    frames = [[stays, Person(x=10 + t, **ANNA)] for t in range(20)]
    frames += [[stays]] * 90
    frames += [[stays, Person(x=60, **ANNA)]] * 20

    numbers = twice(frames)

    assert numbers[0] == numbers[-1] == [2, 1]


def test_whom_the_first_look_knew_again_stays_one_person():
    """She turns round once and back, and later returns as seen from behind: looked at from the end
    that is a stranger, little like most of her before; but nobody else could be meant."""
    stays = Person(x=130, look=4)
    turns = [1.0] * 300 + [1 + t / 20 for t in range(20)]
    turns += [2.0] * 9 + turns[:0:-1]
    frames = [[stays, Person(x=20, look=look)] for look in turns]
    frames += [[stays]] * 90 + [[stays, Person(x=70, look=2)]] * 40

    assert once(frames)[-1] == once(frames)[0] == [2, 1]
    assert twice(frames)[-1] == twice(frames)[0] == [2, 1]


def test_nobody_is_joined_to_someone_unlike_them_or_there_at_the_same_time():
    twins = [Person(x=10, look=1), Person(x=120, look=1)]
    frames = [twins] * 30 + [[Person(x=60, look=4)]] * 30

    numbers = twice(frames)

    assert numbers[0] == [1, 2]
    assert numbers[-1] == [3]


def test_without_codes_the_first_look_stands():
    frames = [[Person(x=10 + t), Person(x=120 - t)] for t in range(50)]

    assert twice(frames, codes=False) == once(frames, codes=False)


def test_the_second_look_is_never_worse_than_the_first():
    """A busy minute: people cross, flicker and return, with codes that shake."""
    rng = np.random.default_rng(11)
    count = 5
    x, speed = rng.uniform(0, 130, count), rng.uniform(20, 50, count)
    frames, truth = [], []
    for _ in range(400):
        x = x + speed / RATE
        speed = np.where((x < 0) | (x > 138), -speed, speed)
        there = [i for i in range(count) if rng.random() < 0.9]
        frames.append([Person(x=float(x[i]), y=4.0 + 5 * i, look=i) for i in there])
        truth.append(there)

    def scored(numbers):
        made = []
        for there, row in zip(truth, numbers, strict=True):
            kept = [i for i, number in enumerate(row) if number > 0]
            made.append(IdentityFrame(np.array(there, int), np.array([row[i] for i in kept], int),
                                      np.eye(len(there))[:, kept]))  # fmt: skip
        return identity_scores([made])

    first, second = scored(once(frames)), scored(twice(frames))

    assert second.hota >= first.hota - 1e-9
    assert second.switches <= first.switches


def test_names_hold_for_the_numbers_of_the_second_look():
    from tests.tracking.people import code

    tracker = Tracker()
    tracker.enrol("bert", code(2))
    frames = [[Person(x=10, **ANNA), Person(x=100, **BERT)]] * 12

    assert twice(frames, tracker) == [[1, 2]] * 12
    assert tracker.names == {2: "bert"}
