"""Why a promise cannot be kept, by how much it is missed, and the nearest promises and machines where it can."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np

from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import largest_rate, on_time_up_to
from recqueue.errors import InputError, OutsideMeasuredRangeWarning
from recqueue.optimize import changes
from recqueue.optimize.promising import best_share, fits, light_qps
from recqueue.optimize.remedy_axes import FARTHEST, PRECISION, Axis, axes_of, rounded, step
from recqueue.optimize.remedy_cause import Cause, cause_of
from recqueue.serving import Policy, Scenario


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
        remedies = [question.remedy(axis) for axis in axes_of(scenario)]
        # The policy that could promise the least latency comes closest; where none could, the one that carries most.
        likely, in_time = question.closest(scenario)
        least = next(r.policy for r in remedies if r.name == "sla_latency_s")
        closest = least or best[0] or likely
        share = question.share(scenario, closest)
        cause, reason, latency_s = cause_of(scenario, closest, question.costs(scenario), margin)
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
        return on_time_up_to(s, policy, qps, costs)

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

    def remedy(self, axis: Axis) -> Remedy:
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
            before = step(axis, value)
            better = None if before is None else self.keeps(axis.at(before)) or self.found(axis.at(before))
            if before is None or better is None:
                break
            value, policy, bad = before, better, current
        outwards = rounded(axis, value)
        outer = axis.at(outwards)
        if self.share(outer, _fitting(policy, outer) or policy) >= outer.sla.percentile / 100:
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

    def _bracket(self, axis: Axis) -> tuple[tuple[float, float], Policy | None]:
        """A value that will do, the last one that does not, and a policy; None when the farthest does not do."""
        up = axis.farthest > axis.current
        bad = axis.current
        if self.keeps(axis.at(axis.farthest)) is None:
            return (bad, bad), None
        for factor in (1.1, 1.3, 2.0, 4.0, 8.0, 16.0, 32.0, FARTHEST, np.inf):
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

    def _bisect(self, axis: Axis, policy: Policy, good: float, bad: float) -> tuple[float, float]:
        """The nearest value that will do with one policy, and one a little nearer that does not."""

        def will_do(value: float) -> bool:
            s = axis.at(value)
            return self.share(s, _fitting(policy, s) or policy) >= s.sla.percentile / 100

        while (abs(good - bad) > 1) if axis.whole else (abs(np.log(good / bad)) > PRECISION / 2):
            middle = float((good + bad) // 2) if axis.whole else float(np.sqrt(good * bad))
            good, bad = (middle, bad) if will_do(middle) else (good, middle)
        return good, bad


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


def _fitting(policy: Policy | None, s: Scenario) -> Policy | None:
    """The policy where a changed scenario can follow it; no offload where its threshold exceeds the largest query."""
    if policy is None or policy.offload_threshold is None:
        return policy
    if s.system.accelerator is None or policy.offload_threshold > s.sizes.max_items:
        return changes.no_offload(policy)
    return policy
