"""Worker processes, forked once for a model and pinned to cores, that do what the main process tells them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.sharedctypes import RawValue
from time import monotonic, perf_counter, thread_time
from typing import Any

import numpy as np

from calibration.timing import FORK, pin

Work = Callable[[int, int], Any]
"""Does the work of a sub-request: (items, turn)."""
PATIENCE_S = 300.0
"""A worker that has not answered by then is taken for dead."""


class Shared:
    """What the main process and all workers see: made before the fork, read without locks where it is read often."""

    def __init__(self) -> None:
        self.jobs, self.answers = FORK.SimpleQueue(), FORK.SimpleQueue()
        self.ready, self.enough = FORK.Semaphore(0), FORK.Semaphore(0)
        self.counting, self.stop = RawValue("b", 0), RawValue("b", 0)

    def wait(self, signal: Any, count: int) -> None:
        """Wait until ``count`` workers have given the signal."""
        for _ in range(count):
            if not signal.acquire(timeout=PATIENCE_S):
                raise RuntimeError(f"a worker process gave no sign for {PATIENCE_S:.0f} s")


class Worker:
    """A process on a core of its own with something to work on, made there by ``make``."""

    def __init__(self, make: Callable[[], Any], core: int, shared: Shared) -> None:
        self._pipe, there = FORK.Pipe()
        self._process = FORK.Process(target=_live, args=(make, core, shared, there), daemon=True)
        self._process.start()

    def tell(self, task: Callable[..., Any], *arguments: Any) -> None:
        """Start ``task(made, shared, *arguments)`` there; one at a time, and each is asked for its answer."""
        with suppress(OSError):  # whoever asks for the answer learns that the process is gone
            self._pipe.send((task, arguments))

    def answer(self) -> Any:
        """Return what the task returned.

        Raises
        ------
        RuntimeError
            When the task failed, or the process is gone or silent.
        """
        end = monotonic() + PATIENCE_S
        while not self._pipe.poll(1.0):
            if not self._process.is_alive() or monotonic() > end:
                raise RuntimeError(f"worker process {self._process.pid} is gone or silent")
        try:
            done, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"worker process {self._process.pid} is gone or silent") from error
        if not done:
            raise RuntimeError(value)
        return value

    def ask(self, task: Callable[..., Any], *arguments: Any) -> Any:
        """Start a task and wait for its answer."""
        self.tell(task, *arguments)
        return self.answer()

    def end(self) -> None:
        """End the process."""
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()


def _live(make: Callable[[], Any], core: int, shared: Shared, pipe: Any) -> None:
    pin(core)
    made = make()
    while (message := pipe.recv()) is not None:
        task, arguments = message
        try:
            pipe.send((True, task(made, shared, *arguments)))
        except Exception as error:
            pipe.send((False, f"{type(error).__name__}: {error}"))


@contextmanager
def crew(make: Callable[[], Any], cores: Sequence[int], shared: Shared) -> Iterator[list[Worker]]:
    """Workers on these cores; they end with the block."""
    workers = [Worker(make, core, shared) for core in cores]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.end()


def _loop(work: Work, shared: Shared, items: int, reps: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    wall: list[float] = []
    cpu: list[float] = []
    work(items, 0)
    shared.ready.release()
    turn, told, start = 0, False, monotonic()
    while not shared.stop.value:
        counts = shared.counting.value
        w0, c0 = perf_counter(), thread_time()
        work(items, turn := turn + 1)
        c1, w1 = thread_time(), perf_counter()
        if counts and len(wall) < 1000:
            wall.append(w1 - w0)
            cpu.append(c1 - c0)
        if not told and len(wall) >= reps and monotonic() - start >= seconds:
            shared.enough.release()
            told = True
    return np.array(wall[:-1]), np.array(cpu[:-1])  # others may have stopped during the last one


def loop_together(
    workers: Sequence[Worker], shared: Shared, items: int, *, reps: int, seconds: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Wall and CPU seconds of sub-requests in tight loops on all these workers at once, at least ``reps`` in all."""
    with busy(workers, shared, items, reps=-(-reps // len(workers)) + 2, seconds=seconds):
        shared.wait(shared.enough, len(workers))
        shared.stop.value = 1
        both = [w.answer() for w in workers]
    return np.concatenate([w for w, _ in both]), np.concatenate([c for _, c in both])


@contextmanager
def busy(
    workers: Sequence[Worker], shared: Shared, items: int, *, reps: int | None = None, seconds: float = 0.0
) -> Iterator[None]:
    """Keep these workers in tight loops over sub-requests of ``items`` while the block runs."""
    shared.stop.value = shared.counting.value = 0
    for worker in workers:
        worker.tell(_loop, items, reps or 1 << 60, seconds)
    shared.wait(shared.ready, len(workers))
    shared.counting.value = 1
    try:
        yield
    finally:
        shared.stop.value = 1
        if reps is None:
            for worker in workers:
                worker.answer()
