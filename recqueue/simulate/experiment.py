"""A simulated number is an experiment: replications, a detected warm-up, an interval, and a rule for when to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from recqueue.errors import InputError, WorkerLostError
from recqueue.serving.performance import Experiment, Performance
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.simulate.execution import Crew
from recqueue.simulate.replication import Run, run_once
from recqueue.simulate.settling import offered_load, relaxation_queries, trusted_queries
from recqueue.simulate.statistics import Estimate, Growth, chance_below, estimates, growth, mser5
from recqueue.simulate.streams import spawn

SETTLING_TIMES = 3
"""The warm-up covers at least this many relaxation times; e^-3 = 5 % of the empty start is then left."""
LEAST_QUERIES = 100
"""Counted queries in a replication, at least."""
LEAST_REPLICATIONS = 3
"""Replications from which an interval is made, at least."""
SEQUENTIAL_FACTOR = 3
"""Times as many in a run that looks several times: it needs intervals of more than 95 %, further out in the tails."""
MOST_GROWTH = 32
"""Times the queries of the first look at which a run that chooses its own length ends undecided, by default."""
ERROR = 0.05
"""Chance that an interval misses, or that any of several looks decides wrongly."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a run proceeds: replications of one length, more of them at each look.

    Attributes
    ----------
    counted, warm_up : int
        Queries of each replication.
    stages : tuple of int
        Replications at each look, ascending.
    half_width : float or None
        Relative half-width of the interval at which to stop.
    until_decided : bool
        Whether to stop as soon as the verdict on the SLA is decided.
    give_up : float
        Chance of a "pass" below which to stop undecided.
    """

    counted: int
    warm_up: int
    stages: tuple[int, ...]
    half_width: float | None = None
    until_decided: bool = False
    give_up: float = 0.0

    def confidence(self, look: int) -> float:
        """Of the interval at a look, from 1 on: :data:`ERROR` is shared out in proportion to the replications."""
        return 1 - ERROR * self.stages[look - 1] / sum(self.stages)

    def hopeless(self, own: Estimate, bound: float, look: int) -> bool:
        """Whether the chance that a later look finds the interval of a look below the bound is too small."""
        looks = [(count, self.confidence(j)) for j, count in enumerate(self.stages, start=1)][look - 1 :]
        return self.give_up > 0 and chance_below(own, bound, looks) < self.give_up


def simulate(
    scenario: Scenario,
    *,
    qps: float | None = None,
    queries: int = 200_000,
    replications: int = 8,
    seed: int = 0,
    workers: int | None = None,
    executor: Executor | None = None,
    half_width: float | None = None,
    until_decided: bool = False,
    max_queries: int | None = None,
    give_up: float = 0.0,
) -> Performance:
    r"""Simulate a scenario under its policy; every latency comes with a 95 % confidence interval.

    The replications start empty and are independent; the start of each is dropped up to where MSER-5 sees no more trace
    of it, and at least three relaxation times. The latencies are those of all replications pooled, their intervals
    Student's t over the replications on a logarithmic scale. Nothing here knows a queueing formula.

    With ``half_width`` or ``until_decided`` the number of replications doubles until the answer is there or the cap is
    reached. At look j, with :math:`R_j` replications, the interval has confidence :math:`1 - 0.05 R_j / \sum_i R_i`
    over all looks that the cap allows, so the nominal chance that any look decides wrongly stays 5 %, however the run
    ends; measured, it is below 8 %.

    Parameters
    ----------
    scenario : Scenario
        Must hold a policy.
    qps : float, optional
        Offered queries per second; the scenario's own by default.
    queries : int
        Counted queries over all replications, at least 100 for each of them; of the first look when there are several.
        The warm-up comes on top; where MSER-5 finds more of it than planned, fewer are counted.
    replications : int
        Independent replications, 3 or more; of the first look when there are several.
    seed : int
        The same seed gives the same numbers, whatever ``workers`` and ``executor`` are.
    workers : int, optional
        Threads; all cores by default.
    executor : concurrent.futures.Executor, optional
        Where the replications run in place of our own threads; it is left open.
    half_width : float, optional
        Go on until half the interval of the SLA's percentile is at most this share of it, as in 0.01.
    until_decided : bool
        Go on until the interval of the SLA's percentile lies on one side of the bound.
    max_queries : int, optional
        Counted queries at which to stop whatever is known; 32 times ``queries`` by default. Only with ``half_width`` or
        ``until_decided``.
    give_up : float
        With ``until_decided``: stop undecided as soon as the chance that a later look finds the whole interval within
        the bound falls below this, as in 0.02, for who would lower the rate anyway unless the verdict is "pass". It
        cannot make a wrong "pass" likelier.

    Returns
    -------
    Performance
        With ``interval_s`` for the mean and each percentile, ``verdict`` and the ``experiment``. ``meets_sla`` is None
        (``verdict`` is "undecided") when the interval of the SLA's percentile contains the bound, or when it
        lies below but the run was too short to settle, or when the latencies were still growing.

    Raises
    ------
    InputError
        When the policy or the rate is missing or an option is out of range.
    WorkerLostError
        When worker processes died twice and fewer than three replications are left.

    References
    ----------
    :cite:t:`asmussen2007stochastic`, :cite:t:`white2000comparison`.
    """
    policy, rate = question(scenario, qps)
    check_options(queries, replications, seed, workers, executor, max_queries)
    plan = _plan(scenario, policy, rate, queries, replications, half_width, until_decided, max_queries, give_up)
    runs: dict[int, Run] = {}
    with Crew[Run](executor, workers) as crew:
        for look, target in enumerate(plan.stages, start=1):
            first = plan.stages[look - 2] if look > 1 else 0
            tasks = [
                partial(run_once, scenario, policy, rate, plan.counted, streams, warm_up=plan.warm_up)
                for streams in spawn(seed, target - first, first=first)
            ]
            runs |= {first + i: run for i, run in crew.run(tasks).items()}
            if len(runs) < LEAST_REPLICATIONS:
                if crew.interrupted:
                    raise KeyboardInterrupt
                raise WorkerLostError(
                    f"simulate: worker processes died twice and {len(runs)} of {target} replications are left; "
                    "is there enough memory? Use fewer queries, more replications or fewer workers"
                )
            found, done = summarize(scenario, policy, rate, [runs[i] for i in sorted(runs)], seed, plan, look)
            if done or crew.interrupted or crew.lost:
                break
    return _with_incidents(found, crew, target)


def question(scenario: Scenario, qps: float | None) -> tuple[Policy, float]:
    """Policy and rate of a simulation, or one line that says which is missing or unusable."""
    policy, rate = scenario.policy, scenario.qps if qps is None else qps
    if policy is None:
        raise InputError("simulate: the scenario has no policy; give policy.batch_size (and offload_threshold)")
    number = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
    if rate is None or not (number and np.isfinite(rate) and rate > 0):
        raise InputError(f"simulate: qps {rate}; give a finite rate above 0 queries per second")
    return policy, float(rate)


def check_options(
    queries: int,
    replications: int,
    seed: int,
    workers: int | None,
    executor: Executor | None,
    max_queries: int | None = None,
    hours: int = 1,
) -> None:
    """Refuse sizes, seeds, workers and executors that are out of range, in one line each."""
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InputError(
            f"simulate: executor {executor!r:.60}; give a concurrent.futures.Executor, or None for threads"
        )
    whole = {"queries": queries, "replications": replications, "seed": seed, "workers": workers}
    for name, value in {**whole, "max_queries": max_queries}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer)):
            raise InputError(f"simulate: {name} {value!r}; it must be a whole number")
    if replications < LEAST_REPLICATIONS:
        raise InputError(f"simulate: {replications} replications; at least 3 are needed for an interval")
    if queries < LEAST_QUERIES * replications * hours:
        each = "replication" if hours == 1 else f"of {hours} hours in {replications} replications"
        raise InputError(
            f"simulate: {queries} queries; give at least {LEAST_QUERIES * replications * hours} ({LEAST_QUERIES} for "
            f"each {each})"
        )
    if seed < 0:
        raise InputError(f"simulate: seed {seed}; it must be a whole number of 0 or more")
    if workers is not None and workers < 1:
        raise InputError(f"simulate: {workers} workers; it must be 1 or more")


def _plan(
    scenario: Scenario,
    policy: Policy,
    qps: float,
    queries: int,
    replications: int,
    half_width: float | None,
    until_decided: bool,
    max_queries: int | None,
    give_up: float,
) -> Plan:
    """Length and number of replications at each look."""
    sequential = half_width is not None or until_decided
    if half_width is not None and not (isinstance(half_width, int | float | np.floating) and 0 < half_width < 1):
        raise InputError(f"simulate: half_width {half_width}; it must lie between 0 and 1, as in 0.01 for 1 %")
    if max_queries is not None and not sequential:
        raise InputError(
            f"simulate: max_queries {max_queries} without half_width or until_decided; give one, or queries"
        )
    if not 0 <= give_up < 1 or (give_up > 0 and not until_decided):
        raise InputError(f"simulate: give_up {give_up}; it must lie between 0 and 1, and needs until_decided")
    most = MOST_GROWTH * queries if max_queries is None else max_queries
    if sequential and most < queries:
        raise InputError(f"simulate: max_queries {most} is below queries ({queries}), those of the first look")
    settling = relaxation_queries(scenario, policy, qps)
    each = -(-queries // replications)
    stages = [replications]
    if sequential:
        if math.isfinite(settling):
            enough = SEQUENTIAL_FACTOR * trusted_queries(settling, scenario.sla.percentile)
            each = max(each, min(math.ceil(enough), most // replications))
        while (more := min(2 * stages[-1], most // each)) > stages[-1]:
            stages.append(more)
    warm_up = math.ceil(SETTLING_TIMES * min(settling, each / SETTLING_TIMES))
    return Plan(
        counted=each,
        warm_up=warm_up,
        stages=tuple(stages),
        half_width=half_width,
        until_decided=until_decided,
        give_up=give_up,
    )


def percentiles(scenario: Scenario) -> dict[str, float]:
    """Names and ranks of the percentiles that are reported: the usual ones and that of the SLA."""
    return {"p50": 50.0, "p95": 95.0, "p99": 99.0, f"p{scenario.sla.percentile:g}": scenario.sla.percentile}


def summarize(
    scenario: Scenario, policy: Policy, qps: float, runs: Sequence[Run], seed: int, plan: Plan, look: int
) -> tuple[Performance, bool]:
    """Statistics over replications, and whether they are what was asked for."""
    sla, system = scenario.sla, scenario.system
    whole = np.vstack([np.concatenate((r.warm_up_s, r.latency_s)) for r in runs])
    detected = mser5(whole)
    cut = max(plan.warm_up, detected)
    rows = whole[:, cut:]
    found = estimates(rows, percentiles(scenario), confidence=plan.confidence(look))
    own = found[f"p{sla.percentile:g}"]
    load_cpu, load_accelerator = offered_load(scenario, policy, qps)
    load = max(load_cpu, load_accelerator)
    settling = relaxation_queries(scenario, policy, qps)
    # What has not settled is looked at from its empty start on, where growth shows best.
    trend = growth(whole if plan.warm_up < SETTLING_TIMES * settling else rows)
    stable = load < 1 and trend.label != "overloaded"
    notes = list(_doubts(scenario, qps, plan, settling, load, len(runs)))
    meets: bool | None = None
    if not stable or own.low > sla.latency_s:
        meets = False
    elif own.high <= sla.latency_s and not notes and trend.label == "stable":
        meets = True
    counted = rows.size
    enough = trusted_queries(settling, sla.percentile)
    if not notes and plan.counted < enough < math.inf:
        notes.append(
            f"each replication holds {plan.counted / settling:.0f} relaxation times: the interval of "
            f"p{sla.percentile:g} is likely too narrow; {enough * len(runs):,.0f} queries, or a run until it is "
            "decided, would do"
        )
    done = (meets is not None or not plan.until_decided) and own.half_width <= (plan.half_width or math.inf)
    done = done or plan.hopeless(own, sla.latency_s, look)
    needed = _needed(own, sla.latency_s, counted, meets, plan)
    if needed is not None and stable:
        needed = max(needed, SETTLING_TIMES * settling * len(runs))
    cpu = float(np.mean([r.cpu_utilization for r in runs]))
    accelerator = float(np.mean([r.accelerator_utilization for r in runs])) if system.accelerator else None
    performance = Performance(
        kind="simulate",
        method=f"discrete-event simulation, {len(runs)} replications, the first {cut:,} queries of each dropped as "
        f"warm-up ({'MSER-5' if cut == detected else 'relaxation time'})",
        qps=qps,
        latency_s={name: e.value for name, e in found.items()},
        interval_s={name: (e.low, e.high) for name, e in found.items()},
        utilization={"cpu": cpu, "accelerator": accelerator},
        offloaded={
            "queries": float(np.mean([r.offloaded_queries for r in runs])),
            "items": float(np.mean([r.offloaded_items for r in runs])),
        },
        breakdown_s={part: float(np.mean([r.breakdown_s[part] for r in runs])) for part in runs[0].breakdown_s},
        power_w=system.power_w(cpu, accelerator or 0.0),
        meets_sla=meets,
        status=_status(load_cpu, load_accelerator, trend, qps),
        stable=stable,
        queries=counted,
        sub_requests=sum(r.sub_requests for r in runs),
        seed=seed,
        experiment=Experiment(
            replications=len(runs),
            warm_up=cut,
            looks=look,
            most_looks=len(plan.stages),
            confidence=plan.confidence(look),
            trend=trend.label,
            growth=trend.relative,
            needed_queries=needed,
        ),
        notes=tuple(notes),
    )
    return performance, done


def _needed(own: Estimate, bound: float, counted: int, meets: bool | None, plan: Plan) -> float | None:
    """Queries in all that would decide or narrow the interval enough, as errors fall with the square root of them."""
    factors = []
    if meets is None and own.low <= bound < own.high:
        away = abs(math.log(own.value / bound))
        factors.append((math.log(own.high / own.value) / away) ** 2 if away > 0 else math.inf)
    elif meets is None:  # too short to settle, or still growing
        factors.append(2.0)
    if plan.half_width is not None and own.half_width > plan.half_width:
        factors.append((own.half_width / plan.half_width) ** 2)
    return max(max(factors), 1.0) * counted if factors else None


def _doubts(scenario: Scenario, qps: float, plan: Plan, settling: float, load: float, replications: int) -> list[str]:
    """Why a latency below the bound is not to be trusted yet."""
    notes = []
    if load < 1 and plan.warm_up < SETTLING_TIMES * settling:
        notes.append(
            f"too short to settle at offered load {load:.3f}: the latencies are likely too low; use at least "
            f"{SETTLING_TIMES * settling * replications:,.0f} queries"
        )
    arrivals = scenario.arrivals
    if arrivals.process == "diurnal":
        seen = plan.counted * replications / qps / arrivals.period_s
        if seen < 1:
            notes.append(
                f"the replications, each from a random time on, cover {seen:.2g} of the period of "
                f"{arrivals.period_s / 3600:g} h: use at least {arrivals.period_s * qps:,.0f} queries, or evaluate the "
                "busiest hour"
            )
    return notes


def _status(load_cpu: float, load_accelerator: float, trend: Growth, qps: float) -> str:
    if max(load_cpu, load_accelerator) >= 1:
        return (
            f"overloaded: offered load {load_cpu:.3f} on the cores and {load_accelerator:.3f} on the accelerator; 1 is "
            "all they can do; the latencies shown grow with the length of the run"
        )
    if trend.label == "overloaded":
        return (
            f"overloaded in the simulation, at an offered load of {max(load_cpu, load_accelerator):.3f}: the latency "
            f"grows by {trend.per_query_s * qps:.3g} s per second and does not slow down"
        )
    if trend.label == "backlogged":
        return (
            f"backlogged: the mean latency grew by {trend.relative:.1%} from the first to the second half of the run "
            f"(chance {trend.p_value:.2g} in a steady state); a longer run tells whether it settles"
        )
    return "ok"


def _with_incidents(found: Performance, crew: Crew[Run], planned: int) -> Performance:
    """Add what went wrong on the way."""
    notes, experiment = list(found.notes), found.experiment
    if experiment is None:
        return found
    if crew.repeated:
        notes.append(f"a worker process died; {crew.repeated} replications were run again")
    if crew.lost:
        notes.append(f"worker processes died again; {crew.lost} replications are missing from these figures")
    if crew.interrupted:
        notes.append(f"interrupted: {experiment.replications} of {planned} replications were finished and count")
    incidents = replace(experiment, interrupted=crew.interrupted, repeated=crew.repeated, lost=crew.lost)
    return replace(found, experiment=incidents, notes=tuple(notes))
