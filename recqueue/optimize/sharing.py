r"""Several models on one machine: which cores and accelerators each of them gets.

.. math:: \max_{k, g} \; \min_m Q_m(k_m, g_m) / d_m, \qquad \sum_m k_m \le K, \; \sum_m g_m \le G

with Q the rate of the best policy of a model on so many cores and accelerators, found by search, and d its demand; or
the weighted sum of the rates, :math:`\max \sum_m w_m Q_m`. Solved over all partitions in whole numbers by dynamic
programming on upper bounds of Q: the rate at which every policy of that part saturates. The parts of the best partition
are worked out exactly, which lowers their bounds and those of all smaller parts, and so on until the best partition by
the bounds is exact: then no other can be better.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import comb

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis.pools import Costs
from recqueue.optimize.result import Verification
from recqueue.optimize.search import lattice, search
from recqueue.optimize.together import LateShare, Together, together
from recqueue.serving import Goal, Policy, Scenario, SharedMachine, Tenant

_Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What one model gets, and what it does there.

    Attributes
    ----------
    tenant : Tenant
        The model.
    cores, accelerators : int
        Its part; where the accelerators are used together, all of them if it offloads anything.
    policy : Policy or None
        Best policy there; None when no policy keeps the promise.
    most_qps : float
        What that policy carries.
    qps : float
        The rate to rely on: the demand times the common scale, or all it carries when the sum is maximized; verified
        when ``verification`` says so.
    verification : Verification, LateShare or None
        Of ``qps`` by simulation of the part; None when it was not asked for.
    """

    tenant: Tenant
    cores: int
    accelerators: int
    policy: Policy | None
    most_qps: float
    qps: float
    verification: Verification | LateShare | None = None

    @property
    def scale(self) -> float:
        """``qps`` over the demand."""
        return self.qps / self.tenant.demand_qps


@dataclass(frozen=True, kw_only=True, eq=False)
class Sharing:
    """The best partition.

    Attributes
    ----------
    machine : SharedMachine
        The question.
    parts, proportional : tuple of Part
        The best partition, and the one in proportion to the work that each demand brings.
    evaluated, possible : int
        Parts (a model on so many cores and accelerators) whose best policy was searched, and all there are.
    partitions : int
        Ways to divide the machine.
    bound : float
        No partition does better by formula: the goal of the best one, which the bounds of all others do not exceed.
    together : Together or None
        What the models do with accelerators of all, where that carries more than any partition; ``parts`` are then so.
    notes : tuple of str
        What was assumed.
    seconds : float
        Wall-clock time.
    """

    machine: SharedMachine
    parts: tuple[Part, ...]
    proportional: tuple[Part, ...]
    evaluated: int
    possible: int
    partitions: int
    bound: float
    together: Together | None
    notes: tuple[str, ...]
    seconds: float

    @property
    def scale(self) -> float:
        """Multiple of all demands that the machine carries; the least over the models."""
        return min(part.scale for part in self.parts)

    @property
    def proportional_scale(self) -> float:
        """The same in the proportional partition."""
        return min(part.scale for part in self.proportional)

    @property
    def weighted_qps(self) -> float:
        """Weighted sum of the rates."""
        return sum(p.tenant.weight * p.qps for p in self.parts)


def beside(scenario: Scenario, cores: int, accelerators: int) -> Scenario:
    """A model on a part of its machine, all other cores busy.

    The slow-down with j of its own cores busy is that of j and all the others together, where that is more: a
    model whose cores quicken each other gets no credit for those of other models.
    """
    system = scenario.system
    others = system.cores - cores
    given = system.contention
    if others and len(given.busy) > 1:
        j = np.arange(1, cores + 1)
        together = np.maximum(given.factor_at(j.astype(float)), given.factor_at((j + others).astype(float)))
        first = float(together[0])
        given = replace(given, busy=tuple(j.tolist()), factor=tuple((together / first).tolist()))
        service = replace(system.service, seconds=tuple(s * first for s in system.service.seconds))
        system = replace(system, service=service, contention=given)
    device = system.accelerator
    device = replace(device, count=accelerators) if device is not None and accelerators else None
    return replace(scenario, policy=None, system=replace(system, cores=cores, accelerator=device))


class _Rates:
    """Rates of one model by cores and accelerators: bounds, and exact ones as they are asked for."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        system = tenant.scenario.system
        self.most = system.cores, system.accelerator.count if system.accelerator else 0
        self.found: dict[tuple[int, int], tuple[Policy | None, float]] = {}

    @cached_property
    def bound(self) -> _Array:
        """Rates that no policy of a part exceeds, shape (cores + 1, accelerators + 1); 0 without a core."""
        cores, accelerators = self.most
        found = np.zeros((cores + 1, accelerators + 1))
        for k in range(1, cores + 1):
            for g in range(accelerators + 1):
                part = beside(self.tenant.scenario, k, g)
                found[k, g] = lattice(part, Costs.of(part)).bound_qps.max()
        return found

    def exact(self, k: int, g: int) -> float:
        """Rate of the best policy of a part."""
        if (k, g) not in self.found:
            part = beside(self.tenant.scenario, k, g)
            best = search(part, Costs.of(part))
            self.found[k, g] = best.policy, best.qps
            # Fewer cores or accelerators carry no more.
            smaller = self.bound[: k + 1, : g + 1]
            np.minimum(smaller, best.qps, out=smaller)
        return self.found[k, g][1]

    def part(self, k: int, g: int) -> Part:
        """What the model does on a part."""
        rate = self.exact(k, g)
        return Part(tenant=self.tenant, cores=k, accelerators=g, policy=self.found[k, g][0], most_qps=rate, qps=rate)


def share(
    machine: SharedMachine,
    *,
    verify: bool = True,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Sharing:
    """Divide a machine among models.

    Parameters
    ----------
    machine : SharedMachine
        Models, machine and goal.
    verify : bool
        Simulate each part at its rate, stepping back where the formula was optimistic.
    seed : int
        Of the simulations.
    progress : callable, optional
        Called with a line at each stage.

    Returns
    -------
    Sharing
    """
    started = time.perf_counter()
    say = progress or (lambda line: None)
    cores, accelerators, tenants, goal = machine.cores, machine.accelerators, machine.tenants, machine.goal
    rates = [_Rates(t) for t in tenants]
    value = [(1 / r.tenant.demand_qps) if goal == "scale" else r.tenant.weight for r in rates]
    say("dividing the machine")
    split = _proportional(tenants, cores, accelerators)
    proportional = tuple(r.part(k, g) for r, (k, g) in zip(rates, split, strict=True))
    while True:
        worth = [r.bound * v for r, v in zip(rates, value, strict=True)]
        best, split = _best(worth, goal)
        unknown = [m for m, (k, g) in enumerate(split) if (k, g) not in rates[m].found]
        if not unknown:
            break
        m = min(unknown, key=lambda m: worth[m][split[m]])
        rates[m].exact(*split[m])
    split = _spare(rates, value, split, (cores, accelerators))
    parts = tuple(r.part(k, g) for r, (k, g) in zip(rates, split, strict=True))
    shared: Together | None = None
    if goal == "scale":
        parts, proportional = _at_scale(parts), _at_scale(proportional)
        shared = _together(machine, best, say)
    if shared is not None:
        parts = _placed(machine, shared, say, seed=seed, verify=verify)
    elif verify:
        parts = tuple(_verified(part, seed, say) for part in parts)
    if verify:
        proportional = tuple(_verified(part, seed, say) for part in proportional)
    return Sharing(
        machine=machine,
        parts=parts,
        proportional=proportional,
        evaluated=sum(len(r.found) for r in rates),
        possible=len(rates) * cores * (accelerators + 1),
        partitions=comb(cores, len(rates)) * comb(accelerators + len(rates), len(rates)),
        bound=best,
        together=shared,
        notes=tuple(_notes(machine, shared)),
        seconds=time.perf_counter() - started,
    )


def _best(worth: Sequence[_Array], goal: Goal) -> tuple[float, list[tuple[int, int]]]:
    """Largest goal over all partitions, and a partition that has it; each model gets a core or more."""
    cores, accelerators = (n - 1 for n in worth[0].shape)
    best = np.full((cores + 1, accelerators + 1), -np.inf)
    best[0, 0] = np.inf if goal == "scale" else 0.0
    choices = []
    for table in worth:
        new = np.full_like(best, -np.inf)
        chosen = np.zeros((*best.shape, 2), dtype=np.int64)
        for k in range(1, cores + 1):
            for g in range(accelerators + 1):
                before = best[: cores + 1 - k, : accelerators + 1 - g]
                after = np.minimum(before, table[k, g]) if goal == "scale" else before + table[k, g]
                place = new[k:, g:]
                better = after > place
                place[better] = after[better]
                chosen[k:, g:][better] = (k, g)
        best = new
        choices.append(chosen)
    i, j = divmod(int(np.argmax(best)), accelerators + 1)
    top, split = float(best[i, j]), []
    for chosen in reversed(choices):
        k, g = (int(x) for x in chosen[i, j])
        split.append((k, g))
        i, j = i - k, j - g
    return top, split[::-1]


def _spare(
    rates: Sequence[_Rates], value: Sequence[float], split: list[tuple[int, int]], machine: tuple[int, int]
) -> list[tuple[int, int]]:
    """Give what the partition leaves over to the model that has the least, accelerators first."""
    split = list(split)

    def least() -> int:
        return min(range(len(rates)), key=lambda m: rates[m].exact(*split[m]) * value[m])

    for _ in range(machine[1] - sum(g for _, g in split)):
        m = least()
        split[m] = split[m][0], split[m][1] + 1
    for _ in range(machine[0] - sum(k for k, _ in split)):
        m = least()
        split[m] = split[m][0] + 1, split[m][1]
    return split


def _proportional(tenants: Sequence[Tenant], cores: int, accelerators: int) -> list[tuple[int, int]]:
    """Cores and accelerators in proportion to the core work that the demands bring, a core or more for each."""
    work = []
    for t in tenants:
        costs, sizes = Costs.of(t.scenario), t.scenario.sizes
        work.append(t.demand_qps * float(sizes.pmf @ costs.core_s[: len(sizes.pmf)]))
    share = np.array(work) / sum(work)
    return list(zip(_whole(share, cores, 1), _whole(share, accelerators, 0), strict=True))


def _whole(share: _Array, total: int, least: int) -> list[int]:
    """Whole numbers of ``least`` or more that add up to ``total``: those furthest below their share get more."""
    given = np.full(len(share), least)
    while given.sum() < total:
        given[int(np.argmax(share * total - given))] += 1
    return [int(n) for n in given]


def _at_scale(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Every part at the scale that the weakest carries."""
    scale = min(part.most_qps / part.tenant.demand_qps for part in parts)
    return tuple(replace(part, qps=scale * part.tenant.demand_qps) for part in parts)


def _verified(part: Part, seed: int, say: Callable[[str], None]) -> Part:
    """The part with the rate that simulation confirms; 0 when none."""
    if part.policy is None or part.qps == 0:
        return part
    from recqueue.optimize.verify import verify  # loads numba

    say(f"simulating {part.tenant.name} on {part.cores} cores")
    scenario = beside(part.tenant.scenario, part.cores, part.accelerators)
    rate, seen = verify(scenario, part.policy, part.qps, seed=seed)
    return replace(part, qps=rate if seen.verdict == "pass" else 0.0, verification=seen)


def _together(machine: SharedMachine, above: float, say: Callable[[str], None]) -> Together | None:
    """Accelerators used together, where that is known and carries more than the best partition."""
    if not (machine.accelerators and machine.shared_accelerators and _can_be_shared(machine)):
        return None
    say("one queue for the accelerators")
    cores = range(1, machine.cores + 1)
    own = [[beside(t.scenario, k, machine.accelerators) for k in cores] for t in machine.tenants]
    return together(machine, own, above=above)


def _can_be_shared(machine: SharedMachine) -> bool:
    """Poisson arrivals, one query in a launch, two models or more."""
    devices = [t.scenario.system.accelerator for t in machine.tenants]
    return len(devices) > 1 and all(
        d is not None and d.max_fused_queries == 1 and t.scenario.arrivals.process == "poisson"
        for d, t in zip(devices, machine.tenants, strict=True)
    )


def _placed(
    machine: SharedMachine, shared: Together, say: Callable[[str], None], *, seed: int, verify: bool
) -> tuple[Part, ...]:
    """The models with accelerators of all, at the scale that simulation confirms; 0 when none."""
    scale, seen = shared.scale, None
    if verify:
        from recqueue.optimize.together_check import Placed, confirm  # loads numba

        say("simulating all models")
        models = [
            Placed(scenario=beside(t.scenario, k, machine.accelerators), policy=p, demand_qps=t.demand_qps)
            for t, k, p in zip(machine.tenants, shared.cores, shared.policies, strict=True)
        ]
        scale, seen = confirm(models, scale, seed=seed)
    found = []
    for i, (t, k, p) in enumerate(zip(machine.tenants, shared.cores, shared.policies, strict=True)):
        rate = scale * t.demand_qps
        if seen is not None and seen[i].verdict != "pass":
            rate = 0.0
        found.append(
            Part(
                tenant=t,
                cores=k,
                accelerators=0 if p.offload_threshold is None else machine.accelerators,
                policy=p,
                most_qps=shared.scale * t.demand_qps,
                qps=rate,
                verification=None if seen is None else seen[i],
            )
        )
    return tuple(found)


def _notes(machine: SharedMachine, shared: Together | None) -> list[str]:
    """What is assumed of models side by side."""
    tenants = machine.tenants
    system = tenants[0].scenario.system
    notes = []
    if any(len(t.scenario.system.contention.busy) > 1 for t in tenants):
        notes.append(
            "cores of other models slow a model as its own do, all of them busy; how different models slow each other "
            "was not measured"
        )
    if shared is not None:
        notes.append(
            "the models offload into one queue in order of arrival, one query in a launch; what it costs an "
            "accelerator to change from one model to another was not measured and is not in it"
        )
    elif system.accelerator is not None and machine.shared_accelerators and not _can_be_shared(machine):
        notes.append("an accelerator serves one model: one queue for all is known for Poisson arrivals without fusion")
    elif system.accelerator is not None:
        notes.append("an accelerator serves one model only")
    return notes
