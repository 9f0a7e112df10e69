"""Lanes of work on a device: what is enqueued on one runs in order, several lanes run beside each
other, and a mark lets one wait for another without stopping the program.

On a GPU a lane is a CUDA stream and a mark an event.  Everywhere else it is a thread and a flag:
the twin runs the same pipeline just as asynchronously, so that a wait that is missing, or a buffer
used again too early, gives wrong pictures in a test on any machine.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from typing import Any

Work = Callable[[], Any]


class Mark(ABC):
    """A point on a lane: everything enqueued before it is done once it is reached."""

    @abstractmethod
    def wait(self) -> None:
        """Stop the program until then.  Raises what the work raised."""

    @abstractmethod
    def reached(self) -> bool: ...


class Lane(ABC):
    """One line of work on a device."""

    handle: int  # of the CUDA stream; never 0, which is the default stream and waits for all

    @abstractmethod
    def do(self, work: Work) -> None:
        """Enqueue `work`: operations on the device and on memory that lives until they are done."""

    @abstractmethod
    def mark(self) -> Mark: ...

    @abstractmethod
    def after(self, mark: Mark) -> None:
        """What is enqueued from here on waits for `mark`, which may be another lane's."""

    @abstractmethod
    def recorded(self, work: Work) -> Work:
        """`work` in a form that is cheaper to enqueue again and again: a CUDA graph.

        It has to have run before, uses the same memory every time, and allocates none.
        """

    def finish(self) -> None:
        """Stop the program until everything enqueued here is done."""
        self.mark().wait()


class Lanes(ABC):
    """The lanes of one engine.  Names say what they carry."""

    upload: Lane
    infer: Lane
    detail: Lane
    download: Lane

    def every(self) -> tuple[Lane, ...]:
        return self.upload, self.infer, self.detail, self.download

    @abstractmethod
    def memory(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A tensor on the device, zeroed, that every lane may use."""

    @abstractmethod
    def host_memory(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A tensor on the host that copies to and from the device need not wait for."""

    def allocating(self) -> AbstractContextManager[Any]:
        """What is allocated in this block belongs to the infer lane, and is used there alone."""
        return nullcontext()

    def settle(self) -> None:
        """Wait for what was put on the device outside of any lane."""

    def close(self) -> None:
        for lane in self.every():
            lane.finish()


class _Event(Mark):
    def __init__(self, event: Any) -> None:
        self.event = event

    def wait(self) -> None:
        self.event.synchronize()

    def reached(self) -> bool:
        return self.event.query()


class CudaLane(Lane):
    """A CUDA stream of PyTorch's."""

    def __init__(self, device: Any, priority: int = 0) -> None:
        import torch

        self._torch = torch
        self.stream = torch.cuda.Stream(device, priority=priority)
        self.handle = self.stream.cuda_stream

    def do(self, work: Work) -> None:
        with self._torch.cuda.stream(self.stream):
            work()

    def mark(self) -> Mark:
        event = self._torch.cuda.Event()  # without timing: those are cheaper to record
        event.record(self.stream)
        return _Event(event)

    def after(self, mark: Mark) -> None:
        self.stream.wait_event(mark.event)  # type: ignore[attr-defined]

    def recorded(self, work: Work) -> Work:
        """Other threads may use CUDA meanwhile (decoders do), hence a capture of this one alone."""
        graph = self._torch.cuda.CUDAGraph()
        self.finish()
        with self._torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            work()
        return graph.replay


class CudaLanes(Lanes):
    """Four streams of one GPU.  The network has priority: what it waits for, everyone waits for."""

    def __init__(self, device: Any) -> None:
        import torch

        self._torch, self.device = torch, torch.device(device)
        self.upload, self.detail, self.download = (CudaLane(self.device) for _ in range(3))
        self.infer: CudaLane = CudaLane(self.device, priority=-1)

    def memory(self, shape: tuple[int, ...], dtype: Any) -> Any:
        made = self._torch.zeros(shape, dtype=dtype, device=self.device)
        self.settle()  # zeroed on the stream of whoever asked, used on others; rare
        return made

    def host_memory(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self._torch.zeros(shape, dtype=dtype, pin_memory=True)

    def allocating(self) -> AbstractContextManager[Any]:
        return self._torch.cuda.stream(self.infer.stream)

    def settle(self) -> None:
        self._torch.cuda.current_stream(self.device).synchronize()


class _Flag(Mark):
    def __init__(self, lane: ThreadLane) -> None:
        self._lane = lane
        self._set = threading.Event()

    def set(self) -> None:
        self._set.set()

    def wait(self) -> None:
        self._set.wait()
        if self._lane.failure is not None:
            raise self._lane.failure

    def reached(self) -> bool:
        return self._set.is_set()


class ThreadLane(Lane):
    """A thread that does one thing after the other.  After a failure it does nothing more, as a
    CUDA stream does not, and whoever waits for it is told."""

    def __init__(self, name: str, handle: int, pause: Callable[[], None] | None = None) -> None:
        self.handle, self.failure = handle, None
        self._pause = pause
        self._line: SimpleQueue[Work | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    failure: BaseException | None

    def _run(self) -> None:
        while (work := self._line.get()) is not None:
            if self._pause is not None:
                self._pause()
            if self.failure is not None and not getattr(work, "always", False):
                continue
            try:
                work()
            except BaseException as error:  # carried to whoever waits
                self.failure = error

    def do(self, work: Work) -> None:
        self._line.put(work)

    def mark(self) -> Mark:
        flag = _Flag(self)
        self._line.put(_Always(flag.set))
        return flag

    def after(self, mark: Mark) -> None:
        self._line.put(mark.wait)

    def recorded(self, work: Work) -> Work:
        return work

    def stop(self) -> None:
        self._line.put(None)
        self._thread.join()


class _Always:
    """Work that is done even after a failure, so that nobody waits for ever."""

    always = True

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self) -> None:
        self._work()


class ThreadLanes(Lanes):
    """The twin for a CPU.  `pause` is called before every piece of work; a test makes it sleep at
    random, which turns a race into a difference."""

    def __init__(self, pause: Callable[[], None] | None = None) -> None:
        import torch

        self._torch = torch
        self.upload, self.infer, self.detail, self.download = self._lanes = tuple(
            ThreadLane(name, handle, pause)
            for handle, name in enumerate(("upload", "infer", "detail", "download"), 1)
        )

    def memory(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self._torch.zeros(shape, dtype=dtype)

    host_memory = memory

    def close(self) -> None:
        try:
            super().close()
        finally:
            for lane in self._lanes:
                lane.stop()


class _Now(Mark):
    def wait(self) -> None:
        pass

    def reached(self) -> bool:
        return True


class SerialLane(Lane):
    """Does everything at once, in the order in which it is asked."""

    handle = 1

    def do(self, work: Work) -> None:
        work()

    def mark(self) -> Mark:
        return _Now()

    def after(self, mark: Mark) -> None:
        mark.wait()

    def recorded(self, work: Work) -> Work:
        return work


class SerialLanes(Lanes):
    """No overlap at all, on a CPU: what every overlapped run has to equal, bit for bit."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self.upload = self.infer = self.detail = self.download = SerialLane()

    def memory(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self._torch.zeros(shape, dtype=dtype)

    host_memory = memory
