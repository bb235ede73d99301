"""What one machine of each type carries of each model, with candidate policies: the columns of the plan."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from recqueue.analysis import evaluate
from recqueue.analysis.pools import Costs, loads
from recqueue.analysis.rates import largest_rate
from recqueue.errors import OutsideMeasuredRangeWarning
from recqueue.optimize.search import search
from recqueue.serving import Demand, PlanQuestion, Policy, Scenario, System

_THRESHOLDS = 6
"""Offload thresholds looked at for the most queries per watt, beside those of the fastest policy."""
_GAIN = 0.01
"""A second policy must give this much more queries per watt to be kept."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One way to use one machine: which model it runs, with which policy, and what that carries.

    Attributes
    ----------
    machine, model : str
        Names of the question.
    policy : Policy or None
        Batch size and offload threshold; None where the figures were given.
    qps : float
        Largest queries per second of one machine within the SLA, by formula.
    power_w : float or None
        Of one machine at that rate.
    idle_w : float or None
        Of one machine that is on and has nothing to do.
    kind : str
        What it is the best of: ``most queries``, or ``most queries per watt``.
    """

    machine: str
    model: str
    policy: Policy | None
    qps: float
    power_w: float | None
    idle_w: float | None
    kind: str

    def watts(self, qps: float) -> float | None:
        """Watts of one machine at a lower rate: linear between idle and ``power_w``."""
        if self.power_w is None or self.idle_w is None:
            return None
        return self.idle_w + (self.power_w - self.idle_w) * min(qps / self.qps, 1.0)


def columns_of_pair(machine: str, demand: Demand, system: System, offload: bool) -> tuple[Column, ...]:
    """Candidate policies of one model on one machine: the fastest, and the one with the most queries per watt.

    The second is looked for among the batch sizes of the fastest policy and of whole queries, with a spread of offload
    thresholds, each at its own largest rate. None where no policy keeps the promise.

    Parameters
    ----------
    machine : str
        Name of the type.
    demand : Demand
        The model and its promise.
    system : System
        The machine as the model finds it.
    offload : bool
        Whether its accelerators can hold the tables.

    Returns
    -------
    tuple of Column
        Two, one, or none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideMeasuredRangeWarning)  # said once when the file is read
        scenario = Scenario(name=machine, model=demand.model, system=system, sizes=demand.sizes, sla=demand.sla)
        # without its accelerator the search is quicker; power is that of the whole machine all the same
        sought = scenario if offload else replace(scenario, system=replace(system, accelerator=None))
        costs = Costs.of(sought)
        found = search(sought, costs)
        if found.policy is None:
            return ()
        fastest = _column(scenario, found.policy, found.qps, "most queries")
        if fastest.power_w is None:
            return (fastest,)
        best = fastest
        bounds = {p: _most_per_watt(scenario, p, costs) for p in _spread(sought, found.policy)}
        for p in sorted(bounds, key=lambda p: -bounds[p]):
            if bounds[p] <= max((1 + _GAIN) * _per_watt(fastest), _per_watt(best)):
                break
            if (rate := largest_rate(sought, p, costs)) > 0:
                best = max(best, _column(scenario, p, rate, ""), key=_per_watt)
    if _per_watt(best) < (1 + _GAIN) * _per_watt(fastest):
        return (fastest,)
    return (fastest, replace(best, kind="most queries per watt"))


def _per_watt(c: Column) -> float:
    return c.qps / c.power_w if c.power_w else 0.0


def _most_per_watt(scenario: Scenario, policy: Policy, costs: Costs) -> float:
    """More queries per watt than the policy can have: those at saturation, as if cores did not slow each other."""
    system = scenario.system
    work = loads(scenario, policy, costs)
    rate = min(work.saturation_qps(scenario))
    count = system.accelerator.count if system.accelerator else 1
    watts = system.power_w(rate * work.cpu_work_s / system.cores, rate * work.accelerator_work_s / count)
    return rate / watts if watts else np.inf


def _spread(scenario: Scenario, fastest: Policy) -> list[Policy]:
    largest = scenario.sizes.max_items
    thresholds: set[int | None] = {None, fastest.offload_threshold}
    if scenario.system.accelerator is not None:
        sizes = np.flatnonzero(scenario.sizes.pmf)
        places = np.unique(np.linspace(0, len(sizes) - 1, _THRESHOLDS).round().astype(int))
        thresholds |= {int(sizes[i]) for i in places}
    batches = {fastest.batch_size, max(1, largest // 2), largest}
    return [replace(fastest, batch_size=b, offload_threshold=t) for b in sorted(batches) for t in _ordered(thresholds)]


def _ordered(thresholds: set[int | None]) -> list[int | None]:
    """Thresholds in order, never last."""
    return sorted(thresholds, key=lambda t: np.inf if t is None else t)


def _column(scenario: Scenario, policy: Policy, qps: float, kind: str) -> Column:
    busy = evaluate(replace(scenario, policy=policy), qps=qps).power_w if qps > 0 else None
    return Column(
        machine=scenario.name,
        model=scenario.model,
        policy=policy,
        qps=qps,
        power_w=busy,
        idle_w=scenario.system.power_w(0.0, 0.0),
        kind=kind,
    )


def columns(
    question: PlanQuestion, *, executor: Executor | None = None, progress: Callable[[str], None] | None = None
) -> tuple[Column, ...]:
    """Columns of every pair of the question, in the order of its models and machines.

    Parameters
    ----------
    question : PlanQuestion
        The pairs are those of its ``systems``.
    executor : concurrent.futures.Executor, optional
        Where the pairs are worked out; here, one after the other, by default.
    progress : callable, optional
        Called with a line for each model.
    """
    say = progress or (lambda line: None)
    tasks = [
        (m.name, d, question.systems[m.name, d.name], (m.name, d.name) not in question.no_offload)
        for d in question.demands
        for m in question.machines
        if (m.name, d.name) in question.systems
    ]
    if executor is None:
        found: list[tuple[Column, ...]] = []
        for task in tasks:
            say(f"{task[1].name} on {task[0]}: how many queries one machine carries")
            found.append(columns_of_pair(*task))
    else:
        say(f"{len(tasks)} pairs of machine and model: how many queries one machine carries")
        found = list(executor.map(columns_of_pair, *zip(*tasks, strict=True)))
    return tuple(replace(c, model=task[1].name) for task, some in zip(tasks, found, strict=True) for c in some)


def pareto(found: Sequence[Column], weight: Mapping[Column, float]) -> list[Column]:
    """Columns that no other one of the same pair beats in both queries and ``weight`` (what one machine-hour costs)."""
    kept = []
    for c in found:
        rivals = [o for o in found if o is not c and (o.machine, o.model) == (c.machine, c.model)]
        if not any(
            o.qps >= c.qps and weight[o] <= weight[c] and (o.qps > c.qps or weight[o] < weight[c] or o in kept)
            for o in rivals
        ):
            kept.append(c)
    return kept
