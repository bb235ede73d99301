"""What the simulator says of accelerators that models use together.

Each model's cores are simulated as they are. The accelerators are simulated once for all models, as a machine that
offloads everything: what a query brings (its model, its size, the noise of its launch) is coded as its number of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recqueue.optimize.together import LateShare
from recqueue.profiles import LatencyCurve
from recqueue.serving import Policy, Scenario, Sla, System
from recqueue.serving.performance import Verdict
from recqueue.simulate import Finished, run_blocks, spawn
from recqueue.workload import sizes_from_pmf

QUERIES = 100_000
"""Queries of each model, and of the accelerators, in one replication."""
REPLICATIONS = 8
_WARM_UP = 0.1
_LEVELS = 16
_MOST_STEPS, _FIRST_STEP, _LARGEST_STEP = 24, 0.0025, 0.02


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A model as it is placed: on its cores, with the accelerators of all.

    Attributes
    ----------
    scenario : Scenario
        With its own cores and all accelerators.
    policy : Policy
        Its policy.
    demand_qps : float
        Its rate at scale 1.
    """

    scenario: Scenario
    policy: Policy
    demand_qps: float


def confirm(
    models: Sequence[Placed], scale: float, *, seed: int, queries: int = QUERIES
) -> tuple[float, list[LateShare]]:
    """The largest scale at or below ``scale`` that the simulator confirms for every model, and the run that does.

    One run explores a scale, a second one with fresh random numbers decides; where either does not pass for all models
    the scale is lowered, by 0.25 % at first, doubling up to 2 %. After 24 steps the last verdicts stand.
    """
    step, look, back = _FIRST_STEP, 0, 0
    while True:
        for _ in range(2):
            look += 1
            found = _look(models, scale, seed * 1000 + look, queries, back)
            if any(f.verdict != "pass" for f in found):
                break
        else:
            return scale, found
        if back == _MOST_STEPS:
            return scale, found
        scale, step, back = scale * (1 - step), min(2 * step, _LARGEST_STEP), back + 1


def _look(models: Sequence[Placed], scale: float, seed: int, queries: int, back: int) -> list[LateShare]:
    late = np.array([_late(models, scale, seed, i, queries) for i in range(REPLICATIONS)])
    mean, error = late.mean(axis=0), late.std(axis=0, ddof=1) / np.sqrt(REPLICATIONS)
    reach = stats.t.ppf(0.975, REPLICATIONS - 1) * error
    found = []
    for m, low, high in zip(models, mean - reach, mean + reach, strict=True):
        allowed = 1 - m.scenario.sla.percentile / 100
        verdict: Verdict = "pass" if high <= allowed else "fail" if low > allowed else "undecided"
        interval = max(float(low), 0.0), float(high)
        found.append(LateShare(verdict=verdict, interval=interval, queries=2 * queries * REPLICATIONS,
                               replications=REPLICATIONS, steps_back=back))  # fmt: skip
    return found


def _late(models: Sequence[Placed], scale: float, seed: int, replication: int, queries: int) -> list[float]:
    """Share of late queries of each model in one replication: on its cores, and on the accelerators."""
    far, kinds, shares = _accelerators(models)
    rate = scale * sum(m.demand_qps * s for m, s in zip(models, shares, strict=True))
    launched = np.zeros((len(models), 2))  # counted, late

    def at_accelerators(f: Finished) -> None:
        counted = f.query >= _WARM_UP * queries
        model = kinds[f.items[counted]]
        bound = np.array([m.scenario.sla.latency_s for m in models])[model]
        launched[:, 0] += np.bincount(model, minlength=len(models))
        launched[:, 1] += np.bincount(model, f.latency_s[counted] > bound, len(models))

    run_blocks(far, Policy(1, 1), rate, queries, spawn(seed, replication + 1)[-1], at_accelerators)
    found = []
    for i, (m, share) in enumerate(zip(models, shares, strict=True)):
        near = _late_on_cores(m, scale * m.demand_qps, queries, (seed, i), replication)
        count, late = launched[i]
        found.append((1 - share) * near + (share * late / count if count else 0.0))
    return found


def _late_on_cores(m: Placed, qps: float, queries: int, seed: tuple[int, int], replication: int) -> float:
    """Share of late queries among those that stay on the cores."""
    counts = np.zeros(2)
    streams = spawn(1_000_000 * (seed[1] + 1) + seed[0], replication + 1)[-1]

    def visit(f: Finished) -> None:
        if f.pool == "cpu":
            counted = f.query >= _WARM_UP * queries
            counts[:] += counted.sum(), (f.latency_s[counted] > m.scenario.sla.latency_s).sum()

    # launches do not touch the cores, so an accelerator that is never busy leaves them as they are
    system, device = m.scenario.system, m.scenario.system.accelerator
    if device is not None:
        system = replace(
            system,
            accelerator=replace(
                device, service=LatencyCurve(items=(1, len(m.scenario.sizes.pmf)), seconds=(1e-9, 1e-9))
            ),
        )
    run_blocks(replace(m.scenario, system=system), m.policy, qps, queries, streams, visit)
    return float(counts[1] / counts[0]) if counts[0] else 0.0


def _accelerators(models: Sequence[Placed]) -> tuple[Scenario, NDArray[np.int64], list[float]]:
    """A machine that offloads everything, the model of each number of items, and the share that each model offloads."""
    seconds, weight, kinds, shares = [], [], [-1], []
    for i, m in enumerate(models):
        device, p = m.scenario.system.accelerator, m.scenario.sizes.pmf
        n = np.flatnonzero(p)
        n = n[n >= (m.policy.offload_threshold or len(p))]
        shares.append(float(p[n].sum()))
        if device is None or not len(n):
            continue
        factors = np.asarray(device.service.noise or _lognormal(device.service.cv))
        times = np.outer(device.service.seconds_at(n) * (1 + device.host_slowdown), factors).reshape(-1)
        seconds.append(times)
        weight.append(np.repeat(m.demand_qps * p[n], len(factors)) / len(factors))
        kinds += [i] * len(times)
    every, first = np.concatenate(seconds), models[0].scenario
    device = first.system.accelerator
    if device is None:
        raise ValueError("no accelerators to use together")
    items = tuple(range(1, len(every) + 1))
    launches = LatencyCurve(items=items, seconds=tuple(every.tolist()))
    system = System(
        name="accelerators",
        cores=1,
        service=LatencyCurve(items=(1, items[-1] + 1), seconds=(1.0, 1.0)),
        accelerator=replace(device, service=launches, host_slowdown=0.0),
    )
    sizes = sizes_from_pmf(list(items), np.concatenate(weight).tolist())
    far = Scenario(name="accelerators", model="all", system=system, sizes=sizes, sla=Sla(latency_s=1.0))
    return far, np.asarray(kinds), shares


def _lognormal(cv: float) -> NDArray[np.float64]:
    """Equally likely factors of mean 1 and that cv, nearly log-normal."""
    if cv == 0:
        return np.ones(1)
    z = stats.norm.ppf((np.arange(_LEVELS) + 0.5) / _LEVELS)

    def factors(sigma: float) -> NDArray[np.float64]:
        f = np.exp(sigma * z)
        return np.asarray(f / f.mean())

    sigma = float(np.sqrt(np.log1p(cv**2)))
    for _ in range(20):  # the tails beyond the outermost factors are made good for by the others
        sigma *= cv / float(factors(sigma).std())
    return factors(sigma)
