"""What a fleet plan is asked to provide: types of machines, models with their demand over the day, and the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.serving.fleet import Day, Router
from recqueue.serving.scenario import Sla
from recqueue.serving.system import System
from recqueue.workload.sizes import QuerySizes

Objective = Literal["cost", "power", "machines"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
HOURS_PER_YEAR = 8760.0


def _not_negative(where: str, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not (np.isfinite(value) and value >= 0):
            raise InputError(f"{where}: {name} {value}; it must be a finite number of 0 or more")


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """Machines of one kind that the plan may use, each for one model at a time.

    Parameters
    ----------
    name : str
        For reports; unique.
    available : int
        How many there are in stock.
    price_usd_per_h : float
        Paid for each hour in which a machine is on.
    capital_usd, lifetime_years : float
        Paid for each machine that is needed at all, spread evenly over its life; for machines that are bought.
    memory_bytes, accelerator_memory_bytes : float or None
        Memory of the host and of one accelerator, which must hold the embedding tables; None is not checked.
    price_source : str
        Where the price comes from.

    Raises
    ------
    InputError
        When a number is out of range.
    """

    name: str
    available: int
    price_usd_per_h: float = 0.0
    capital_usd: float = 0.0
    lifetime_years: float = 4.0
    memory_bytes: float | None = None
    accelerator_memory_bytes: float | None = None
    price_source: str = ""

    def __post_init__(self) -> None:
        where = f"machines {self.name}"
        if self.available < 0:
            raise InputError(f"{where}: available {self.available}; it must be a whole number of 0 or more")
        _not_negative(
            where,
            price_usd_per_h=self.price_usd_per_h,
            capital_usd=self.capital_usd,
            memory=self.memory_bytes,
            accelerator_memory=self.accelerator_memory_bytes,
        )
        if not (np.isfinite(self.lifetime_years) and self.lifetime_years > 0):
            raise InputError(f"{where}: lifetime_years {self.lifetime_years}; it must be a finite number above 0")

    @property
    def capital_usd_per_h(self) -> float:
        """Price of owning one machine for an hour, on or off."""
        return self.capital_usd / (self.lifetime_years * HOURS_PER_YEAR)


@dataclass(frozen=True, kw_only=True)
class Demand:
    """A model, what it is promised, and how many queries come in the course of the day.

    Parameters
    ----------
    name : str
        For reports; unique.
    model : str
        Recommendation model, or what the user calls it.
    day : Day
        Queries per second; the rate planned for in an hour is the highest within it.
    sizes : QuerySizes
        Items in a query.
    sla : Sla
        The promise.
    memory_bytes : float or None
        Embedding tables, whole on every machine that runs the model; None is not checked.
    """

    name: str
    model: str
    day: Day
    sizes: QuerySizes
    sla: Sla
    memory_bytes: float | None = None

    def __post_init__(self) -> None:
        _not_negative(f"models {self.name}", memory=self.memory_bytes)

    def hourly_peak_qps(self) -> NDArray[np.float64]:
        """Highest rate of each hour, shape ``(hours,)``."""
        at = self.day.breaks_h()
        rate = self.day.qps_at(at)
        return np.array([rate[(at >= h) & (at <= h + 1)].max() for h in range(self.day.hours)])


@dataclass(frozen=True, kw_only=True)
class Safety:
    """What must still be there when something goes wrong.

    Parameters
    ----------
    margin : float
        Capacity planned beyond the demand, as a share of it.
    spare_machine : bool
        Whether the demand (without the margin) is still carried after the loss of any one machine of a model.
    domains : int or None
        Failure domains (racks, power feeds) over which the machines of each kind are spread evenly: the demand
        (without the margin) is still carried after the loss of a whole one. 2 or more; None for no such promise.

    Raises
    ------
    InputError
        When a number is out of range.
    """

    margin: float = 0.05
    spare_machine: bool = True
    domains: int | None = None

    def __post_init__(self) -> None:
        _not_negative("safety", margin=self.margin)
        if self.domains is not None and self.domains < 2:
            raise InputError(
                f"safety.domains {self.domains}; it must be 2 or more: what is in a single domain is all lost with it"
            )


@dataclass(frozen=True, kw_only=True)
class Switching:
    """What it takes to give a machine another model: tables are loaded, so the number in an hour may be limited.

    A machine that is off keeps its model; switching it on again for the same one is not counted.

    Parameters
    ----------
    most_per_hour : int or None
        Machines that may get another model at the start of an hour; None for any number.
    cost_usd : float
        Of each.
    """

    most_per_hour: int | None = None
    cost_usd: float = 0.0

    def __post_init__(self) -> None:
        if self.most_per_hour is not None and self.most_per_hour < 0:
            raise InputError(f"switching.most_per_hour {self.most_per_hour}; it must be 0 or more, or null")
        _not_negative("switching", cost_usd=self.cost_usd)

    @property
    def matters(self) -> bool:
        """Whether hours depend on each other through it."""
        return self.most_per_hour is not None or self.cost_usd > 0


@dataclass(frozen=True, kw_only=True)
class PlanQuestion:
    """Which machines are to run which model in which hour, and what is to be smallest.

    Parameters
    ----------
    name : str
        For reports.
    machines : tuple of MachineType
        At least one.
    demands : tuple of Demand
        At least one, all with the same number of hours.
    systems : mapping
        (machine, model) names -> the machine as that model finds it; pairs that cannot be are left out.
    no_offload : frozenset
        Pairs whose accelerator cannot hold the tables, so that only the cores may serve.
    excluded : mapping
        Pairs that were left out -> why.
    objective : {"cost", "power", "machines"}
        What is to be smallest: money for the whole day, energy of the whole day, or machines needed at all.
    safety : Safety
        Reserves.
    switching : Switching
        Limits on moving machines between models.
    energy_usd_per_kwh : float
        Price of energy, added to the cost.
    router : Router
        Who distributes the queries of a model over its machines when the plan is checked by simulation.

    Raises
    ------
    InputError
        When names repeat, hours differ, or a model has no machine that can run it.
    """

    name: str
    machines: tuple[MachineType, ...]
    demands: tuple[Demand, ...]
    systems: Mapping[tuple[str, str], System]
    no_offload: frozenset[tuple[str, str]] = frozenset()
    excluded: Mapping[tuple[str, str], str] = field(default_factory=dict)
    objective: Objective = "cost"
    safety: Safety = Safety()
    switching: Switching = Switching()
    energy_usd_per_kwh: float = 0.0
    router: Router = field(default_factory=lambda: Router(choice="least_work", sampled=2))

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective {self.objective!r}; allowed: {', '.join(OBJECTIVES)}")
        for what, names in (
            ("machines", [m.name for m in self.machines]),
            ("models", [d.name for d in self.demands]),
        ):
            if not names or len(set(names)) < len(names):
                raise InputError(f"{what} {names}: give at least one, each with a name of its own")
        hours = {d.day.hours for d in self.demands}
        if len(hours) > 1:
            raise InputError(f"models: days of {sorted(hours)} hours; give all of them the same number")
        _not_negative("plan", energy_usd_per_kwh=self.energy_usd_per_kwh)

    @property
    def hours(self) -> int:
        """Hours planned."""
        return self.demands[0].day.hours

    def demand_qps(self) -> NDArray[np.float64]:
        """Rate planned for, shape ``(models, hours)``: the highest of each hour."""
        return np.array([d.hourly_peak_qps() for d in self.demands])
