"""A place between two threads that holds one item: the newest.

The policy of everything live.  A giver never waits; a taker that is slow gets the latest item and
never an old one; what was replaced before anybody took it is counted.  (`overlap.py` is the other
policy: nothing is dropped, and the giver waits.)
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """Room for one item.  Safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self.dropped = 0  # items that were replaced before they were taken

    def put(self, item: T) -> None:
        """Leave an item, in place of the one that may still lie there."""
        with self._changed:
            if self._closed:
                return
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()

    def wait(self, timeout_seconds: float) -> bool:
        """Whether an item lies here, or comes within the time given.  It stays."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout_seconds)
            return self._item is not None

    def take(self, timeout_seconds: float) -> T | None:
        """The newest item, each only once; None after the time given, or when closed."""
        with self._changed:
            if self._item is None and not self._closed:
                self._changed.wait_for(lambda: self._item is not None or self._closed,
                                       timeout_seconds)  # fmt: skip
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Let everyone who waits go.  What still lies here can be taken once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
