"""Scenario -> Performance by formula, and the largest rate that keeps the promise."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Literal

import numpy as np

from recqueue.analysis import fusion
from recqueue.analysis.accuracy import expected_error, on_jump
from recqueue.analysis.pools import Costs, check, cpu_utilization, fused, loads, mixture
from recqueue.analysis.rates import CLOSEST_TO_SATURATION, LIGHT, largest_rate, on_time, slower_when_quiet
from recqueue.errors import InputError, OutsideMeasuredRangeWarning, UnstableQueueError
from recqueue.queueing import forkjoin
from recqueue.serving.performance import Performance
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.workload.arrivals import index_of_dispersion

Limit = Literal["cpu", "accelerator", "latency"]

METHOD = "M^X/G/k fork-join on the cores, M/G/k on the accelerator, mixed over query sizes"
__all__ = ["CLOSEST_TO_SATURATION", "METHOD", "Limit", "MaxRate", "evaluate", "largest_rate", "max_rate", "on_time"]


@dataclass(frozen=True, kw_only=True)
class MaxRate:
    """The largest rate at which a policy keeps the promise.

    Attributes
    ----------
    qps : float
        Queries per second; 0 when no rate keeps it.
    performance : Performance or None
        At that rate; None when infeasible.
    limit : {"cpu", "accelerator", "latency"}
        What binds: a pool loaded to at least 0.9 of its saturation (the busier one), else the latency of the work.
    reason : str
        The same as a sentence with numbers.
    feasible : bool
        Whether any rate keeps the promise.
    """

    qps: float
    performance: Performance | None
    limit: Limit
    reason: str
    feasible: bool


def _policy(scenario: Scenario, asked_by: str) -> Policy:
    if scenario.policy is None:
        raise InputError(f"{asked_by}: the scenario has no policy; give policy.batch_size (and offload_threshold)")
    return scenario.policy


def evaluate(
    scenario: Scenario,
    *,
    qps: float | None = None,
    costs: Costs | None = None,
    brief: bool = False,
    compiled: bool = False,
) -> Performance:
    """Latency quantiles, utilization and power of a scenario under its policy, by formula.

    Parameters
    ----------
    scenario : Scenario
        Must hold a policy.
    qps : float, optional
        Offered queries per second; the scenario's own by default.
    costs : Costs, optional
        Of a scenario with the same machine and query sizes, where many are evaluated: nothing is read twice. That a
        table was read outside its range is then noted by who read it.
    brief : bool
        Leave out ``error`` and ``notes``.
    compiled : bool
        Find percentiles and means in compiled loops (:mod:`recqueue.analysis.compiled`), which pays from some thousand
        answers on; they differ by rounding.

    Returns
    -------
    Performance
        With infinite latencies and the numbers in ``status`` when a pool is saturated.

    Raises
    ------
    InputError
        When the policy or the rate is missing or not usable.
    OutOfValidityError
        When a pool is so close to saturation that the formulas cannot be evaluated.
    """
    policy, rate = _policy(scenario, "evaluate"), scenario.qps if qps is None else qps
    if rate is None or not (np.isfinite(rate) and rate > 0):
        raise InputError(f"evaluate: qps {rate}; give a finite rate above 0 queries per second")
    caught: list[warnings.WarningMessage] = []
    if costs is None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", OutsideMeasuredRangeWarning)
            costs = Costs.of(scenario)
    else:
        check(scenario)
    system, sla, mathematics = scenario.system, scenario.sla, _compiled() if compiled else forkjoin
    work = costs.loads(scenario, policy)
    cpu_limit, accelerator_limit = work.saturation_qps(scenario)
    ranks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, f"p{sla.percentile:g}": sla.percentile / 100}
    cpu, accelerator = rate / cpu_limit, rate / accelerator_limit
    device = policy.accelerator_of(system)
    fusing = bool(device and device.max_fused_queries > 1 and work.share_offloaded > 0)
    error: dict[str, float] = {}
    cautions: tuple[str, ...] = ()
    try:
        if max(cpu, 0.0 if fusing or (device and device.host_slowdown > 0) else accelerator) > 1 + 1e-9:
            raise UnstableQueueError  # without asking each pool
        parts = mixture(scenario, policy, rate, costs)
    except UnstableQueueError:
        latency = dict.fromkeys(["mean", *ranks], np.inf)
        status = (
            f"unstable: at {rate:.6g} queries/s the load is {cpu:.3f} of what the {system.cores} cores can do and "
            f"{accelerator:.3f} of what the accelerator can do; stay below "
            f"{min(cpu_limit, accelerator_limit):.6g} queries/s"
        )
    else:
        found = np.maximum.accumulate(mathematics.quantiles(parts, sorted(ranks.values())))  # roots are rounded
        at = dict(zip(sorted(ranks.values()), found.tolist(), strict=True))
        latency = {"mean": float(mathematics.mean(parts)), **{name: at[rank] for name, rank in ranks.items()}}
        status = "ok"
        cpu = cpu_utilization(scenario, policy, rate, costs)
        if fusing:
            accelerator = float(fused(scenario, policy, rate, costs).utilization)
        if not brief:
            if fusing:
                cautions = fusion.caution(system)
            else:
                dispersion = index_of_dispersion(scenario.arrivals, rate)
                error, cautions = expected_error(scenario, parts, max(cpu, accelerator), dispersion)
            cautions = (*cautions, *_jumps(parts, ranks, latency), *_drift(scenario, policy, rate, costs, latency))
            if latency[f"p{sla.percentile:g}"] <= sla.latency_s:
                cautions = (*cautions, *_late_when_quiet(scenario, policy, costs, min(cpu_limit, accelerator_limit)))
    stable = status == "ok"
    return Performance(
        kind="evaluate",
        method=METHOD.replace("M/G/k on the accelerator", "M/G^[1,F]/c on the accelerator") if fusing else METHOD,
        qps=rate,
        latency_s=latency,
        utilization={"cpu": cpu, "accelerator": accelerator if system.accelerator else None},
        offloaded={"queries": work.share_offloaded, "items": work.items_offloaded},
        power_w=system.power_w(cpu, accelerator),
        meets_sla=latency[f"p{sla.percentile:g}"] <= sla.latency_s,
        status=status,
        stable=stable,
        error=error,
        notes=(*(str(w.message) for w in caught), *cautions),
    )


def _drift(scenario: Scenario, policy: Policy, qps: float, costs: Costs, latency: Mapping[str, float]) -> Iterator[str]:
    """A note on what the drift of the cores' speed counts for."""
    drift, name = scenario.system.drift, f"p{scenario.sla.percentile:g}"
    if drift is None or drift.variance == 0:
        return
    steady = replace(scenario, system=replace(scenario.system, drift=None))
    at = evaluate(replace(steady, policy=policy), qps=qps, costs=costs, brief=True).latency_s[name]
    yield (
        f"the speed of the cores drifts (standard deviation {100 * drift.variance**0.5:.2g} %, for "
        f"{drift.lasting_s:.3g} s at a time): that is {latency[name] / at - 1:+.1%} of {name}, which would be "
        f"{at * 1e3:.4g} ms at a steady speed"
    )


def _late_when_quiet(scenario: Scenario, policy: Policy, costs: Costs, saturation_qps: float) -> Iterator[str]:
    """A note where busy machines are quicker than idle ones, and a promise is kept only while they are busy."""
    sla = scenario.sla
    if not slower_when_quiet(scenario):
        return
    kept = on_time(scenario, policy, LIGHT * saturation_qps, costs)
    if kept < sla.percentile / 100:
        yield (
            f"with hardly any load the promise is broken: only {100 * kept:.3g} % of the queries are answered within "
            f"{sla.latency_s * 1e3:g} ms, as idle machines are slower here; a smaller batch size may keep it at every "
            "rate, and 'optimize' finds the best that does"
        )


def _compiled() -> ModuleType:
    """The same functions as ``queueing.forkjoin``, compiled; loads numba."""
    from recqueue.analysis import compiled

    return compiled


def _jumps(
    parts: Sequence[tuple[float, forkjoin.Response]], ranks: Mapping[str, float], latency: Mapping[str, float]
) -> Iterator[str]:
    """A note for each percentile that lies on a jump of the distribution."""
    for name, rank in ranks.items():
        if rank > 0.5 and (between := on_jump(parts, rank, latency[name])):
            low, high = between
            yield (
                f"{name} lies on a jump: every latency from {low * 1e3:.3g} to {high * 1e3:.3g} ms is that percentile "
                "but for one in fifty of the queries beyond it; no longer simulation would tell them apart"
            )


def max_rate(scenario: Scenario) -> MaxRate:
    """Largest queries per second that the policy of a scenario carries under its SLA, by formula.

    Returns
    -------
    MaxRate
        Infeasible is an answer: the latency at almost no load and the gap to the bound are in ``reason``.

    Raises
    ------
    InputError
        When the scenario has no policy.
    """
    policy = _policy(scenario, "max-rate")
    costs = Costs.of(scenario)
    work = loads(scenario, policy, costs)
    limits = work.saturation_qps(scenario)
    sla = scenario.sla
    rate = largest_rate(scenario, policy, costs)
    if rate == 0:
        idle = evaluate(scenario, qps=1e-3 * min(limits)).latency_s[f"p{sla.percentile:g}"]
        return MaxRate(
            qps=0.0,
            performance=None,
            limit="latency",
            feasible=False,
            reason=f"infeasible: with {policy} the p{sla.percentile:g} is {idle * 1e3:.3g} ms with almost no load, "
            f"{idle / sla.latency_s:.2f} times the bound of {sla.latency_s * 1e3:.3g} ms",
        )
    performance = evaluate(scenario, qps=rate)
    use = {"cpu": rate / limits[0], "accelerator": rate / limits[1]}
    name: Limit = "cpu" if use["cpu"] >= use["accelerator"] else "accelerator"
    limit: Limit = name if use[name] >= 0.9 else "latency"
    pool = {"cpu": f"the {scenario.system.cores} cores", "accelerator": "the accelerator", "latency": ""}[name]
    stopper = (
        "the margin to saturation" if use[name] > CLOSEST_TO_SATURATION - 1e-3 else f"the p{sla.percentile:g} bound"
    )
    reason = f"{pool} would saturate at {min(limits):.6g} queries/s; {stopper} stops at {use[name]:.1%} of that"
    return MaxRate(qps=rate, performance=performance, limit=limit, reason=reason, feasible=True)
