"""What backends that run the exported network share: finding the file, and the step around it."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import AREA, LAG, EngineError, NotFinite, Pending, State, due, passed_on
from engines.closer import CLOSER, together
from engines.people import Answer, people, shrink, working_size
from matting.frames import Mattes

SIZES_KEPT = 6  # compiled networks held at once
OUTPUTS = Answer._fields  # the names matting/network/export.py gives them
NEXT = "_next"  # an input but the picture comes out again under its name with this behind it
REMEMBERED_AT = 16  # and is this much smaller than the picture

# What a network keeps from one frame of a video to the next, by the name of the input.
Kept = dict[str, np.ndarray]


def filled(kept: Kept, channels: dict[str, int], size: tuple[int, int]) -> Kept:
    """What the network is given beside a picture of (h, w) `size`: what it kept, or zeros where
    there is nothing or it belongs to pictures of another size."""
    given = {}
    for name, width in channels.items():
        shape = (1, width, size[0] // REMEMBERED_AT, size[1] // REMEMBERED_AT)
        before = kept.get(name)
        fits = before is not None and before.shape == shape
        given[name] = before if before is not None and fits else np.zeros(shape, np.float32)
    return given


class Left:
    """What a picture leaves for a later one of its video; what it was told itself, if it fails."""

    NOT_KEPT = ("making",)
    making: Future[Mattes] | None = None  # the picture, while it may be under way

    def __init__(self, before: Left | None) -> None:
        self._before, self.kept = before, Kept()

    def once_told(self, begin: Callable[[], object]) -> None:
        """Call `begin` as soon as what the picture is told is there, on whatever thread."""
        before = self._before.making if self._before is not None else None
        if before is None:
            begin()
        else:
            before.add_done_callback(lambda _: begin())

    def told(self) -> Kept:
        """What the picture itself is told."""
        if self._before is not None:
            self.kept, self._before = self._before.result(), None
        return self.kept

    def result(self) -> Kept:
        if self.making is not None:
            wait([self.making])
        return self.kept


def exported_file(weights: Path) -> Path:
    """The .onnx of `weights`: that file itself, or its sibling, or the one in that folder."""
    path = weights / "live.onnx" if weights.is_dir() else weights.with_suffix(".onnx")
    if not path.is_file():
        raise EngineError(
            f"{path}: no exported network there; make it with "
            f"python -m matting.network.export {path.with_suffix('.safetensors')}"
        )
    beside = path.with_suffix(".safetensors")
    if beside.is_file() and not belongs(path):
        raise EngineError(
            f"{path} was not exported from the weights beside it, or one of them is damaged; copy "
            f"both again, or: python -m matting.network.export {beside}"
        )
    if not beside.is_file() and beside.name.encode() in path.read_bytes():
        raise EngineError(
            f"{beside}: not there, and {path.name} keeps most of its weights in it; copy both files"
        )
    return path


def belongs(exported: Path) -> bool:
    """Whether an exported network is that of the weights beside it: it carries their SHA-256."""
    digest = hashlib.sha256(exported.with_suffix(".safetensors").read_bytes()).hexdigest()
    return digest.encode() in exported.read_bytes()


class ExportedEngine(ABC):
    """An engine over one compiled network per size of video, because static shapes run faster by a
    tenth, and one for photographs of any size, because compiling takes longer than a photograph.

    A step has all threads for its picture, which is answered soonest.  Pictures that are submitted
    (`overlap`) share the threads out among themselves: no thread waits for another's part of the
    same layer, and more pictures are done in all.  The two run networks compiled for the one or for
    the other; an engine that overlaps is loaded for the latter.
    """

    name: str

    def __init__(self, score_threshold: float, pixels: int = AREA) -> None:
        self.score_threshold, self.pixels = score_threshold, pixels
        self._ready: dict[tuple[tuple[int, int] | None, int], Any] = {}
        self._at_once = 1
        # channels of what the network keeps of a video, by name
        self._keeps: dict[str, int] = {}

    @abstractmethod
    def _compile(self, size: tuple[int, int] | None, at_once: int) -> Any:
        """The network for `at_once` pictures of (H, W) `size`, or of any, ready to run."""

    @abstractmethod
    def _run(self, network: Any, image: np.ndarray, kept: Kept) -> tuple[Answer, Kept]:
        """image (1, h, w, 3) uint8; what the network keeps of a video, and keeps from now on.
        Arrays that come out are nobody else's.  Called by as many threads as pictures at once."""

    def _first(self, size: tuple[int, int] | None) -> np.ndarray:
        """A picture of that size, or of 16:9, as `_run` takes it: to be ready with."""
        return np.zeros((1, *(size or self.working_size((9, 16))), 3), np.uint8)

    def warm_up(self) -> None:
        """Be ready for 16:9 before the first picture; a constructor ends with this."""
        self.network(self.working_size((9, 16)), self._at_once)

    def overlap(self, in_flight: int, threads: int | None) -> None:
        """From now on, offer to `submit` (engines/base.py), if there is more than one thread for
        it.  What the network keeps is given to the picture `LAG` later: no more are computed at
        once."""
        at_once = min(in_flight, threads or os.cpu_count() or 1, *[LAG] * bool(self._keeps))
        if at_once > 1:
            self._at_once = at_once
            self._workers = ThreadPoolExecutor(at_once, "network")
            self._under_way: deque[Future[Mattes]] = deque()
            self.in_flight, self.submit = in_flight, self._submit

    def network(self, size: tuple[int, int] | None, at_once: int = 1) -> Any:
        """The network for pictures of (H, W) `size`, or of any; compiled if it is not at hand."""
        key = (size, at_once)
        if key not in self._ready:
            if len(self._ready) >= SIZES_KEPT:
                self._ready.pop(next(iter(self._ready)))  # the one compiled longest ago
            self._ready[key] = self._compile(size, at_once)
        return self._ready[key]

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (H, W) the network sees of a picture of `size`."""
        return working_size(size, self.pixels)

    def start(self) -> State:
        return None  # nothing has been seen yet

    def step(self, rgb: np.ndarray, state: State) -> tuple[Mattes, State]:
        size = self._accepted(rgb)
        left = Left(due(state))
        mattes = self._matted(self.network(size), size, rgb, left)
        return mattes, passed_on(state, left) if self._keeps else {}

    def _submit(self, rgb: np.ndarray, state: State) -> tuple[Pending, State]:
        size = self._accepted(rgb)
        network = self.network(size, self._at_once)
        while len(self._under_way) >= self.in_flight:
            wait([self._under_way.popleft()])
        left = Left(due(state))
        left.making = making = Future[Mattes]()

        def work() -> None:
            try:
                making.set_result(self._matted(network, size, rgb, left))
            except BaseException as error:
                making.set_exception(error)

        left.once_told(lambda: self._workers.submit(work))
        self._under_way.append(making)
        return making, passed_on(state, left) if self._keeps else {}

    def _accepted(self, rgb: np.ndarray) -> tuple[int, int]:
        """The working size of a picture that can be matted."""
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f"expected (H, W, 3) uint8 RGB, got {rgb.shape} {rgb.dtype}")
        return self.working_size(rgb.shape[:2])

    def still(self, rgb: np.ndarray, closer: bool = True) -> Mattes:
        sizes = [self._accepted(rgb)]
        if closer:
            sizes.append(working_size(rgb.shape[:2], CLOSER * self.pixels))
        network = self.network(None)
        # nothing is kept of a photograph, so nothing is told of one
        answers = [self._answered(network, shrink(rgb, size), {})[0] for size in sizes]
        return people(reduce(together, answers), rgb, self.score_threshold)

    def _matted(
        self, network: Any, size: tuple[int, int], rgb: np.ndarray, left: Left
    ) -> Mattes:
        told, image = left.told(), shrink(rgb, size)
        answer, kept = self._answered(network, image, told)
        mattes = people(answer, rgb, self.score_threshold, image[0])
        left.kept = kept
        return mattes

    def _answered(self, network: Any, image: np.ndarray, told: Kept) -> tuple[Answer, Kept]:
        """What the network says, and keeps.  Raises NotFinite."""
        answer, kept = self._run(network, image, told)
        made = (*answer, *kept.values())
        if not all(np.isfinite(part.sum()) for part in made):  # one that is not shows in the sum
            raise NotFinite(f"{self.name}: the network answered with numbers that are not finite")
        return answer, kept

    def release(self) -> None:
        """Give back what can be made again, where memory is short."""
        self._ready.clear()

    def close(self) -> None:
        if hasattr(self, "submit"):
            wait(self._under_way)  # those that wait for others are begun by them
            self._workers.shutdown()
        self._ready.clear()
