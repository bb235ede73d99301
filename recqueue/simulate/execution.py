"""Replications on any executor: kept when the user interrupts, run again when a worker dies."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import get_context
from types import TracebackType
from typing import Generic, Self, TypeVar

from recqueue.errors import WorkerLostError

LOOK_S = 0.1
"""Seconds between two looks for Ctrl-C."""
Result = TypeVar("Result")
Task = Callable[[], Result]


class Crew(Generic[Result]):
    """Runs tasks that do not depend on each other, and keeps what is finished whatever happens to the rest.

    Parameters
    ----------
    executor : concurrent.futures.Executor or None
        Where the tasks run; None for threads of our own (the event loops release the GIL). It is not shut down. With
        processes the tasks must be picklable.
    workers : int or None
        Threads of our own, and processes that take over from a broken executor; all cores by default.

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C ended a run early.
    repeated : int
        Tasks run again because the worker that had them died.
    lost : int
        Tasks whose worker died twice.
    """

    def __init__(self, executor: Executor | None = None, workers: int | None = None) -> None:
        self.workers = workers or os.cpu_count() or 1
        self._own: list[Executor] = []
        self.executor = executor or self._hire(ThreadPoolExecutor(self.workers))
        self.interrupted, self.repeated, self.lost = False, 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for own in self._own:
            own.shutdown(wait=True, cancel_futures=True)

    def _hire(self, executor: Executor) -> Executor:
        self._own.append(executor)
        return executor

    def run(self, tasks: Sequence[Task[Result]]) -> dict[int, Result]:
        """Results by the place of their task; places are missing where Ctrl-C or two dead workers left none."""
        done = self._attempt(tasks, range(len(tasks)))
        missing = [i for i in range(len(tasks)) if i not in done]
        if missing and not self.interrupted:
            # Not forked: this process has threads, and a fork could inherit their locks.
            fresh = ProcessPoolExecutor(min(self.workers, len(missing)), mp_context=get_context("spawn"))
            self.executor = self._hire(fresh)
            self.repeated += len(missing)
            done |= self._attempt(tasks, missing)
            self.lost += len(tasks) - len(done) if not self.interrupted else 0
        return dict(sorted(done.items()))

    def run_all(self, tasks: Sequence[Task[Result]]) -> list[Result]:
        """Results of all tasks, in order; Ctrl-C ends it, and so does a worker that died twice (WorkerLostError)."""
        done = self.run(tasks)
        if len(done) < len(tasks):
            if self.interrupted:
                raise KeyboardInterrupt
            raise WorkerLostError(
                f"simulate: worker processes died twice and {len(done)} of {len(tasks)} replications are left; is "
                "there enough memory? Use fewer queries, more replications or fewer workers"
            )
        return list(done.values())

    def _attempt(self, tasks: Sequence[Task[Result]], places: Iterable[int]) -> dict[int, Result]:
        """Finished results; tasks whose worker died or that an interrupt stopped are left out, errors are raised."""
        futures: dict[int, Future[Result]] = {}
        with self._listening():
            with suppress(BrokenExecutor):
                for i in places:
                    if self.interrupted:
                        break
                    futures[i] = self.executor.submit(tasks[i])
            pending = set(futures.values())
            while pending:  # by and by, so that a signal which another thread received is seen here
                if self.interrupted:
                    for future in pending:
                        future.cancel()
                pending = wait(pending, timeout=LOOK_S).not_done
        done: dict[int, Result] = {}
        for i, future in futures.items():
            if future.cancelled():
                continue
            error = future.exception()
            if error is None:
                done[i] = future.result()
            elif isinstance(error, KeyboardInterrupt):  # the interrupt reached a worker process as well
                self.interrupted = True
            elif not isinstance(error, BrokenExecutor):
                raise error
        return done

    def _listening(self) -> AbstractContextManager[None]:
        def note() -> None:
            self.interrupted = True

        return noting_interrupt(note)


@contextmanager
def noting_interrupt(note: Callable[[], None]) -> Iterator[None]:
    """While the block runs Ctrl-C only calls ``note``, so that what has not begun can be cancelled.

    The default handler would raise wherever the main thread happens to be, in a finalizer too, where it is lost.
    """
    mine = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not mine or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        note()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
