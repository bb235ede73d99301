"""Why a promise cannot be kept, by how much it is missed, and the nearest promises and machines where it can."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recqueue.analysis import evaluate
from recqueue.analysis.evaluate import largest_rate, on_time
from recqueue.analysis.pools import Costs, far_part, loads, near_part
from recqueue.errors import InputError, OutOfValidityError, OutsideMeasuredRangeWarning, UnstableQueueError
from recqueue.optimize import changes
from recqueue.optimize.promising import best_share, fits, light_qps
from recqueue.serving import Policy, Scenario

Cause = Literal["memory", "service", "stragglers", "launch", "cpu", "accelerator", "waiting"]

PRECISION = 1e-3
"""Relative, of the nearest value along a continuous axis; it is rounded to the side where the promise is kept."""
_FARTHEST = 64.0
"""Most that a machine or a bound is changed by."""
_SATURATED = 0.9


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """The nearest value of one quantity, all else as it is, with which the promise is kept.

    Attributes
    ----------
    name : str
        For scripts: ``sla_latency_s``, ``sla_percentile``, ``cores``, ``cpu_speed``, ``accelerators``,
        ``accelerator_speed``, ``qps``, ``largest_query_items``, ``policy`` (of a policy that was to be kept, the values
        are rates then).
    text : str
        For readers, with the numbers.
    current : float
        The value now; 1 for the speeds.
    needed : float or None
        The nearest value that will do; None when none within a factor of 64 does.
    change : float
        How far away it is: the logarithm of ``needed / current`` without its sign; for the percentile that of the share
        that may be late. Infinite when there is none.
    policy : Policy or None
        A policy that keeps the promise then.
    extrapolated : bool
        Whether a latency table is asked outside its measured range that was not before.
    """

    name: str
    text: str
    current: float
    needed: float | None
    change: float
    policy: Policy | None
    extrapolated: bool


@dataclass(frozen=True, kw_only=True)
class Infeasibility:
    """Why a promise is not kept, and what would help.

    Attributes
    ----------
    demand_qps : float or None
        Rate asked for; None when the promise fails at any rate.
    carries_qps : float
        Largest rate within the SLA; 0 when there is none.
    policy : Policy
        The policy that comes closest; or the only one that was asked about.
    kept : bool
        Whether that policy was given.
    cause : {"memory", "service", "stragglers", "launch", "cpu", "accelerator", "waiting"}
        What binds: the memory that the tables of the model need; the service times of a query's own sub-requests,
        without or only with their noise; a launch of the accelerator; a pool that saturates; waiting.
    reason : str
        The same as a sentence with numbers.
    latency_s : float
        Percentile of the SLA of that policy at the demand, or with almost no load; infinite when saturated.
    gap_s, gap : float
        By how much it is above the bound, in seconds and as a share of the bound.
    on_time : float
        Share of queries in time then.
    remedies : tuple of Remedy
        The smallest change first; those that do not exist within reach last.
    """

    demand_qps: float | None
    carries_qps: float
    policy: Policy
    kept: bool
    cause: Cause
    reason: str
    latency_s: float
    gap_s: float
    gap: float
    on_time: float
    remedies: tuple[Remedy, ...]


def remedies_for(
    scenario: Scenario,
    *,
    keep_policy: bool = False,
    thorough: bool = False,
    best: tuple[Policy | None, float] | None = None,
    alternative: tuple[Policy | None, float] | None = None,
    margin: float = 1.0,
) -> Infeasibility | None:
    """Explain why the promise is not kept at the ``qps`` of a scenario, or at any rate where it names none.

    Parameters
    ----------
    scenario : Scenario
        Its ``qps`` is the demand.
    keep_policy : bool
        Ask about the policy of the scenario only; otherwise about all.
    thorough : bool
        Let the search over all policies say that a step less will not do; otherwise the most promising ones are tried,
        so that in rare cases a somewhat nearer value would do too.
    best : tuple, optional
        Best policy and its largest rate, where they are known already.
    alternative : tuple, optional
        With ``keep_policy``: the best policy of all and its largest rate, where they are known already.
    margin : float
        The formulas must carry this many times the demand, for example where the simulator has found them optimistic.

    Returns
    -------
    Infeasibility or None
        None when the promise is kept.

    Raises
    ------
    InputError
        When the policy to keep is missing.
    """
    if keep_policy and scenario.policy is None:
        raise InputError("remedies: the scenario has no policy to keep; give policy.batch_size")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideMeasuredRangeWarning)
        question = _Question(scenario, keep_policy, margin, thorough)
        if best is None and keep_policy and scenario.policy is not None:
            best = scenario.policy, largest_rate(scenario, scenario.policy, question.costs(scenario))
        elif best is None:
            from recqueue.optimize.search import search

            found = search(scenario, question.costs(scenario))
            best = found.policy, found.qps
        carries = float(best[1])
        if carries > 0 and (scenario.qps is None or carries >= scenario.qps):
            return None
        question.start = best[0]
        remedies = [question.remedy(axis) for axis in _axes(scenario)]
        # The policy that could promise the least latency comes closest; where none could, the one that carries most.
        likely, in_time = question.closest(scenario)
        least = next(r.policy for r in remedies if r.name == "sla_latency_s")
        closest = least or best[0] or likely
        share = question.share(scenario, closest)
        cause, reason, latency_s = _cause(scenario, closest, question.costs(scenario), margin)
        remedies.append(_lower_percentile(scenario, *max((closest, share), (likely, in_time), key=lambda x: x[1])))
        if keep_policy and alternative is not None and alternative[0] is not None:
            remedies.append(_other_policy(scenario.qps, *alternative))
        if scenario.qps is not None:
            remedies.append(_less_demand(scenario, scenario.qps, best[0], carries))
    remedies.sort(key=lambda r: r.change)
    return Infeasibility(
        demand_qps=scenario.qps,
        carries_qps=carries,
        policy=closest,
        kept=keep_policy,
        cause=cause,
        reason=reason,
        latency_s=latency_s,
        gap_s=latency_s - scenario.sla.latency_s,
        gap=latency_s / scenario.sla.latency_s - 1,
        on_time=share,
        remedies=tuple(remedies),
    )


@dataclass(frozen=True)
class _Axis:
    """One quantity that may be changed: the scenario at each value, and in which direction it helps."""

    name: str
    current: float
    farthest: float
    whole: bool
    at: Callable[[float], Scenario]
    text: Callable[[float], str]
    beyond: str


def _axes(scenario: Scenario) -> list[_Axis]:
    """Quantities that can be changed, but for the percentile and the demand, which need no search."""
    system, sla, device = scenario.system, scenario.sla, scenario.system.accelerator
    percentile = f"p{sla.percentile:g}"
    axes = [
        _Axis(
            "sla_latency_s",
            sla.latency_s,
            sla.latency_s * _FARTHEST,
            False,
            lambda x: changes.sla_latency(scenario, x),
            lambda x: f"promise {percentile} <= {x * 1e3:.5g} ms instead of {sla.latency_s * 1e3:.5g} ms",
            f"no latency bound up to {sla.latency_s * _FARTHEST:.4g} s would do",
        ),
        _Axis(
            "cores",
            system.cores,
            int(system.cores * _FARTHEST),
            True,
            lambda x: changes.cores(scenario, int(x)),
            lambda x: f"{x:.0f} cores instead of {system.cores}",
            f"not even {system.cores * _FARTHEST:.0f} cores would do",
        ),
        _Axis(
            "cpu_speed",
            1.0,
            _FARTHEST,
            False,
            lambda x: changes.cpu_speed(scenario, x),
            lambda x: f"cores {x:.4g} times as fast",
            f"not even cores {_FARTHEST:.0f} times as fast would do",
        ),
    ]
    if device is not None:
        axes += [
            _Axis(
                "accelerators",
                device.count,
                int(device.count * _FARTHEST),
                True,
                lambda x: changes.accelerators(scenario, int(x)),
                lambda x: f"{x:.0f} accelerators instead of {device.count}",
                f"not even {device.count * _FARTHEST:.0f} accelerators would do",
            ),
            _Axis(
                "accelerator_speed",
                1.0,
                _FARTHEST,
                False,
                lambda x: changes.accelerator_speed(scenario, x),
                lambda x: f"an accelerator {x:.4g} times as fast",
                f"not even an accelerator {_FARTHEST:.0f} times as fast would do",
            ),
        ]
    largest = scenario.sizes.max_items
    axes.append(
        _Axis(
            "largest_query_items",
            largest,
            1,
            True,
            lambda x: changes.largest_query(scenario, int(x)),
            lambda x: f"queries of at most {x:.0f} items instead of {largest} (larger ones cut to that)",
            "not even queries of 1 item would do",
        )
    )
    return axes


class _Question:
    """Whether some policy, or the given one, keeps the promise at the demand."""

    def __init__(self, scenario: Scenario, keep: bool, margin: float, thorough: bool) -> None:
        self.keep, self.thorough = keep, thorough and not keep
        self.qps = None if scenario.qps is None else scenario.qps * margin
        self.start: Policy | None = scenario.policy if keep else None
        self.measured = not self._asks_beyond(scenario)

    def costs(self, s: Scenario) -> Costs:
        """Service times of a changed scenario."""
        return Costs.of(replace(s, policy=None))

    def _asks_beyond(self, s: Scenario) -> bool:
        """Whether a table is asked outside its measured range."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", OutsideMeasuredRangeWarning)
            self.costs(s)
        return bool(caught)

    def share(self, s: Scenario, policy: Policy) -> float:
        """Share of queries in time with a policy at the demand, or with almost no load."""
        if not fits(s, policy):
            return 0.0
        costs = self.costs(s)
        qps = light_qps(s, policy, costs) if self.qps is None else self.qps
        return on_time(s, policy, qps, costs)

    def closest(self, s: Scenario, *, enough: float = 1.0) -> tuple[Policy, float]:
        """Policy with the largest share in time among the promising ones, and that share."""
        start = _fitting(self.start, s)
        if self.keep and start is not None:
            return start, self.share(s, start)
        found, share = best_share(s, self.costs(s), self.qps, start, enough=enough)
        return (found or Policy(s.sizes.max_items)), share

    def keeps(self, s: Scenario) -> Policy | None:
        """A policy that keeps the promise of a changed scenario."""
        goal = s.sla.percentile / 100
        policy, share = self.closest(s, enough=goal)
        return policy if share >= goal else None

    def found(self, s: Scenario) -> Policy | None:
        """The same by the search over all policies, where that was asked for."""
        if not self.thorough:
            return None
        from recqueue.optimize.search import search

        best = search(replace(s, policy=None, qps=None), self.costs(s))
        return best.policy if best.qps > 0 and best.qps >= (self.qps or 0.0) else None

    def remedy(self, axis: _Axis) -> Remedy:
        """Nearest value of an axis: by bisection for one policy, then with any other that does better there."""
        current = axis.current
        (value, bad), policy = self._bracket(axis)
        if policy is None:
            return Remedy(
                name=axis.name,
                text=axis.beyond,
                current=current,
                needed=None,
                change=np.inf,
                policy=None,
                extrapolated=False,
            )
        while True:
            value, bad = self._bisect(axis, policy, value, bad)
            before = _step(axis, value)
            better = None if before is None else self.keeps(axis.at(before)) or self.found(axis.at(before))
            if before is None or better is None:
                break
            value, policy, bad = before, better, current
        outwards = _rounded(axis, value)
        rounded = axis.at(outwards)
        if self.share(rounded, _fitting(policy, rounded) or policy) >= rounded.sla.percentile / 100:
            value = outwards
        return Remedy(
            name=axis.name,
            text=axis.text(value),
            current=current,
            needed=value,
            change=abs(float(np.log(value / current))),
            policy=policy,
            extrapolated=self.measured and self._asks_beyond(axis.at(value)),
        )

    def _bracket(self, axis: _Axis) -> tuple[tuple[float, float], Policy | None]:
        """A value that will do, the last one that does not, and a policy; None when the farthest does not do."""
        up = axis.farthest > axis.current
        bad = axis.current
        if self.keeps(axis.at(axis.farthest)) is None:
            return (bad, bad), None
        for factor in (1.1, 1.3, 2.0, 4.0, 8.0, 16.0, 32.0, _FARTHEST, np.inf):
            value = axis.current * factor if up else axis.current / factor
            value = min(value, axis.farthest) if up else max(value, axis.farthest)
            if axis.whole:
                value = float(np.ceil(value) if up else np.floor(value))
            if value == bad:
                continue
            if (policy := self.keeps(axis.at(value))) is not None:
                return (value, bad), policy
            bad = value
        return (bad, bad), None  # not reached: the farthest value does

    def _bisect(self, axis: _Axis, policy: Policy, good: float, bad: float) -> tuple[float, float]:
        """The nearest value that will do with one policy, and one a little nearer that does not."""

        def will_do(value: float) -> bool:
            s = axis.at(value)
            return self.share(s, _fitting(policy, s) or policy) >= s.sla.percentile / 100

        while (abs(good - bad) > 1) if axis.whole else (abs(np.log(good / bad)) > PRECISION / 2):
            middle = float((good + bad) // 2) if axis.whole else float(np.sqrt(good * bad))
            good, bad = (middle, bad) if will_do(middle) else (good, middle)
        return good, bad


def _step(axis: _Axis, value: float) -> float | None:
    """The next value towards the current one; None where that is the current one."""
    up = axis.farthest > axis.current
    if axis.whole:
        value = value - 1 if up else value + 1
    else:
        value = value * (1 - PRECISION) if up else value * (1 + PRECISION)
    return value if (value > axis.current if up else value < axis.current) else None


def _rounded(axis: _Axis, value: float) -> float:
    """The value with four digits, rounded away from the current one, so that what is printed will do."""
    if axis.whole:
        return value
    unit = 10.0 ** (np.floor(np.log10(value)) - 3)
    return float(np.round(np.ceil(value / unit * (1 - 1e-12)) * unit, 12))


def _lower_percentile(scenario: Scenario, policy: Policy, share: float) -> Remedy:
    """The highest percentile that the closest policy keeps, in hundredths."""
    now, needed = scenario.sla.percentile, np.floor(share * 1e4 * (1 - 1e-9)) / 100
    bound = f"{scenario.sla.latency_s * 1e3:.5g} ms"
    found = needed > 0
    return Remedy(
        name="sla_percentile",
        text=f"promise p{needed:g} instead of p{now:g} <= {bound}" if found else f"no query is within {bound}",
        current=now,
        needed=float(needed) if found else None,
        change=float(np.log((100 - needed) / (100 - now))) if found else np.inf,
        policy=policy if found else None,
        extrapolated=False,
    )


def _other_policy(demand: float | None, policy: Policy | None, carries: float) -> Remedy:
    """Another policy on the same machine."""
    found = carries > 0 and (demand is None or carries >= demand)
    but = "" if found else f", which carries {carries:,.4g} queries/s: not enough"
    return Remedy(
        name="policy",
        text=f"another policy: {policy}{but}",
        current=0.0,
        needed=carries if found else None,
        change=0.0 if found else np.inf,
        policy=policy if found else None,
        extrapolated=False,
    )


def _less_demand(scenario: Scenario, demand: float, policy: Policy | None, carries: float) -> Remedy:
    """The rate that is carried."""
    found = carries > 0
    text = f"{carries:,.4g} queries/s instead of {demand:,.4g}" if found else "no rate will do"
    return Remedy(
        name="qps",
        text=text,
        current=demand,
        needed=carries if found else None,
        change=float(np.log(demand / carries)) if found else np.inf,
        policy=policy if found else None,
        extrapolated=False,
    )


def _percentile(scenario: Scenario, policy: Policy, qps: float) -> float:
    """Percentile of the SLA; infinite where a pool is saturated or too near for the formulas."""
    try:
        found = evaluate(replace(scenario, policy=policy), qps=qps)
    except OutOfValidityError:
        return np.inf
    return found.latency_s[f"p{scenario.sla.percentile:g}"]


def _cause(scenario: Scenario, policy: Policy, costs: Costs, margin: float) -> tuple[Cause, str, float]:
    """What binds with a policy, the sentence that says so, and the percentile at the demand or with almost no load."""
    sla, system = scenario.sla, scenario.system
    if not fits(scenario, policy):
        return "memory", f"the tables of {scenario.model} do not fit into the memory of what serves the queries", np.inf
    light = light_qps(scenario, policy, costs)
    rate = light if scenario.qps is None else scenario.qps * margin
    limits = loads(scenario, policy, costs).saturation_qps(scenario)
    busier = int(limits[1] < limits[0])
    use, pool = rate / limits[busier], (f"the {system.cores} cores", "the accelerator")[busier]
    name: Cause = "accelerator" if busier else "cpu"
    percentile, bound = f"p{sla.percentile:g}", f"{sla.latency_s * 1e3:.4g} ms"
    latency_s = _percentile(scenario, policy, rate)
    idle_s = latency_s if scenario.qps is None else _percentile(scenario, policy, light)
    if idle_s > sla.latency_s:
        cause, what = _own_work(scenario, policy, costs, light)
        more = f"{(idle_s - sla.latency_s) * 1e3:.3g} ms ({idle_s / sla.latency_s - 1:.1%}) above the bound of {bound}"
        return cause, f"{percentile} is {idle_s * 1e3:.4g} ms with almost no load, {more}: {what}", latency_s
    late = "the queue grows without end" if not np.isfinite(latency_s) else f"{percentile} is {latency_s * 1e3:.4g} ms"
    times = "" if margin == 1 else f", which must be {margin:.3f} times the demand since the simulator carries less"
    at = f"at {rate:,.4g} queries/s {pool} would be at {use:.1%} of saturation ({limits[busier]:,.4g} queries/s)"
    cause = name if use >= _SATURATED else "waiting"
    return cause, f"{at} and {late}, bound {bound}; {idle_s * 1e3:.4g} ms with almost no load{times}", latency_s


def _own_work(scenario: Scenario, policy: Policy, costs: Costs, light: float) -> tuple[Cause, str]:
    """What takes longer than the bound although nobody waits."""
    p, k, bound = scenario.sizes.pmf, scenario.system.cores, scenario.sla.latency_s
    threshold = policy.offload_threshold or len(p)
    try:
        pools = [part(scenario, policy, light, costs) for part in (near_part, far_part)]
    except (UnstableQueueError, OutOfValidityError):
        pools = [[], []]
    near_late, far_late = (sum(w * (1 - float(r.cdf(bound))) for w, r in parts) for parts in pools)
    near = float(p[:threshold].sum()) > 0
    if policy.offload_threshold is not None and (not near or far_late > near_late):
        n = len(p) - 1
        return "launch", f"a launch of the largest query, {n} items, takes {costs.accelerator_s[n] * 1e3:.4g} ms"
    local = int(np.flatnonzero(p[:threshold])[-1])
    n = min(local, int(np.searchsorted(np.cumsum(p), scenario.sla.percentile / 100 - 1e-12)))
    batch = min(policy.batch_size, n)
    full = (n - 1) // batch
    whole, last = costs.core_s[batch], costs.core_s[n - full * batch]
    own = max((full // k) * whole + last, -(-full // k) * whole)
    which = "the largest query on the cores" if n == local else f"a query of the {scenario.sla.percentile:g} % quantile"
    split = f"{which}, {n} items in {full + 1} sub-requests of at most {batch}"
    quiet = _percentile(changes.noise(scenario, 0.0), policy, light)
    what = f"{split}, takes {own * 1e3:.4g} ms on idle cores with no noise and no contention"
    if quiet > bound:
        return "service", what
    return "stragglers", f"{what}; without noise p{scenario.sla.percentile:g} would be {quiet * 1e3:.4g} ms"


def _fitting(policy: Policy | None, s: Scenario) -> Policy | None:
    """The policy where a changed scenario can follow it; no offload where its threshold exceeds the largest query."""
    if policy is None or policy.offload_threshold is None:
        return policy
    if s.system.accelerator is None or policy.offload_threshold > s.sizes.max_items:
        return changes.no_offload(policy)
    return policy
