"""How much room a policy has, what breaks it, what binds, and which change would buy most."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recqueue.analysis import evaluate
from recqueue.analysis.pools import Costs, far_part, loads, near_part
from recqueue.analysis.rates import CLOSEST_TO_SATURATION, largest_rate
from recqueue.errors import InputError, OutOfValidityError, OutsideMeasuredRangeWarning, UnstableQueueError
from recqueue.optimize import changes
from recqueue.optimize.changes import Change
from recqueue.optimize.nearby import TOLERANCE, best_near, rate_near
from recqueue.optimize.promising import fits
from recqueue.optimize.search import search
from recqueue.serving import Policy, Scenario

Bound = Literal["cpu", "accelerator", "work", "waiting"]
Depth = Literal["none", "quick", "thorough"]

LOADS = (1.0, 1.1, 1.25)
"""Shares of the rate at which the percentile is shown."""
_SATURATED = 0.9
"""Share of saturation from which a pool binds, as in ``analysis.max_rate``."""
_TESTED = 3
"""Promising policies in a row that must fail before the best is taken as found."""
_TESTED_AFTER_LOSS = 6
_TESTED_WITH_FUSION = 0
_TOLERANCE_WITH_FUSION = 2e-3
"""Relative; each look at a queue with fusion takes ten times as long as others, so fewer and coarser ones."""


@dataclass(frozen=True, kw_only=True)
class Circumstance:
    """What becomes of the promise when something happens.

    Attributes
    ----------
    name, text : str
        For scripts (``load*1.1``, ``cores-1``, ``accelerators=0``) and for readers.
    kept : bool
        Whether the policy is the one studied; without an accelerator nothing is offloaded, the batch size stays.
    policy : Policy
        The policy then.
    qps : float
        Offered queries per second.
    latency_s : float
        Percentile of the SLA; infinite when a pool is saturated or nearly so, or when the tables of the model do not
        fit into the memory of what is left.
    meets_sla : bool
        Whether the promise is kept.
    carries_qps : float
        Largest rate within the SLA in this circumstance.
    """

    name: str
    text: str
    kept: bool
    policy: Policy
    qps: float
    latency_s: float
    meets_sla: bool
    carries_qps: float


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What a change buys.

    Attributes
    ----------
    name, text : str
        As in :class:`recqueue.optimize.changes.Change`.
    kept_qps : float
        Largest rate within the SLA, policy kept.
    kept_gain_qps : float
        The same less that of the policy before the change.
    policy : Policy
        Best policy found after the change.
    best_qps : float
        Its largest rate.
    best_gain_qps : float
        The same less the rate of the best policy before the change.
    extrapolated : bool
        Whether the change asks a latency table outside its measured range where the scenario itself did not.
    """

    name: str
    text: str
    kept_qps: float
    kept_gain_qps: float
    policy: Policy
    best_qps: float
    best_gain_qps: float
    extrapolated: bool


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Headroom of a policy at a rate, and what would change it; all by formula.

    Attributes
    ----------
    policy : Policy
        The one studied.
    qps : float
        The rate at which it is studied.
    asked : bool
        Whether that rate is the demand of the scenario; otherwise the largest rate of the policy.
    breaks_qps : float
        Largest rate at which the promise is kept; 0 when there is none.
    breaks_by : {"latency", "margin"}
        Whether the latency bound stops there, or the margin of 2 % to saturation.
    saturates_qps : float
        Rate at which the busier pool saturates, so that no steady state exists from there on.
    saturates : {"cpu", "accelerator"}
        That pool.
    headroom : float
        ``breaks_qps / qps - 1``.
    binds : {"cpu", "accelerator", "work", "waiting"}
        What stops the rate: a pool loaded to at least 0.9 of saturation; else the larger part of the bound: the latency
        of the work itself, or the waiting.
    reason : str
        The same as a sentence with numbers.
    idle_s : float
        Percentile of the SLA with almost no load: the latency of the work.
    late_share : mapping
        Of the late queries at ``breaks_qps``, the shares of ``cpu`` and ``accelerator``.
    best_policy, best_qps
        Best policy of the scenario as it is, and its largest rate.
    circumstances : tuple of Circumstance
        More load, less hardware.
    gains : tuple of Gain
        Changes, the one with the best policy gaining most first.
    thorough : bool
        Whether each changed scenario was searched as a whole; otherwise among promising policies only, so that the
        gains are at least what is said.
    """

    policy: Policy
    qps: float
    asked: bool
    breaks_qps: float
    breaks_by: Literal["latency", "margin"]
    saturates_qps: float
    saturates: Literal["cpu", "accelerator"]
    headroom: float
    binds: Bound
    reason: str
    idle_s: float
    late_share: Mapping[str, float]
    best_policy: Policy | None
    best_qps: float
    circumstances: tuple[Circumstance, ...]
    gains: tuple[Gain, ...]
    thorough: bool


def sensitivity_of(
    scenario: Scenario,
    *,
    qps: float | None = None,
    best: tuple[Policy | None, float] | None = None,
    thorough: bool = False,
) -> Sensitivity:
    """Headroom, circumstances and gains of the policy of a scenario.

    Parameters
    ----------
    scenario : Scenario
        Must hold a policy; its ``qps`` is the demand, when given.
    qps : float, optional
        Rate to study when there is no demand; the largest rate of the policy by default.
    best : tuple, optional
        Best policy of the scenario and its largest rate, where they are known already.
    thorough : bool
        Search all policies of every changed scenario instead of those around the best one.

    Returns
    -------
    Sensitivity
        By formula.

    Raises
    ------
    InputError
        When the policy is missing, or it carries nothing and no rate is given.
    """
    policy = scenario.policy
    if policy is None:
        raise InputError("sensitivity: the scenario has no policy; give policy.batch_size (and offload_threshold)")
    costs, extrapolated = _costs(scenario)
    limits = loads(scenario, policy, costs).saturation_qps(scenario)
    breaks = float(largest_rate(scenario, policy, costs))
    asked = scenario.qps is not None
    rate = scenario.qps or qps or breaks
    if rate <= 0:
        raise InputError(f"sensitivity: with {policy} no rate keeps the promise; give the qps at which to study it")
    if best is None:
        found = search(scenario, costs)
        best = found.policy, found.qps
    best = best[0], float(best[1])
    margin = breaks >= (1 - 1e-6) * CLOSEST_TO_SATURATION * min(limits)
    idle_s = _percentile(scenario, policy, 1e-3 * min(limits))
    binds, reason = _binds(scenario, policy, breaks, limits, idle_s)
    base = _Base(policy, breaks, best[0] or policy, best[1], min(limits), extrapolated)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideMeasuredRangeWarning)
        circumstances = tuple(_circumstances(scenario, base, rate, thorough=thorough))
        gains = [_gain(change, base, thorough=thorough) for change in changes.improvements(scenario)]
    gains.sort(key=lambda g: (-g.best_gain_qps, -g.kept_gain_qps, g.name))
    return Sensitivity(
        policy=policy,
        qps=rate,
        asked=asked,
        breaks_qps=breaks,
        breaks_by="margin" if margin else "latency",
        saturates_qps=float(min(limits)),
        saturates="cpu" if limits[0] <= limits[1] else "accelerator",
        headroom=breaks / rate - 1,
        binds=binds,
        reason=reason,
        idle_s=idle_s,
        late_share=_late(scenario, policy, breaks, costs),
        best_policy=best[0],
        best_qps=best[1],
        circumstances=circumstances,
        gains=tuple(gains),
        thorough=thorough,
    )


@dataclass(frozen=True)
class _Base:
    """The scenario before a change: its policy and rate, the best ones, where the policy saturates."""

    policy: Policy
    qps: float
    best_policy: Policy
    best_qps: float
    saturates_qps: float
    extrapolated: bool


def _costs(scenario: Scenario) -> tuple[Costs, bool]:
    """Tables of a scenario, and whether they were asked outside their measured range."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", OutsideMeasuredRangeWarning)
        costs = Costs.of(replace(scenario, policy=None))
    return costs, bool(caught)


def _percentile(scenario: Scenario, policy: Policy, qps: float) -> float:
    """Percentile of the SLA; infinite where a pool is saturated or too near for the formulas."""
    try:
        found = evaluate(replace(scenario, policy=policy), qps=qps)
    except OutOfValidityError:
        return np.inf
    return found.latency_s[f"p{scenario.sla.percentile:g}"]


def _binds(
    scenario: Scenario, policy: Policy, breaks: float, limits: tuple[float, float], idle_s: float
) -> tuple[Bound, str]:
    """What stops the rate, and the sentence that says so."""
    sla, pools = scenario.sla, (f"the {scenario.system.cores} cores", "the accelerator")
    name = f"p{sla.percentile:g}"
    work = f"{name} {_ms(idle_s)} of {_ms(sla.latency_s)} ms with almost no load"
    if breaks == 0:
        return "work", f"the work alone takes longer than the bound: {work}"
    busier = int(limits[1] < limits[0])
    use = breaks / limits[busier]
    if use >= _SATURATED:
        other = breaks / limits[1 - busier]
        second = f", {pools[1 - busier]} at {other:.1%}" if other > 0 else ""
        return ("cpu", "accelerator")[busier], f"{pools[busier]} at {use:.1%} of saturation{second}; {work}"
    if idle_s >= sla.latency_s / 2:
        return "work", f"the work takes more than half of the bound: {work}; pools at most at {use:.1%} of saturation"
    return "waiting", f"waiting takes more than half of the bound: {work}; pools at most at {use:.1%} of saturation"


def _late(scenario: Scenario, policy: Policy, qps: float, costs: Costs) -> Mapping[str, float]:
    """Shares of the late queries by the pool that served them."""
    if qps == 0:
        return {}
    try:
        pools = {
            "cpu": near_part(scenario, policy, qps, costs),
            "accelerator": far_part(scenario, policy, qps, costs),
        }
    except (UnstableQueueError, OutOfValidityError):
        return {}
    late = {
        pool: sum(share * max(0.0, 1 - float(r.cdf(scenario.sla.latency_s))) for share, r in parts)
        for pool, parts in pools.items()
        if parts
    }
    return {pool: share / sum(late.values()) for pool, share in late.items()} if sum(late.values()) > 0 else {}


def _circumstances(scenario: Scenario, base: _Base, rate: float, *, thorough: bool) -> Iterator[Circumstance]:
    """More load; less hardware, with the policy kept and with the best one that is left."""

    def at(name: str, text: str, s: Scenario, policy: Policy, qps: float, carries: float, kept: bool) -> Circumstance:
        latency_s = _percentile(s, policy, qps) if fits(s, policy) else np.inf
        return Circumstance(
            name=name,
            text=text,
            kept=kept,
            policy=policy,
            qps=qps,
            latency_s=latency_s,
            meets_sla=latency_s <= s.sla.latency_s,
            carries_qps=carries,
        )

    for factor in LOADS:
        text = "as it is" if factor == 1 else f"load +{factor - 1:.0%}"
        yield at(f"load*{factor:g}", text, scenario, base.policy, rate * factor, base.qps, True)
    for change in changes.losses(scenario):
        s = change.scenario
        costs, _ = _costs(s)
        device = s.system.accelerator
        policy = base.policy if device else changes.no_offload(base.policy)
        carries = _rate_after(s, policy, base, costs)
        yield at(change.name, change.text, s, policy, rate, carries, True)
        start = base.best_policy if device else changes.no_offload(base.best_policy)
        best, most = _best_after(s, costs, (policy, carries), start, base, _TESTED_AFTER_LOSS, thorough=thorough)
        if best != policy and most > carries:
            yield at(change.name, change.text, s, best, rate, most, False)


def _rate_after(s: Scenario, policy: Policy, base: _Base, costs: Costs, tolerance: float = TOLERANCE) -> float:
    """Largest rate of a policy after a change, the first guess by the rate at which it saturates."""
    if not fits(s, policy):
        return 0.0
    guess = base.qps * min(loads(s, policy, costs).saturation_qps(s)) / base.saturates_qps
    return rate_near(s, policy, costs, guess, tolerance=tolerance)


def _best_after(
    s: Scenario,
    costs: Costs,
    kept: tuple[Policy, float],
    start: Policy,
    base: _Base,
    most: int,
    *,
    thorough: bool,
    tolerance: float = TOLERANCE,
) -> tuple[Policy, float]:
    """Best policy known after a change and its rate: at least the kept one and that which was best before."""
    if thorough:
        found = search(s, costs)
        return (found.policy, found.qps) if found.policy is not None and found.qps > kept[1] else kept
    if start == kept[0]:
        return best_near(s, costs, *kept, most=most, tolerance=tolerance)
    qps = rate_near(s, start, costs, base.best_qps, tolerance=tolerance)
    return max(kept, best_near(s, costs, start, qps, most=most, tolerance=tolerance), key=lambda found: found[1])


def _gain(change: Change, base: _Base, *, thorough: bool) -> Gain:
    """Rates after a change, with the policy kept and with the best policy."""
    s = change.scenario
    costs, extrapolated = _costs(s)
    fused = change.name.startswith("fused_queries")
    quick = fused and not thorough
    tolerance = _TOLERANCE_WITH_FUSION if quick else TOLERANCE
    fine = TOLERANCE if base.policy.offload_threshold is None else tolerance
    policy, start = base.policy, base.best_policy
    if fused:  # as many queries in a launch as the change allows
        policy, start = (replace(p, max_fused_queries=None) for p in (policy, start))
    kept = _rate_after(s, policy, base, costs, fine)
    tested = _TESTED_WITH_FUSION if quick else _TESTED
    policy, best = _best_after(s, costs, (policy, kept), start, base, tested, thorough=thorough, tolerance=tolerance)
    return Gain(
        name=change.name,
        text=change.text,
        kept_qps=kept,
        kept_gain_qps=_difference(kept, base.qps, fine),
        policy=policy,
        best_qps=best,
        best_gain_qps=_difference(best, base.best_qps, tolerance),
        extrapolated=extrapolated and not base.extrapolated,
    )


def _difference(after: float, before: float, tolerance: float) -> float:
    """What a rate rises by; 0 where that is less than the tolerance of both."""
    return after - before if abs(after - before) > 2 * tolerance * before else 0.0


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g}"
