"""Memory that a long run has freed, given back to the system.

Pictures of several threads come and go in glibc's heaps and leave holes: half an hour of live held 60
to 90 MB that nobody used any more, in steps that never quite ended (bench/soak.py).  The holes are
given back by `malloc_trim`; other C libraries do this by themselves, and nothing happens there.
"""

from __future__ import annotations

import ctypes
import sys
import time

EVERY_SECONDS = 60.0


def give_back() -> bool:
    """Whether anything was given back."""
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    return bool(trim(0)) if trim else False


class Tidy:
    """Gives back once a minute; to be asked between two pictures."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._last < EVERY_SECONDS:
            return False
        self._last = now
        return give_back()
