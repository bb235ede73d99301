"""Thousands of simulations at once on a GPU: one thread for each replication of each policy and rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.errors import InputError
from recqueue.serving.scenario import Scenario
from recqueue.simulate.gpu_device import PLAN, RESULT, CudaDevice, Device, HostDevice, Tuning, state_words
from recqueue.simulate.gpu_tables import BACKLOG_TICKS, KINDS, Tables, build
from recqueue.simulate.statistics import student_interval

WARM_UP_SHARE = 0.2
"""Share of the queries of each replication that fill the empty system and are not counted."""
QUANTITIES = ("mean", "p50", "p95", "p99", "sla")
"""Of the latency of a query; ``sla`` is the percentile of each scenario's SLA."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What many policies do, one row for each scenario and one column for each replication.

    Attributes
    ----------
    device : str
        The GPU's name, or "host".
    latency_s : mapping
        :data:`QUANTITIES` to arrays (scenarios, replications) in seconds; infinite where the run was backlogged.
    cpu_utilization, accelerator_utilization : numpy.ndarray
        Busy share of each pool, (scenarios, replications); 0 for accelerators that no query is sent to.
    offloaded_queries, offloaded_items : numpy.ndarray
        Shares in 0..1 that went to the accelerator, (scenarios, replications).
    sub_requests : numpy.ndarray
        Sub-requests simulated, warm-up included, (scenarios, replications).
    backlogged : numpy.ndarray
        Runs that gave up because a latency outgrew the clock, (scenarios, replications).
    offered_load : numpy.ndarray
        Work offered over capacity of cores and accelerators, (scenarios, 2); stable below 1.
    relative_error : float
        Bound on the error of a quantile against the recorded latencies, one bin's width: 1 / bins per octave. (The
        mean is free of it.)
    kernel_s : float
        Seconds that the kernels took by the device's clock.
    queries, replications, seed : int
        Counted queries of each replication, replications and seed.
    """

    device: str
    latency_s: Mapping[str, NDArray[np.float64]]
    cpu_utilization: NDArray[np.float64]
    accelerator_utilization: NDArray[np.float64]
    offloaded_queries: NDArray[np.float64]
    offloaded_items: NDArray[np.float64]
    sub_requests: NDArray[np.int64]
    backlogged: NDArray[np.bool_]
    offered_load: NDArray[np.float64]
    relative_error: float
    kernel_s: float
    queries: int
    replications: int
    seed: int

    def interval_s(self, quantity: str, confidence: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Student-t interval of a latency over the replications of each scenario: (low, high) in seconds.

        Infinite at both ends where a replication was backlogged.
        """
        if self.replications < 3:
            raise InputError(f"interval_s: {self.replications} replications; at least 3 are needed for an interval")
        values = np.where(self.backlogged, np.nan, self.latency_s[quantity])
        mean, half = student_interval(values.T, confidence)
        lost = np.isnan(mean)
        return np.where(lost, np.inf, np.maximum(mean - half, 0)), np.where(lost, np.inf, mean + half)


def simulate_many(
    scenarios: Sequence[Scenario],
    *,
    qps: ArrayLike | None = None,
    queries: int = 20_000,
    replications: int = 8,
    seed: int = 0,
    bins_per_octave: int = 256,
    device: Literal["gpu", "host"] | Device = "gpu",
    tuning: Tuning | None = None,
) -> Sweep:
    """Simulate every scenario under its own policy and rate, all at once.

    The model is that of :func:`recqueue.simulate.simulate` for Poisson or gamma renewal arrivals and without fusion:
    queries are split into sub-requests of at most ``batch_size`` items, one FCFS queue feeds the cores, which may slow
    each other, and queries from the offload threshold on go whole to the accelerators. Replication r draws the same
    queries for every scenario (common random numbers), from a Philox generator :cite:p:`salmon2011` whose counter names
    query, replication and stream.

    Parameters
    ----------
    scenarios : sequence of Scenario
        Each with a policy.
    qps : array_like, optional
        Offered queries per second of each scenario; the scenarios' own by default.
    queries : int
        Counted queries of each replication, 100 or more; a fifth of all simulated queries come before them as warm-up.
    replications : int
        Independent replications of each scenario, 1 or more (3 for an interval).
    seed : int
        0 to 2^64 - 1. The same seed gives the same numbers on the same kind of device, whatever else is simulated.
    bins_per_octave : int
        Histogram bins between a latency and its double, a power of two in 16..4096: 1 over it bounds the relative error
        of a quantile.
    device : {"gpu", "host"} or Device
        "host" compiles the same kernel for this machine's processor (one thread; needs a C++ compiler).
    tuning : Tuning, optional
        Layout on the GPU.

    Returns
    -------
    Sweep
        Arrays (scenarios, replications). Overloaded scenarios are simulated too; their ``offered_load`` is 1 or more,
        and their latencies grow with the length of the run.

    Raises
    ------
    InputError
        When an option is out of range or a scenario holds what the kernel does not simulate.
    MissingDeviceError
        Without CuPy, without a GPU, or without a compiler for "host".
    """
    rates = _checked(scenarios, qps, queries, replications, seed, bins_per_octave)
    tuning = tuning or Tuning()
    shift = 23 - int(np.log2(bins_per_octave))
    tables = build(scenarios, rates, shift)
    chosen: Device = device if not isinstance(device, str) else CudaDevice() if device == "gpu" else HostDevice()
    plan = np.zeros(1, PLAN)
    plan["warm_up"] = round(queries * WARM_UP_SHARE / (1 - WARM_UP_SHARE))
    plan["queries"] = queries + plan["warm_up"]
    plan["shift"], plan["k0"], plan["k1"] = shift, seed & 0xFFFFFFFF, seed >> 32
    plan["by_replication"] = tuning.order == "replication"
    results = np.zeros((len(scenarios), replications), RESULT)
    kernel_s = 0.0
    for group, kind in _groups(tables):
        kernel_s += _launch(chosen, tables, group, plan, results, kind=kind, tuning=tuning)
    return _sweep(chosen.name, tables, results, queries, seed, bins_per_octave, kernel_s)


def _checked(
    scenarios: Sequence[Scenario], qps: ArrayLike | None, queries: int, replications: int, seed: int, bins: int
) -> NDArray[np.float64]:
    """Rates of the scenarios, every option being in range."""
    if not len(scenarios):
        raise InputError("simulate_many: no scenarios; give at least one")
    rates = np.array([s.qps for s in scenarios] if qps is None else qps, dtype=float)
    if rates.shape != (len(scenarios),):
        raise InputError(
            f"simulate_many: qps of shape {rates.shape}; give one rate for each of {len(scenarios)} scenarios"
        )
    bad = np.flatnonzero(~(np.isfinite(rates) & (rates > 0)))
    if bad.size:
        raise InputError(
            f"simulate_many: qps {rates[bad[0]]} of scenario {bad[0]}; give a finite rate above 0 queries per second"
        )
    if not 100 <= queries <= 2**31:
        raise InputError(f"simulate_many: {queries} queries; allowed: 100..2^31 for each replication")
    if not 1 <= replications <= 2**20:
        raise InputError(f"simulate_many: {replications} replications; allowed: 1..2^20")
    if not 0 <= seed < 2**64:
        raise InputError(f"simulate_many: seed {seed}; it must be a whole number in 0..2^64-1")
    if bins not in {2**m for m in range(4, 13)}:
        raise InputError(f"simulate_many: bins_per_octave {bins}; it must be a power of two in 16..4096")
    return rates


def _groups(tables: Tables) -> list[tuple[NDArray[np.int64], int]]:
    """Rows of jobs that run in one launch: of one kind, with state alike within a factor 2, sorted by work."""
    words = np.choose(tables.kind, [state_words(tables.jobs, kind) for kind in range(len(KINDS))])
    size = np.ceil(np.log2(words)).astype(int)
    found = []
    for kind, bits in sorted(set(zip(tables.kind.tolist(), size.tolist(), strict=True))):
        rows = np.flatnonzero((tables.kind == kind) & (size == bits))
        found.append((rows[np.argsort(tables.mean_sub_requests[rows], kind="stable")], kind))
    return found


def _launch(
    device: Device,
    tables: Tables,
    group: NDArray[np.int64],
    plan: NDArray[np.void],
    results: NDArray[np.void],
    *,
    kind: int,
    tuning: Tuning,
) -> float:
    """Run all replications of a group, in as many launches as the histograms need; returns the kernels' seconds."""
    jobs, replications, seconds = tables.jobs[group], results.shape[1], 0.0
    last_bin = int(np.float32(2 * BACKLOG_TICKS).view("u4")) >> int(plan["shift"][0])
    bins = last_bin - int(jobs["first_bin"].min()) + 1
    room = max(device.memory_bytes // (4 * bins), 1)
    rows, columns = min(room, len(group)), min(max(room // len(group), 1), replications)
    for i in range(0, len(group), rows):
        for r in range(0, replications, columns):
            some, here = jobs[i : i + rows], min(columns, replications - r)
            this = plan.copy()
            this["threads"], this["replications"], this["first_replication"] = len(some) * here, here, r
            this["bins"] = bins
            found, took = device.launch(tables, some, this, kind=kind, tuning=tuning)
            table = found.reshape(here, -1).T if tuning.order == "replication" else found.reshape(-1, here)
            results[group[i : i + rows], r : r + here] = table
            seconds += took
    return seconds


def _sweep(
    device: str, tables: Tables, results: NDArray[np.void], queries: int, seed: int, bins: int, kernel_s: float
) -> Sweep:
    """Seconds and shares from ticks and counts."""
    tick, lost = tables.tick_s[:, None], results["backlogged"] > 0
    counted = np.maximum(results["counted"], 1)
    latency = {"mean": results["latency_ticks"] / counted * tick}
    latency |= {q: results["quantile_ticks"][:, :, i] * tick for i, q in enumerate(QUANTITIES[1:])}
    span, jobs = np.maximum(results["span_ticks"], 1), tables.jobs
    total = np.where(lost, np.nan, queries + round(queries * WARM_UP_SHARE / (1 - WARM_UP_SHARE)))
    return Sweep(
        device=device,
        latency_s={q: np.where(lost, np.inf, v) for q, v in latency.items()},
        cpu_utilization=results["cpu_ticks"] / (span * jobs["cores"][:, None]),
        accelerator_utilization=results["accelerator_ticks"] / (span * np.maximum(jobs["accelerators"], 1)[:, None]),
        offloaded_queries=results["offloaded"] / total,
        offloaded_items=results["offloaded_items"] / results["items"],
        sub_requests=results["sub_requests"].astype(np.int64),
        backlogged=lost,
        offered_load=tables.offered_load,
        relative_error=1 / bins,
        kernel_s=kernel_s,
        queries=queries,
        replications=results.shape[1],
        seed=seed,
    )
