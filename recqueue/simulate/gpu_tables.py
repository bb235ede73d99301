"""Scenarios as the flat tables that a GPU thread reads: times in ticks, sizes by alias method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.serving.system import System
from recqueue.workload.sizes import QuerySizes

ALIAS = np.dtype([("threshold", "u4"), ("items", "u2"), ("other", "u2")])
ENTRY = np.dtype([("fulls", "u4"), ("last_ticks", "u4")])
JOB = np.dtype(
    [
        *((name, "f8") for name in ("gap_ticks", "gamma_shape")),
        *((name, "u4") for name in ("process", "cores", "accelerators", "full_ticks")),
        *((name, "u4") for name in ("alias_offset", "alias_count", "item_offset", "first_bin")),
        *((name, "u4") for name in ("factor_offset", "unused")),
        *((name, "f4") for name in ("cpu_mu", "cpu_sigma", "accelerator_mu", "accelerator_sigma")),
        ("rank", "f8", 4),
    ]
)
EXPONENTIAL, CONSTANT, GAMMA = range(3)
OFFLOAD = 0xFFFFFFFF
KINDS = ("constant", "noisy", "contended")
"""The kernels: cores whose service is constant, or noisy, or slowed by busy neighbours (noisy or not)."""

BACKLOG_TICKS = 2.0**30
"""A run gives up when a latency reaches this many ticks (``RQ_BACKLOG_LIMIT`` of the kernel)."""
LARGEST_NORMAL = 6.78
"""The kernel's normal numbers come from 32 bits, so none is larger: sqrt(2 ln 2^33) = 6.764."""
MAX_CV = 3.0
"""Largest coefficient of variation of service: above it the largest noise factor does not fit the clock."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What the kernel reads, and what turns its ticks back into seconds; one row of ``jobs`` for each scenario."""

    jobs: NDArray[np.void]
    aliases: NDArray[np.void]
    entries: NDArray[np.void]
    factors: NDArray[np.float64]
    tick_s: NDArray[np.float64]
    kind: NDArray[np.int64]
    mean_sub_requests: NDArray[np.float64]
    offered_load: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Service:
    """Service of every query size under one policy, in seconds and in ticks."""

    tick_s: float
    full_ticks: int
    entries: NDArray[np.void]
    least_ticks: float
    mean_sub_requests: float
    core_work_s: float
    accelerator_work_s: float


def alias_table(pmf: NDArray[np.float64]) -> NDArray[np.void]:
    """Walker's alias table of the sizes with positive probability; probabilities are kept to 2^-32 of 1/len."""
    items = np.flatnonzero(pmf > 0)
    share = pmf[items] / pmf[items].sum() * len(items)
    table = np.zeros(len(items), ALIAS)
    table["items"] = table["other"] = items
    below, above = [i for i, s in enumerate(share) if s < 1], [i for i, s in enumerate(share) if s >= 1]
    threshold = np.ones(len(items))
    while below and above:
        small, large = below.pop(), above[-1]
        threshold[small], table["other"][small] = share[small], items[large]
        share[large] -= 1 - share[small]
        if share[large] < 1:
            below.append(above.pop())
    table["threshold"] = np.minimum(np.rint(threshold * 2.0**32), 2.0**32 - 1).astype("u4")
    return table


def log_noise(cv: float) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of a log-normal factor of mean 1."""
    variance = float(np.log1p(cv**2))
    return -variance / 2, variance**0.5


def _widest(cv: float) -> float:
    """Largest noise factor that the kernel can draw."""
    mu, sigma = log_noise(cv)
    return float(np.exp(mu + LARGEST_NORMAL * sigma))


def _smallest(cv: float) -> float:
    """What the smallest noise factor that the kernel can draw divides by."""
    mu, sigma = log_noise(cv)
    return float(np.exp(LARGEST_NORMAL * sigma - mu))


def _service(system: System, sizes: QuerySizes, policy: Policy, slowdown: NDArray[np.float64]) -> _Service:
    """Ticks of every query size; the tick is fine against the longest service and leaves room for a long backlog."""
    n = np.arange(1, sizes.max_items + 1)
    occurs = sizes.pmf[1:] > 0
    offload = n >= (policy.offload_threshold or sizes.max_items + 1)
    batch = min(policy.batch_size, sizes.max_items)
    core_s = np.concatenate(([0.0], system.service.seconds_at(np.arange(1, batch + 1)) + system.dispatch_overhead_s))
    fulls, rest_s = n // batch, core_s[n % batch]
    whole_s, device = np.zeros(len(n)), system.accelerator
    if device is not None and offload.any():
        whole_s[offload] = device.service.seconds_at(n[offload])

    local, sent = occurs & ~offload, occurs & offload
    work_s = np.where(local, fulls * core_s[batch] + rest_s, 0.0)
    full_s = core_s[batch] if np.any(local & (fulls > 0)) else 0.0
    longest = max(full_s, rest_s[local].max(initial=0.0), whole_s[sent].max(initial=0.0))
    widest = max(_widest(system.service.cv), _widest(device.service.cv) if device else 1.0)
    room = slowdown.max() * max(4096 * (longest + work_s.max() / system.cores), 2 * longest * widest)
    tick_s = float(np.clip(room / BACKLOG_TICKS, longest / 2.0**22, longest / 2.0**15))

    if full_s > 0:  # exact for the service that a query repeats
        tick_s = full_s / max(round(full_s / tick_s), 1)

    entries = np.zeros(len(n) + 1, ENTRY)
    last_s = np.where(offload, whole_s, rest_s)
    entries["fulls"][1:] = np.where(offload, OFFLOAD, fulls)
    entries["last_ticks"][1:] = np.where(last_s > 0, np.maximum(np.rint(last_s / tick_s), 1), 0)
    p = sizes.pmf[1:]
    parts = np.where(offload, 1, fulls + (rest_s > 0))
    # a query takes at least one of its services, and noise divides it by no more than this
    least_factor = max(_smallest(system.service.cv), _smallest(device.service.cv) if device else 1.0)
    shortest_s = np.where(offload | (fulls == 0), last_s, full_s)[occurs].min() / least_factor
    return _Service(
        tick_s=tick_s,
        full_ticks=round(full_s / tick_s),
        entries=entries,
        least_ticks=max(slowdown.min() * shortest_s / tick_s - 1, 1.0),
        mean_sub_requests=float(p @ parts),
        core_work_s=float(p @ work_s),
        accelerator_work_s=float(p[sent] @ whole_s[sent]),
    )


def _check(scenario: Scenario) -> Policy:
    """The policy, when the kernel knows everything that the scenario holds."""
    system, policy = scenario.system, scenario.policy
    if policy is None:
        raise InputError("simulate_many: a scenario has no policy; give policy.batch_size (and offload_threshold)")
    device = policy.accelerator_of(system)
    if scenario.arrivals.process not in {"poisson", "renewal"}:
        raise InputError(
            f"simulate_many: arrivals {scenario.arrivals.process!r}; the GPU draws 'poisson' and 'renewal' arrivals "
            "only; use recqueue.simulate"
        )
    if scenario.arrivals.law != "gamma":
        raise InputError("simulate_many: hyperexponential gaps; the GPU draws gamma gaps; use recqueue.simulate")
    for what, value in (
        ("server.wakeup", system.wakeup_s),
        ("server.drift", system.drift),
        ("contention by batch size", system.contention.items),
        ("a given law of the service noise", system.service.noise or (device.service.noise if device else ())),
        ("accelerator.wakeup", device.wakeup_s if device else 0),
        ("accelerator.host_slowdown", device.host_slowdown if device else 0),
    ):
        if value:
            raise InputError(f"simulate_many: {what} is not known on the GPU; use recqueue.simulate")
    if system.dispatch != "central":
        raise InputError(
            "simulate_many: cores with private queues; the GPU has one queue for all; use dispatch 'central'"
        )
    if device is not None and device.max_fused_queries > 1 and policy.offload_threshold is not None:
        raise InputError(
            f"simulate_many: max_fused_queries {device.max_fused_queries}; the GPU launches one query at a time (1)"
        )
    for curve in (system.service, device.service if device else system.service):
        if curve.cv > MAX_CV:
            raise InputError(
                f"simulate_many: service cv {curve.cv}; at most {MAX_CV} on the GPU; use recqueue.simulate"
            )
    return policy


def build(scenarios: Sequence[Scenario], qps: NDArray[np.float64], shift: int) -> Tables:
    """Tables of the scenarios at their rates; what scenarios share (sizes, a policy on a system) is stored once."""
    jobs = np.zeros(len(scenarios), JOB)
    kind, tick_s, parts, load = (
        np.empty(len(jobs), np.int64),
        np.empty(len(jobs)),
        np.empty(len(jobs)),
        np.empty((len(jobs), 2)),
    )
    aliases: dict[int, tuple[int, NDArray[np.void]]] = {}
    services: dict[tuple[int, int, Policy], tuple[int, _Service]] = {}
    slowdowns: dict[int, tuple[int, NDArray[np.float64]]] = {}
    alias_end = entry_end = factor_end = 0
    for i, (scenario, rate) in enumerate(zip(scenarios, qps, strict=True)):
        policy, system, sizes = _check(scenario), scenario.system, scenario.sizes
        if id(sizes) not in aliases:
            aliases[id(sizes)] = alias_end, alias_table(sizes.pmf)
            alias_end += len(aliases[id(sizes)][1])
        if id(system) not in slowdowns:
            busy = np.arange(1, system.cores + 1, dtype=float)
            slowdowns[id(system)] = factor_end, np.concatenate(([1.0], system.contention.factor_at(busy)))
            factor_end += system.cores + 1
        job, (job["factor_offset"], slowdown) = jobs[i], slowdowns[id(system)]
        key = id(system), id(sizes), policy
        if key not in services:
            services[key] = entry_end, _service(system, sizes, policy, slowdown)
            entry_end += len(services[key][1].entries)
        offset, s = services[key]
        device = system.accelerator
        used = device if policy.offload_threshold is not None else None
        job["gap_ticks"] = 1 / (rate * s.tick_s)
        scv = scenario.arrivals.gap_scv if scenario.arrivals.process == "renewal" else 1.0
        job["process"] = EXPONENTIAL if scv == 1 else CONSTANT if scv == 0 else GAMMA
        job["gamma_shape"] = 1 / scv if scv else 0.0
        job["cores"], job["accelerators"] = system.cores, used.count if used else 0
        kind[i] = 2 if np.any(slowdown != 1) else 1 if system.service.cv > 0 else 0
        job["full_ticks"], job["item_offset"] = s.full_ticks, offset
        job["alias_offset"], job["alias_count"] = aliases[id(sizes)][0], len(aliases[id(sizes)][1])
        job["first_bin"] = np.float32(s.least_ticks).view("u4") >> shift
        job["cpu_mu"], job["cpu_sigma"] = log_noise(system.service.cv)
        job["accelerator_mu"], job["accelerator_sigma"] = log_noise(used.service.cv) if used else (0.0, 0.0)
        job["rank"] = 0.5, 0.95, 0.99, scenario.sla.percentile / 100
        tick_s[i], parts[i] = s.tick_s, s.mean_sub_requests
        load[i] = (
            rate * s.core_work_s * slowdown[-1] / system.cores,
            rate * s.accelerator_work_s / used.count if used else 0.0,
        )
    return Tables(
        jobs=jobs,
        aliases=np.concatenate([table for _, table in aliases.values()]),
        entries=np.concatenate([s.entries for _, s in services.values()]),
        factors=np.concatenate([factors for _, factors in slowdowns.values()]),
        tick_s=tick_s,
        kind=kind,
        mean_sub_requests=parts,
        offered_load=load,
    )
