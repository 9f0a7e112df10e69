"""Showing pictures to a network, to learn from what it says of them."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")
TELL_EVERY = 15.0  # seconds


def as_image(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in -1..1"""
    return torch.from_numpy(np.ascontiguousarray(rgb))[None].permute(0, 3, 1, 2).float() / 127.5 - 1


def on_cells(alpha: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(P, H, W) uint8 -> (P, *size) float32 in 0..1: true mattes on the grid of location maps."""
    made = np.zeros((len(alpha), *size), np.float32)
    for cells, matte in zip(made, alpha, strict=True):
        cells[:] = cv2.resize(matte, size[::-1], interpolation=cv2.INTER_AREA)
    return made / 255


def reported(pictures: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The same, with a line on stderr now and then that says how far it is."""
    began, told = time.monotonic(), 0.0
    for number, picture in enumerate(pictures, 1):
        yield picture
        now = time.monotonic()
        if now - told > TELL_EVERY:
            told, left = now, (now - began) / number * (total - number)
            print(f"{what}: {number} of {total} pictures, {left / 60:.0f} min left",
                  file=sys.stderr, flush=True)  # fmt: skip


def side_by_side(work: Callable[[T], R], pictures: Iterable[T]) -> Iterator[R]:
    """`work` of every picture, in their order: as many pictures at once as torch has threads, each
    with one of them.  Nobody waits for another's part of a layer, or for a picture to be made."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            under_way: deque[Future[R]] = deque()
            for picture in pictures:
                under_way.append(pool.submit(work, picture))
                if len(under_way) > threads:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
    finally:
        torch.set_num_threads(threads)
