"""Many sources on one engine: fair turns, and nobody's trouble is another's.

Time is the engine's own: a step moves a clock by what the picture costs.  Where threads take part,
the engine does not begin before everyone who should want a turn does, so no test depends on how
fast the machine is.
"""

import threading
import time

import numpy as np
import pytest

from stream.camera import LiveSource
from stream.live import Live, Wishes
from stream.many import FairShare, Many, Turns
from tests.fakes import ColourTracker, SquaresEngine, picture

LONG = 30.0  # seconds: never waited for unless something is broken


def until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "nothing happens any more"
        time.sleep(0.001)


# ------------------------------------------------------------------------------- who is next


def shared(costs, seconds, every=None):
    """Turns taken by each in so much engine time; `every`: one asks only after so many seconds."""
    share, now, turns = FairShare(), 0.0, dict.fromkeys(costs, 0)
    asks_at = dict.fromkeys(costs, 0.0)
    for who in costs:
        share.join(who)
    while now < seconds:
        wanting = {who for who in costs if asks_at[who] <= now}
        chosen = share.next(wanting)
        if chosen is None:
            now = min(asks_at.values())
            continue
        now += costs[chosen]
        turns[chosen] += 1
        share.settle(chosen, costs[chosen])
        asks_at[chosen] = max(now, asks_at[chosen] + (every or {}).get(chosen, 0.0))
    return turns


def test_eight_equal_sources_get_equally_many_turns():
    turns = shared({f"camera {n}": 0.040 for n in range(8)}, 40.0)

    assert max(turns.values()) - min(turns.values()) <= 1


@pytest.mark.parametrize("unit_seconds", [0.0005, 0.03])
def test_engine_time_is_shared_and_not_pictures(unit_seconds):
    """A picture eight times as large comes an eighth as often; the small ones keep their rate."""
    costs = {"large": 8 * unit_seconds, "small": unit_seconds, "other": unit_seconds}

    turns = shared(costs, 2400 * unit_seconds)

    assert turns["small"] == pytest.approx(800, abs=16)
    assert turns["other"] == pytest.approx(turns["small"], abs=16)
    assert turns["large"] == pytest.approx(100, abs=2)


def test_a_slow_camera_gets_all_its_pictures_and_the_rest_goes_to_those_who_want_more():
    costs = dict.fromkeys(("slow", "one", "two"), 0.05)

    turns = shared(costs, 60.0, every={"slow": 0.5})

    assert turns["slow"] == pytest.approx(120, abs=2)
    assert turns["one"] == pytest.approx(540, abs=5)
    assert turns["two"] == pytest.approx(turns["one"], abs=2)


def test_who_was_away_does_not_catch_up():
    share = FairShare()
    for who in ("here", "away"):
        share.join(who)
    for _ in range(1000):
        share.settle(share.next({"here"}), 0.1)

    back = []
    for _ in range(10):
        back.append(share.next({"here", "away"}))
        share.settle(back[-1], 0.1)

    assert back.count("here") == 5


def test_a_hiccup_of_the_machine_does_not_cost_a_source_its_turns():
    share, turns = FairShare(), dict.fromkeys("ab", 0)
    for who in turns:
        share.join(who)
    for number in range(100):
        chosen = share.next(turns)
        turns[chosen] += 1
        share.settle(chosen, 3.0 if number == 20 else 0.1)

    assert abs(turns["a"] - turns["b"]) <= 2


def test_who_joins_late_starts_with_the_others_and_who_leaves_is_forgotten():
    share = FairShare()
    share.join("old")
    for _ in range(50):
        share.settle(share.next({"old"}), 0.2)
    share.join("new")
    order = []
    for _ in range(6):
        order.append(share.next({"old", "new"}))
        share.settle(order[-1], 0.2)
    share.leave("old")

    assert sorted(order) == ["new"] * 3 + ["old"] * 3
    assert share.next({"old"}) is None and share.next({"new"}) == "new"


# ------------------------------------------------------------------------------- with threads


class Clocked(SquaresEngine):
    """Squares, at a price: a step moves `now` by the picture's pixels, once `wait` lets it."""

    def __init__(self, wait=lambda: None, **more):
        super().__init__(**more)
        self.now, self.wait, self.threads, self.broken = 0.0, wait, set(), set()

    def step(self, rgb, state):
        self.wait()
        self.threads.add(threading.current_thread().name)
        self.now += rgb.shape[0] * rgb.shape[1] * 1e-6
        if rgb.shape in self.broken:
            raise RuntimeError("these pictures break the network")
        return super().step(rgb, state)


def session(seat, source=None, **more):
    return Live(source or LiveSource("browser"), seat, ColourTracker, wishes=Wishes("keep"),
                take=seat.take, **more)  # fmt: skip


class Cameras:
    """Sources of `many` that always have a newer picture, but for those in `silent`."""

    def __init__(self, sizes, **more):
        self.engine = Clocked(self.everyone_wants)
        self.turns = Turns(self.engine, clock=lambda: self.engine.now, **more)
        self.logs = []
        self.many = Many(self.engine, self.made, turns=self.turns)
        self.sizes, self.silent, self.stop = dict(sizes), set(), threading.Event()
        self.feeding = threading.Thread(target=self.feed)

    def made(self, name, uri, seat):
        return session(seat, LiveSource(uri), log=lambda text: self.logs.append((name, text)))

    def everyone_wants(self):
        """Nobody is judged for what its thread has not come to yet."""

        def all_there():
            lives = self.many.lives
            busy = len([n for n in lives if n not in self.silent and lives[n].running])
            there = len(self.turns._wanting) + len(self.turns._granted) + len(self.turns._ready)
            return self.stop.is_set() or there >= busy - 1

        until(all_there)  # fmt: skip

    def feed(self):
        while not self.stop.is_set():
            for name, live in self.many.lives.items():
                if name not in self.silent:
                    live.source.push(picture(size=self.sizes[name]))
            time.sleep(0.001)

    def __enter__(self):
        for name in self.sizes:
            self.many.add(name, "browser")
        self.feeding.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        self.feeding.join()
        self.many.close()

    def shown(self):
        return {name: live.shown for name, live in self.many.lives.items()}

    def run(self, turns):
        begun = self.engine.steps
        until(lambda: self.engine.steps >= begun + turns)


EIGHT = {f"camera{n}": (96, 160) for n in range(8)}


def test_eight_live_sources_share_fairly_and_each_counts_its_own_people():
    with Cameras(EIGHT, push_seconds=LONG) as cameras:
        cameras.run(120)
        rates = cameras.shown().values()
        people = [set(live.people) for live in cameras.many.lives.values()]
        told = cameras.many.status()

    assert max(rates) / min(rates) <= 1.2, rates
    assert people == [{1, 2}] * 8  # one tracker for all would have gone on counting
    assert cameras.engine.threads == {"engine"}
    assert [one["name"] for one in told] == list(EIGHT)
    assert sum(one["turns"] for one in told) >= 110  # the last ones may be under way still


def test_a_source_that_falls_silent_gets_a_slate_and_leaves_its_turns_to_the_others():
    with Cameras(EIGHT, push_seconds=LONG) as cameras:
        cameras.run(40)
        cameras.silent.add("camera3")
        cameras.run(8)
        before = cameras.shown()
        cameras.run(140)
        after = cameras.shown()
        until(lambda: cameras.many.get("camera3").source.state == "lost")

    grown = {name: after[name] - before[name] for name in EIGHT}
    assert grown.pop("camera3") <= 1
    assert min(grown.values()) >= 18  # of 140 turns: a seventh, and no longer an eighth
    assert max(grown.values()) / min(grown.values()) <= 1.2


def test_an_engine_that_fails_at_one_sources_pictures_ends_that_source_alone():
    sizes = {"good": (96, 160), "bad": (64, 64), "other": (96, 160)}
    with Cameras(sizes, push_seconds=LONG) as cameras:
        cameras.engine.broken.add((64, 64, 3))
        until(lambda: not cameras.many.get("bad").running)
        cameras.run(30)
        status = {one["name"]: one for one in cameras.many.status()}

    assert status["bad"]["state"] == "failed" and "break the network" in status["bad"]["problem"]
    assert status["good"]["state"] == status["other"]["state"] == "playing"
    assert not any("break" in text for name, text in cameras.logs if name != "bad")


def test_sources_come_and_go_while_the_others_run(tmp_path):
    with Cameras({"a": (96, 160), "b": (96, 160)}, push_seconds=LONG) as cameras:
        cameras.run(10)
        cameras.sizes["c"] = (96, 160)
        cameras.many.add("c", "browser")
        until(lambda: cameras.many.get("c").shown > 5)
        cameras.many.get("c").record(tmp_path / "c")
        cameras.run(12)
        gone = cameras.many.get("c")
        cameras.many.remove("c")
        cameras.run(10)
        left = list(cameras.many.lives)
        with pytest.raises(ValueError, match="already"):
            cameras.many.add("a", "browser")
        with pytest.raises(ValueError, match="letters"):
            cameras.many.add("../a", "browser")
        with pytest.raises(KeyError):
            cameras.many.remove("c")

    assert left == ["a", "b"] and not gone.running
    assert (tmp_path / "c" / "people.json").is_file()  # removed, and its recording is whole


class Source:
    """A source with a picture at any time; `stuck`: taking one does not return before it is set."""

    def __init__(self, stuck=None):
        self.stuck = stuck

    def wait(self, timeout_seconds):
        return True

    def take(self, timeout_seconds):
        if self.stuck:
            self.stuck.wait(LONG)
        return picture()


def worked(seat, source, times):
    state = seat.start()
    for _ in range(times):
        _, state = seat.step(seat.take(source), state)
    return state


def test_a_source_that_is_given_its_turn_and_does_not_push_is_passed_over():
    turns = Turns(SquaresEngine(), push_seconds=0.01)
    free = threading.Event()
    stuck, well = turns.seat("stuck"), turns.seat("well")
    late = threading.Thread(target=worked, args=(stuck, Source(free), 1))
    late.start()
    until(lambda: stuck.passed_over)

    state = worked(well, Source(), 20)  # would wait for ever behind a turn nobody uses
    free.set()
    late.join(LONG)
    turns.close()

    assert state == 20 and stuck.turns_taken == 1  # late, but not lost
    assert not late.is_alive()


def test_the_newest_picture_is_taken_when_the_turn_comes_and_not_before():
    asked, go = threading.Event(), threading.Event()
    turns = Turns(Clocked(lambda: (asked.set(), go.wait(LONG))), push_seconds=LONG)
    first, second, third = (turns.seat(name) for name in "abc")
    taken = []

    class Watched(Source):
        def take(self, timeout_seconds):
            taken.append(threading.current_thread().name)
            return picture()

    runs = [threading.Thread(target=worked, args=(seat, Watched(), 1), name=name)
            for seat, name in ((first, "first"), (second, "second"), (third, "third"))]  # fmt: skip
    runs[0].start()
    asked.wait(LONG)
    runs[1].start()
    until(lambda: "second" in taken)  # its picture is made ready while the engine works
    runs[2].start()
    until(lambda: third in turns._wanting)
    before = list(taken)
    go.set()
    for run in runs:
        run.join(LONG)
    turns.close()

    assert before == ["first", "second"] and taken == ["first", "second", "third"]


class Overlapping(SquaresEngine):
    """Works on three pictures at once; each answer waits until somebody asks for it."""

    in_flight = 3

    def __init__(self):
        super().__init__()
        self.under_way, self.most = 0, 0

    def submit(self, rgb, state):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        engine = self

        class Pending:
            def result(self):
                engine.under_way -= 1
                if rgb.shape[0] == 64:
                    raise RuntimeError("this picture")
                return engine.step(rgb, state)[0]

        return Pending(), state + 1

    def close(self):
        pass


def test_an_engine_that_overlaps_has_several_sources_pictures_under_way():
    engine = Overlapping()
    turns = Turns(engine, push_seconds=LONG)
    seats = [turns.seat(str(n)) for n in range(6)]
    ends = {}
    runs = [threading.Thread(target=lambda s=seat: ends.update({s: worked(s, Source(), 40)}))
            for seat in seats]  # fmt: skip
    for run in runs:
        run.start()
    with pytest.raises(RuntimeError, match="this picture"):
        turns.seat("bad").step(np.zeros((64, 64, 3), np.uint8), None)
    for run in runs:
        run.join(LONG)
    turns.close()

    assert engine.most == 3 and engine.under_way == 0
    assert list(ends.values()) == [40] * 6  # everyone's own memory, in order


def test_turns_that_are_closed_let_everyone_go():
    turns = Turns(SquaresEngine())
    seat = turns.seat("a")
    turns.close()

    with pytest.raises(RuntimeError, match="closed"):
        seat.step(picture(), None)
