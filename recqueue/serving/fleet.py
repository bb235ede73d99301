"""A fleet of machines behind a router over a day, and what it does hour by hour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Sla
from recqueue.serving.system import System
from recqueue.workload.sizes import QuerySizes

Choice = Literal["random", "weighted", "round_robin", "jsq", "least_work"]
CHOICES: tuple[Choice, ...] = ("random", "weighted", "round_robin", "jsq", "least_work")


@dataclass(frozen=True, kw_only=True)
class Router:
    """Who takes the next query; it goes to a machine at once and stays there.

    Parameters
    ----------
    choice : {"random", "weighted", "round_robin", "jsq", "least_work"}
        ``random`` picks any machine that is on, all alike; ``weighted`` does so in proportion to the queries/s that
        each can carry; ``round_robin`` takes them in turn. ``jsq`` (join the shortest queue) looks at ``sampled``
        machines and takes the one with the fewest queries waiting or in service :cite:p:`mitzenmacher2001power`.
        ``least_work`` does so by the seconds of service not yet completed per server of the pool (cores or
        accelerators) that the query would join; a sub-request counts with its mean service time until it is completed.
        Ties are broken at random.
    sampled : int or None
        How many different machines ``jsq`` and ``least_work`` look at; None looks at all of them.

    Raises
    ------
    InputError
        When the choice is unknown or ``sampled`` is not 1 or more.
    """

    choice: Choice = "random"
    sampled: int | None = None

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise InputError(f"router.choice {self.choice!r}; allowed: {', '.join(CHOICES)}")
        if self.sampled is not None and self.choice not in ("jsq", "least_work"):
            raise InputError(f"router.sampled {self.sampled} with choice {self.choice}; only jsq and least_work sample")
        if self.sampled is not None and self.sampled < 1:
            raise InputError(f"router.sampled {self.sampled}; it must be 1 or more, or null for all machines")

    def __str__(self) -> str:
        looks = {"jsq": "fewest queries", "least_work": "least outstanding work"}
        if self.choice not in looks:
            return {"random": "random", "weighted": "random by capacity", "round_robin": "round robin"}[self.choice]
        among = "all machines" if self.sampled is None else f"{self.sampled} machines picked at random"
        return f"{looks[self.choice]} among {among}"


@dataclass(frozen=True, kw_only=True)
class Day:
    """Rate of queries over a day: linear between points, and from the last one around to the first.

    Parameters
    ----------
    time_h : tuple of float
        Strictly increasing in [0, ``hours``).
    qps : tuple of float
        Queries per second at those times, 0 or more and not all 0.
    hours : int
        Hours in the day; whole, 1 or more.

    Raises
    ------
    InputError
        When it is not of that form.
    """

    time_h: tuple[float, ...]
    qps: tuple[float, ...]
    hours: int = 24

    def __post_init__(self) -> None:
        if self.hours < 1:
            raise InputError(f"day.hours {self.hours}; it must be a whole number of 1 or more")
        t, r = np.array(self.time_h, dtype=float), np.array(self.qps, dtype=float)
        if len(t) != len(r) or len(t) < 1:
            raise InputError(f"day: {len(t)} times and {len(r)} rates; give one rate for each time, at least one")
        if not (np.all(np.isfinite(t)) and t[0] >= 0 and t[-1] < self.hours and np.all(np.diff(t) > 0)):
            raise InputError(
                f"day.time_h {list(self.time_h)}; times must increase within 0..{self.hours}, the end left out "
                "(the last rate leads on to the first)"
            )
        if not (np.all(np.isfinite(r)) and r.min() >= 0 and r.max() > 0):
            raise InputError(f"day.qps {list(self.qps)}; rates must be finite and 0 or more, and not all 0")

    def qps_at(self, time_h: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Queries per second at any time (h)."""
        return np.asarray(np.interp(time_h, self.time_h, self.qps, period=self.hours))

    def breaks_h(self) -> NDArray[np.float64]:
        """Times (h) in 0..``hours`` between which the rate is linear, every full hour among them."""
        return np.unique(np.concatenate((np.arange(self.hours + 1.0), self.time_h)))

    def hourly_qps(self) -> NDArray[np.float64]:
        """Mean rate of each hour, shape ``(hours,)``."""
        at = self.breaks_h()
        area = np.concatenate(([0.0], np.cumsum(np.diff(at) * (self.qps_at(at)[1:] + self.qps_at(at)[:-1]) / 2)))
        return np.diff(np.interp(np.arange(self.hours + 1.0), at, area))


@dataclass(frozen=True, kw_only=True)
class MachineGroup:
    """Identical machines with one policy.

    Parameters
    ----------
    name : str
        For reports; unique in a fleet.
    system : System
        Each machine.
    policy : Policy
        How each splits and offloads its queries.
    count : int
        How many there are, 1 or more.
    active : tuple of int or None
        How many of them are on in each hour of the day, in 0..``count``; None keeps all on. A machine switched off
        gets no more queries and finishes those that it has.

    Raises
    ------
    InputError
        When a number is out of range, or queries are to be offloaded to an accelerator that is not there.
    """

    name: str
    system: System
    policy: Policy
    count: int = 1
    active: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"machines {self.name}: count {self.count}; it must be a whole number of 1 or more")
        if self.active is not None and not all(0 <= n <= self.count for n in self.active):
            raise InputError(
                f"machines {self.name}: active {list(self.active)}; each must lie in 0..{self.count} (count)"
            )
        self.policy.check(self.system, None, f"machines {self.name}: ")


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Machines behind a router, over a day, with a promise to keep in each of its hours.

    Parameters
    ----------
    name, model : str
        For reports.
    groups : tuple of MachineGroup
        At least one; of different names.
    router : Router
        Who takes the next query.
    day : Day
        The rate; arrivals are Poisson.
    sizes : QuerySizes
        Items in a query.
    sla : Sla
        The promise.

    Raises
    ------
    InputError
        When the parts do not fit each other.
    """

    name: str
    model: str
    groups: tuple[MachineGroup, ...]
    router: Router
    day: Day
    sizes: QuerySizes
    sla: Sla

    def __post_init__(self) -> None:
        names = [g.name for g in self.groups]
        if not names or len(set(names)) < len(names):
            raise InputError(f"machines {names}: give at least one group, each with a name of its own")
        for g in self.groups:
            if g.active is not None and len(g.active) != self.day.hours:
                raise InputError(
                    f"machines {g.name}: active has {len(g.active)} numbers; give one for each of {self.day.hours} h"
                )
            g.policy.check(g.system, self.sizes.max_items, f"machines {g.name}: ")

    @property
    def machines(self) -> int:
        """Machines of all groups."""
        return sum(g.count for g in self.groups)

    def group_of(self) -> NDArray[np.int64]:
        """Index of the group of each machine, shape ``(machines,)``."""
        return np.repeat(np.arange(len(self.groups)), [g.count for g in self.groups])

    def schedule(self) -> NDArray[np.bool_]:
        """Which machine is on in which hour, shape ``(hours, machines)``; the last of a group go off first."""
        rows = [np.arange(g.count) < np.array(g.active or (g.count,) * self.day.hours)[:, None] for g in self.groups]
        return np.hstack(rows)


@dataclass(frozen=True, kw_only=True)
class HourPerformance:
    """One hour of a fleet's day.

    Attributes
    ----------
    hour : int
        0 for the first.
    qps : float
        Mean offered rate.
    machines_on : mapping
        Group -> machines switched on.
    offered_load : float
        Work offered over what can be served, of the most loaded machine as far as the router fixes its share, of the
        whole fleet where the router looks at the state; at the highest rate of the hour. Stable below 1.
    latency_s, interval_s : mapping
        ``mean``, ``p50``, ``p95``, ``p99`` and the percentile of the SLA, of the queries that arrive in the hour, and
        their 95 % confidence intervals.
    late, lost : float
        Share of the queries answered after the SLA's bound; share that found no machine on.
    late_interval : tuple of float
        95 % confidence interval of ``late``.
    utilization : mapping
        Group -> mean busy share of the cores (or of the accelerators, whichever is more) of its machines that are on.
    power_w : float or None
        Mean power of the machines that are on; None when a power figure is unknown.
    meets_sla : bool or None
        Whether the promise is kept in this hour; None when the interval contains the bound.
    status : str
        "ok", or what is wrong, with numbers.
    """

    hour: int
    qps: float
    machines_on: Mapping[str, int]
    offered_load: float
    latency_s: Mapping[str, float]
    interval_s: Mapping[str, tuple[float, float]]
    late: float
    late_interval: tuple[float, float]
    lost: float
    utilization: Mapping[str, float]
    power_w: float | None
    meets_sla: bool | None
    status: str


@dataclass(frozen=True, kw_only=True)
class FleetPerformance:
    """What a fleet does over a day.

    Attributes
    ----------
    method : str
        The simulator in words.
    hours : tuple of HourPerformance
        Each hour.
    latency_s, interval_s : mapping
        As in an hour, of all queries of the day.
    late, lost : float
        Shares of all queries of the day.
    machine_utilization : numpy.ndarray
        Busy share of the cores of each machine in each hour, shape ``(hours, machines)``; machines in the order of the
        groups. After its switch-off a machine is busy while it drains.
    accelerator_utilization : numpy.ndarray
        The same for the accelerators; 0 where there are none.
    energy_kwh : float or None
        Electrical energy of the day; None when a power figure is unknown.
    machine_hours : float
        Machines on, summed over the hours.
    meets_sla : bool or None
        Whether the promise is kept in every hour; None when none fails but some are undecided.
    hour_s : float
        Simulated seconds that stand for one hour.
    queries, sub_requests : int
        Simulated in the hours counted, over all replications.
    replications, seed : int
        Independent repetitions of the day, and the seed.
    notes : tuple of str
        What a reader should know.
    """

    method: str
    hours: tuple[HourPerformance, ...]
    latency_s: Mapping[str, float]
    interval_s: Mapping[str, tuple[float, float]]
    late: float
    lost: float
    machine_utilization: NDArray[np.float64]
    accelerator_utilization: NDArray[np.float64]
    energy_kwh: float | None
    machine_hours: float
    meets_sla: bool | None
    hour_s: float
    queries: int
    sub_requests: int
    replications: int
    seed: int
    notes: tuple[str, ...] = ()
