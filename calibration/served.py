"""Service times as seen while serving: workers behind one queue, fed at a paced Poisson rate."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter, sleep, thread_time
from typing import Any

import numpy as np

from calibration.timing import FORK, pin

Runner = Callable[[int, int], Any]
"""Does the work of a sub-request: (items, turn)."""


def serve(
    make: Callable[[], Runner],
    *,
    workers: int,
    batches: list[int],
    seconds: list[float],
    load: float,
    each: int,
    seed: int,
    first_core: int = 1,
) -> dict[str, np.ndarray]:
    """Serve a mix of sub-requests and record every service.

    Parameters
    ----------
    make : callable
        Called once in each worker process; returns the function that does the work.
    workers : int
        Worker processes that take from the one queue.
    batches, seconds : list
        Batch sizes of the mix, equally likely, and a first guess of their service times, which sets the rate.
    load : float
        Offered load per worker.
    each : int
        Sub-requests of each batch size.
    seed : int
        Of the order and the gaps.
    first_core : int
        Core of the first worker, where workers are pinned; the others follow. -1 is the last core.

    Returns
    -------
    dict of numpy.ndarray
        One entry per sub-request: ``items``, ``worker``, ``sent``, ``start``, ``end``, ``cpu``, ``busy`` (workers
        busy during the service, itself included) and ``gap`` (from the worker's previous end to this start when this
        one was already waiting, else NaN).
    """
    jobs, answers, ready = FORK.SimpleQueue(), FORK.SimpleQueue(), FORK.Semaphore(0)

    def work(worker: int) -> None:
        pin(first_core + worker)
        run = make()
        for b in batches:
            run(b, worker)
        ready.release()
        while (job := jobs.get()) is not None:
            items, turn, sent = job
            start, c0 = perf_counter(), thread_time()
            run(items, turn)
            cpu, end = thread_time() - c0, perf_counter()
            answers.put((items, worker, sent, start, end, cpu))

    processes = [FORK.Process(target=work, args=(w,), daemon=True) for w in range(workers)]
    for process in processes:
        process.start()
    for _ in processes:
        if not ready.acquire(timeout=120):
            raise RuntimeError("a worker process did not start")
    rng = np.random.default_rng(seed)
    mix = rng.permutation(np.repeat(batches, each))
    gaps = rng.exponential(np.mean(seconds) / (load * workers), len(mix))
    records: list[tuple[float, ...]] = []

    def collect() -> None:
        for _ in mix:
            records.append(answers.get())

    client = threading.Thread(target=collect, daemon=True)
    client.start()
    due = perf_counter() + np.cumsum(gaps)  # absolute, so that a late send does not delay the ones after it
    for turn, (items, at) in enumerate(zip(mix.tolist(), due.tolist(), strict=True)):
        if (wait := at - perf_counter()) > 0:
            sleep(wait)
        jobs.put((items, turn * 13 + 7, perf_counter()))
    client.join(timeout=300)
    if client.is_alive():
        raise RuntimeError("a worker process did not answer")
    for _ in processes:
        jobs.put(None)
    for process in processes:
        process.join(timeout=30)
    return _examine(np.array(records))


def _examine(records: np.ndarray) -> dict[str, np.ndarray]:
    items, worker, sent, start, end, cpu = records[np.argsort(records[:, 3])].T
    times = np.concatenate([start, end])
    order = np.argsort(times)
    steps = np.concatenate([np.ones_like(start), -np.ones_like(end)])[order]
    times = times[order]
    work = np.concatenate([[0], np.cumsum(np.cumsum(steps)[:-1] * np.diff(times))])  # integral of busy workers
    busy = (np.interp(end, times, work) - np.interp(start, times, work)) / (end - start)
    gap = np.full(len(items), np.nan)
    for w in np.unique(worker):
        mine = np.flatnonzero(worker == w)
        before, after = mine[:-1], mine[1:]
        waiting = sent[after] < end[before]
        gap[after[waiting]] = (start[after] - end[before])[waiting]
    return {
        "items": items.astype(int), "worker": worker, "sent": sent, "start": start, "end": end, "cpu": cpu,
        "busy": busy, "gap": gap,
    }  # fmt: skip
