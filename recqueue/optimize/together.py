"""Accelerators that all models of a machine use together: which queries go there, and who gets which cores.

For a scale of the demands, every choice of an offload threshold for each model makes one queue in front of the
accelerators (:mod:`recqueue.analysis.shared_queue`), whose late queries each model must make good for on its cores: it
needs the fewest with which some batch size leaves no more late queries than the promise allows. A choice carries the
scale when these cores are there. Choices are tried in the order of the scale at which they saturate, each once a little
above the best scale so far, until none is left that saturates above it. Batch sizes are those that split the largest
query of the cores evenly, so the result is the best over these only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from recqueue.analysis.in_time import near_in_time
from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import CLOSEST_TO_SATURATION
from recqueue.analysis.shared_queue import Stream, far_in_time_together
from recqueue.serving import Policy, Scenario, SharedMachine, Tenant
from recqueue.serving.performance import Verdict

MOST_THRESHOLDS = 8
"""Thresholds tried for each model: the sizes that occur, or so many of them."""
MOST_CHOICES = 20_000
_SPLITS = 8
_GAIN = 1e-3
"""A choice counts as better when it carries this much more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Together:
    """What the models do with accelerators of all.

    Attributes
    ----------
    scale : float
        Multiple of all demands carried by formula.
    cores : tuple of int
        Of each model.
    policies : tuple of Policy
        Of each model.
    tried, choices : int
        Choices of thresholds whose queues were evaluated, and all there are.
    """

    scale: float
    cores: tuple[int, ...]
    policies: tuple[Policy, ...]
    tried: int
    choices: int


@dataclass(frozen=True, kw_only=True)
class LateShare:
    """Late queries of one model by simulation.

    Attributes
    ----------
    verdict : {"pass", "fail", "undecided"}
        ``pass`` when the whole interval lies within what the promise allows.
    interval : tuple of float
        95 % confidence interval of the share of late queries, from independent replications.
    queries, replications : int
        Queries simulated of its cores and of the accelerators, in so many replications.
    steps_back : int
        How often the scale was lowered before.
    """

    verdict: Verdict
    interval: tuple[float, float]
    queries: int
    replications: int
    steps_back: int


class _Model:
    """What is known of one model, its cores slowed by all others."""

    def __init__(self, tenant: Tenant, parts: Sequence[Scenario]) -> None:
        self.tenant, self.parts = tenant, parts
        self.whole = parts[-1]
        self.costs = Costs.of(self.whole)
        self.part_costs: dict[int, Costs] = {}
        sizes = self.whole.sizes
        self.late = 1 - self.whole.sla.percentile / 100
        self.n = np.flatnonzero(sizes.pmf)
        places = np.unique(np.linspace(0, len(self.n) - 1, min(len(self.n), MOST_THRESHOLDS)).round().astype(int))
        self.thresholds: tuple[int | None, ...] = (*(int(self.n[i]) for i in places), None)
        self.load = {t: self._load(t) for t in self.thresholds}

    def _load(self, threshold: int | None) -> tuple[float, float]:
        """Core-seconds at least, and accelerator-seconds, for each query offered."""
        p, n = self.whole.sizes.pmf, self.n
        far = n >= (threshold or len(p))
        batch = np.arange(1, len(p))[:, None]
        each = self.costs.core_s[batch] / batch
        least = n * np.where(batch <= n, each, np.inf).min(axis=0)
        slow = min(float(self.whole.system.contention.of_batch(b).factor_at(self.whole.system.cores))
                   for b in (1.0, *self.whole.system.contention.items))  # fmt: skip
        return float(p[n][~far] @ least[~far]) * slow, float(p[n][far] @ self.costs.accelerator_s[n[far]])

    def batch_sizes(self, threshold: int | None) -> list[int]:
        """Those that split the largest query of the cores evenly."""
        near = self.n[self.n < (threshold or self.n[-1] + 1)]
        return sorted({-(-int(near[-1]) // m) for m in range(1, _SPLITS + 1)}, reverse=True) if len(near) else [1]

    def keeps(self, k: int, threshold: int | None, qps: float, in_time_far: float) -> Policy | None:
        """A policy that keeps the promise on k cores, given the offloaded queries that are in time."""
        part = self.parts[k - 1]
        costs = self.part_costs.setdefault(k, Costs.of(part))
        for batch in self.batch_sizes(threshold):
            policy = Policy(batch, threshold)
            if near_in_time(part, policy, qps, costs, part.sla.latency_s) + in_time_far >= 1 - self.late:
                return policy
        return None


def together(machine: SharedMachine, parts: Sequence[Sequence[Scenario]], *, above: float) -> Together | None:
    """Best scale above ``above`` when all models use the accelerators together; None when there is none.

    Parameters
    ----------
    machine : SharedMachine
        The question.
    parts : sequence of sequences of Scenario
        Each model on 1, 2, ... cores, with all accelerators.
    above : float
        The scale to beat.
    """
    models = [_Model(t, own) for t, own in zip(machine.tenants, parts, strict=True)]
    choices = sorted(_choices(machine, models), key=lambda c: -c[0])
    found: Together | None = None
    tried = 0
    for bound, thresholds in choices:
        best = found.scale if found else above
        if bound <= best * (1 + _GAIN):
            break
        low, high = max(best * (1 + _GAIN), _GAIN * bound), bound
        kept = _carried(machine, models, thresholds, low)
        tried += 1
        if kept is None:
            continue
        while high - low > _GAIN / 2 * low:
            middle = (low + high) / 2
            more = _carried(machine, models, thresholds, middle)
            low, high, kept = (low, middle, kept) if more is None else (middle, high, more)
        found = Together(scale=low, cores=kept[0], policies=kept[1], tried=tried, choices=len(choices))
    return None if found is None else replace(found, tried=tried)


def _choices(machine: SharedMachine, models: Sequence[_Model]) -> Iterator[tuple[float, tuple[int | None, ...]]]:
    """Scale at which each choice of thresholds saturates, where two models or more offload."""
    lists = [m.thresholds for m in models]
    while np.prod([len(x) for x in lists]) > MOST_CHOICES:
        longest = max(range(len(lists)), key=lambda i: len(lists[i]))
        lists[longest] = (*lists[longest][:-1:2], None)
    demand = [t.demand_qps for t in machine.tenants]
    for thresholds in product(*lists):
        if sum(t is not None for t in thresholds) < 2:
            continue
        loads = [m.load[t] for m, t in zip(models, thresholds, strict=True)]
        core, far = (sum(d * x[i] for d, x in zip(demand, loads, strict=True)) for i in (0, 1))
        limits = machine.cores / core if core else np.inf, machine.accelerators / far
        yield CLOSEST_TO_SATURATION * min(limits), thresholds


def _carried(
    machine: SharedMachine, models: Sequence[_Model], thresholds: tuple[int | None, ...], scale: float
) -> tuple[tuple[int, ...], tuple[Policy, ...]] | None:
    """Cores and policies with which a choice carries a scale, or None."""
    rates = [scale * t.demand_qps for t in machine.tenants]
    streams = {
        i: Stream(scenario=m.whole, policy=Policy(1, t), qps=q, costs=m.costs)
        for i, (m, t, q) in enumerate(zip(models, thresholds, rates, strict=True))
        if t is not None
    }
    far = dict.fromkeys(range(len(models)), 0.0) | dict(
        zip(streams, far_in_time_together(list(streams.values())), strict=True)
    )
    if any(stream.share - far[i] > models[i].late for i, stream in streams.items()):
        return None
    least = [max(int(np.ceil(q * m.load[t][0] / CLOSEST_TO_SATURATION - 1e-9)), 1)
             for m, t, q in zip(models, thresholds, rates, strict=True)]  # fmt: skip
    cores: list[int] = []
    policies: list[Policy] = []
    for i, (m, t, q) in enumerate(zip(models, thresholds, rates, strict=True)):
        spare = machine.cores - sum(cores) - sum(least[i:])
        policy = None
        for k in range(least[i], least[i] + spare + 1):
            policy = m.keeps(k, t, q, far[i])
            if policy is not None:
                break
        if policy is None:
            return None
        cores.append(k)
        policies.append(policy)
    return tuple(cores), tuple(policies)
