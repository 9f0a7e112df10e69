"""The only concurrency of the offline pipeline: one stage runs ahead of the next on its own thread.

A stage is any iterable.  `ahead` pulls it on a thread, at most `depth` items further than the
reader, and hands the items over in order.  Nothing is dropped: a slow reader makes the stage wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ahead(items: Iterable[T], *, depth: int, name: str) -> Iterator[Iterator[T]]:
    """Compute up to `depth` items in advance, on a thread that lives as long as the `with`.

    If the stage fails, the items before the failure still arrive, then the exception, with the
    stage's name in its notes.  Leaving the block, for whatever reason, stops the stage after the
    item it is working on and closes it, so that its own `finally` and `with` run on its thread.
    """
    if depth < 1:
        raise ValueError(f"{name}: depth should be at least 1, got {depth}")
    shelf = _Shelf(depth)

    def work() -> None:
        stage = iter(items)
        failure = None
        try:
            for item in stage:
                if not shelf.put(item):
                    break
        except BaseException as error:  # carried to the reader, never swallowed
            failure = error
        try:
            getattr(stage, "close", lambda: None)()
        except BaseException as error:
            failure = failure or error
        # one that comes through several stages is told where it came up
        if failure is not None and not getattr(failure, "__notes__", ()):
            failure.add_note(f"in stage {name!r}")
        shelf.finish(failure)

    thread = threading.Thread(target=work, name=name)
    thread.start()
    try:
        yield shelf.arrivals()
    finally:
        shelf.abandon()
        thread.join()


class _Shelf:
    """A bounded line of items between one giver and one taker, that either side may leave."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque = deque()
        self._changed = threading.Condition()
        self._finished = False  # the giver has no more
        self._abandoned = False  # the taker wants no more
        self._failure: BaseException | None = None

    def put(self, item: object) -> bool:
        """Wait for room and leave an item; False when nobody will take it any more."""
        with self._changed:
            while len(self._items) >= self._depth and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def finish(self, failure: BaseException | None) -> None:
        with self._changed:
            self._finished = True
            self._failure = failure
            self._changed.notify_all()

    def abandon(self) -> None:
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def arrivals(self) -> Iterator:
        while True:
            with self._changed:
                while not (self._items or self._finished or self._abandoned):
                    self._changed.wait()
                if not self._items:
                    failure, self._failure = self._failure, None
                    break
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # a reader that waits long should not hold a picture it has done with
        if failure is not None:
            raise failure
