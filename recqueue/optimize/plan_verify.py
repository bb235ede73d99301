"""Let the fleet simulator check a plan: single hours of single models, with all machines and with some lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from recqueue.optimize.plan_columns import Column
from recqueue.optimize.plan_instance import Ints
from recqueue.optimize.plan_result import HourCheck
from recqueue.serving import Day, Demand, Fleet, FleetPerformance, MachineGroup, PlanQuestion, Policy
from recqueue.serving.performance import Verdict
from recqueue.simulate import simulate_fleet

_LARGER = 5
"""Each further look is so many times larger; it uses other random numbers and replaces the one before."""
_LOOKS = 3
_MOST_QUERIES = 12_000_000
"""Queries of one look, at most."""
AS_PLANNED, LOST_MACHINE, LOST_DOMAIN = "as planned", "one machine lost", "a domain lost"


@dataclass(frozen=True, eq=False)
class Witness:
    """Checks hours, and remembers what it has seen: many hours have the same machines.

    Attributes
    ----------
    question : PlanQuestion
        Models, machines, rules and the router.
    seed : int
        Of the simulations.
    queries : int
        Queries of a first look.
    """

    question: PlanQuestion
    seed: int
    queries: int
    _seen: dict[tuple[object, ...], HourCheck] = field(default_factory=dict, repr=False)

    @property
    def simulated(self) -> int:
        """Queries simulated so far."""
        return sum(c.queries for c in self._seen.values())

    def checks(
        self, columns: Sequence[Column], counts: Ints, *, say: Callable[[str], None] = lambda line: None
    ) -> list[HourCheck]:
        """Check the telling hours of every model: the busiest, the one with least to spare, and the quietest.

        The busiest is checked without its largest machine too, or without the fullest domain, where the rules promise
        that.

        Parameters
        ----------
        columns : sequence of Column
            What one machine is used for.
        counts : numpy.ndarray
            Machines, shape ``(columns, hours)``.
        say : callable
            Called with a line for each model.
        """
        found: list[HourCheck] = []
        rates = self.question.demand_qps()
        for i, demand in enumerate(self.question.demands):
            say(f"simulating {demand.name}")
            mine = [k for k, c in enumerate(columns) if c.model == demand.name]
            own, rate = counts[mine], rates[i]
            some = np.flatnonzero(rate > 0)
            carried = np.array([columns[k].qps for k in mine]) @ own
            busiest = int(np.argmax(rate))
            tightest = int(some[np.argmax(rate[some] / carried[some])])
            quietest = int(some[np.argmin(rate[some])])
            uses = [columns[k] for k in mine]
            for h in dict.fromkeys((busiest, tightest, quietest)):
                found.append(self.check(demand, uses, own[:, h], float(rate[h]), h, AS_PLANNED))
            for case, left in self._losses(uses, own[:, busiest]):
                found.append(self.check(demand, uses, left, float(rate[busiest]), busiest, case))
        return found

    def _losses(self, uses: Sequence[Column], own: Ints) -> list[tuple[str, Ints]]:
        """What is left after each loss that the rules allow for."""
        safety = self.question.safety
        left = []
        if safety.spare_machine and safety.domains is None:
            largest = max((k for k in range(len(uses)) if own[k]), key=lambda k: uses[k].qps)
            left.append((LOST_MACHINE, own - (np.arange(len(own)) == largest)))
        if safety.domains is not None:
            left.append((LOST_DOMAIN, own - -(-own // safety.domains)))
        return left

    def check(self, demand: Demand, uses: Sequence[Column], own: Ints, rate: float, hour: int, case: str) -> HourCheck:
        """Simulate these machines at this rate until the verdict is clear, or the looks are used up."""
        key = (demand.name, tuple((c.machine, c.policy, int(n)) for c, n in zip(uses, own, strict=True) if n), rate)
        if key not in self._seen:
            self._seen[key] = self._simulate(demand, uses, own, rate, hour, case)
        seen = self._seen[key]
        return HourCheck(**{**vars(seen), "hour": hour, "case": case})

    def _simulate(
        self, demand: Demand, uses: Sequence[Column], own: Ints, rate: float, hour: int, case: str
    ) -> HourCheck:
        fleet = self._fleet(demand, uses, own, rate)
        queries, total = self.queries, 0
        for look in range(_LOOKS):
            day = simulate_fleet(fleet, queries=queries, seed=1000 * self.seed + 10 * hour + look)
            total += day.queries
            if day.meets_sla is not None or queries == _MOST_QUERIES:
                break
            queries = min(_LARGER * queries, _MOST_QUERIES)
        return _checked(demand, fleet, day, rate, hour, case, total)

    def _fleet(self, demand: Demand, uses: Sequence[Column], own: Ints, rate: float) -> Fleet:
        groups = [
            MachineGroup(
                name=f"{c.machine}, {c.policy}",
                system=self.question.systems[c.machine, demand.name],
                policy=c.policy or Policy(1),
                count=int(n),
            )
            for c, n in zip(uses, own, strict=True)
            if n
        ]
        return Fleet(
            name=demand.name,
            model=demand.model,
            groups=tuple(groups),
            router=self.question.router,
            day=Day(time_h=(0.0,), qps=(rate,), hours=1),
            sizes=demand.sizes,
            sla=demand.sla,
        )


def _checked(
    demand: Demand, fleet: Fleet, day: FleetPerformance, rate: float, hour: int, case: str, queries: int
) -> HourCheck:
    (seen,) = day.hours
    name = f"p{demand.sla.percentile:g}"
    verdict: Verdict = "undecided" if seen.meets_sla is None else "pass" if seen.meets_sla else "fail"
    return HourCheck(
        model=demand.name,
        hour=hour,
        case=case,
        qps=rate,
        machines={g.name: g.count for g in fleet.groups},
        verdict=verdict,
        latency_s=seen.latency_s.get(name, np.inf),
        interval_s=seen.interval_s.get(name, (np.inf, np.inf)),
        offered_load=seen.offered_load,
        queries=queries,
        status=seen.status,
    )
