"""Why there is no plan: for which model, in which hours, how many machines are missing, and what would help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from recqueue.analysis import max_rate
from recqueue.optimize.plan_columns import Column
from recqueue.optimize.plan_instance import Instance, Solved, needed_qps
from recqueue.optimize.plan_result import Remedy, Shortage
from recqueue.optimize.plan_solve import solve
from recqueue.serving import PlanQuestion, Policy, Scenario

_HALVINGS = 9
"""Of the share of demand that can be carried: known to 0.2 %."""
_EXACT = 1e-6
"""Gap with which machines are counted."""


def unserved(question: PlanQuestion, found: Sequence[Column]) -> Shortage | None:
    """Models that no type of machine can run within their promise; None when there are none."""
    served = {c.model for c in found if c.qps > 0}
    lacking = [d for d in question.demands if d.name not in served]
    if not lacking:
        return None
    reasons = []
    for d in lacking:
        for m in question.machines:
            system = question.systems.get((m.name, d.name))
            if system is not None:
                whole = Policy(-(-d.sizes.max_items // system.cores))
                asked = Scenario(name=d.name, model=d.model, system=system, sizes=d.sizes, sla=d.sla, policy=whole)
                reasons.append(f"{d.name} on {m.name}: {max_rate(asked).reason}")
                break
    return Shortage(
        reason=f"no type of machine keeps the promise of {', '.join(d.name for d in lacking)} with any policy at any "
        f"rate; {'; '.join(reasons)}",
        hours=tuple(range(question.hours)),
        models=tuple(d.name for d in lacking),
        remedies=tuple(
            Remedy(change=f"a larger latency bound for {d.name}, or a faster type of machine") for d in lacking
        ),
    )


def explain_shortage(question: PlanQuestion, instance: Instance, solved: Solved, *, time_limit_s: float) -> Shortage:
    """What is missing, hour by hour, and single changes that would make the plan possible.

    Parameters
    ----------
    question, instance
        What was asked.
    solved : Solved
        The attempt; ``stopped`` means that the time ran out before any plan was found.
    time_limit_s : float
        Seconds for each program solved here.
    """
    if solved.status == "stopped":
        return Shortage(
            reason=f"no plan was found in {solved.seconds:.0f} s, nor that there is none; allow more time",
            remedies=(Remedy(change="a larger --time-limit"),),
        )

    def feasible(changed: Instance) -> bool:
        return solve(changed, gap=1.0, time_limit_s=time_limit_s).counts is not None

    free = replace(
        instance, weight=np.ones(len(instance.qps)), own_weight=0.0 * instance.own_weight, most_switched=None,
        switch_weight=0.0,
    )  # fmt: skip
    bad = [h for h in range(instance.demand_qps.shape[1]) if not feasible(free.hour(h))]
    if not bad:
        return _switching(instance, feasible)
    worst = min(bad, key=lambda h: _relaxed_share(free.hour(h)))
    share = _largest_share(free.hour(worst), feasible)
    hard = _undominated(free, bad)
    short = {m.name: _missing(free, t, hard, time_limit_s) for t, m in enumerate(question.machines)}
    remedies = [
        Remedy(change=f"{n} more {name}", machine=name, machines=n)
        for name, n in short.items()
        if n is not None and n > 0
    ]
    if share > 0:
        remedies.append(Remedy(change=f"{share:.1%} of the demand", factor=share))
    for change, instead in (
        ("no margin", replace(free, margin=0.0 * free.margin)),
        ("no spare machine", replace(free, spare=False)),
        ("no promise about failure domains", replace(free, domains=None)),
    ):
        given_up = (change != "no spare machine" or instance.spare) and ("domains" not in change or instance.domains)
        if given_up and all(feasible(instead.hour(h)) for h in hard):
            remedies.append(Remedy(change=change))
    models = _who_lacks(question, free.hour(worst))
    needs = ", ".join(f"{n} more {name}" for name, n in short.items() if n is not None)
    several = _missing_of_any(free, worst, time_limit_s)
    counted = (
        ", ".join(f"{n} {question.machines[t].name}" for t, n in enumerate(several) if n) if several else "unknown"
    )
    return Shortage(
        reason=f"too few machines in hours {_span(bad)}; in hour {worst}, the worst, they carry {share:.1%} of the "
        f"demand ({', '.join(models)} at {_rates(question, models, worst)} queries/s compete for them). Fewest "
        f"machines that would do: {counted} more"
        + (f"; with a single type: {needs}" if needs else "; no single type would do, however many"),
        hours=tuple(bad),
        worst_hour=worst,
        models=models,
        remedies=tuple(remedies),
    )


def _span(hours: Sequence[int]) -> str:
    """Hours as ranges: 3, 7-9."""
    runs: list[list[int]] = []
    for h in hours:
        if runs and h == runs[-1][1] + 1:
            runs[-1][1] = h
        else:
            runs.append([h, h])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _rates(question: PlanQuestion, models: Sequence[str], hour: int) -> str:
    rates = dict(zip([d.name for d in question.demands], question.demand_qps()[:, hour], strict=True))
    return ", ".join(f"{rates[m]:,.0f}" for m in models)


def _undominated(instance: Instance, hours: Sequence[int]) -> list[int]:
    """Hours in which no other one has at least as much demand of every model; what serves them serves all."""
    kept: list[int] = []
    for h in sorted(hours, key=lambda h: -float(instance.demand_qps[:, h].sum())):
        if not any(np.all(instance.demand_qps[:, h] <= instance.demand_qps[:, k]) for k in kept):
            kept.append(h)
    return kept


def _relaxed_share(instance: Instance) -> float:
    """Share of one hour's demand that fractions of machines could carry."""
    from scipy.optimize import linprog

    columns, models, types = len(instance.qps), len(instance.demand_qps), len(instance.stock)
    cover, stock = np.zeros((models, columns + 1)), np.zeros((types, columns + 1))
    cover[instance.model, np.arange(columns)] = -instance.qps
    cover[:, -1] = needed_qps(instance)[:, 0]
    stock[instance.machine, np.arange(columns)] = 1.0
    found = linprog(
        np.append(np.zeros(columns), -1.0),
        A_ub=np.vstack((cover, stock)),
        b_ub=np.concatenate((np.zeros(models), instance.stock)),
        bounds=[(0, None)] * columns + [(0, 10)],
    )
    return float(found.x[-1]) if found.x is not None else 0.0


def _largest_share(instance: Instance, feasible: Callable[[Instance], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if feasible(replace(instance, demand_qps=middle * instance.demand_qps)):
            low = middle
        else:
            high = middle
    return low


def _plenty(instance: Instance) -> int:
    """More machines of a type than any plan uses."""
    smallest = instance.qps.min()
    return int(np.ceil(3 * needed_qps(instance).sum(axis=0).max() / smallest)) + 10 * len(instance.demand_qps)


def _missing(instance: Instance, t: int, hours: Sequence[int], time_limit_s: float) -> int | None:
    """How many more of one type would do alone; None when no number does."""
    stock = instance.stock.copy()
    stock[t] = _plenty(instance)
    only = replace(instance, stock=stock, weight=np.where(instance.machine == t, 1.0, 0.0))
    needed = 0
    for h in hours:
        found = solve(only.hour(h), gap=_EXACT, time_limit_s=time_limit_s)
        if found.counts is None:
            return None
        needed = max(needed, int(instance.on_of_type(found.counts)[t, 0]))
    return max(needed - int(instance.stock[t]), 0)


def _missing_of_any(instance: Instance, hour: int, time_limit_s: float) -> list[int] | None:
    """Fewest machines in all beyond the stock, by type.

    Machines beyond the stock are columns of their own, of a type of their own, with a weight of 1.
    """
    columns, types = len(instance.qps), len(instance.stock)
    twice = replace(
        instance.hour(hour),
        qps=np.tile(instance.qps, 2),
        model=np.tile(instance.model, 2),
        machine=np.concatenate((instance.machine, instance.machine + types)),
        weight=np.concatenate((np.zeros(columns), np.ones(columns))),
        own_weight=np.zeros(2 * types),
        stock=np.concatenate((instance.stock, np.full(types, _plenty(instance)))),
    )
    found = solve(twice, gap=_EXACT, time_limit_s=time_limit_s)
    return None if found.counts is None else [int(n) for n in twice.on_of_type(found.counts)[types:, 0]]


def _who_lacks(question: PlanQuestion, instance: Instance) -> tuple[str, ...]:
    """Models that can run on a type which the fewest additional machines would be of: those in competition."""
    several = _missing_of_any(instance, 0, 60.0)
    scarce = {t for t, n in enumerate(several or []) if n}
    demanded = {int(m) for m in np.flatnonzero(instance.demand_qps[:, 0] > 0)}
    using = {int(m) for m, t in zip(instance.model, instance.machine, strict=True) if int(t) in scarce} & demanded
    return tuple(question.demands[m].name for m in sorted(using or demanded))


def _switching(instance: Instance, feasible: Callable[[Instance], bool]) -> Shortage:
    """Each hour alone could be served: the limit on switching stands in the way."""
    low, high = instance.most_switched or 0, int(instance.stock.sum())
    while high - low > 1:
        middle = (low + high) // 2
        if feasible(replace(instance, most_switched=middle)):
            high = middle
        else:
            low = middle
    return Shortage(
        reason=f"every hour could be served for itself, but not with at most {instance.most_switched} machines given "
        "another model at the start of an hour",
        hours=(),
        remedies=(Remedy(change=f"switching.most_per_hour of {high}", machines=high),),
    )
