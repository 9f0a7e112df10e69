"""Ctrl-C and SIGTERM, heard politely: the files under way are finished, then the program ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """Which signal, if any, has asked the run to end."""

    signal: int | None = None

    @property
    def name(self) -> str:
        return signal.Signals(self.signal).name if self.signal else ""


@contextmanager
def polite_stop() -> Iterator[Stop]:
    """While inside, the first SIGINT or SIGTERM is only noted; a second one ends the program."""
    stop = Stop()

    def asked(number: int, _: object) -> None:
        if stop.signal:
            raise KeyboardInterrupt
        stop.signal = number

    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals are the main thread's; whoever runs us in another one keeps theirs
        return
    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
