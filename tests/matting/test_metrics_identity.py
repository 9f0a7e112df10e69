"""HOTA, IDF1 and switches against cases small enough to work out by hand."""

import numpy as np
import pytest

from matting.metrics import IdentityFrame, gap_scores, identity_scores, mask_frame


def frame(true: list[int], predicted: list[int], similarity: list[list[float]]) -> IdentityFrame:
    return IdentityFrame(
        np.array(true, int),
        np.array(predicted, int),
        np.array(similarity, float).reshape(len(true), len(predicted)),
    )


def test_perfect_tracks_score_one():
    frames = [frame([1, 2], [7, 9], [[1, 0], [0, 1]])] * 5
    scores = identity_scores([frames])

    assert (scores.hota, scores.assa, scores.deta, scores.idf1) == (1, 1, 1, 1)
    assert (scores.mota, scores.switches) == (1, 0)


def test_a_number_that_changes_half_way():
    """One person, ten frames, number 1 for five and number 2 for five, mattes perfect.

    Every frame is found (DetA 1).  Each match shares 5 of 10 frames: AssA 5 / (10 + 5 - 5) = 0.5.
    One of the two numbers is right: IDTP 5, IDF1 2 * 5 / 20 = 0.5.
    """
    frames = [frame([4], [1 if t < 5 else 2], [[1]]) for t in range(10)]
    scores = identity_scores([frames])

    assert scores.deta == pytest.approx(1)
    assert scores.assa == pytest.approx(0.5)
    assert scores.hota == pytest.approx(np.sqrt(0.5))
    assert scores.idf1 == pytest.approx(0.5)
    assert scores.switches == 1
    assert scores.mota == pytest.approx(0.9)


def test_two_people_who_swap_numbers():
    """Two switches; each association holds for half of the frames: 5 / (10 + 10 - 5)."""
    straight, swapped = [[1, 0], [0, 1]], [[0, 1], [1, 0]]
    frames = [frame([1, 2], [1, 2], straight if t < 5 else swapped) for t in range(10)]
    scores = identity_scores([frames])

    assert scores.switches == 2
    assert scores.assa == pytest.approx(1 / 3)
    assert scores.idf1 == pytest.approx(0.5)


def test_a_loose_match_counts_up_to_its_similarity():
    """Similarity 0.6 passes 12 of the 19 levels, and IDF1's 0.5."""
    scores = identity_scores([[frame([1], [1], [[0.6]])] * 3])

    assert scores.hota == pytest.approx(12 / 19)
    assert scores.loca == pytest.approx((12 * 0.6 + 7 * 1) / 19)
    assert scores.idf1 == 1
    assert identity_scores([[frame([1], [1], [[0.4]])]]).idf1 == 0


def test_missed_and_invented_people():
    frames = [frame([1], [], []), frame([1], [5], [[1]]), frame([], [5], [])]
    scores = identity_scores([frames])

    assert scores.deta == pytest.approx(1 / 3)
    assert scores.idf1 == pytest.approx(2 * 1 / 4)
    assert scores.mota == pytest.approx((1 - 1) / 2)
    assert scores.switches == 0


def test_sequences_are_joined_by_their_counts_and_not_by_their_numbers():
    good, bad = [frame([1], [1], [[1]])] * 3, [frame([1], [2], [[0]])]
    scores = identity_scores([good, bad])

    assert scores.deta == pytest.approx(3 / 5)
    assert scores.true_people == 2
    assert identity_scores([]).idf1 == 0


def test_coming_back_is_told_by_the_length_of_the_absence():
    """Away for 2 frames and back as 1; away for 8 and back under 3, which was someone else's."""
    here, gone = [1, 2], [2]
    both, one = [[1, 0], [0, 1]], [[1]]
    frames = (
        [frame(here, [1, 3], both)]
        + [frame(gone, [3], one)] * 2
        + [frame(here, [1, 3], both)]
        + [frame(gone, [3], one)] * 8
        + [frame(here, [3, 4], both)]
    )
    short, middle, long, very_long = gap_scores([frames])

    assert (short.gaps, short.same, short.stranger) == (1, 1, 0)
    assert (middle.shortest, middle.longest) == (6, 30)
    assert (middle.gaps, middle.same, middle.stranger) == (1, 0, 1)
    assert long.gaps == very_long.gaps == 0
    assert very_long.longest is None


def test_a_frame_cannot_hold_one_number_twice():
    with pytest.raises(ValueError, match="two places"):
        frame([1, 2], [3, 3], [[1, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        IdentityFrame(np.array([1]), np.array([1, 2]), np.zeros((2, 1)))


def test_masks_are_as_similar_as_they_overlap():
    true, predicted = np.zeros((2, 10, 10)), np.zeros((1, 10, 10))
    true[0, :, :4], true[1, :, 6:] = 1, 1
    predicted[0, :, :2] = 0.9

    made = mask_frame(true, [3, 5], predicted, [8])

    assert made.similarity.tolist() == [[0.5], [0.0]]
    assert identity_scores([[made]]).idf1 == pytest.approx(2 / 3)  # one of two found, half of it


def test_scores_are_those_of_trackeval():
    """Against the reference program, on tracks that wander, swap and vanish.

    It names OpenCV with windows as a need, which must not stand beside ours, so it is no
    dependency: pip install --no-deps trackeval
    """
    trackeval = pytest.importorskip("trackeval")
    rng = np.random.default_rng(6)
    frames, data = [], {"gt_ids": [], "tracker_ids": [], "similarity_scores": []}
    for t in range(40):
        true = rng.permutation(6)[: rng.integers(2, 6)]
        predicted = rng.permutation(7)[: rng.integers(0, 6)]
        similarity = rng.random((len(true), len(predicted))) * 0.4
        for row, who in enumerate(true):
            for column, number in enumerate(predicted):
                if number == (who if t < 25 else (who + 1) % 7):
                    similarity[row, column] += 0.6 * rng.random()
        frames.append(IdentityFrame(true, predicted, similarity))
        for key, value in zip(data, (true, predicted, similarity), strict=True):
            data[key].append(value)
    data |= {
        "num_timesteps": 40, "num_gt_ids": 6, "num_tracker_ids": 7,
        "num_gt_dets": sum(map(len, data["gt_ids"])),
        "num_tracker_dets": sum(map(len, data["tracker_ids"])),
    }  # fmt: skip
    ours = identity_scores([frames])

    hota = trackeval.metrics.HOTA().eval_sequence(data)
    identity = trackeval.metrics.Identity({"PRINT_CONFIG": False}).eval_sequence(data)
    clear = trackeval.metrics.CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
    assert ours.hota == pytest.approx(hota["HOTA"].mean(), abs=1e-6)
    assert ours.assa == pytest.approx(hota["AssA"].mean(), abs=1e-6)
    assert ours.idf1 == pytest.approx(identity["IDF1"], abs=1e-6)
    assert (ours.switches, ours.mota) == (clear["IDSW"], pytest.approx(clear["MOTA"], abs=1e-6))
