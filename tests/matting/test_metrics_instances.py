"""Measures over all people of a picture, against figures worked out by hand."""

import numpy as np
import pytest

from matting.metrics import (
    combined_errors,
    combined_quality,
    error_counts,
    instance_errors,
    match,
    matting_quality,
    overlap_matrix,
    pair_error,
    quality_counts,
)
from matting.metrics.alpha import connectivity_error, gradient_error


def mattes(*columns: slice, value: float = 1.0) -> np.ndarray:
    """(N, 10, 10) mattes, one per range of columns."""
    made = np.zeros((len(columns), 10, 10), np.float32)
    for matte, column in zip(made, columns, strict=True):
        matte[:, column] = value
    return made


LEFT, RIGHT = slice(0, 4), slice(6, 10)


def test_people_are_matched_whatever_their_order():
    overlap = overlap_matrix(mattes(RIGHT, LEFT), mattes(LEFT, RIGHT))

    assert overlap.tolist() == [[0, 1], [1, 0]]
    assert [pair.tolist() for pair in match(overlap)] == [[0, 1], [1, 0]]


def test_ignored_pixels_do_not_count_in_an_overlap():
    where = np.ones((10, 10), bool)
    where[:, 2:4] = False

    assert overlap_matrix(mattes(slice(0, 2)), mattes(LEFT), where=where)[0, 0] == 1
    assert overlap_matrix(mattes(slice(0, 2)), mattes(LEFT))[0, 0] == 0.5


def test_perfect_mattes_have_full_quality():
    quality = matting_quality([(mattes(LEFT, RIGHT), mattes(LEFT, RIGHT))])

    assert (quality.imq, quality.mq, quality.rq) == (100, 100, 100)


def test_quality_weighs_errors_missed_and_invented_people():
    """Left is off by 0.05 inside it, right is missed, and a third person is invented."""
    predicted = np.concatenate([mattes(LEFT, value=0.95), mattes(slice(4, 6))])
    quality = matting_quality([(predicted, mattes(LEFT, RIGHT))])

    # similarity 1 - 10 * 0.05 = 0.5; TP 1, FP 1, FN 1
    assert quality.mq == pytest.approx(50, abs=1e-4)
    assert quality.rq == pytest.approx(50)
    assert quality.imq == pytest.approx(25, abs=1e-4)
    squared = matting_quality([(predicted, mattes(LEFT, RIGHT))], error="mse")
    assert squared.mq == pytest.approx(100 * (1 - 10 * 0.05**2), abs=1e-4)


def test_quality_by_gradient_and_connectivity():
    """Over the union of the supports: an offset has no edge and is less than people see;
    0.3 unattached in half of a picture is 0.15."""
    true = mattes(slice(0, 10))  # everywhere: no edge in the picture
    offset = mattes(slice(0, 10), value=0.98)
    by_gradient = matting_quality([(offset, true)], error="grad")
    by_connection = matting_quality([(offset, true)], error="conn")
    loose = mattes(slice(0, 10), value=0.96)
    loose[0, 5:] = 0.75  # attached up to 0.7; the truth rises 0.3 above that, in half of it

    assert by_gradient.mq == pytest.approx(100, abs=1e-3)
    assert by_connection.mq == pytest.approx(100, abs=1e-3)  # less than people see
    assert pair_error(loose[0], true[0], "conn") == pytest.approx(0.15, abs=1e-3)
    assert matting_quality([(loose, true)], error="conn").mq == pytest.approx(0, abs=1e-3)
    edge = mattes(LEFT)
    assert pair_error(edge[0], true[0], "grad") > 0.01


def test_an_error_of_a_pair_is_that_of_the_whole_picture():
    """Only the surroundings of the two are looked at; the figure is the same."""
    rng = np.random.default_rng(2)
    true, predicted = np.zeros((2, 80, 90))
    true[30:60, 40:70] = rng.random((30, 30))
    predicted[25:50, 45:75] = rng.random((25, 30))
    union = (true > 0) | (predicted > 0)

    for error, whole in (("grad", gradient_error), ("conn", connectivity_error)):
        expected = whole(predicted, true)[union].mean()
        assert pair_error(predicted, true, error) == pytest.approx(expected, rel=1e-12)


def test_counts_of_pictures_add_up_to_those_of_the_set():
    """What lets an evaluation stop and go on."""
    rng = np.random.default_rng(1)
    pictures = [(rng.random((2, 12, 12)).round(1), rng.random((3, 12, 12)).round(1))] * 2
    pictures += [(mattes(LEFT), mattes(LEFT, RIGHT))]

    for error in ("mad", "iou"):
        counts = [quality_counts(*picture, error=error) for picture in pictures]
        assert combined_quality(counts) == matting_quality(pictures, error=error)
    counted = combined_errors([error_counts(*picture) for picture in pictures])
    assert counted == instance_errors(pictures)


def test_quality_needs_enough_overlap():
    """3 of 4 columns: IoU 0.75 is a hit at tau 0.75, and a miss above."""
    pictures = [(mattes(slice(0, 3)), mattes(LEFT))]

    assert matting_quality(pictures, error="iou", tau=0.75).imq == pytest.approx(75)
    assert matting_quality(pictures, error="iou", tau=0.76).imq == 0


def test_errors_per_person_count_the_missed_and_the_invented_in_full():
    """One person 40 % of the picture is off by 0.5; another, 40 %, is missed; 20 % is invented."""
    predicted = np.concatenate([mattes(LEFT, value=0.5), mattes(slice(4, 6))])
    errors = instance_errors([(predicted, mattes(LEFT, RIGHT))])

    assert errors.people == 3
    assert errors.emad == pytest.approx(1000 * (0.4 * 0.5 + 0.4 + 0.2) / 3)
    assert errors.emse == pytest.approx(1000 * (0.4 * 0.25 + 0.4 + 0.2) / 3)


def test_empty_pictures_are_neither_good_nor_bad():
    empty = np.zeros((0, 10, 10), np.float32)

    assert instance_errors([(empty, empty)]).emse == 0
    assert matting_quality([(empty, empty)]).imq == 100
    assert matting_quality([(mattes(LEFT), empty)]).imq == 0


def test_a_wrong_error_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="'sad'"):
        matting_quality([], error="sad")
    with pytest.raises(ValueError, match="share H and W"):
        overlap_matrix(np.zeros((1, 2, 2)), np.zeros((1, 2, 3)))
