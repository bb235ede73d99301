"""A made-up server in the place of a live one: its parameters and its drift are known, and its clock costs nothing.

It tells what a campaign can find at all: how near fit and predictions come to the truth when the model is right, and
how far a measurement is off because it is short.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calibration.campaign import MOST_RECORDS, Measurement
from calibration.insitu import Notebook
from calibration.livefit import LiveFit
from calibration.plan import Campaign
from calibration.testbed import START_S, Load, Seen, split
from calibration.timing import Budget

STEP_S = 1e-3
"""Step of the path of the drift."""
BETWEEN_S = 0.1
"""From the end of a run to the next one, without its start."""


def drift_path(seconds: float, sd: float, scales: Sequence[tuple[float, float]], seed: int) -> NDArray[np.float64]:
    """Factors over time: a sum of independent parts, each a share of the variance and redrawn after a mean time."""
    rng, grid = np.random.default_rng(seed), np.arange(0.0, seconds, STEP_S)
    total = np.zeros(len(grid))
    for share, lasting_s in scales:
        ends = np.cumsum(rng.exponential(lasting_s, int(2 * seconds / lasting_s) + 50))
        total += np.sqrt(share) * rng.standard_normal(len(ends))[np.searchsorted(ends, grid)]
    return np.asarray(1 + sd * np.clip(total, -2.5, 2.5))


@dataclass(eq=False)
class MadeUp:
    """Answers as :class:`calibration.testbed.Server` does.

    Parameters
    ----------
    truth : LiveFit
        Its parameters.
    path : numpy.ndarray
        Factor on all services of the cores in each millisecond.
    """

    truth: LiveFit
    path: NDArray[np.float64]
    seed: int = 0
    now_s: float = 0.0
    capacity: int = 400_000
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    @property
    def has_accelerator(self) -> bool:
        """Whether queries can be offloaded."""
        return bool(self.truth.launch_items)

    def clock(self) -> float:
        """Seconds."""
        return self.now_s

    def ask(self, _: Callable[..., Any], items: int) -> float:
        """What a sub-request takes."""
        return float(np.interp(items, self.truth.items, self.truth.service_s))

    def ask_device(self, _: Callable[..., Any], items: int, queries: int) -> float:
        """What a launch takes."""
        return self._launch(items * queries, queries)

    def _launch(self, items: int, queries: int) -> float:
        f = self.truth
        return float(np.interp(items, f.launch_items, f.launch_s)) + (queries - 1) * f.fused_query_s

    def run(self, load: Load) -> Seen:
        """Serve a load."""
        f = self.truth
        far, query, items = split(load)
        released, count = load.arrival_s[query], len(query)
        start, end, worker = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
        one, all_busy, none = np.ones(count), np.full(count, float(f.workers)), np.zeros(count, bool)
        alone = f.expected(items, one, none)
        each = (f.expected(items, all_busy, none) - alone) / max(f.workers - 1, 1)
        noise = np.array(f.noise)[self.rng.integers(len(f.noise), size=count)]
        _serve(released, alone, each, noise, self.path, (self.now_s + START_S) / STEP_S, f.workers,
               (f.cold_s, f.woken_s, f.dispatch_s), start, end, worker)  # fmt: skip
        far_query = np.flatnonzero(far)
        far_start, far_end, launch = self._far(load, far_query)
        ends = [load.arrival_s[-1], *end[-f.workers :], *far_end[-1:]]
        self.now_s += START_S + float(max(ends)) + BETWEEN_S
        return Seen(load=load, sent_s=load.arrival_s.copy(), offloaded=far, query=query, sub_items=items,
                    released_s=released, start_s=start, end_s=end, worker=worker, far_query=far_query,
                    far_start_s=far_start, far_end_s=far_end, far_launch=launch)  # fmt: skip

    def _far(self, load: Load, query: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Starts, ends and numbers of launches: what waits goes together, up to the most fused queries."""
        f, at, items = self.truth, load.arrival_s[query], load.items[query]
        start, end, launch = np.zeros(len(at)), np.zeros(len(at)), np.zeros(len(at), np.int64)
        sigma, free, head, number = np.sqrt(np.log1p(f.launch_cv**2)), -1.0, 0, 0
        while head < len(at):
            idle = free < at[head]
            begin = at[head] + f.launch_woken_s if idle else free
            after = min(int(np.searchsorted(at, begin, side="right")), head + load.max_fused_queries)
            after = max(after, head + 1)
            noise = np.exp(sigma * self.rng.standard_normal() - sigma**2 / 2)
            free = begin + noise * self._launch(int(items[head:after].sum()), after - head) + idle * f.launch_cold_s
            start[head:after], end[head:after], launch[head:after] = begin, free, number
            head, number = after, number + 1
        return start, end, launch


@njit(cache=True)
def _serve(released, alone, each, noise, path, offset, workers, costs, start, end, worker):  # type: ignore[no-untyped-def]
    """One queue, first come first served; contention and drift as at the start of a service."""
    cold, woken, dispatch = costs
    free = np.full(workers, -1.0)
    for i in range(len(released)):
        w = np.argmin(free)
        idle = free[w] < released[i]
        begin = released[i] + woken if idle else free[w] + dispatch
        others = 0
        for j in range(workers):
            if j != w and free[j] > begin:
                others += 1
        factor = path[min(int(offset + begin / 1e-3), len(path) - 1)]
        free[w] = begin + noise[i] * factor * (alone[i] + each[i] * others + (cold if idle else 0.0))
        start[i], end[i], worker[i] = begin, free[w], w


def campaign_on(server: MadeUp, out: Path, campaign: Campaign) -> None:
    """The campaign of one model on a made-up server; rows and records as from a live one."""
    out.mkdir(parents=True, exist_ok=True)
    common = {"run": "made-up", "model": server.truth.model, "workers": server.truth.workers, "device": "made-up",
              "graphs": 0, "table_scale": 1.0}  # fmt: skip
    notes = Notebook(out, common, server.truth.workers, MOST_RECORDS, clock=server.clock)
    Measurement(server, notes, campaign, Budget(campaign.seconds, server.clock), quiet=True).run()
