"""A fleet plan: which machines run which model, hour by hour, at the least cost, energy or number of machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from recqueue.errors import InputError
from recqueue.optimize.plan_baselines import MEANING, greedy, peak_all_day, proportional
from recqueue.optimize.plan_columns import Column, columns, pareto
from recqueue.optimize.plan_milp import Floats, Instance, Ints, Solved, objective
from recqueue.optimize.plan_result import Plan, PlanBaseline, Scarce, Totals
from recqueue.optimize.plan_shortage import explain_shortage, unserved
from recqueue.optimize.plan_solve import solve, stock_worth
from recqueue.serving import PlanQuestion

GAP = 1e-3
"""The objective is proven to be within this share of the least."""
TIME_LIMIT_S = 60.0
"""Seconds for one mixed-integer program."""


def plan(
    question: PlanQuestion,
    *,
    known: Sequence[Column] | None = None,
    gap: float = GAP,
    time_limit_s: float = TIME_LIMIT_S,
    executor: Executor | None = None,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Machines for each model and hour, by formula and mixed-integer programming.

    Parameters
    ----------
    question : PlanQuestion
        Machines, models, rules and what is to be smallest.
    known : sequence of Column, optional
        What one machine carries; worked out (``plan_columns.columns``) by default.
    gap : float
        Share of the objective up to which the plan need not be the best.
    time_limit_s : float
        Seconds for one mixed-integer program; the best plan found by then is given, with its gap.
    executor : concurrent.futures.Executor, optional
        Where what one machine carries is worked out.
    progress : callable, optional
        Called with a line at each stage.

    Returns
    -------
    Plan
        ``counts`` is None when the machines do not suffice; ``shortage`` then says for what, and what would help.

    Raises
    ------
    InputError
        When the objective needs a power figure that is unknown.
    """
    started = time.perf_counter()
    say = progress or (lambda line: None)
    found = tuple(known) if known is not None else columns(question, executor=executor, progress=progress)
    seconds = {"columns": time.perf_counter() - started}
    margin = {d.name: question.safety.margin for d in question.demands}
    return with_margins(question, found, margin, gap=gap, time_limit_s=time_limit_s, say=say, seconds=seconds)


def with_margins(
    question: PlanQuestion,
    found: tuple[Column, ...],
    margin: Mapping[str, float],
    *,
    gap: float,
    time_limit_s: float,
    say: Callable[[str], None],
    seconds: Mapping[str, float],
) -> Plan:
    """Plan with a margin of its own for each model."""
    begin = time.perf_counter()
    kept = useful(question, found, margin)
    none = Plan(
        question=question, columns=kept, counts=None, margin=margin, totals=None, switched=None, value=np.inf,
        bound=np.inf, method="", baselines={}, scarce=(), shortage=None, verification=None, seconds=seconds,
    )  # fmt: skip
    if lacking := unserved(question, found):
        return replace(none, shortage=lacking)
    instance = instance_of(question, kept, margin)
    say("choosing the machines")
    solved, switched = _solve(question, instance, kept, margin, gap=gap, time_limit_s=time_limit_s)
    seconds = {**seconds, "choice": time.perf_counter() - begin}
    begin = time.perf_counter()
    if solved.counts is None:
        say("looking for what would help")
        shortage = explain_shortage(question, instance, solved, time_limit_s=time_limit_s)
        seconds["explanation"] = time.perf_counter() - begin
        return replace(none, bound=solved.bound, method=solved.method, shortage=shortage, seconds=seconds)
    say("comparing with provisioning without an optimizer")
    baselines = _baselines(question, instance, kept, margin, gap=gap, time_limit_s=time_limit_s)
    seconds["baselines"] = time.perf_counter() - begin
    return replace(
        none,
        counts=solved.counts,
        totals=totals_of(question, kept, solved.counts, margin, int(switched.sum())),
        switched=switched,
        value=solved.value,
        bound=solved.bound,
        method=solved.method,
        baselines=baselines,
        scarce=_scarce(question, instance, solved.counts),
        seconds=seconds,
    )


def planned_watts(c: Column, margin: float) -> float | None:
    """Watts of one machine at the rate planned for it: what it carries, less the margin."""
    return c.watts(c.qps / (1 + margin))


def machine_hour(question: PlanQuestion, c: Column, margin: float) -> float:
    """USD of one machine that is on for an hour: its price and its provisioned energy."""
    price = next(m.price_usd_per_h for m in question.machines if m.name == c.machine)
    if not question.energy_usd_per_kwh:
        return price
    return price + question.energy_usd_per_kwh * _known(planned_watts(c, margin), c) / 1e3


def _known(watts: float | None, c: Column) -> float:
    if watts is None:
        raise InputError(
            f"machines {c.machine}: no power figure is known for this hardware, which the plan needs; plan for "
            "'objective: cost' without energy_usd_per_kwh, or for machines"
        )
    return watts


def _weights(question: PlanQuestion, found: Sequence[Column], margin: Mapping[str, float]) -> Floats:
    """Objective of a machine-hour of each column; for ``machines``, what is to be small among equally few machines."""
    if question.objective == "power":
        return np.array([_known(planned_watts(c, margin[c.model]), c) / 1e3 for c in found])
    cost = np.array([machine_hour(question, c, margin[c.model]) for c in found])
    return cost if question.objective == "cost" or cost.any() else np.ones(len(found))


def useful(question: PlanQuestion, found: Sequence[Column], margin: Mapping[str, float]) -> tuple[Column, ...]:
    """Columns that carry something and that no other of their pair beats."""
    carrying = [c for c in found if c.qps > 0]
    weight = dict(zip(carrying, _weights(question, carrying, margin).tolist(), strict=True))
    return tuple(pareto(carrying, weight))


def instance_of(question: PlanQuestion, kept: Sequence[Column], margin: Mapping[str, float]) -> Instance:
    """The numbers of the question."""
    types = [m.name for m in question.machines]
    models = [d.name for d in question.demands]
    few = question.objective == "machines"
    capital = np.array([m.capital_usd_per_h * question.hours for m in question.machines])
    return Instance(
        qps=np.array([c.qps for c in kept]),
        machine=np.array([types.index(c.machine) for c in kept]),
        model=np.array([models.index(c.model) for c in kept]),
        weight=np.zeros(len(kept)) if few else _weights(question, kept, margin),
        own_weight=np.ones(len(types)) if few else capital if question.objective == "cost" else 0 * capital,
        stock=np.array([m.available for m in question.machines]),
        demand_qps=question.demand_qps(),
        margin=np.array([margin[m] for m in models]),
        spare=question.safety.spare_machine,
        domains=question.safety.domains,
        most_switched=question.switching.most_per_hour,
        switch_weight=question.switching.cost_usd if question.objective == "cost" else 0.0,
    )


def _solve(
    question: PlanQuestion,
    instance: Instance,
    kept: Sequence[Column],
    margin: Mapping[str, float],
    *,
    gap: float,
    time_limit_s: float,
) -> tuple[Solved, Ints]:
    """Solve; for the fewest machines, then use those in the cheapest way."""
    solved = solve(instance, gap=gap, time_limit_s=time_limit_s)
    if solved.counts is not None and question.objective == "machines":
        owned = instance.on_of_type(solved.counts).max(axis=1)
        second = replace(
            instance, weight=_weights(question, kept, margin), own_weight=0.0 * instance.own_weight, stock=owned
        )
        cheap = solve(second, gap=gap, time_limit_s=time_limit_s)
        if cheap.counts is not None:
            solved = replace(solved, counts=cheap.counts, held=cheap.held, seconds=solved.seconds + cheap.seconds)
    if solved.counts is None:
        return solved, np.zeros(0, np.int64)
    return solved, solved.switched(instance)


def totals_of(
    question: PlanQuestion, kept: Sequence[Column], counts: Ints, margin: Mapping[str, float], switches: int
) -> Totals:
    """What a choice of machines comes to."""
    hourly = np.array([d.day.hourly_qps() for d in question.demands])
    models = [d.name for d in question.demands]
    on = counts.sum(axis=1)
    cost = sum(machine_hour(question, c, margin[c.model]) * int(n) for c, n in zip(kept, on, strict=True))
    machines = 0
    for m in question.machines:
        owned = int(sum(counts[i] for i, c in enumerate(kept) if c.machine == m.name).max()) if len(kept) else 0
        machines += owned
        cost += owned * m.capital_usd_per_h * question.hours
    provisioned = expected = peak = None
    watts = [planned_watts(c, margin[c.model]) for c in kept]
    if all(w is not None for w, n in zip(watts, on, strict=True) if n):
        hourly_w = np.array([w or 0.0 for w in watts]) @ counts
        provisioned, peak = float(hourly_w.sum()) / 1e3, float(hourly_w.max())
        carried = np.zeros(hourly.shape)
        place = np.array([models.index(c.model) for c in kept])
        np.add.at(carried, place, np.array([c.qps for c in kept])[:, None] * counts)
        share = np.divide(hourly, carried, out=np.zeros_like(hourly), where=carried > 0)
        expected = sum(
            float(n) * (c.watts(c.qps * float(share[m, h])) or 0.0) / 1e3
            for c, m, row in zip(kept, place, counts, strict=True)
            for h, n in enumerate(row)
            if n
        )
    return Totals(
        cost_usd=float(cost) + question.switching.cost_usd * switches,
        machines=machines,
        machine_hours=int(counts.sum()),
        provisioned_kwh=provisioned,
        expected_kwh=expected,
        peak_power_w=peak,
    )


def _baselines(
    question: PlanQuestion,
    instance: Instance,
    kept: Sequence[Column],
    margin: Mapping[str, float],
    *,
    gap: float,
    time_limit_s: float,
) -> dict[str, PlanBaseline]:
    """Greedy, proportional, and the best machines for the peak kept on all day."""
    models = [d.name for d in question.demands]
    made: dict[str, tuple[Ints | None, str]] = {"greedy": greedy(instance), "proportional": proportional(instance)}
    peak = solve(peak_all_day(instance), gap=gap, time_limit_s=time_limit_s)
    flat = None if peak.counts is None else np.repeat(peak.counts, question.hours, axis=1)
    made["peak all day"] = flat, ""
    found = {}
    for name, (counts, where) in made.items():
        reason = ""
        if counts is None:
            m, _, h = where.partition(":")
            reason = f"runs out of machines for {models[int(m)]} in hour {h}" if where else "has too few machines"
        found[name] = PlanBaseline(
            meaning=MEANING[name],
            counts=counts,
            totals=None if counts is None else totals_of(question, kept, counts, margin, 0),
            value=np.inf if counts is None else objective(instance, counts),
            reason=reason,
        )
    return found


def _scarce(question: PlanQuestion, instance: Instance, counts: Ints) -> tuple[Scarce, ...]:
    """Types of which every machine is on at times, and what one more would be worth."""
    on = instance.on_of_type(counts)
    full = [t for t in range(len(instance.stock)) if instance.stock[t] > 0 and np.any(on[t] == instance.stock[t])]
    worth = stock_worth(instance) if full else None
    return tuple(
        Scarce(
            machine=question.machines[t].name,
            hours=tuple(int(h) for h in np.flatnonzero(on[t] == instance.stock[t])),
            worth=None if worth is None else float(worth[t]),
        )
        for t in full
    )
