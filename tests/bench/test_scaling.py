"""The model of many workers, on cases that can be counted by hand."""

import pytest

from bench.scaling import Costs, simulate

COSTS = Costs(network=0.1, skip=0.0, gather=0.01, composite=0.02, start=0.0, part_bytes=1000.0)


def seconds(workers, frames=100, costs=COSTS, **more):
    return simulate(costs, frames, 10, workers, seconds=1, overlap=0, **more)


def test_one_worker_takes_the_sum_and_the_last_part_is_gathered_behind_it():
    assert seconds(1) == pytest.approx(100 * 0.1 + 10 * 0.01)
    assert seconds(1, composite=True) == pytest.approx(100 * 0.1 + 10 * 0.03)


def test_two_workers_halve_it_and_no_number_of_them_beats_the_gatherer():
    assert seconds(2) == pytest.approx(50 * 0.1 + 2 * 10 * 0.01)
    assert seconds(1000) == pytest.approx(10 * 0.1 + 100 * 0.01)


def test_a_core_does_one_thing_at_a_time():
    assert seconds(1, cores=1) == pytest.approx(100 * (0.1 + 0.01))
    assert seconds(2, cores=1) == pytest.approx(seconds(1, cores=1))
    assert 5 < seconds(2, cores=2) < 100 * 0.11 / 2 + 20 * 0.01  # three who want two cores


def test_frames_that_are_seen_twice_and_skipped_cost_what_they_cost():
    skipping = Costs(0.1, 0.05, 0.0, 0.0, 0.0, 0.0)

    def part(**more):
        return pytest.approx(simulate(skipping, 30, 10, 1, seconds=1, overlap=0.5, **more))

    # parts of 10 with 5 before each but the first, decoded from the start: 0, 5, 15
    assert part(remembers=True) == 0.1 * (10 + 15 + 15) + 0.05 * (0 + 5 + 15)
    assert part() == 0.1 * 30 + 0.05 * (0 + 10 + 20)
    # and where the file can be entered at every fourth frame: 0, 4, 12
    assert part(group=4, remembers=True) == 0.1 * (10 + 15 + 15) + 0.05 * (0 + 1 + 3)
    assert part(group=4) == 0.1 * 30 + 0.05 * (0 + 6 + 8)


def test_many_files_go_on_gaining_where_one_does_not():
    def fps(workers, **more):
        return 1 / seconds(workers, **more)

    assert fps(100) / fps(50) < 1.05
    assert fps(100, videos=40, gatherers=25) / fps(50, videos=40, gatherers=12) > 1.5
