"""What the program says while it works: a live line for people, events for programs.

People read stderr: one line that updates itself on a terminal, a line every ten seconds where
there is no terminal (a log file should not fill with frames).  Programs read stdout: with `--json`
one JSON object per line and nothing else; without it, nothing at all.  `--log-format json` makes
what people read one JSON object per line too, with time and level, for whoever collects logs.

Events: `start`, `person_appeared`, `progress`, `warning`, `done`, `error`.  Each carries `input`
once there is one; times are seconds, sizes are [height, width].
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from configs.metrics import Metrics

LIVE_SECONDS = 0.1  # how often the line on a terminal is drawn again
LOG_SECONDS = 10.0  # how often a line goes to a log
EVENT_SECONDS = 1.0  # how often a `progress` event is sent
WINDOW_SECONDS = 3.0  # frames/s shown while running are of the last moments, not of the whole run


class Console:
    """Says how a run is going.  One per program; inputs are told one after another."""

    def __init__(
        self,
        *,
        json_events: bool = False,
        quiet: bool = False,
        log_format: str = "text",
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        self._json = json_events
        self._json_log = log_format == "json"
        self._quiet = quiet
        # Where a stream was closed before we were started, nobody listens: say it to no one.
        self._stdout = stdout or sys.stdout or _Nobody()
        self._stderr = stderr or sys.stderr or _Nobody()
        self._clock = clock
        self._metrics = metrics
        self._live = not quiet and not self._json_log and self._stderr.isatty()
        self._drawn = 0  # characters of the live line that is on the screen now
        self._input: str | None = None
        self._estimate: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._started = self._clock()
        self._frames = 0
        self._recent: deque[tuple[float, int]] = deque([(self._started, 0)])
        self._last_line = self._last_event = self._measured = self._started

    def note(self, text: str) -> None:
        """Something worth knowing once, such as which engine was chosen and why."""
        if not self._quiet:
            self._line(text)

    def start(
        self, uri: str, out: str, size: tuple[int, int], engine: str, frames: int | None
    ) -> None:
        self._input, self._estimate = uri, frames
        self._begin()
        about = f"{size[1]}x{size[0]}" + (f", about {frames} frames" if frames else "")
        self.note(f"{uri} ({about}) -> {out}, engine {engine}")
        self._event("start", out=out, size=list(size), engine=engine, frames_estimate=frames)

    def appeared(self, person: int, seconds: float) -> None:
        """Someone is seen for the first time."""
        self._event("person_appeared", id=person, seconds=round(seconds, 4))

    def progress(self, people: int) -> None:
        """One more frame is written, with this many people in it."""
        self._frames += 1
        now = self._clock()
        if self._metrics:
            self._metrics.count("frames_total")
            self._metrics.set("people", people)
            if now - self._measured >= EVENT_SECONDS:
                self._measured = now
                self._metrics.set("frames_per_second", round(self._rate(now), 3))
        if self._live and now - self._last_line >= LIVE_SECONDS:
            self._last_line = now
            self._draw(self._status(now, people))
        elif not self._live and not self._quiet and now - self._last_line >= LOG_SECONDS:
            self._last_line = now
            self._line(self._status(now, people))
        if self._json and now - self._last_event >= EVENT_SECONDS:
            self._last_event = now
            rate, eta = self._rate(now), self._eta(now)
            self._event(
                "progress",
                frames=self._frames,
                frames_estimate=self._estimate,
                frames_per_second=round(rate, 3),
                people=people,
                eta_seconds=None if eta is None else round(eta, 1),
            )

    def warning(self, text: str) -> None:
        if not self._quiet:
            self._line(f"warning: {text}", "warning")
        if self._metrics:
            self._metrics.count("warnings_total")
        self._event("warning", message=text)

    def done(self, frames: int, people: int, paths: list[str], *, damaged: bool) -> None:
        """One input is finished.  `damaged`: some of it could not be read, or was cut short."""
        if self._metrics:
            self._metrics.count("inputs_total")
        seconds = self._clock() - self._started
        rate = frames / seconds if seconds > 0 else 0.0
        self.note(
            f"{frames} {_plural(frames, 'frame')}, {people} {_plural(people, 'person', 'people')}, "
            f"{seconds:.1f} s, {rate:.1f} frames/s"
        )
        for path in paths[:3]:
            self.note(f"  {path}")
        if len(paths) > 3:
            self.note(f"  and {len(paths) - 3} more")
        self._event(
            "done",
            frames=frames,
            people=people,
            seconds=round(seconds, 3),
            frames_per_second=round(rate, 3),
            paths=paths,
            damaged=damaged,
        )

    def error(self, text: str, code: int) -> None:
        """What went wrong.  Said even when quiet."""
        self._line(f"error: {text}", "error")
        if self._metrics:
            self._metrics.count("errors_total")
        self._event("error", message=text, exit_code=code)

    def engines(self, found: Sequence[tuple[str, bool, str]]) -> None:
        """Which engines can run here, and why not the others: the answer to `--engines`."""
        if self._json:
            for name, usable, reason in found:
                self._event("engine", name=name, usable=usable, reason=reason)
            return
        width = max((len(name) for name, _, _ in found), default=0)
        for name, usable, reason in found:
            mark = "yes" if usable else "no "
            print(f"{name:<{width}}  {mark}  {reason}".rstrip(), file=self._stdout)

    def finding(self, **about: Any) -> None:
        """One thing `doctor` has looked at."""
        self._event("finding", **about)

    def close(self) -> None:
        self._wipe()
        if self._metrics:
            self._metrics.close()

    def _status(self, now: float, people: int) -> str:
        done = f"{self._frames}" + (f"/{self._estimate}" if self._estimate else "")
        eta = self._eta(now)
        left = "" if eta is None else f"  {_clock_face(eta)} left"
        here = f"{people} {_plural(people, 'person', 'people')}"
        return f"frame {done}  {self._rate(now):.1f} frames/s  {here}{left}"

    def _rate(self, now: float) -> float:
        """Frames per second over the last moments."""
        self._recent.append((now, self._frames))
        while len(self._recent) > 2 and now - self._recent[0][0] > WINDOW_SECONDS:
            self._recent.popleft()
        then, frames = self._recent[0]
        return (self._frames - frames) / (now - then) if now > then else 0.0

    def _eta(self, now: float) -> float | None:
        elapsed = now - self._started
        if not self._estimate or not self._frames or elapsed <= 0:
            return None
        return max(0, self._estimate - self._frames) * elapsed / self._frames

    def _event(self, event: str, **about: Any) -> None:
        if not self._json:
            return
        head: dict[str, Any] = {"event": event}
        if self._input is not None:
            head["input"] = self._input
        try:
            print(json.dumps(head | about), file=self._stdout, flush=True)
        except (OSError, ValueError):
            self._json = False  # whoever listened has left; the files are still wanted

    def _draw(self, text: str) -> None:
        text = text[: get_terminal_size().columns - 1]  # a line that wraps cannot be drawn over
        self._stderr.write("\r" + text.ljust(self._drawn))
        self._stderr.flush()
        self._drawn = len(text)

    def _wipe(self) -> None:
        if self._drawn:
            self._stderr.write("\r" + " " * self._drawn + "\r")
            self._stderr.flush()
            self._drawn = 0

    def _line(self, text: str, level: str = "info") -> None:
        self._wipe()
        if self._json_log:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            text = text.removeprefix(f"{level}: ")
            record = {"time": now, "level": level, "message": text}
            text = json.dumps(record | ({"input": self._input} if self._input else {}))
        try:
            print(text, file=self._stderr, flush=True)
        except (OSError, ValueError):  # a full disk behind a log must not cost the results
            self._stderr = _Nobody()
            self._live = False


class _Nobody(io.TextIOBase):
    """A stream to which everything may be said."""

    def write(self, text: str) -> int:
        return len(text)

    def isatty(self) -> bool:
        return False


def _plural(count: int, one: str, more: str = "") -> str:
    return one if count == 1 else (more or one + "s")


def _clock_face(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
