"""`ahead`: order, failures and endings, also all mixed up."""

import random
import threading
import time

import pytest

from stream.overlap import ahead


def counting(count, *, fail_at=None, closed=None, pause=0.0):
    """0, 1, 2, ...; tells `closed` the thread on which it was closed."""
    try:
        for number in range(count):
            if number == fail_at:
                raise ValueError(f"no {number}")
            if pause:
                time.sleep(pause)
            yield number
    finally:
        if closed is not None:
            closed.append(threading.current_thread().name)


def test_items_arrive_in_order_and_none_is_lost():
    with ahead(counting(500), depth=3, name="numbers") as numbers:
        assert list(numbers) == list(range(500))


def test_a_stage_runs_at_most_its_depth_ahead_of_the_reader():
    made = []

    def noting():
        for number in range(50):
            made.append(number)
            yield number

    with ahead(noting(), depth=4, name="numbers") as numbers:
        for number in numbers:
            time.sleep(0.002)
            # four on the shelf, and one in the stage's hands
            assert len(made) <= number + 1 + 4 + 1


def test_what_came_before_a_failure_arrives_first_and_the_failure_names_its_stage():
    arrived = []
    with (
        pytest.raises(ValueError, match="no 7") as failure,
        ahead(counting(20, fail_at=7), depth=2, name="decode") as numbers,
    ):
        arrived.extend(numbers)

    assert arrived == list(range(7))
    assert failure.value.__notes__ == ["in stage 'decode'"]


def test_a_failure_that_comes_through_several_stages_names_the_one_it_came_up_in():
    with (
        pytest.raises(ValueError, match="no 3") as failure,
        ahead(counting(20, fail_at=3), depth=2, name="decode") as numbers,
        ahead(numbers, depth=2, name="matte") as again,
    ):
        list(again)

    assert failure.value.__notes__ == ["in stage 'decode'"]


def test_leaving_early_closes_the_stage_on_its_own_thread():
    closed = []
    with ahead(counting(10**9, closed=closed), depth=2, name="numbers") as numbers:
        assert next(numbers) == 0

    assert closed == ["numbers"]


def test_an_exception_in_the_block_stops_the_stage_and_passes():
    closed = []
    with (
        pytest.raises(KeyboardInterrupt),
        ahead(counting(10**9, closed=closed), depth=2, name="numbers") as numbers,
    ):
        next(numbers)
        raise KeyboardInterrupt

    assert closed == ["numbers"]


def test_a_failure_while_closing_is_told_too():
    def stage():
        try:
            yield 1
        finally:
            raise OSError("the file would not close")

    with (
        pytest.raises(OSError, match="would not close"),
        ahead(stage(), depth=1, name="files") as items,
    ):
        list(items)


def test_nothing_more_comes_after_the_block():
    with ahead(counting(10), depth=2, name="numbers") as numbers:
        next(numbers)

    assert list(numbers) == []


def test_a_depth_of_nothing_is_refused():
    with (
        pytest.raises(ValueError, match="depth should be at least 1"),
        ahead([], depth=0, name="x"),
    ):
        pass


def test_any_mixture_of_failures_and_early_exits_ends_with_no_thread_left():
    dice = random.Random(3)
    threads_before = threading.active_count()
    for _ in range(150):
        length = dice.randrange(0, 12)
        fail_first = dice.choice([None, dice.randrange(0, 12)])
        fail_second = dice.choice([None, dice.randrange(0, 12)])
        take = dice.choice([None, dice.randrange(0, 12)])
        closed = []

        def doubled(numbers, fail_second=fail_second):
            for place, number in enumerate(numbers):
                if place == fail_second:
                    raise RuntimeError("second")
                yield 2 * number

        arrived = []
        failure = None
        began = time.monotonic()
        try:
            with (
                ahead(
                    counting(length, fail_at=fail_first, closed=closed),
                    depth=dice.randrange(1, 4),
                    name="first",
                ) as numbers,
                ahead(doubled(numbers), depth=dice.randrange(1, 4), name="second") as results,
            ):
                for result in results:
                    if take is not None and len(arrived) >= take:
                        break
                    arrived.append(result)
        except (ValueError, RuntimeError) as error:
            failure = error

        whole = min(n for n in (length, fail_first, fail_second) if n is not None)
        fails = (fail_first is not None and fail_first < length) or (
            fail_second is not None and fail_second < whole + 1 and fail_second < length
        )
        expected = [2 * n for n in range(whole)]
        if take is not None and take < whole:
            assert arrived == expected[:take]
        else:
            assert arrived == expected
            assert (failure is not None) == bool(fails)
        assert closed == ["first"]
        assert time.monotonic() - began < 20  # a deadlock would hang, this only says it plainly
    assert threading.active_count() == threads_before
