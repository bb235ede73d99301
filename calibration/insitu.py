"""Service, wake-up, dispatch and launch times of a live server, each at a batch size and a level of load.

One batch size at a time, so that a time belongs to its number of busy workers: one sub-request after the other on an
otherwise idle server, Poisson arrivals at two loads, and everything waiting at once. Launches likewise, one after the
other, while the workers of the host serve sub-requests of their own at those levels; and in bunches, which fuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.records import Archive
from calibration.rows import append_row
from calibration.seen import busy_during, dispatch_gaps, launches, multipliers, wakeups
from calibration.testbed import Load, Seen, Server
from calibration.timing import Budget

BATCHES = (64, 256, 16, 128, 25, 100, 700, 1, 400, 200, 4, 36, 8)
"""Batch sizes in the order in which they are needed."""
LEVELS = (0.0, 0.35, 0.75, 1.0)
"""Load of the workers: 0 is one sub-request at a time, 1 is all of them waiting at once."""
SERVICES = tuple((b, level) for b in BATCHES for level in LEVELS)
"""Runs of single batch sizes."""
TIMES = {0.0: 40, 0.35: 100, 0.75: 100, 1.0: 150}
"""Sub-requests of one batch size, by level; as many more or fewer as the time allows."""
PAUSE = (0.2, 1.0)
"""Pause after a paced service, in services."""
FAR_ITEMS = (100, 200, 300, 500, 700)
BUNCHES = (2, 4, 8, 16)
BUNCH_ITEMS = (100, 300, 700)
BUNCH_LEVELS = (0.0, 0.75)
LAUNCHES = (*((level, 1) for level in LEVELS), *((level, q) for q in BUNCHES for level in BUNCH_LEVELS))
"""Runs of launches: load of the workers beside them, queries that are sent together."""
LAUNCHED, BUNCHED = 120, 30
"""Most launches of each number of items, alone and in each size of bunch."""
NEIGHBOUR_ITEMS = 64
"""Items of the sub-requests that keep the host busy beside an accelerator; fewer than any of its queries."""
OVERHEAD_S = 0.15
"""What a run takes beside its load."""


@dataclass
class Notebook:
    """Where rows and records of a model go; runs are numbered in the order in which they were made.

    ``round`` and ``share`` of the campaign done are set by whoever goes through it. ``began_s`` is when the latest run
    began, in seconds since the notebook was opened.
    """

    out: Path
    common: dict[str, Any]
    workers: int
    most: int
    number: int = -1
    round: int = -1
    share: float = 1.0
    began_s: float = 0.0
    stolen_s: float = 0.0
    clock: Callable[[], float] = monotonic

    def __post_init__(self) -> None:
        self._opened = self.clock()
        self.archive = Archive(self.out / f"records-{self.common['model']}.npz", self.workers, self.most)

    def run(self, server: Server, load: Load, *, keep: float = 0.0) -> Seen:
        """Serve a load as the next run; its sub-requests are kept up to this share of what an archive holds."""
        before, self.began_s = steal_s(), self.clock() - self._opened
        seen = server.run(load)
        self.number, self.stolen_s = self.number + 1, steal_s() - before
        self.archive.add(self.number, seen, share=keep)
        return seen

    def add(self, file: str, **values: Any) -> None:
        """Write a row about the latest run."""
        when = {"number": self.number, "round": self.round, "began_s": self.began_s}
        append_row(self.out / file, {**self.common, **when, **values, "steal_s": self.stolen_s})

    def write(self) -> None:
        """Write the records of the runs since the last call."""
        self.archive.write()

    def times(self, kind: str, times: NDArray[np.float64], *, items: int, level: float, queries: int = 1,
              busy: float = float("nan"), least: int = 4) -> None:  # fmt: skip
        """Write the row of some times of one kind, if there are enough of them."""
        if len(times) < least:
            return
        self.add("services.csv", kind=kind, items=items, queries=queries, level=level, mean_busy=busy, n=len(times),
                 mean_s=times.mean(), median_s=np.median(times), cv=times.std() / times.mean(),
                 p95_s=np.quantile(times, 0.95),
                 multipliers=" ".join(f"{m:.4g}" for m in multipliers(times)))  # fmt: skip


def steal_s() -> float:
    """Seconds that other guests of the machine took from this one's cores so far, over all cores; 0 if not known."""
    try:
        return int(Path("/proc/stat").read_text(encoding="ascii").split()[8]) / 100
    except (OSError, IndexError, ValueError):
        return 0.0


def guess(work: Any, _: Any, items: int) -> float:
    """Median of a few calls of a worker's ``work``."""
    return _median(lambda turn: work(items, turn))


def guess_launch(device: Any, _: Any, items: int, queries: int) -> float:
    """Median of a few launches."""
    return _median(lambda turn: device.launch([items] * queries, turn))


def _median(call: Any) -> float:
    times = []
    for turn in range(4):
        start = perf_counter()
        call(turn)
        times.append(perf_counter() - start)
    return float(np.median(times[1:]))


def arrivals(rng: np.random.Generator, level: float, service_s: float, count: int, servers: int) -> NDArray[np.float64]:
    """When ``count`` jobs arrive so that the servers are loaded to a level."""
    if level >= 1:
        return np.zeros(count)
    if level == 0:
        return np.cumsum(service_s * (1 + rng.uniform(*PAUSE, count)))
    return np.cumsum(rng.exponential(service_s / (level * servers), count))


def beside(near_s: NDArray[np.float64], far_s: NDArray[np.float64], far_items: NDArray[np.int64], fused: int) -> Load:
    """Queries for the accelerator beside sub-requests that keep the workers busy."""
    at = np.concatenate([near_s, far_s])
    items = np.concatenate([np.full(len(near_s), NEIGHBOUR_ITEMS), far_items])
    order = np.argsort(at, kind="stable")
    return Load(arrival_s=at[order], items=items[order], batch_size=NEIGHBOUR_ITEMS,
                offload_threshold=NEIGHBOUR_ITEMS + 1, max_fused_queries=fused)  # fmt: skip


def measure_services(server: Server, notes: Notebook, seconds: float, chosen: Sequence[int]) -> None:
    """Service, wake-up and dispatch times of the workers in the chosen ones of ``SERVICES``."""
    if not chosen:
        return
    rng, workers, budget = np.random.default_rng([11, *chosen]), notes.workers, Budget(seconds, server.clock)
    known = {b: server.ask(guess, b) for b in dict.fromkeys(SERVICES[i][0] for i in chosen)}
    for at, i in enumerate(chosen):
        b, level = SERVICES[i]
        rest = [SERVICES[j] for j in chosen[at:]]
        each = budget.left / len(rest) - OVERHEAD_S
        scale = each / _takes(known[b], level, TIMES[level], workers)
        count = workers + round(TIMES[level] * float(np.clip(scale, 0.15, 4)))
        if budget.left < 0 and at:
            break
        at_s = arrivals(rng, level, known[b], count, workers)
        seen = notes.run(server, Load(arrival_s=at_s, items=np.full(count, b), batch_size=b), keep=1.0)
        services_row(notes, seen, b, level)


def _takes(service_s: float, level: float, count: int, workers: int) -> float:
    if level == 0:
        return count * service_s * (1 + sum(PAUSE) / 2)
    return count * service_s / (level * workers)


def services_row(notes: Notebook, seen: Seen, items: int, level: float, kind: str = "service") -> NDArray[np.float64]:
    """Rows of a run of one batch size, the first of each worker left out; returns the services."""
    counts = slice(min(notes.workers, len(seen.start_s) // 4), None)
    times = (seen.end_s - seen.start_s)[counts]
    busy = busy_during(seen.start_s, seen.end_s, seen.start_s, seen.end_s)[counts]
    notes.times(kind, times, items=items, level=level, busy=float(busy.mean()))
    if kind == "service":
        notes.times("wakeup", wakeups(seen, notes.workers), items=items, level=level)
        notes.times("dispatch", dispatch_gaps(seen), items=items, level=level)
    return times


class Canary:
    """The same short run of one batch size on all workers whenever called: whether the machine stays the same."""

    def __init__(self, server: Server, notes: Notebook) -> None:
        self._server, self._notes = server, notes
        count = 20 * notes.workers
        at = arrivals(np.random.default_rng(5), 0.75, server.ask(guess, NEIGHBOUR_ITEMS), count, notes.workers)
        self._load = Load(arrival_s=at, items=np.full(count, NEIGHBOUR_ITEMS), batch_size=NEIGHBOUR_ITEMS)

    def run(self) -> None:
        """Serve it."""
        seen = self._notes.run(self._server, self._load, keep=1.0)
        services_row(self._notes, seen, NEIGHBOUR_ITEMS, 0.75, "drift")


def measure_launches(server: Server, notes: Notebook, seconds: float, chosen: Sequence[int]) -> None:
    """Launch times by items and queries in a launch, beside what the host's workers do, in the chosen ``LAUNCHES``.

    Single queries come first: if time runs out, something is known that can be fitted.
    """
    if not chosen:
        return
    rng, budget = np.random.default_rng([12, *chosen]), Budget(seconds, server.clock)
    near = server.ask(guess, NEIGHBOUR_ITEMS)
    for at, i in enumerate(sorted(chosen, key=lambda i: LAUNCHES[i][1])):
        level, bunch = LAUNCHES[i]
        sizes = FAR_ITEMS if bunch == 1 else BUNCH_ITEMS
        launch = {n: server.ask_device(guess_launch, n, bunch) for n in sizes}
        one_s = (1 + sum(PAUSE) / 2) * sum(launch.values())
        if at and budget.left < 8 * one_s:
            break
        part = budget.left / (len(chosen) - at) - OVERHEAD_S
        each = int(np.clip(part / one_s, 8, LAUNCHED if bunch == 1 else BUNCHED))
        items = rng.permutation(np.repeat(sizes, each))
        guesses = np.array([launch[n] for n in items.tolist()])
        far_s = np.cumsum(guesses * (1 + rng.uniform(*PAUSE, len(items))))
        near_s = _neighbours(rng, level, near, far_s[-1], notes.workers, server.capacity)
        load = beside(near_s, np.repeat(far_s, bunch), np.repeat(items, bunch), max(BUNCHES))
        launches_rows(notes, notes.run(server, load), level)


def _neighbours(rng: np.random.Generator, level: float, service_s: float, until_s: float, workers: int,
                capacity: int) -> NDArray[np.float64]:  # fmt: skip
    """Arrivals of sub-requests that load the workers to a level; at 1 they are always short of workers."""
    if level == 0:
        return np.zeros(0)
    count = int(min((1.3 if level >= 1 else level) * workers * until_s / service_s, capacity / 2))
    return np.sort(rng.uniform(0, until_s, count))


def launches_rows(notes: Notebook, seen: Seen, level: float) -> None:
    """Rows of the launches of a run, one for each number of queries and of items that occurred often enough."""
    found = launches(seen)
    none = len(seen.start_s) == 0
    busy = (
        np.zeros(len(found["start"])) if none else busy_during(seen.start_s, seen.end_s, found["start"], found["end"])
    )
    for queries, items in sorted(set(zip(found["queries"].tolist(), found["items"].tolist(), strict=True))):
        mine = (found["queries"] == queries) & (found["items"] == items)
        mine[:2] = False  # they start cold machinery
        notes.times("launch", (found["end"] - found["start"])[mine], items=items, queries=queries, level=level,
                    busy=float(busy[mine].mean()) if mine.any() else float("nan"))  # fmt: skip
    woken = found["wakeup"][np.isfinite(found["wakeup"])]
    notes.times("launch-wakeup", woken, items=0, level=level)


def saturated(load: Load) -> Load:
    """The same queries, all waiting at the start."""
    return Load(arrival_s=np.zeros(len(load.items)), items=load.items, batch_size=load.batch_size,
                offload_threshold=load.offload_threshold, max_fused_queries=load.max_fused_queries)  # fmt: skip


def capacities(seen: Seen, workers: int) -> Iterator[float]:
    """Queries per second that the workers, and that the accelerator, carried while none of them waited for work.

    Each pool's rate is that of all queries: those that it serves go with their share of the others. The accelerator's
    launches count as long as the workers were busy too. Infinite for a pool that served nothing.
    """
    queries = len(seen.load.items)
    spans = [seen.end_s[seen.worker == w].max() - seen.start_s[seen.worker == w].min() for w in np.unique(seen.worker)]
    yield workers * queries / sum(spans) if spans else float("inf")
    far = launches(seen)
    if not len(far["start"]):
        yield float("inf")
        return
    together = far["end"] <= seen.end_s.max() if spans else np.ones(len(far["end"]), bool)
    counted = together if together.sum() >= 5 else np.ones(len(far["end"]), bool)
    span = far["end"][counted].max() - far["start"][counted].min()
    yield float(far["queries"][counted].sum() / span * queries / len(seen.far_query))
