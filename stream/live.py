"""The live loop: newest picture → who is in it → composite → every sink; and its controls.

One thread does it all for a picture before it looks for the next, which is then the newest there
is: a machine that is too slow shows fewer pictures, never later ones.  Engine and tracker are
handed in.  Controls (`set_look`, `record`, ...) may be called from any thread, and are taken up
between two pictures.

Offline, a person is believed after some frames and named backwards, which holds every frame back.
Live, nothing waits: who is not confirmed yet is simply not shown as a person.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from matting.frames import Frame, Mattes, no_one
from stream.calm import Calm
from stream.camera import LiveSource, Shot, slate
from stream.compose import Composer, Look, mark_colour
from stream.edges import Edges, edged
from stream.sinks import Recording, Shown, Sink
from stream.stages import Engine, Tracker

MEASURED_SECONDS = 10.0  # what rates and latencies are of
THUMB_SECONDS = 1.0  # how often a person's thumbnail is made anew
THUMB_PIXELS = 96
REMEMBERED_PEOPLE = 100  # in the list; the tracker has its own memory
FORGETS_SECONDS = 2.0  # after a gap this long the network starts with an empty memory
FAILURES = 5  # pictures in a row the engine may fail at before the loop gives up


@dataclass
class PersonSeen:
    """Someone in the list of people."""

    id: int
    first_seconds: float
    last_seconds: float
    thumbnail: bytes = b""  # JPEG
    thumbnail_made: float = -1e9


@dataclass(frozen=True)
class Wishes:
    """How the picture should look now, in the words of the command line."""

    background: str = "marks"
    people: Mapping[int, str] = field(default_factory=dict)  # id -> treatment
    edges: Edges = field(default_factory=Edges)

    def look(self) -> Look:
        return Look.of(self.background, self.people)


class Live:
    """One live session.  `start` it, change it, `close` it.

    `new_tracker` makes a tracker for the source and for every other one that takes its place.
    `calm` is the share of the one before that a matte keeps (stream/calm.py).
    `log` is told what happens, one line each, from any thread.  `take` is how the newest picture
    of a source is waited for and taken, where it is not at once (stream/many.py).
    """

    def __init__(
        self,
        source: LiveSource,
        engine: Engine,
        new_tracker: Callable[[], Tracker],
        *,
        wishes: Wishes | None = None,
        sinks: Iterable[Sink] = (),
        calm: float = 0.0,
        log: Callable[[str], None] = lambda text: None,
        take: Callable[[LiveSource], Shot | None] = lambda source: source.take(0.1),
    ) -> None:
        self._engine, self._new_tracker, self._log = engine, new_tracker, log
        self._take, self._calm = take, Calm(calm)
        self.source = source
        self.wishes = wishes or Wishes()
        self.names: dict[int, str] = {}
        self._tracker_names: dict[int, str] = {}  # whom the tracker recognised
        self._recognised: dict[int, str] = {}  # taken over; what is typed later counts
        self.people: OrderedDict[int, PersonSeen] = OrderedDict()
        self.visible: tuple[int, ...] = ()
        self.sinks: list[Sink] = list(sinks)
        self.recording: Recording | None = None
        self.problem = ""  # why the loop ended, if it failed
        self.error: Exception | None = None
        self.shown = 0  # pictures, slates not counted
        self.begun = time.monotonic()
        self._lock = threading.RLock()  # of everything that controls change
        self._composer: Composer | None = None
        self._composer_next: Composer | None = None
        self._composer_size: tuple[int, int] | None = None
        self._next_source: LiveSource | None = None
        self._steps: deque[tuple[float, float, float, int]] = deque(maxlen=4096)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)
        # A background that cannot be read is refused here, not after the camera is on.
        Composer(self.wishes.look(), (16, 16)).close()

    # ------------------------------------------------------------------------- controls

    def start(self) -> Live:
        self._thread.start()
        return self

    def __enter__(self) -> Live:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the end of the source, or of the loop; False when the time ran out first."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Stop, finish what is recorded, and close source and sinks.  The engine stays open."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)
        self.stop_recording()
        for sink in self.sinks:
            sink.ask_to_close()
        for sink in self.sinks:
            sink.close()
        self.source.close()
        with self._lock:
            for composer in (self._composer, self._composer_next):
                if composer:
                    composer.close()
            self._composer = self._composer_next = None

    def set_look(
        self,
        background: str | None = None,
        people: Mapping[int, str | None] | None = None,
        edges: Edges | None = None,
    ) -> None:
        """Change what is given; a person's None is back to what all others get.

        Raises InputError, and changes nothing, when a background cannot be read.
        """
        with self._lock:
            treatments = dict(self.wishes.people)
            for number, treatment in (people or {}).items():
                if treatment is None:
                    treatments.pop(number, None)
                else:
                    treatments[number] = treatment
            wishes = replace(
                self.wishes,
                background=self.wishes.background if background is None else background,
                people=treatments,
                edges=edges or self.wishes.edges,
            )
            if wishes.look() != self.wishes.look() and self._composer_size:
                before = self._composer_next or self._composer
                made = Composer(wishes.look(), self._composer_size, before)
                if self._composer_next:  # was never used: what it opened alone is not needed
                    made._unused += self._composer_next._unused
                self._composer_next = made
            else:
                Composer(wishes.look(), (16, 16)).close()
            self.wishes = wishes

    def name(self, person: int, text: str) -> None:
        """Give a person a name; an empty one takes it away."""
        with self._lock:
            if text.strip():
                self.names[person] = text.strip()[:80]
            else:
                self.names.pop(person, None)

    def switch(self, source: LiveSource) -> None:
        """Go over to another source.  The old one is closed; people are counted on."""
        with self._lock:
            if self._next_source is not None:
                self._next_source.close()
            self._next_source = source

    def record(self, folder: Path) -> Recording:
        """Record composite and everyone's alpha into a new folder, until `stop_recording`."""
        with self._lock:
            if self.recording and self.recording.state in ("waiting", "running"):
                raise ValueError("a recording is running already")
            about = {"engine": self._engine.name}  # type: ignore[attr-defined]
            self.recording = Recording(folder, self.source, about)
            self._log(f"recording into {folder}")
            return self.recording

    def stop_recording(self) -> Recording | None:
        """Finish the recording; returns when its files are whole."""
        with self._lock:
            recording, self.recording = self.recording, None
        if recording:
            recording.names.update(self.names)
            recording.close()
            self._log(f"recorded {recording.frames} pictures into {recording.folder}")
        return recording

    # --------------------------------------------------------------------------- figures

    def seen(self) -> list[PersonSeen]:
        """Everyone in the list, by number."""
        with self._lock:
            return sorted(self.people.values(), key=lambda person: person.id)

    def figures(self) -> dict[str, Any]:
        """What is measured, of the last ten seconds: rates per second, times in milliseconds."""
        now = time.monotonic()
        with self._lock:
            recent = [step for step in self._steps if now - step[0] <= MEASURED_SECONDS]
        span = max(now - recent[0][0], 1e-3) if recent else 1.0
        latency = np.array([step[1] for step in recent] or [0.0]) * 1000
        return {
            "frames_per_second": round(max(len(recent) - 1, 0) / span, 1),
            "latency_ms": round(float(np.percentile(latency, 50)), 1),
            "latency_p95_ms": round(float(np.percentile(latency, 95)), 1),
            "step_ms": round(float(np.median([step[2] for step in recent] or [0.0])) * 1000, 1),
            "shown": self.shown,
            "dropped": self.source.dropped,
            "received": self.source.received,
            "damaged": self.source.damaged,
            "reconnects": self.source.reconnects,
        }

    # ------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:  # told by whoever waits for the loop
            self.error, self.problem = error, f"{type(error).__name__}: {error}"
            self._log(f"stopped: {self.problem}")

    def _loop(self) -> None:
        tracker, state = self._new_tracker(), self._engine.start()
        self._tracker_names = getattr(tracker, "names", self._tracker_names)
        last_arrival, was, failures = 0.0, "", 0
        begun = self.begun
        while not self._stop.is_set():
            self._take_over_source()
            source = self.source
            shot = self._take(source)
            if source.state != was:
                was = source.state
                self._log(
                    f"{source.shown}: {was}" + (f" ({source.problem})" if source.problem else "")
                )
            if shot is None:
                if source.ended:
                    return
                continue
            started = time.monotonic()
            if shot.slate:
                self.visible = ()
                self._hand_over(Shown(shot.frame, no_one(shot.frame.size), shot.frame.rgb,
                                      shot.arrived, time.monotonic(), slate=True))  # fmt: skip
                continue
            if shot.arrived - last_arrival > FORGETS_SECONDS:
                state = self._engine.start()
                self._calm.forget()
            last_arrival = shot.arrived
            try:
                mattes, state = self._engine.step(shot.frame.rgb, state)
                failures = 0
            except Exception as error:
                failures += 1
                if failures >= FAILURES:
                    raise
                self._log(f"the engine failed at a picture: {type(error).__name__}: {error}")
                state = self._engine.start()
                self._calm.forget()
                card = slate(shot.frame.size, ["No picture", "the engine failed; trying again"])
                self._hand_over(Shown(replace(shot.frame, rgb=card), no_one(shot.frame.size), card,
                                      shot.arrived, time.monotonic(), slate=True))  # fmt: skip
                continue
            mattes = named_now(mattes, tracker, shot.arrived - begun, shot.frame.rgb)
            mattes = self._calm.of(shot.frame, mattes)
            shown = self._composed(shot.frame, mattes, shot.arrived)
            self._hand_over(shown)
            self._remember(shot.frame, mattes, shot.arrived - begun)
            with self._lock:
                self.shown += 1
                self._steps.append(
                    (shown.ready, shown.ready - shot.arrived, shown.ready - started, len(mattes))
                )

    def _take_over_source(self) -> None:
        with self._lock:
            source, self._next_source = self._next_source, None
            if source is None:
                return
            old, self.source = self.source, source
        old.close()
        self._log(f"source is now {source.shown}")

    def _composed(self, frame: Frame, mattes: Mattes, arrived: float) -> Shown:
        with self._lock:
            if self._composer_next:
                self._composer, self._composer_next = self._composer_next, None
                self._composer.close_unused()
            if self._composer is None or self._composer_size != frame.size:
                if self._composer:
                    self._composer.close()
                self._composer = Composer(self.wishes.look(), frame.size)
                self._composer_size = frame.size
            composer, wishes = self._composer, self.wishes
        soft = edged(mattes, wishes.edges)
        picture = composer.compose(frame, soft)
        cut = None
        if any(sink.wants_cut_out for sink in self.sinks):
            cut = composer.cut_out(frame, soft)
        return Shown(frame, mattes, picture, arrived, time.monotonic(), cut_out=cut)

    def _hand_over(self, shown: Shown) -> None:
        for sink in self.sinks:
            sink.put(shown)
        recording = self.recording
        if recording and not shown.slate:
            recording.put(shown)

    def _remember(self, frame: Frame, mattes: Mattes, seconds: float) -> None:
        """The list of people; thumbnails of newcomers, and of one other at most per picture."""
        due: tuple[PersonSeen, Any] | None = None
        with self._lock:
            for number, name in self._tracker_names.items():
                if self._recognised.get(number) != name:
                    self.names[number] = self._recognised[number] = name
            for person in mattes:
                known = self.people.get(person.id)
                if known is None:
                    known = self.people[person.id] = PersonSeen(person.id, seconds, seconds)
                    self._log(f"person {person.id} appeared")
                known.last_seconds = seconds
                self.people.move_to_end(person.id)
                if seconds - known.thumbnail_made >= THUMB_SECONDS and (
                    due is None or known.thumbnail_made < due[0].thumbnail_made
                ):
                    due = known, person
            self.visible = tuple(int(number) for number in mattes.ids)
            for number in list(self.people):
                if len(self.people) <= REMEMBERED_PEOPLE:
                    break
                if number not in self.names and number not in self.wishes.people:
                    del self.people[number]
            new = [(self.people[p.id], p) for p in mattes if not self.people[p.id].thumbnail]
        for known, person in [*new, *([due] if due and due[0].thumbnail else [])]:
            known.thumbnail = thumbnail(frame.rgb, person)
            known.thumbnail_made = seconds


def named_now(
    mattes: Mattes, tracker: Tracker, seconds: float, rgb: np.ndarray | None = None
) -> Mattes:
    """Everyone who is confirmed at this moment, by id; nobody waits for later frames."""
    ids = tracker.update(mattes, seconds, rgb=rgb)
    ids = np.array([tracker.resolved.get(int(i), int(i)) for i in ids], np.int64)
    order = np.argsort(ids, kind="stable")
    return mattes.named(ids).pick(order[ids[order] > 0])


def thumbnail(rgb: np.ndarray, person: Any) -> bytes:
    """A square JPEG of a person's head and shoulders, over their colour."""
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = (float(edge) for edge in person.box)
    side = max(8.0, min(y1 - y0, 1.2 * (x1 - x0)))
    middle = (x0 + x1) / 2
    left, top = int(np.clip(middle - side / 2, 0, max(0, width - side))), int(max(0, y0))
    part = slice(top, min(height, int(top + side))), slice(left, min(width, int(left + side)))
    size = (THUMB_PIXELS, THUMB_PIXELS)
    piece = cv2.resize(rgb[part], size, interpolation=cv2.INTER_AREA).astype(np.float32)
    alpha = cv2.resize(person.codes[part], size, interpolation=cv2.INTER_AREA)[:, :, None]
    alpha = alpha * np.float32(1 / 255)
    behind = np.array(mark_colour(person.id), np.float32) * 0.45
    mixed = piece * alpha + behind * (1 - alpha)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(mixed[:, :, ::-1]).astype(np.uint8),
                           [cv2.IMWRITE_JPEG_QUALITY, 80])  # fmt: skip
    return data.tobytes()
