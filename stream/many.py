"""Many live sources on one engine: whose picture is next, and what each source has for itself.

A source keeps its own `Live`: its thread, tracker, memory of the network, look, sinks, recording.
What they share is the engine, which works on a thread of its own and is handed out in turns
(`Turns`).  A source asks for a turn when a picture of it has arrived, and takes its newest picture
only when the turn has come, while the engine is still at the picture before: a source that waits
long shows fewer pictures, never older ones.

Turns are shared by the engine's time and not by pictures (`FairShare`), so that large pictures do
not starve small ones.  A source without a picture asks for nothing and costs nothing; one that does
not push its picture within `PUSH_SECONDS` of its turn is passed over, and pays for that time.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from matting.frames import Mattes
from stream.camera import LiveSource, Shot
from stream.live import Live
from stream.stages import Engine

QUANTUM_SECONDS = 0.002  # of the engine: what a turn may be ahead of a fair share
PUSH_SECONDS = 0.05  # from being given a turn to pushing the picture
GATHER_SECONDS = 0.002  # so long an engine that overlaps waits for one more to put under way
LOOK_SECONDS = 0.1  # how long to wait for a picture before looking at the source's state
MOST_SOURCES = 64
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # a folder and part of an address


class FairShare:
    """Deficit round robin over time that is known only afterwards (surplus round robin).

    Everyone has a credit in seconds.  Next is, in a circle, who wants and has some; when none of
    those has, everyone is given as much as brings the richest of them to a quantum.  What a turn
    took is taken off.  Credit is never more than a quantum, so nobody saves up while idle.
    (M. Shreedhar, G. Varghese, *Efficient Fair Queueing using Deficit Round Robin*, 1996.)
    """

    def __init__(self, quantum_seconds: float = QUANTUM_SECONDS) -> None:
        self._quantum = quantum_seconds
        self._credit: OrderedDict[Any, float] = OrderedDict()  # in the order of the circle
        self._expected: dict[Any, float] = {}  # what the last turn took, charged in advance

    def join(self, who: Any) -> None:
        self._credit[who], self._expected[who] = 0.0, 0.0

    def leave(self, who: Any) -> None:
        self._credit.pop(who, None)
        self._expected.pop(who, None)

    def next(self, wanting: Container[Any]) -> Any | None:
        """Whose turn it is among those; None where nobody wants.  `settle` has to follow."""
        asking = [who for who in self._credit if who in wanting]
        if not asking:
            return None
        richest = max(self._credit[who] for who in asking)
        if richest <= 0:
            for who in self._credit:
                credit = self._credit[who] + self._quantum - richest
                self._credit[who] = min(self._quantum, credit)
        chosen = next(who for who in asking if self._credit[who] > 0)
        self._credit.move_to_end(chosen)
        self._credit[chosen] -= self._expected[chosen]
        return chosen

    def settle(self, who: Any, seconds: float, *, usual: bool = True) -> None:
        """What the turn took of the engine.  `usual`: the next is expected to take as much."""
        if who in self._credit:
            expected = self._expected[who]
            if usual and expected:  # a hiccup of the machine is not the source's to pay for
                seconds = min(seconds, 2 * expected)
            self._credit[who] += expected - seconds
            if usual:
                self._expected[who] = seconds


@dataclass(eq=False)
class _Job:
    """A picture that a source has pushed."""

    seat: Seat
    rgb: np.ndarray
    state: Any
    started: float = 0.0
    answer: tuple[Mattes, Any] | None = None
    error: Exception | None = None


class Seat:
    """One source's place at the shared engine; for its `Live` it is the engine.

    `take` goes with it: the newest picture of a source, taken when its turn has come.
    """

    def __init__(self, turns: Turns, source: str) -> None:
        self._turns, self.source = turns, source
        self.name = turns.name
        self.turns_taken, self.engine_seconds, self.passed_over = 0, 0.0, 0

    def start(self) -> None:
        """No memory yet: the engine makes it on its own thread, with the first picture."""

    def step(self, rgb: np.ndarray, state: Any) -> tuple[Mattes, Any]:
        return self._turns._work(_Job(self, rgb, state))

    def take(self, source: LiveSource) -> Shot | None:
        self._turns._give_back(self)  # the last turn, if it came to no picture
        if source.wait(LOOK_SECONDS):
            self._turns._ask(self)
        return source.take(0)

    def close(self) -> None:
        """The source is gone."""
        self._turns._leave(self)


class Turns:
    """The engine on a thread of its own, and the turns at it.

    An engine that overlaps (`submit`, engines/base.py) has pictures of several sources under way at
    once, `in_flight` at most; any other works on one while the next is being taken.  An error is
    raised to the source whose picture it was, and to no other.  `at_work` is the name of the source
    whose picture the engine is at.  `close` leaves the engine open.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], float] = time.monotonic,
        push_seconds: float = PUSH_SECONDS,
    ) -> None:
        own: Any = engine
        self._engine = own
        self.name: str = getattr(engine, "name", "")
        self._overlaps = hasattr(engine, "submit")
        self._ahead = int(self._engine.in_flight) if self._overlaps else 1
        self._clock, self._push = clock, push_seconds
        self.at_work = ""
        self._changed = threading.Condition()  # guards everything below
        self._share = FairShare()
        self._wanting: dict[Seat, _Job | None] = {}  # a job where the picture is here already
        self._granted: dict[Seat, float] = {}  # whose turn it is -> when it was given
        self._ready: deque[_Job] = deque()
        self._closed = False
        self._last_done = clock()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def seat(self, source: str) -> Seat:
        """A place for one more source."""
        made = Seat(self, source)
        with self._changed:
            self._share.join(made)
        return made

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(30)

    # -- called by the sources' threads

    def _ask(self, seat: Seat) -> None:
        """Wait for a turn."""
        with self._changed:
            self._wanting[seat] = None
            self._give_turns()  # the engine's thread may be at a picture, this is while it is
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or seat not in self._wanting)

    def _give_back(self, seat: Seat) -> None:
        with self._changed:
            given = self._granted.pop(seat, None)
            if given is not None:
                self._share.settle(seat, 0.0, usual=False)
                self._give_turns()
                self._changed.notify_all()

    def _work(self, job: _Job) -> tuple[Mattes, Any]:
        with self._changed:
            if self._granted.pop(job.seat, None) is not None:
                self._ready.append(job)
            else:  # it never asked, or was too late: the picture waits for the next turn
                self._wanting[job.seat] = job
                self._give_turns()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or job.answer or job.error)
        if job.error is not None:
            raise job.error
        if job.answer is None:
            raise RuntimeError("the engine has been closed")
        return job.answer

    def _leave(self, seat: Seat) -> None:
        with self._changed:
            self._granted.pop(seat, None)
            self._wanting.pop(seat, None)
            self._share.leave(seat)
            self._give_turns()
            self._changed.notify_all()

    # -- the engine's thread

    def _run(self) -> None:
        under_way: deque[tuple[_Job, Any, Any]] = deque()
        while True:
            job = self._next_job(bool(under_way), full=len(under_way) >= self._ahead)
            if job is not None:
                self._begin(job, under_way)
            elif under_way:
                job, pending, state = under_way.popleft()
                self.at_work = job.seat.source
                try:
                    self._done(job, answer=(pending.result(), state))
                except Exception as error:
                    self._done(job, error=error)
            else:
                return

    def _begin(self, job: _Job, under_way: deque[tuple[_Job, Any, Any]]) -> None:
        job.started, self.at_work = self._clock(), job.seat.source
        try:
            state = self._engine.start() if job.state is None else job.state
            if self._overlaps:
                under_way.append((job, *self._engine.submit(job.rgb, state)))
            else:
                self._done(job, answer=self._engine.step(job.rgb, state))
        except Exception as error:  # of this picture; the others' are not its business
            self._done(job, error=error)

    def _done(
        self, job: _Job, answer: tuple[Mattes, Any] | None = None, error: Exception | None = None
    ) -> None:
        now = self._clock()
        # Where pictures overlap, a picture's time begins when the one before was done.
        took = now - max(job.started, self._last_done)
        self._last_done = now
        with self._changed:
            job.seat.turns_taken += 1
            job.seat.engine_seconds += took
            self._share.settle(job.seat, took)
            job.answer, job.error = answer, error
            self._changed.notify_all()

    def _next_job(self, busy: bool, full: bool) -> _Job | None:
        """The next picture to begin with, waiting for one.  None when the oldest under way should
        be waited for instead (`busy`), or when everything is over."""
        with self._changed:
            gathered = self._clock() + GATHER_SECONDS
            while not self._closed:
                self._pass_over()
                self._give_turns()
                if self._ready and not full:
                    job = self._ready.popleft()
                    self._give_turns()
                    return job
                if busy and (full or not self._granted or self._clock() >= gathered):
                    return None
                waiting = min(self._granted.values(), default=None)
                until = None if waiting is None else waiting + self._push - self._clock()
                if busy:
                    until = gathered - self._clock()
                self._changed.wait(None if until is None else max(until, 1e-4))
            return None

    def _pass_over(self) -> None:
        now = self._clock()
        for seat, given in list(self._granted.items()):
            if now - given >= self._push:
                del self._granted[seat]
                seat.passed_over += 1
                self._share.settle(seat, now - given, usual=False)

    def _give_turns(self) -> None:
        """Fill up who is next; by whoever changed something, with the lock held."""
        while len(self._granted) + len(self._ready) < self._ahead:
            seat = self._share.next(self._wanting)
            if seat is None:
                return
            job = self._wanting.pop(seat)
            if job is None:
                self._granted[seat] = self._clock()
                self._changed.notify_all()
            else:
                self._ready.append(job)


class Many:
    """Live sources by name, on one engine.  Sources come and go while the others run.

    `new_live` makes the session of a source, not started, from its name, what it is (`rtsp://…`,
    `0`, …) and its seat: `Live(source, seat, …, take=seat.take)`.  Safe from any thread.
    """

    def __init__(
        self, engine: Engine, new_live: Callable[[str, str, Seat], Live], *,
        turns: Turns | None = None,
    ) -> None:  # fmt: skip
        self.turns = turns or Turns(engine)
        self._new_live = new_live
        self._lock = threading.Lock()  # of the two below; never held while a session ends
        self._lives: dict[str, tuple[Live, Seat]] = {}
        self._leaving: set[str] = set()
        self._closed = False

    def add(self, name: str, uri: str) -> Live:
        """Begin with one more source.  Raises ValueError for a name that cannot be, or is taken;
        InputError where the source cannot mean anything.  The others do not notice."""
        if not NAME.fullmatch(name):
            raise ValueError(
                f"a source's name should be letters, digits, - and _, 40 at most, got {name[:60]!r}"
            )
        with self._lock:
            if self._closed:
                raise ValueError("the program is ending")
            if name in self._lives or name in self._leaving:
                raise ValueError(f"there is a source {name} already")
            if len(self._lives) >= MOST_SOURCES:
                raise ValueError(f"there are {MOST_SOURCES} sources already")
            seat = self.turns.seat(name)
            try:
                live = self._new_live(name, uri, seat)
            except BaseException:
                seat.close()
                raise
            self._lives[name] = live, seat
            return live.start()

    def remove(self, name: str) -> None:
        """End a source: its recording and sinks are finished when this returns.  Raises KeyError
        where there is none."""
        with self._lock:
            live, seat = self._lives.pop(name)
            self._leaving.add(name)
        try:
            live.close()
        finally:
            seat.close()
            with self._lock:
                self._leaving.discard(name)

    def get(self, name: str) -> Live | None:
        with self._lock:
            found = self._lives.get(name)
        return found[0] if found else None

    @property
    def lives(self) -> dict[str, Live]:
        """Every source's session by name, in the order they were added."""
        with self._lock:
            return {name: live for name, (live, _) in self._lives.items()}

    def status(self) -> list[dict[str, Any]]:
        """How each source goes: its state, its figures, and its share of the engine."""
        with self._lock:
            lives = list(self._lives.items())
        return [
            {
                "name": name,
                "kind": live.source.kind,
                "state": live.source.state if live.running else "failed" if live.error else "ended",
                "problem": live.problem or live.source.problem,
                "size": list(live.source.size) if live.source.size else None,
                "people": len(live.visible),
                "recording": live.recording is not None,
                "turns": seat.turns_taken,
                "engine_seconds": round(seat.engine_seconds, 3),
                "passed_over": seat.passed_over,
                **live.figures(),
            }
            for name, (live, seat) in lives
        ]

    def close(self) -> None:
        """End every source, then the turns.  The engine stays open."""
        with self._lock:
            self._closed = True
            names = list(self._lives)
        # At once: each may take seconds to finish its recording.
        ends = [threading.Thread(target=self._end, args=(name,)) for name in names]
        for end in ends:
            end.start()
        for end in ends:
            end.join()
        self.turns.close()

    def _end(self, name: str) -> None:
        try:
            self.remove(name)
        except KeyError:  # somebody else removed it meanwhile
            return

    def __enter__(self) -> Many:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
