"""Who does the work: processes of this machine, or a Ray cluster.

Both answer a job with its chunk, do it again where a worker died, and give up with a clear error
when that keeps happening.  Jobs are started in the order they were given.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from cluster.work import Job, matte_part

MOST_DEATHS = 5  # of workers, without a single part finished between them

Work = Callable[[Job], bytes]


class WorkersError(RuntimeError):
    """The work cannot be done by these workers; the message says why, and what mends it."""


class Workers(Protocol):
    def submit(self, job: Job) -> Any:
        """Have a job done; the ticket is for `chunk`."""

    def chunk(self, ticket: Any) -> bytes:
        """Wait for a job.  Raises what the job raised, and WorkersError."""

    def close(self) -> None:
        """Stop, also in the middle of a job."""


class LocalWorkers:
    """Processes of this machine.  Where one dies, its job is done again."""

    def __init__(self, count: int, work: Work = matte_part) -> None:
        self._count, self._work = count, work
        self._lock = threading.Lock()
        self._waiting: dict[int, Job] = {}  # jobs without an answer, by ticket, in order
        self._futures: dict[int, Future[bytes]] = {}
        self._tickets = 0
        self._deaths = 0
        self._pool = self._begin()

    def _begin(self) -> ProcessPoolExecutor:
        for name in ("OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
            os.environ.setdefault(name, "1")  # run_stream.py; processes inherit it
        # a fresh interpreter: a fork would inherit locks of threads it does not have
        return ProcessPoolExecutor(self._count, mp_context=get_context("spawn"))

    def submit(self, job: Job) -> int:
        with self._lock:
            self._tickets += 1
            self._waiting[self._tickets] = job
            try:
                self._futures[self._tickets] = self._pool.submit(self._work, job)
            except BrokenProcessPool:  # `chunk` begins anew, with this job among the rest
                failed: Future[bytes] = Future()
                failed.set_exception(BrokenProcessPool())
                self._futures[self._tickets] = failed
            return self._tickets

    def chunk(self, ticket: int) -> bytes:
        while True:
            future = self._futures[ticket]
            try:
                answer = future.result()
            except BrokenProcessPool:
                self._again(future, ticket)
                continue
            with self._lock:
                self._deaths = 0
                self._waiting.pop(ticket, None)
                self._futures.pop(ticket, None)
            return answer

    def _again(self, broken: Future[bytes], ticket: int) -> None:
        """A worker died, and its pool with it: a new one takes over what has no answer yet."""
        with self._lock:
            if self._futures[ticket] is not broken:
                return  # somebody else has begun anew already
            self._deaths += 1
            if self._deaths > MOST_DEATHS:
                raise WorkersError(
                    f"workers died {self._deaths} times without finishing a part (out of memory?): "
                    "use fewer --workers"
                )
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = self._begin()
            for name, job in self._waiting.items():
                done = self._futures[name]
                if not done.done() or done.cancelled() or done.exception() is not None:
                    self._futures[name] = self._pool.submit(self._work, job)

    @property
    def pids(self) -> list[int]:
        """The processes, those that have begun."""
        return list(self._pool._processes or ())

    def close(self) -> None:
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:  # in mid-job: nothing it does is wanted any more
            process.terminate()
        for process in processes:
            process.join(5)


class RayWorkers:
    """Workers of a Ray cluster: `local` starts one on this machine, `ray://host:port` joins one.

    The input has to be where the workers see it under the same name (a shared disk); chunks come
    back through Ray.  A local cluster listens on loopback alone and has no dashboard.
    """

    def __init__(self, address: str, count: int, work: Work = matte_part) -> None:
        try:
            import ray
        except ImportError:
            raise WorkersError(
                "--cluster needs Ray: pip install '.[cluster]', or use --workers"
            ) from None
        self._ray = ray
        root = Path(__file__).resolve().parent.parent
        try:
            if address == "local":
                ray.init(
                    num_cpus=count, include_dashboard=False, _node_ip_address="127.0.0.1",
                    log_to_driver=False, configure_logging=False,
                )  # fmt: skip
            else:  # the program goes along; pictures and results stay here
                ray.init(
                    address, log_to_driver=False,
                    runtime_env={"working_dir": str(root), "excludes": ["out", "runs", ".venv",
                                 ".git", "demo", "docs"]},
                )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WorkersError(f"no Ray cluster at {address}: {told}") from None
        self._remote = ray.remote(num_cpus=1, max_retries=MOST_DEATHS)(work)

    def submit(self, job: Job) -> Any:
        return self._remote.remote(job)

    def chunk(self, ticket: Any) -> bytes:
        from ray.exceptions import RayError, RayTaskError

        try:
            return self._ray.get(ticket)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            told = str(error).splitlines()[0]
            raise WorkersError(f"the Ray cluster could not finish a part: {told}") from None

    def close(self) -> None:
        self._ray.shutdown()
