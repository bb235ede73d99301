"""A live inference server to be judged by: workers behind one FCFS queue, an accelerator process, open-loop load.

Arrivals are fixed beforehand and sent at absolute times; latency counts from the *intended* arrival, so that a late
sender cannot hide a slow server. Everything lies in shared memory made before the fork: the queue is an array of
sub-requests with a semaphore that counts those that have arrived, so that dispatch costs no pickling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray, RawValue
from time import monotonic, perf_counter, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.crew import Shared, Work, Worker, crew
from calibration.timing import CORES, FORK, pin

SPIN_S = 150e-6
"""The sender sleeps until this long before an arrival, then watches the clock: a sleep alone ends late by as much."""
START_S = 0.05
"""From the start of a run to its first arrival."""
TIMES = ("sent", "released", "start", "end", "far_start", "far_end")


class Board(Shared):
    """Shared memory of one run after the other: sub-requests, queries of the accelerator, and who did what when.

    Parameters
    ----------
    capacity : int
        Most sub-requests, and most queries, of a run.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self._raw = {name: RawArray("d", capacity) for name in TIMES}
        self._raw |= {name: RawArray("i", capacity) for name in ("items", "worker", "far_items", "far_launch")}
        self.arrived, self.far_arrived = FORK.Semaphore(0), FORK.Semaphore(0)
        self.taking = FORK.Lock()
        self.head = RawValue("q", 0)
        self.total, self.far_total = RawValue("q", 0), RawValue("q", 0)

    def array(self, name: str) -> NDArray[Any]:
        """One column as a numpy view of the shared memory."""
        raw = self._raw[name]
        return np.frombuffer(raw, dtype=np.float64 if raw._type_.__name__ == "c_double" else np.int32)


def _serve(work: Work, board: Board, number: int, warm: Sequence[int]) -> None:
    items, start, end, worker = (board.array(c) for c in ("items", "start", "end", "worker"))
    try:
        for b in warm:
            work(b, number)
    finally:  # whoever waits learns of a failure from the answer
        board.ready.release()
    while True:
        board.arrived.acquire()
        with board.taking:
            i = board.head.value
            board.head.value = i + 1
        if i >= board.total.value:
            return
        begun = perf_counter()
        work(int(items[i]), i)
        end[i] = perf_counter()
        start[i], worker[i] = begun, number


def _launch_all(device: Any, board: Board, fused: int, warm: Sequence[int]) -> int:
    """Serve the accelerator's queue: whatever waits goes into one launch, up to ``fused`` queries that fit."""
    items, start, end, launch = (board.array(c) for c in ("far_items", "far_start", "far_end", "far_launch"))
    try:
        for n in warm:
            device.launch([n], 0)
    finally:
        board.ready.release()
    head, launches, total = 0, 0, board.far_total.value
    while head < total:
        board.far_arrived.acquire()
        taken, room = 1, device.max_items - items[head]
        while taken < min(fused, total - head) and items[head + taken] <= room:
            if not board.far_arrived.acquire(block=False):
                break
            room -= items[head + taken]
            taken += 1
        begun = perf_counter()
        device.launch(items[head : head + taken].tolist(), launches)
        end[head : head + taken] = perf_counter()
        start[head : head + taken] = begun
        launch[head : head + taken] = launches
        head += taken
        launches += 1
    return launches


def _here(made: Any, board: Board) -> None:
    """Answer, which says that what serves is made."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Load:
    """What is sent: queries at intended times, split and offloaded as a policy says.

    Attributes
    ----------
    arrival_s : numpy.ndarray
        Intended arrival times from the start of the run, ascending, shape (queries,).
    items : numpy.ndarray
        Items of each query.
    batch_size : int
        Most items of a sub-request.
    offload_threshold : int or None
        Queries of at least this many items go whole to the accelerator.
    max_fused_queries : int
        Most queries in one launch.
    """

    arrival_s: NDArray[np.float64]
    items: NDArray[np.int64]
    batch_size: int
    offload_threshold: int | None = None
    max_fused_queries: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What was seen in a run; times in seconds from its start.

    Attributes
    ----------
    load : Load
        What was sent.
    sent_s : numpy.ndarray
        When each query was really put into its queue.
    offloaded : numpy.ndarray of bool
        Which queries went to the accelerator.
    query, sub_items, released_s, start_s, end_s, worker : numpy.ndarray
        One entry per sub-request of the cores, in the order of the queue; a query's are released one after the other.
    far_query, far_start_s, far_end_s, far_launch : numpy.ndarray
        One entry per offloaded query.
    """

    load: Load
    sent_s: NDArray[np.float64]
    offloaded: NDArray[np.bool_]
    query: NDArray[np.int64]
    sub_items: NDArray[np.int64]
    released_s: NDArray[np.float64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    worker: NDArray[np.int64]
    far_query: NDArray[np.int64]
    far_start_s: NDArray[np.float64]
    far_end_s: NDArray[np.float64]
    far_launch: NDArray[np.int64]

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """From the intended arrival of each query to the end of its last sub-request."""
        finish = np.full(len(self.load.arrival_s), -np.inf)
        np.maximum.at(finish, self.query, self.end_s)
        finish[self.far_query] = self.far_end_s
        return finish - self.load.arrival_s

    @property
    def lateness_s(self) -> NDArray[np.float64]:
        """How late the generator sent each query."""
        return self.sent_s - self.load.arrival_s


def split(load: Load) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Which queries are offloaded; the query and the items of every sub-request of the others, in order."""
    far = np.zeros(len(load.items), bool) if load.offload_threshold is None else load.items >= load.offload_threshold
    near = np.flatnonzero(~far)
    parts = -(-load.items[near] // load.batch_size)
    query = np.repeat(near, parts)
    last = np.cumsum(parts) - 1
    items = np.full(len(query), load.batch_size, dtype=np.int64)
    items[last] = load.items[near] - (parts - 1) * load.batch_size
    return far, query, items


class Server:
    """Workers and perhaps an accelerator's process, ready to serve one load after the other."""

    def __init__(self, workers: list[Worker], device: Worker | None, board: Board) -> None:
        self._workers, self._device, self._board = workers, device, board
        self.clock = monotonic

    @property
    def has_accelerator(self) -> bool:
        """Whether queries can be offloaded."""
        return self._device is not None

    @property
    def capacity(self) -> int:
        """Most sub-requests, and most queries, of a run."""
        return self._board.capacity

    def ask(self, task: Callable[..., Any], *arguments: Any) -> Any:
        """Have the first worker do something between two runs: ``task(work, board, *arguments)``."""
        return self._workers[0].ask(task, *arguments)

    def ask_device(self, task: Callable[..., Any], *arguments: Any) -> Any:
        """Have the accelerator's process do something between two runs: ``task(device, board, *arguments)``."""
        if self._device is None:
            raise ValueError("the server has no accelerator")
        return self._device.ask(task, *arguments)

    def run(self, load: Load) -> Seen:
        """Serve a load and return what was seen.

        Raises
        ------
        ValueError
            When the load does not fit on the board, or is offloaded without an accelerator.
        RuntimeError
            When a process is gone or silent.
        """
        board = self._board
        far, query, items = split(load)
        far_query = np.flatnonzero(far)
        if max(len(query), len(load.items)) > board.capacity:
            raise ValueError(f"{len(query)} sub-requests of {len(load.items)} queries; room for {board.capacity}")
        if len(far_query) and self._device is None:
            raise ValueError("the load is offloaded, but the server has no accelerator")
        board.array("items")[: len(items)] = items
        board.array("far_items")[: len(far_query)] = load.items[far_query]
        board.total.value, board.far_total.value, board.head.value = len(items), len(far_query), 0
        warm = sorted({int(b) for b in items})[-3:]
        for number, worker in enumerate(self._workers):
            worker.tell(_serve, number, warm)
        device = self._device if len(far_query) else None
        if device is not None:
            sizes = sorted({int(n) for n in load.items[far_query]})[-3:]
            device.tell(_launch_all, load.max_fused_queries, sizes)
        board.wait(board.ready, len(self._workers) + (device is not None))
        began = perf_counter() + START_S
        self._send(load, far, np.bincount(query, minlength=len(far)), began)
        for _ in self._workers:
            board.arrived.release()  # one beyond the end for each, which tells it to stop
        for worker in [*self._workers, *([device] if device else [])]:
            worker.answer()
        while board.arrived.acquire(block=False):
            pass
        n, m = len(items), len(far_query)
        count = {"sent": len(far), "released": n, "start": n, "end": n, "far_start": m, "far_end": m}
        times = {f"{c}_s": board.array(c)[: count[c]] - began for c in TIMES}
        return Seen(load=load, offloaded=far, query=query, sub_items=items, worker=board.array("worker")[:n].copy(),
                    far_query=far_query, far_launch=board.array("far_launch")[:m].copy(), **times)  # fmt: skip

    def _send(self, load: Load, far: NDArray[np.bool_], parts: NDArray[np.int64], began: float) -> None:
        board, sub = self._board, 0
        sent, released = board.array("sent"), board.array("released")
        near, beyond = board.arrived.release, board.far_arrived.release
        for i, (at, offload, count) in enumerate(
            zip((load.arrival_s + began).tolist(), far.tolist(), parts.tolist(), strict=True)
        ):
            left = at - perf_counter()
            if left > SPIN_S:
                sleep(left - SPIN_S)
            while (now := perf_counter()) < at:
                pass
            sent[i] = now
            if offload:
                beyond()
            for _ in range(count):
                released[sub] = perf_counter()
                near()
                sub += 1


@contextmanager
def serving(
    make: Callable[[], Work], make_device: Callable[[], Any] | None, *, workers: int, capacity: int
) -> Iterator[Server]:
    """Processes of a server, pinned and ready while the block runs.

    Parameters
    ----------
    make : callable
        Called in each worker; returns what does the work of a sub-request.
    make_device : callable or None
        Called in the accelerator's process; what it returns has ``launch(sizes, turn)`` and ``max_items``, the most
        items of a launch. None for no accelerator.
    workers : int
        Serving cores, from the second one on where there are enough; the accelerator's process has the first core and
        the sender the last one.
    capacity : int
        Most sub-requests of a run.

    Raises
    ------
    RuntimeError
        When a process cannot make what it serves.
    """
    board = Board(capacity)
    first = 1 if workers <= len(CORES) - 2 else 0
    beside = crew(make_device, [0], board) if make_device else nullcontext([None])
    with crew(make, range(first, first + workers), board) as crewed, beside as (device,):
        for worker in [*crewed, *([device] if device else [])]:
            worker.ask(_here)
        pin(-1)
        yield Server(crewed, device, board)
