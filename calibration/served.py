"""Service times as seen while serving: workers behind one queue, fed at a paced Poisson rate."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import perf_counter, sleep, thread_time

import numpy as np

from calibration.crew import PATIENCE_S, Shared, Work, Worker
from calibration.seen import busy_during


def _take_jobs(work: Work, shared: Shared, number: int, batches: list[int]) -> None:
    for b in batches:
        work(b, number)
    shared.ready.release()
    while (job := shared.jobs.get()) is not None:
        items, turn, sent = job
        start, c0 = perf_counter(), thread_time()
        work(items, turn)
        cpu, end = thread_time() - c0, perf_counter()
        shared.answers.put((items, number, sent, start, end, cpu))


def serve(
    workers: Sequence[Worker],
    shared: Shared,
    *,
    batches: list[int],
    seconds: list[float],
    load: float,
    each: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Serve a mix of sub-requests and record every service.

    Parameters
    ----------
    workers : sequence of Worker
        They take from the one queue.
    shared : Shared
        Holds that queue.
    batches, seconds : list
        Batch sizes of the mix, equally likely, and a first guess of their service times, which sets the rate.
    load : float
        Offered load per worker.
    each : int
        Sub-requests of each batch size.
    seed : int
        Of the order and the gaps.

    Returns
    -------
    dict of numpy.ndarray
        One entry per sub-request: ``items``, ``worker``, ``sent``, ``start``, ``end``, ``cpu``, ``busy`` (workers
        busy during the service, itself included) and ``gap`` (from the worker's previous end to this start when this
        one was already waiting, else NaN).
    """
    for number, worker in enumerate(workers):
        worker.tell(_take_jobs, number, batches)
    shared.wait(shared.ready, len(workers))
    rng = np.random.default_rng(seed)
    mix = rng.permutation(np.repeat(batches, each))
    gaps = rng.exponential(np.mean(seconds) / (load * len(workers)), len(mix))
    records: list[tuple[float, ...]] = []

    def collect() -> None:
        for _ in mix:
            records.append(shared.answers.get())

    client = threading.Thread(target=collect, daemon=True)
    client.start()
    due = perf_counter() + np.cumsum(gaps)  # absolute, so that a late send does not delay the ones after it
    for turn, (items, at) in enumerate(zip(mix.tolist(), due.tolist(), strict=True)):
        if (wait := at - perf_counter()) > 0:
            sleep(wait)
        shared.jobs.put((items, turn * 13 + 7, perf_counter()))
    client.join(timeout=PATIENCE_S)
    if client.is_alive():
        raise RuntimeError("a worker process did not answer")
    for _ in workers:
        shared.jobs.put(None)
    for worker in workers:
        worker.answer()
    return _examine(np.array(records))


def _examine(records: np.ndarray) -> dict[str, np.ndarray]:
    items, worker, sent, start, end, cpu = records[np.argsort(records[:, 3])].T
    busy = busy_during(start, end, start, end)
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
