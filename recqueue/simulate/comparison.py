"""Policies compared on the same queries at the same times (common random numbers)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError, WorkerLostError
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario
from recqueue.simulate.execution import Crew
from recqueue.simulate.experiment import (
    ERROR,
    LEAST_REPLICATIONS,
    SETTLING_TIMES,
    check_options,
    percentiles,
    question,
)
from recqueue.simulate.replication import Run, run_once
from recqueue.simulate.settling import relaxation_queries
from recqueue.simulate.statistics import mser5, student_interval
from recqueue.simulate.streams import spawn


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Latency of one policy less that of the first, from the same queries.

    Attributes
    ----------
    policy : Policy
        The one that is compared with the first.
    difference_s : mapping
        Of the mean and each percentile, in seconds; negative where this policy is faster.
    interval_s : mapping
        Confidence intervals of the differences, 95 % for all policies of the comparison together.
    variance_ratio : mapping
        Variance of the difference over what independent queries for each policy would give: below 1 the common random
        numbers help.
    """

    policy: Policy
    difference_s: Mapping[str, float]
    interval_s: Mapping[str, tuple[float, float]]
    variance_ratio: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several policies on the same queries.

    Attributes
    ----------
    policies : tuple of Policy
        The first is what the others are compared with.
    latency_s : tuple of mapping
        Mean and percentiles of each policy, in seconds.
    differences : tuple of Difference
        One for each policy after the first.
    qps : float
        Offered queries per second.
    replications, queries, warm_up, seed : int
        Size of the experiment: replications, counted queries of each policy, queries dropped at the start of each
        replication, seed.
    confidence : float
        Of each interval: 1 - 0.05 / (policies - 1).
    """

    policies: tuple[Policy, ...]
    latency_s: tuple[Mapping[str, float], ...]
    differences: tuple[Difference, ...]
    qps: float
    replications: int
    queries: int
    warm_up: int
    seed: int
    confidence: float


def compare_policies(
    scenario: Scenario,
    policies: Sequence[Policy],
    *,
    qps: float | None = None,
    queries: int = 200_000,
    replications: int = 8,
    seed: int = 0,
    workers: int | None = None,
    executor: Executor | None = None,
) -> Comparison:
    r"""Differences of latency between policies that serve the same queries at the same times, with intervals.

    In each replication all policies see the same arrivals and sizes, so much of what happens by chance happens to all
    of them and cancels. The difference :math:`d_r` of replication r is between its two quantiles, and the interval

    .. math:: \hat d \pm t_{R-1} \frac{s_d}{\sqrt R}

    about the difference of the pooled quantiles is Student's t over the R independent :math:`d_r`. With m policies each
    interval has confidence :math:`1 - 0.05 / (m - 1)`, so that all hold together in 95 % of experiments.

    Parameters
    ----------
    scenario : Scenario
        Its own policy is not used.
    policies : sequence of Policy
        Two or more; the first is what the others are compared with.
    qps, queries, replications, seed, workers, executor
        As in :func:`recqueue.simulate.simulate`; ``queries`` for each policy.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        When there are fewer than two policies, one does not fit the scenario or overloads it, or an option is out of
        range.
    WorkerLostError
        When worker processes died twice and fewer than three replications of each policy are left.

    References
    ----------
    :cite:t:`law2015simulation`, chapters 10 and 11.
    """
    if len(policies) < 2:
        raise InputError(f"compare_policies: {len(policies)} policies; give two or more")
    check_options(queries, replications, seed, workers, executor)
    settling = 0.0
    for policy in policies:
        own, rate = question(replace(scenario, policy=policy), qps)
        settling = max(settling, relaxation_queries(scenario, own, rate))
    if not np.isfinite(settling):
        raise InputError(
            f"compare_policies: at {rate:g} queries/s one of the policies is overloaded, so its latency has no steady "
            "state to compare; lower qps or leave it out"
        )
    each = -(-queries // replications)
    warm_up = min(int(np.ceil(SETTLING_TIMES * settling)), each)
    streams = [spawn(seed, replications) for _ in policies]
    tasks = [
        partial(run_once, scenario, policy, rate, each, streams[i][r], warm_up=warm_up)
        for r in range(replications)
        for i, policy in enumerate(policies)
    ]
    with Crew[Run](executor, workers) as crew:
        done = crew.run(tasks)
    m = len(policies)
    whole = [r for r in range(replications) if all(r * m + i in done for i in range(m))]
    if len(whole) < LEAST_REPLICATIONS:
        if crew.interrupted:
            raise KeyboardInterrupt
        raise WorkerLostError(f"compare_policies: {len(whole)} of {replications} replications are left, 3 are needed")
    rows = [
        np.vstack([np.concatenate((done[r * m + i].warm_up_s, done[r * m + i].latency_s)) for r in whole])
        for i in range(m)
    ]
    cut = max(warm_up, *(mser5(row) for row in rows))
    rows = [row[:, cut:] for row in rows]
    names = {"mean": None, **percentiles(scenario)}
    pooled = [_values(row.reshape(1, -1), names)[:, 0] for row in rows]
    by_run = [_values(row, names) for row in rows]
    confidence = 1 - ERROR / (m - 1)
    return Comparison(
        policies=tuple(policies),
        latency_s=tuple(dict(zip(names, p.tolist(), strict=True)) for p in pooled),
        differences=tuple(
            _difference(policies[i], names, pooled[i] - pooled[0], by_run[i], by_run[0], confidence)
            for i in range(1, m)
        ),
        qps=rate,
        replications=len(whole),
        queries=rows[0].size,
        warm_up=cut,
        seed=seed,
        confidence=confidence,
    )


def _values(rows: NDArray[np.float64], names: Mapping[str, float | None]) -> NDArray[np.float64]:
    """Mean and percentiles of each row, shape (names, rows)."""
    ranks = [rank for rank in names.values() if rank is not None]
    return np.vstack((rows.mean(axis=1), np.percentile(rows, ranks, axis=1)))


def _difference(
    policy: Policy,
    names: Mapping[str, float | None],
    value: NDArray[np.float64],
    here: NDArray[np.float64],
    there: NDArray[np.float64],
    confidence: float,
) -> Difference:
    d = here - there
    variance, apart = d.var(axis=1, ddof=1), here.var(axis=1, ddof=1) + there.var(axis=1, ddof=1)
    _, half = student_interval(d.T, confidence)
    ratio = np.divide(variance, apart, out=np.ones_like(variance), where=apart > 0)
    return Difference(
        policy=policy,
        difference_s=dict(zip(names, value.tolist(), strict=True)),
        interval_s={n: (float(v - h), float(v + h)) for n, v, h in zip(names, value, half, strict=True)},
        variance_ratio=dict(zip(names, ratio.tolist(), strict=True)),
    )
