"""Any number of people, whatever the weights: what a speed measurement needs.

The network runs as it does, on the frames of a clip, and costs what it costs.  Then what it said
about people is replaced by `people` who walk to and fro: their places, outlines and codes are made
up, their edges follow the picture through the network's own fine features.  From there on everyone
is drawn, followed and saved as usual.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from engines.base import Engine, State
from engines.exported import ExportedEngine, Kept
from engines.people import Answer

EDGE = 0.12  # of a person's half-width: how broad the band is in which colour decides


class Crowd:
    """An engine that finds `people` people in every picture.  `inner` runs the exported network."""

    def __init__(self, inner: Engine, people: int) -> None:
        if not isinstance(inner, ExportedEngine):
            raise TypeError(f"a crowd needs an engine of the exported network, got {inner.name}")
        own: Any = inner
        self._inner, self._people = own, people
        self.name = inner.name
        self.working_size = inner.working_size
        self._run = partial(type(inner)._run, inner)
        self._steps = count()  # of two pictures under way, either may be taken for the earlier
        own._run = self._crowded  # until it is another crowd's
        self.step = inner.step
        if hasattr(inner, "submit"):
            self.submit, self.in_flight = own.submit, own.in_flight

    def start(self) -> State:
        self._steps = count()
        return self._inner.start()

    def network(self, size: tuple[int, int]) -> None:
        """Nothing but the network, once, on a picture of (h, w) `size` that it is ready for."""
        self._run(self._inner.network(size), np.full((1, *size, 3), 120, np.uint8), {})

    def close(self) -> None:
        pass  # the inner engine belongs to who made it

    def _crowded(self, network: Any, image: np.ndarray, kept: Kept) -> tuple[Answer, Kept]:
        answer, kept = self._run(network, image, kept)
        return scripted(answer, self._people, next(self._steps)), kept


def scripted(answer: Answer, people: int, step: int) -> Answer:
    """The same picture's answer, with these people in it at this step."""
    height, width = answer.location.shape[1:]
    y, x = np.indices((height, width), dtype=np.float32)
    rows = 1 if people <= 6 else 2
    columns = -(-people // rows)
    location = np.empty((people, height, width), np.float32)
    trimap = np.empty((people, 3, height, width), np.float32)
    for i in range(people):
        row, column = divmod(i, columns)
        middle = (column + 0.5 + 0.15 * np.sin(step / 12 + i)) * width / columns
        half_width = 0.38 * width / max(columns, 3)
        half_height = 0.42 * height / rows
        away = np.hypot((x - middle) / half_width, (y - (row + 0.5) * height / rows) / half_height)
        location[i] = 1 / (1 + np.exp(np.clip(10 * (away - 1), -30, 30)))
        inside = np.clip((1 - away) / EDGE, -6, 6)
        trimap[i] = -6 * inside, 6 - 6 * np.abs(inside), 6 * inside
    # the kernels of whom the network is surest of give slopes of colour that are real
    kernels = np.repeat(answer.kernels[[int(answer.score.argmax())]], people, 0)
    code = np.zeros((people, answer.code.shape[1]), np.float32)
    code[np.arange(people), np.arange(people) % code.shape[1]] = 1
    score = np.linspace(0.99, 0.9, people).astype(np.float32)
    return Answer(score, code, location, trimap, kernels, answer.fine)


def clip_of(
    source: Path, size: tuple[int, int], frames: int, target: Path, rate: int = 25
) -> Path:
    """The first frames of `source`, again and again, as H.264 of (H, W) `size`."""
    with av.open(str(source)) as file:
        pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    with av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            picture = cv2.resize(pictures[i % len(pictures)], size[::-1])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return target
