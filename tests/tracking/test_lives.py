"""The lives of people under the tracker: appear, confirm, cross, vanish, return, leave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from matting.frames import UNTRACKED, no_one
from tests.tracking.people import CODES, GRID, SIZE, Person, picture
from tracking import Tracker, TrackerSettings
from tracking.scenery import Change

RATE = 30


def live(frames, tracker=None, seconds=None, **kind) -> list[list[int]]:
    """The final number of each person of each frame, as the output will carry it; 0 = left out."""
    tracker = tracker or Tracker()
    names = [
        tracker.update(picture(*people, **kind), t / RATE if seconds is None else seconds[t])
        for t, people in enumerate(frames)
    ]
    tracker.finish()
    return [[max(tracker.resolved.get(i, i), 0) for i in row.tolist()] for row in names]


def test_people_are_numbered_from_one_in_order_of_appearance_and_from_left_to_right():
    right, left, later = Person(x=120), Person(x=10), Person(x=60)

    numbers = live([[right, left]] * 5 + [[later, right, left]] * 5)

    assert numbers[0] == [2, 1]
    assert numbers[-1] == [3, 2, 1]


def test_nobody_is_believed_before_a_few_sightings_and_then_none_of_them_is_lost():
    tracker = Tracker(TrackerSettings(confirm_hits=3, confirm_frames=4))
    first = tracker.update(picture(Person(x=10)), 0.0)
    second = tracker.update(picture(Person(x=11)), 1 / RATE)
    third = tracker.update(picture(Person(x=12)), 2 / RATE)

    assert first[0] == second[0] < UNTRACKED  # one tentative handle, not a public number
    assert third.tolist() == [1]
    assert tracker.resolved == {int(first[0]): 1}
    assert tracker.delay_frames == 3  # what a reader must hold back to name the first sighting


def test_a_flicker_is_left_out_and_burns_no_number():
    ghost, person = Person(x=100, look=5), Person(x=10)
    frames = [[person]] * 8 + [[person, ghost]] * 4 + [[person]] * 8 + [[person, Person(x=60)]] * 8

    numbers = live(frames)

    assert numbers[8] == numbers[11] == [1, 0]
    assert numbers[-1] == [1, 2]


@pytest.mark.parametrize("kind", [{}, {"codes": False}, {"codes": False, "mattes": False}])
def test_two_people_who_cross_keep_their_numbers(kind):
    """They walk through each other, one passing behind; with mattes, codes, or boxes alone."""
    frames = []
    for t in range(60):
        near = Person(x=10 + 2 * t, look=1)
        far = Person(x=130 - 2 * t, y=16, height=56, look=2)
        frames.append([near, far])

    numbers = live(frames, **kind)

    assert all(row == [1, 2] for row in numbers)


def test_codes_tell_apart_two_people_who_turn_round_behind_each_other():
    """They meet, stand in one place, and go back where they came from: motion alone swaps them."""
    frames = []
    for t in range(80):
        x = 10 + 1.5 * t if t < 40 else 70 - 1.5 * (t - 40)
        left, right = Person(x=x, look=1), Person(x=136 - x, look=2)
        frames.append([left, right] if abs(t - 40) > 6 else [left])

    numbers = live(frames)

    assert numbers[30] == [1, 2]
    assert numbers[-1] == [1, 2]


def test_the_order_of_detections_does_not_matter():
    frames = [[Person(x=10 + t, look=1), Person(x=100 - t, look=2)] for t in range(30)]
    shuffled = [row[::-1] if t % 2 else row for t, row in enumerate(frames)]

    numbers = live(shuffled)

    assert all(row == ([2, 1] if t % 2 else [1, 2]) for t, row in enumerate(numbers))


def test_a_gap_in_detection_is_bridged_by_motion():
    """Half a second without a detection, walking on meanwhile."""
    frames = [[Person(x=5 + 2 * t)] if not 20 <= t < 35 else [] for t in range(60)]

    numbers = live(frames, codes=False)

    assert numbers[19] == numbers[35] == [1]
    assert numbers[25] == []


def test_whoever_returns_elsewhere_after_a_while_is_known_by_their_code():
    stays, leaves = Person(x=70, look=1), Person(x=5, look=2)
    back = Person(x=130, look=2)
    frames = [[stays, leaves]] * 30 + [[stays]] * 150 + [[stays, back]] * 10

    numbers = live(frames)

    assert numbers[0] == [2, 1]
    assert numbers[180] == [2, 1]  # from the first frame of the return: back-filled
    assert numbers[-1] == [2, 1]


def test_a_stranger_does_not_inherit_a_number():
    """Someone leaves, and another steps in where they were, soon or long after."""
    stays, leaves, stranger = Person(x=70, look=1), Person(x=5, look=2), Person(x=5, look=3)

    soon = live([[stays, leaves]] * 30 + [[stays]] * 10 + [[stays, stranger]] * 10)
    late = live([[stays, leaves]] * 30 + [[stays]] * 150 + [[stays, stranger]] * 10)

    assert soon[0] == late[0] == [2, 1]
    assert soon[-1] == [2, 3]
    assert late[-1] == [2, 3]


def test_without_codes_a_return_after_long_is_a_new_number():
    frames = [[Person(x=5)]] * 30 + [[]] * 150 + [[Person(x=5)]] * 10

    assert live(frames, codes=False)[-1] == [2]


def test_memory_ends():
    settings = TrackerSettings(memory_seconds=3)
    stays, leaves = Person(x=70, look=1), Person(x=5, look=2)
    away = lambda frames: [[stays, leaves]] * 30 + [[stays]] * frames + [[stays, leaves]] * 10  # noqa: E731

    assert live(away(80), Tracker(settings))[-1] == [2, 1]
    assert live(away(120), Tracker(settings))[-1] == [2, 3]


def test_a_weak_detection_keeps_someone_alive_but_brings_nobody_into_being():
    person, faint = Person(x=10), Person(x=10, score=0.3)
    nobody = Person(x=100, score=0.3)

    numbers = live([[person]] * 5 + [[faint, nobody]] * 30 + [[person, nobody]] * 5)

    assert all(row == [1, 0] for row in numbers[5:])


def test_a_weak_detection_takes_up_whom_it_missed_for_a_moment_and_no_longer():
    person, faint = Person(x=10), Person(x=10, score=0.3)
    missed = lambda frames: [[person]] * 8 + [[]] * frames + [[faint]] * 4  # noqa: E731

    assert all(row == [1] for row in live(missed(3), codes=False)[-4:])
    assert all(row == [0] for row in live(missed(12), codes=False)[-4:])


@pytest.mark.parametrize(
    "back, number",
    [
        ({}, 2),  # at the other side of whoever hid them
        ({"y": 60, "height": 20}, 2),  # half of them
        ({"look": 5}, 0),  # like nobody: no one new is begun
        ({"look": 1}, 0),  # like who is there already
        ({"x": 0, "y": -60}, 0),  # too far away
    ],
)
def test_who_was_hidden_comes_back_in_doubt_where_they_could_be_and_who_they_look_like(
    back, number
):
    front, behind = Person(x=60, look=1), Person(x=100, look=2, score=0.9)
    there = Person(**{"x": 30, "look": 2, "score": 0.65} | back)
    together = [[front, replace(behind, x=130 - t / 2)] for t in range(60)]

    numbers = live(together + [[front]] * 20 + [[front, there]] * 3)

    assert all(row == [1, 2] for row in numbers[:60])
    assert numbers[-1] == [1, number]


def test_two_mattes_of_one_person_are_one_person():
    """The network answers twice; the better answer is kept, wherever it stands in the list."""
    mattes = picture(Person(x=10, score=0.8), Person(x=100))
    twice = mattes.pick([0, 1, 0])
    twice.score[2] = 0.9  # the alphas are shares of one body: the product form does not mind
    tracker = Tracker()

    for t in range(5):
        names = tracker.update(twice, t / RATE)

    assert names.tolist() == [UNTRACKED, 2, 1]


def test_people_walking_arm_in_arm_are_two_people():
    numbers = live([[Person(x=50 + t, look=1), Person(x=58 + t, look=2)] for t in range(40)])

    assert all(row == [1, 2] for row in numbers)


def test_uneven_frame_times_do_not_matter():
    """A camera that stutters between 10 and 60 pictures a second; walking speed is even."""
    seconds = np.cumsum(np.tile([1 / 60, 1 / 10, 1 / 30, 1 / 60], 15))
    frames = [[Person(x=5 + 40 * s, look=1), Person(x=135 - 40 * s, y=10, look=2)] for s in seconds]

    numbers = live(frames, seconds=seconds, codes=False)

    assert all(row == [1, 2] for row in numbers)


def test_memory_is_measured_in_seconds_and_not_in_frames():
    """The same gap of ten frames: short at 30 pictures a second, too long at one."""
    frames = [[Person(x=50)]] * 5 + [[]] * 10 + [[Person(x=50)]] * 5

    assert live(frames, codes=False)[-1] == [1]
    assert live(frames, codes=False, seconds=np.arange(20.0))[-1] == [2]


def test_a_camera_that_pans_is_taken_out():
    """Everyone jumps 30 pixels at once: with the camera's motion told, nobody changes."""
    people = lambda x: picture(Person(x=x), Person(x=x + 30), codes=False)  # noqa: E731
    told, untold = Tracker(), Tracker()
    for t in range(6):
        told.update(people(20), t / RATE)
        untold.update(people(20), t / RATE)
    pan = np.array([[1, 0, 30.0], [0, 1, 0]])

    assert told.update(people(50), 6 / RATE, camera=pan).tolist() == [1, 2]
    assert untold.update(people(50), 6 / RATE).tolist() != [1, 2]


def test_a_crowd_never_shares_a_number():
    rng = np.random.default_rng(3)
    tracker = Tracker()
    x, speed = rng.uniform(0, 140, 12), rng.uniform(-40, 40, 12)
    for t in range(150):
        x = np.clip(x + speed / RATE, 0, 140)
        there = rng.random(12) < 0.8
        people = [
            Person(x=float(x[i]), y=float(4 + i), look=i, score=float(rng.uniform(0.2, 1)))
            for i in np.flatnonzero(there)
        ]
        names = tracker.update(picture(*people), t / RATE)
        named = names[names != UNTRACKED]
        final = [tracker.resolved.get(i, i) for i in named.tolist()]
        assert len(set(final)) == len(final)


def test_the_same_video_gives_the_same_numbers_to_the_bit():
    rng = np.random.default_rng(5)
    frames = [
        [Person(x=float(v), look=i) for i, v in enumerate(rng.uniform(0, 140, 5))]
        for _ in range(60)
    ]

    assert live(frames) == live(frames)


def test_two_trackers_do_not_share_their_numbers():
    frames = [[Person(x=10)]] * 5

    assert live(frames)[-1] == live(frames)[-1] == [1]


def test_a_video_of_one_frame_still_has_its_people():
    assert live([[Person(x=100), Person(x=10)]]) == [[2, 1]]


def test_empty_pictures_pass_through():
    tracker = Tracker()
    for t in range(3):
        assert tracker.update(no_one(SIZE), t / RATE).shape == (0,)
    for t in range(3, 8):
        names = tracker.update(picture(Person(x=10)), t / RATE)
    assert names.tolist() == [1]
    tracker.update(no_one(SIZE), 8 / RATE)
    assert tracker.update(picture(Person(x=10)), 9 / RATE).tolist() == [1]


def test_a_matte_that_covers_nothing_is_nobody():
    assert live([[Person(x=10, width=0)]] * 5) == [[0]] * 5


def test_memory_stays_flat_however_many_people_come_by():
    """Two thousand passers-by: what is remembered is bounded."""
    settings = TrackerSettings(confirm_hits=1, confirm_frames=1, coast_seconds=0.1)
    tracker = Tracker(settings)
    rng = np.random.default_rng(1)
    for t in range(2000):
        mattes = picture(Person(x=float(rng.uniform(0, 140))), mattes=False)
        mattes.code[:] = rng.normal(size=(1, CODES))
        tracker.update(mattes, t / 4)

    assert len(tracker._gallery) <= settings.max_remembered
    assert len(tracker._known) <= 2


def test_what_makes_no_sense_is_refused():
    tracker = Tracker()
    tracker.update(picture(Person(x=10)), 1.0)

    with pytest.raises(ValueError, match="time ran backwards"):
        tracker.update(picture(Person(x=10)), 0.5)
    with pytest.raises(ValueError, match="codes were 16 wide and are now 0"):
        tracker.update(picture(Person(x=10), codes=False), 1.1)
    with pytest.raises(ValueError, match="box should be finite"):
        tracker.update(picture(Person(x=np.nan)), 1.2)
    with pytest.raises(ValueError, match="seconds should be a time"):
        tracker.update(picture(Person(x=10)), float("nan"))
    with pytest.raises(ValueError, match=r"camera should be a finite \(2, 3\)"):
        tracker.update(picture(Person(x=10)), 1.3, camera=np.eye(3))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"confirm_hits": 0}, "confirm_hits should be a whole number from 1"),
        ({"confirm_hits": 9}, "confirm_frames"),
        ({"min_overlap": 1.5}, "between 0 and 1"),
        ({"memory_seconds": -1}, "from 0"),
        ({"weak_score": 0.9}, "should not fall"),
        ({"matte_weight": 0.8}, "exceed 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        TrackerSettings(**wrong)


def test_a_picture_that_changes_size_does_not_break_the_mattes():
    tracker = Tracker()
    for t in range(5):
        tracker.update(picture(Person(x=10)), t / RATE)
    smaller = picture(Person(x=10))
    assert smaller.coarse.shape[1:] == GRID
    smaller = type(smaller)(
        smaller.alpha, smaller.coarse[:, ::2, ::2], smaller.score, smaller.box, smaller.code,
        smaller.ids,
    )  # fmt: skip

    assert tracker.update(smaller, 5 / RATE).tolist() == [1]
    assert tracker.update(smaller, 6 / RATE).tolist() == [1]


def test_a_stray_speck_that_blows_up_the_box_costs_nobody_their_number():
    """Now and then a speck far away joins the matte, and the box spans the picture; also at birth.

    The matte itself has hardly changed.
    """
    tracker = Tracker()
    for t in range(30):
        mattes = picture(Person(x=10 + t), codes=False)
        if t % 7 == 1:
            mattes.alpha[0, 80:82, 150:152] = 1
            mattes.coarse[0, 40, 75] = 1
            mattes.box[0] = 10 + t, 20, 152, 82
        names = tracker.update(mattes, t / RATE)

    assert names.tolist() == [1]
    assert set(tracker.resolved.values()) == {1}


@pytest.mark.parametrize("turn", [False, True])
def test_codes_tell_who_leaves_which_way_after_standing_in_one_place(turn):
    """Both detected throughout, in the same box for a second; they part as they came, or cross."""
    frames = []
    for t in range(110):
        gap = max(40 - t, 0, t - 70)
        side = -1 if t < 40 or turn else 1
        one = Person(x=70 + side * gap, look=1)
        other = Person(x=70 - side * gap, look=2)
        frames.append([one, other])

    assert all(row == [1, 2] for row in live(frames, mattes=False))


def test_mattes_decide_where_boxes_mislead():
    """Two dancers entwined: boxes nearly the same and shaking, so that each often fits the other's
    better.  One fills the upper left of it, one the lower right, and both move fast."""
    tracker = Tracker()
    rng = np.random.default_rng(2)
    corner = np.tri(30, 20, -5, dtype=bool)
    for t in range(40):
        mattes = picture(Person(x=10, look=1), Person(x=10, look=2), codes=False)
        x = 10 + 2 * t
        mattes.coarse[:] = 0
        mattes.coarse[0, 10:40, x // 2 : x // 2 + 20] = ~corner
        mattes.coarse[1, 10:40, x // 2 : x // 2 + 20] = corner
        mattes.box[:] = np.array([x, 20, x + 40, 80]) + rng.uniform(-4, 4, (2, 4))
        if t < 5:  # to begin with, they are clearly two
            mattes.box[1, [0, 2]] += 30
        names = tracker.update(mattes, t / RATE)
        if t >= tracker.delay_frames:
            assert names.tolist() == [1, 2]


def test_whoever_stopped_while_hidden_is_found_where_they_were():
    """They walked behind a pillar, stood still for half a second, and step out again."""
    frames = [[Person(x=5 + 2 * t)] if t < 30 else [] for t in range(45)]
    frames += [[Person(x=65)]] * 5

    assert live(frames, codes=False)[-1] == [1]


def test_whoever_is_confirmed_was_first_seen_within_the_delay():
    """What a reader holds back always reaches to the first sighting, however someone flickers."""
    rng = np.random.default_rng(4)
    tracker = Tracker()
    born: dict[int, int] = {}
    for t in range(400):
        there = [i for i in range(3) if rng.random() < 0.6]
        people = [Person(x=10 + 50 * i, look=i, score=0.7 + 0.1 * i) for i in there]
        before = set(tracker.resolved)
        names = tracker.update(picture(*people, codes=False), t / 4)
        for handle in names[names < UNTRACKED].tolist():
            born.setdefault(handle, t)
        for handle in set(tracker.resolved) - before:
            assert t - born[handle] <= tracker.delay_frames
    assert tracker.resolved


def test_a_twin_where_someone_was_does_not_share_their_number():
    """One of a pair of twins vanishes, appears elsewhere, and then the other steps in."""
    stays, one = Person(x=70, look=1), Person(x=5, look=2)
    moved, twin = Person(x=130, look=2), Person(x=5, look=2)
    frames = [[stays, one]] * 20 + [[stays]] * 10 + [[stays, moved]] * 8
    frames += [[stays, moved, twin]] * 8

    numbers = live(frames)

    assert numbers[-9] == [2, 1]
    assert numbers[-1] == [2, 1, 3]


def test_whoever_stopped_while_hidden_is_found_though_the_camera_panned():
    tracker = Tracker()
    pan = np.array([[1, 0, -40.0], [0, 1, 0]])  # once, while they are hidden
    for t in range(50):
        there = [] if 30 <= t < 45 else [Person(x=min(5 + 2 * t, 63) - 40 * (t > 35))]
        names = tracker.update(
            picture(*there, codes=False), t / RATE, camera=pan if t == 35 else None
        )

    assert names.tolist() == [1]


def test_whoever_walks_out_of_their_own_box_from_frame_to_frame_is_known_by_their_code():
    """Ten pictures a second, and a run right through the picture: boxes hardly overlap."""
    stays = Person(x=70, y=25, look=1)
    frames = [[stays]] * 20 + [[stays, Person(x=17 * t, look=2)] for t in range(9)]

    numbers = live(frames, seconds=np.arange(len(frames)) / 10)

    assert all(row == [1, 2] for row in numbers[20:])


def test_whoever_stops_at_once_is_found_where_they_stopped():
    """Faster and faster, in the end a whole body a frame, and not one frame of slowing down."""
    steps = [0, 0, 0, 4, 8, 12, 14, 14, 14, 14, 14, 0, 0]
    frames = [[Person(x=float(x), width=14)] for x in 10 + np.cumsum(steps)]

    assert live(frames, codes=False, seconds=np.arange(13) / 10) == [[1]] * 13


def test_a_sliver_behind_someone_that_looks_like_nobody_keeps_its_number():
    """So little of them can be seen that their code is noise; nothing else says they left."""
    tracker = Tracker()
    for t in range(60):
        x = max(20.0, 120 - 4.0 * t)
        mattes = picture(Person(x=20, look=1), Person(x=x + 8, look=2))
        if x < 36:
            mattes.code[1] = np.random.default_rng(t).normal(size=CODES)
        names = tracker.update(mattes, t / RATE)

    assert names.tolist() == [1, 2]


def test_another_part_of_someone_half_hidden_is_theirs_at_once():
    """Less and less of them to the left of whoever hides them, then, a frame later, a leg below."""
    hides, whole = Person(x=70, look=1), Person(x=50, look=2)
    less = [
        Person(x=50 + 2 * i, width=20 - 2 * i, height=height, look=2)
        for i, height in enumerate((45, 34, 25, 18, 13, 10))
    ]
    leg = Person(x=78, y=32, width=10, height=20, look=2, score=0.65)
    frames = [[hides, whole]] * 20 + [[hides, shoulder] for shoulder in less]

    numbers = live([*frames, [hides], *[[hides, leg]] * 3])

    assert numbers[-3:] == numbers[:3] == [[2, 1]] * 3


def test_whoever_comes_half_seen_is_theirs_from_the_first_frame_that_can_still_be_named():
    """They step from behind a door: doubted for some frames, then believed."""
    stays, nobody = Person(x=110, look=1), Person(x=80, height=20, look=3, score=0.3)
    faint = [[stays, nobody, Person(x=10 + t, look=2, score=0.3)] for t in range(6)]
    clear = [[stays, nobody, Person(x=16 + t, look=2)] for t in range(8)]
    away = [[stays, nobody]] * 10

    tracker = Tracker()
    numbers = live(away + faint + clear + away + faint + clear, tracker)

    half = Tracker()  # and a run that is broken off in between goes on to the same
    for t, people in enumerate(away + faint):
        half.update(picture(*people), t / RATE)
    other = Tracker()
    other.restore(half.save())
    for t, people in enumerate(clear, len(away + faint)):
        names = [tracker_.update(picture(*people), t / RATE) for tracker_ in (half, other)]
        assert names[0].tolist() == names[1].tolist() and half.resolved == other.resolved
    # confirmed in the fifth clear frame, when the third faint one is still held back
    came, delay = len(away), tracker.delay_frames
    assert delay == 7 and [row[2] for row in numbers[came : came + 14]] == [0] * 3 + [2] * 11
    assert [row[2] for row in numbers[2 * came + 14 :]] == [2] * 14  # known, by their code, at once
    assert all(row[:2] == [1, 0] for row in numbers[8:])  # and nobody stays nobody


def test_who_was_lost_for_a_moment_is_theirs_in_the_doubted_frames_before_they_are_back():
    person = Person(x=60)
    gone = [[Person(x=100, height=20, look=5, score=0.3)]] * 12
    # doubted, and too far from where they were for a weak detection to be them at once
    faint = [[Person(x=20 + 2 * t, score=0.3)] for t in range(3)]
    back = [[Person(x=26 + 2 * t)] for t in range(8)]

    numbers = live([[person]] * 10 + gone + faint + back, codes=False)

    assert numbers[9] == [1] and numbers[21] == [0]
    came = [row[0] for row in numbers[22:]]
    assert came[-1] > 0 and came == [came[-1]] * len(came)


@pytest.mark.parametrize(
    ("faint", "why"),
    [([Person(x=10 + 12 * t, score=0.3) for t in range(4)], "they jump from frame to frame"),
     ([Person(x=60, score=0.3)] * 4, "they are elsewhere"),
     ([Person(x=10, score=0.3)] * 2 + [Person(x=60, score=0.3)] * 2, "there is a gap")],
)  # fmt: skip
def test_what_was_doubted_elsewhere_is_nobodys(faint, why):
    numbers = live([[person] for person in faint] + [[Person(x=10)]] * 8, codes=False)

    assert [row[0] for row in numbers] == [0] * 4 + [1] * 8, why


def test_nothing_before_a_cut_is_given_to_who_comes_after_it():
    tracker = Tracker()
    names = [tracker.update(picture(Person(x=10, score=0.3)), t / RATE) for t in range(3)]
    cut = Change(cut=True, doubtful=True, camera=None)
    names += [
        tracker.update(picture(Person(x=10)), (3 + t) / RATE, change=cut if t == 0 else None)
        for t in range(6)
    ]

    told = [tracker.resolved.get(int(row[0]), int(row[0])) for row in names]
    assert all(number < 0 for number in told[:3]) and told[3:] == [1] * 6


def test_somebody_is_never_in_two_places_of_a_frame_that_is_named_late():
    """They were believed elsewhere until a moment before they came back here."""
    seen_there = [[Person(x=100, look=2), Person(x=10, look=2, score=0.3)]] * 12
    comes_here = [[Person(x=10, look=2)]] * 10

    for row in live([[Person(x=60, look=1), *people] for people in seen_there + comes_here]):
        named = [number for number in row if number > 0]
        assert len(set(named)) == len(named)


def test_who_returns_after_a_few_slow_frames_is_not_given_a_frame_they_were_in():
    """At two frames a second they are long gone within the frames that output waits for."""
    stays = Person(x=60, look=1)
    seen = [[stays, Person(x=100, look=2), Person(x=10, look=4, score=0.3)]] * 12
    gone = [[stays, Person(x=10, look=4, score=0.3)]] * 2
    back = [[stays, Person(x=10, look=2)]] * 8
    frames = seen + gone + back

    numbers = live(frames, seconds=[t / 2 for t in range(len(frames))])

    assert numbers[11][1] > 0 and numbers[-1][1] == numbers[11][1]
    for row in numbers:
        named = [number for number in row if number > 0]
        assert len(set(named)) == len(named)
