"""Measures over all people of a picture, against figures worked out by hand."""

import numpy as np
import pytest

from matting.metrics import instance_errors, match, matting_quality, overlap_matrix


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
