"""A fleet plan: which machines run which model, hour by hour, at the least cost, energy or number of machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from recqueue.optimize.plan_baselines import MEANING, greedy, peak_all_day, proportional
from recqueue.optimize.plan_columns import Column, columns
from recqueue.optimize.plan_instance import Instance, Ints, Solved, objective
from recqueue.optimize.plan_result import Plan, PlanBaseline, PlanVerification, Scarce
from recqueue.optimize.plan_shortage import explain_shortage, unserved
from recqueue.optimize.plan_solve import solve, stock_worth
from recqueue.optimize.plan_terms import instance_of, totals_of, useful, weights
from recqueue.serving import PlanQuestion

GAP = 1e-3
"""The objective is proven to be within this share of the least."""
QUERIES = 400_000
"""Queries of a first look at an hour, over all replications."""
TIME_LIMIT_S = 60.0
"""Seconds for one choice of machines."""
_FIRST_STEP, _LARGEST_STEP, _MOST_STEPS = 0.01, 0.04, 8
"""Of what is not relied on any more where the simulator disagrees: 1 %, 2 %, then 4 % at a time."""


def plan(
    question: PlanQuestion,
    *,
    known: Sequence[Column] | None = None,
    verify: bool = False,
    queries: int = QUERIES,
    seed: int = 0,
    gap: float = GAP,
    time_limit_s: float = TIME_LIMIT_S,
    executor: Executor | None = None,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Machines for each model and hour, by formula and mixed-integer programming, checked by simulation if wanted.

    Where the simulation of an hour does not confirm the formulas, less of what they say is relied on for that model,
    and the machines are chosen anew, until it does.

    Parameters
    ----------
    question : PlanQuestion
        Machines, models, rules and what is to be smallest.
    known : sequence of Column, optional
        What one machine carries; worked out (``plan_columns.columns``) by default.
    verify : bool
        Simulate the telling hours of every model, with all machines and with some lost.
    queries : int
        Queries in a first look at an hour; up to two larger ones follow where that does not decide.
    seed : int
        Of the simulations.
    gap : float
        Share of the objective up to which the plan need not be the best.
    time_limit_s : float
        Seconds for one choice of machines; the best plan found by then is given, with its gap.
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
    say = progress or (lambda line: None)
    clock = _Clock()
    found = tuple(known) if known is not None else columns(question, executor=executor, progress=progress)
    clock.lap("columns")
    reliance = dict.fromkeys([d.name for d in question.demands], 1.0)
    none = Plan(
        question=question, columns=found, counts=None, reliance=reliance, totals=None, switched=None, value=np.inf,
        bound=np.inf, method="", baselines={}, scarce=(), shortage=None, verification=None, seconds=clock.seconds,
    )  # fmt: skip
    if lacking := unserved(question, found):
        return replace(none, shortage=lacking)
    witness, verification, steps = None, None, dict.fromkeys(reliance, 0)
    if verify:
        from recqueue.optimize.plan_verify import Witness  # loads numba

        witness = Witness(question, seed, queries)
    while True:
        kept = useful(question, [relied_on(c, reliance[c.model]) for c in found])
        instance = instance_of(question, kept)
        say("choosing the machines")
        solved, switched = _solve(question, instance, kept, gap=gap, time_limit_s=time_limit_s)
        clock.lap("choice")
        none = replace(none, columns=kept, reliance=reliance, bound=solved.bound, method=solved.method)
        if solved.counts is None:
            say("looking for what would help")
            shortage = explain_shortage(question, instance, solved, time_limit_s=time_limit_s)
            clock.lap("explanation")
            return replace(none, shortage=shortage)
        if witness is None:
            break
        checks = witness.checks(kept, solved.counts, say=say)
        clock.lap("simulation")
        verdicts = {c.verdict for c in checks}
        verification = PlanVerification(
            verdict="fail" if "fail" in verdicts else "undecided" if "undecided" in verdicts else "pass",
            checks=tuple(checks),
            steps_back=steps,
            queries=witness.simulated,
        )
        wrong = {c.model for c in checks if c.verdict != "pass"}
        if not wrong or max(steps[m] for m in wrong) == _MOST_STEPS:
            break
        steps = {m: n + (m in wrong) for m, n in steps.items()}
        reliance = {
            m: r * (1 - min(_FIRST_STEP * 2 ** (steps[m] - 1), _LARGEST_STEP) * (m in wrong))
            for m, r in reliance.items()
        }
    say("comparing with provisioning without an optimizer")
    baselines = _baselines(question, instance, kept, gap=gap, time_limit_s=time_limit_s)
    clock.lap("baselines")
    return replace(
        none,
        counts=solved.counts,
        totals=totals_of(question, kept, solved.counts, int(switched.sum())),
        switched=switched,
        value=solved.value,
        baselines=baselines,
        scarce=_scarce(question, instance, solved),
        verification=verification,
    )


class _Clock:
    """Seconds of each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add what passed since the last lap."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def relied_on(c: Column, share: float) -> Column:
    """A column of which only a share of its rate is used."""
    return c if share == 1 else replace(c, qps=share * c.qps, power_w=c.watts(share * c.qps))


def _solve(
    question: PlanQuestion,
    instance: Instance,
    kept: Sequence[Column],
    *,
    gap: float,
    time_limit_s: float,
) -> tuple[Solved, Ints]:
    """Solve; for the fewest machines, then use those in the cheapest way."""
    solved = solve(instance, gap=gap, time_limit_s=time_limit_s)
    if solved.counts is not None and question.objective == "machines":
        owned = instance.on_of_type(solved.counts).max(axis=1)
        second = replace(instance, weight=weights(question, kept), own_weight=0.0 * instance.own_weight, stock=owned)
        cheap = solve(second, gap=gap, time_limit_s=time_limit_s)
        if cheap.counts is not None:
            solved = replace(solved, counts=cheap.counts, held=cheap.held, seconds=solved.seconds + cheap.seconds)
    if solved.counts is None:
        return solved, np.zeros(0, np.int64)
    return solved, solved.switched(instance)


def _baselines(
    question: PlanQuestion,
    instance: Instance,
    kept: Sequence[Column],
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
            totals=None if counts is None else totals_of(question, kept, counts, 0),
            value=np.inf if counts is None else objective(instance, counts),
            reason=reason,
        )
    return found


def _scarce(question: PlanQuestion, instance: Instance, solved: Solved) -> tuple[Scarce, ...]:
    """Types of which every machine is on at times, and what one more would be worth."""
    if solved.counts is None:
        return ()
    on = instance.on_of_type(solved.counts)
    full = [t for t in range(len(instance.stock)) if instance.stock[t] > 0 and np.any(on[t] == instance.stock[t])]
    worth = solved.worth if solved.worth is not None else stock_worth(instance) if full else None
    return tuple(
        Scarce(
            machine=question.machines[t].name,
            hours=tuple(int(h) for h in np.flatnonzero(on[t] == instance.stock[t])),
            worth=None if worth is None else float(worth[t]),
        )
        for t in full
    )
