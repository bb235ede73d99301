"""Tasks on an executor, a few ahead of the workers: results as they come, again when a worker dies."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from multiprocessing import get_context
from types import TracebackType
from typing import Generic, Self, TypeVar

from recqueue.errors import WorkerLostError
from recqueue.simulate.execution import LOOK_S, noting_interrupt

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")
_AHEAD = 2
"""Tasks handed out for each worker, so that none waits for the next."""
ATTEMPTS = 3
"""Workers that may die under a task before the run gives up."""
_LOST = {"KilledWorker", "CommClosedError", "FutureCancelledError", "LostWorkerError"}
"""Names of errors by which Dask says that a worker has gone; by name, so that it need not be installed."""


def _leave_interrupts() -> None:
    """Ctrl-C in the terminal reaches the workers too; the process that hands out the tasks answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class _Job(Generic[TaskT]):
    number: int
    task: TaskT
    attempt: int = 1


class Farm(Generic[TaskT, ResultT]):
    """Workers for tasks that do not depend on each other.

    Parameters
    ----------
    executor : concurrent.futures.Executor or None
        Where tasks run; processes of our own where there is none. It is not shut down.
    workers : int or None
        How many run at a time; all cores by default.

    Attributes
    ----------
    interrupted : int
        How often Ctrl-C was pressed.
    retried : int
        Tasks run again because their worker died.
    """

    def __init__(self, executor: Executor | None = None, workers: int | None = None) -> None:
        self.workers = workers or os.cpu_count() or 1
        self._own: ProcessPoolExecutor | None = None
        self._executor = executor
        self.interrupted, self.retried = 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own:
            if kind is not None or self.interrupted > 1:  # nobody wants what they are at
                for process in list((getattr(self._own, "_processes", None) or {}).values()):
                    process.terminate()
            self._own.shutdown(wait=True, cancel_futures=True)

    def _hire(self) -> Executor:
        """The executor, or new processes of our own."""
        if self._executor is None:
            # Not forked: this process may have threads, and a fork could inherit their locks.
            self._executor = self._own = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=_leave_interrupts
            )
        return self._executor

    def results(
        self, tasks: Iterator[tuple[int, TaskT]], work: Callable[[TaskT], ResultT]
    ) -> Iterator[tuple[int, ResultT]]:
        """Number and result of each task, as they are finished.

        After Ctrl-C what has begun is finished and nothing else; after another one nothing is.

        Raises
        ------
        WorkerLostError
            When a task has lost its worker ``ATTEMPTS`` times.
        """
        again: deque[_Job[TaskT]] = deque()
        pending: dict[Future[ResultT], tuple[_Job[TaskT], Executor]] = {}

        def note() -> None:
            self.interrupted += 1

        with noting_interrupt(note):
            while True:
                while not self.interrupted and len(pending) < _AHEAD * self.workers:
                    job = again.popleft() if again else _next(tasks)
                    if job is None:
                        break
                    executor = self._hire()
                    try:
                        pending[executor.submit(work, job.task)] = job, executor
                    except BrokenExecutor:
                        self._leave(executor)
                        again.append(job)
                if self.interrupted:
                    for future in [f for f in pending if f.cancel()]:
                        del pending[future]
                if not pending or self.interrupted > 1:
                    return
                for future in wait(pending, timeout=LOOK_S, return_when=FIRST_COMPLETED).done:
                    job, executor = pending.pop(future)
                    error = None if future.cancelled() else future.exception()
                    if future.cancelled() or _is_lost(error):
                        if isinstance(error, BrokenExecutor):
                            self._leave(executor)
                        if not self.interrupted:
                            again.append(self._once_more(job))
                    elif error is not None:
                        raise error
                    else:
                        yield job.number, future.result()

    def _once_more(self, job: _Job[TaskT]) -> _Job[TaskT]:
        if job.attempt >= ATTEMPTS:
            raise WorkerLostError(
                f"sweep: {ATTEMPTS} workers died under the same points; is there enough memory? What is finished is "
                "kept: the same command goes on from there"
            )
        self.retried += 1
        return replace(job, attempt=job.attempt + 1)

    def _leave(self, executor: Executor) -> None:
        """Do without an executor that lost a process: it takes nothing more."""
        if executor is self._executor:
            self._executor = None
        if executor is self._own:
            self._own.shutdown(wait=False, cancel_futures=True)
            self._own = None


def _next(tasks: Iterator[tuple[int, TaskT]]) -> _Job[TaskT] | None:
    return next((_Job(number, task) for number, task in tasks), None)


def _is_lost(error: BaseException | None) -> bool:
    return isinstance(error, BrokenExecutor) or type(error).__name__ in _LOST
