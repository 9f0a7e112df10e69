"""Pictures on their way to browsers: one encoder, any number of viewers, nobody waits for another.

A message is 4 bytes with the length of a JSON header (little endian), the header, a map of who is
where, and a JPEG.  The map has one byte per 8 x 8 pixels or so: 0, or 1 + the place in the header's
`people`.  With `"alpha": true` the JPEG is twice as high: colours above, their alpha below, because
no codec that every browser decodes has an alpha of its own.

A viewer says which picture it has drawn; only then does it get another one.  So a slow connection
gets fewer pictures and never old ones.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from stream.sinks import Shown, Sink

VIEWS = ("result", "cutout", "source")
IN_FLIGHT = 2  # pictures a viewer may have that it has not drawn yet
MAP_PIXELS = 8  # of the sent picture, per cell of the map
MOST_VIEWERS = 16
SOMEBODY = 90  # alpha code above which a cell of the map is a person's


@dataclass(eq=False)
class Viewer:
    """One open page."""

    view: str
    rows: int
    queue: asyncio.Queue[bytes]
    loop: asyncio.AbstractEventLoop
    under_way: dict[int, float] = field(default_factory=dict)  # sequence -> when it arrived here
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=200))

    def drawn(self, sequence: int) -> None:
        """The page has drawn this one: its age is what people see."""
        arrived = self.under_way.pop(sequence, None)
        if arrived is not None:
            self.delays.append(time.monotonic() - arrived)
        for older in [s for s in self.under_way if s < sequence]:
            del self.under_way[older]

    @property
    def delay_ms(self) -> float | None:
        recent = sorted(self.delays)[len(self.delays) // 2 :]
        return round(recent[0] * 1000, 1) if recent else None


class Hub(Sink):
    """The sink that the page is."""

    def __init__(self, rows: int, quality: int) -> None:
        self._rows, self._quality = rows, quality
        self._viewers: list[Viewer] = []
        self._viewers_lock = threading.Lock()
        self._sequence = 0
        self._last: Shown | None = None
        super().__init__("page")

    @property
    def wants_cut_out(self) -> bool:  # type: ignore[override]
        return any(viewer.view == "cutout" for viewer in self._viewers)

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    def join(self, view: str, rows: int | None) -> Viewer:
        """Called on the event loop.  Raises ValueError when there are too many."""
        with self._viewers_lock:
            if len(self._viewers) >= MOST_VIEWERS:
                raise ValueError(f"{MOST_VIEWERS} pages are open already")
            viewer = Viewer(view, min(rows or self._rows, self._rows), asyncio.Queue(),
                            asyncio.get_running_loop())  # fmt: skip
            self._viewers = [*self._viewers, viewer]
        if self._last is not None:
            self.put(self._last)  # a page that opens on a still picture should not stay empty
        return viewer

    def leave(self, viewer: Viewer) -> None:
        with self._viewers_lock:
            self._viewers = [other for other in self._viewers if other is not viewer]

    def _open(self, size: tuple[int, int]) -> None:
        pass

    def _shut(self) -> None:
        pass

    def _write(self, shown: Shown) -> None:
        self._last = shown
        self._sequence += 1
        made: dict[tuple[str, int], bytes] = {}
        for viewer in self._viewers:
            if len(viewer.under_way) >= IN_FLIGHT:
                continue
            if viewer.view == "cutout" and shown.cut_out is None and not shown.slate:
                continue  # asked for after this picture was composed
            key = viewer.view, viewer.rows
            if key not in made:
                made[key] = message(shown, *key, self._quality, self._sequence)
            viewer.under_way[self._sequence] = shown.arrived
            try:
                viewer.loop.call_soon_threadsafe(viewer.queue.put_nowait, made[key])
            except RuntimeError:  # the loop is closed: the server is going down
                self.leave(viewer)


def message(shown: Shown, view: str, rows: int, quality: int, sequence: int) -> bytes:
    """One picture for the pages that want this view at this height."""
    alpha = None
    if view == "cutout":
        if shown.cut_out is not None:
            rgb, alpha = shown.cut_out
        else:  # a slate has nobody to cut out
            rgb, alpha = shown.composite, np.zeros(shown.frame.size, np.uint8)
    else:
        rgb = shown.composite if view == "result" else shown.frame.rgb
    height, width = shown.frame.size
    scale = min(1.0, rows / height)
    size = max(2, round(width * scale)), max(2, round(height * scale))
    if scale < 1:
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        alpha = None if alpha is None else cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    if alpha is not None:
        # Outside of people colour is never seen; black there makes the JPEG small.
        rgb = cv2.bitwise_and(rgb, rgb, mask=cv2.dilate(alpha, np.ones((9, 9), np.uint8)))
        rgb = np.vstack([rgb, cv2.merge([alpha, alpha, alpha])])
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
                           [cv2.IMWRITE_JPEG_QUALITY, quality])  # fmt: skip
    cells = max(1, round(size[1] / MAP_PIXELS)), max(1, round(size[0] / MAP_PIXELS))
    places = who_is_where(shown, cells)
    header: dict[str, Any] = {
        "sequence": sequence,
        "slate": shown.slate,
        "size": [height, width],
        "alpha": alpha is not None,
        "map": list(cells),
        "people": [
            {"id": person.id, "box": [round(float(edge), 1) for edge in person.box]}
            for person in shown.mattes
        ],
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    return b"".join([struct.pack("<I", len(text)), text, places.tobytes(), jpeg.tobytes()])


def who_is_where(shown: Shown, cells: tuple[int, int]) -> np.ndarray:
    """(h, w) uint8: 0 where nobody is, else 1 + the row of the person who is most there, as seen at
    a pixel of each cell."""
    places = np.zeros(cells, np.uint8)
    most = np.full(cells, SOMEBODY, np.uint8)
    for row, person in enumerate(itertools.islice(shown.mattes, 254)):
        here = cv2.resize(person.codes, cells[::-1], interpolation=cv2.INTER_NEAREST)
        places[here > most] = row + 1
        np.maximum(most, here, out=most)
    return places
