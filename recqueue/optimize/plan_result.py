"""What a fleet plan answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recqueue.optimize.plan_columns import Column
from recqueue.serving import PlanQuestion
from recqueue.serving.performance import Verdict


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What a choice of machines comes to, over all hours planned.

    Attributes
    ----------
    cost_usd : float
        Rent of the machines that are on, capital of those that are needed at all, provisioned energy, and switching.
    machines : int
        Machines needed at all: of each type as many as are on in its busiest hour.
    machine_hours : int
        Machines on, summed over the hours.
    provisioned_kwh : float or None
        Energy if every machine that is on carried the rate it is planned for; None where a power figure is unknown.
    expected_kwh : float or None
        Energy at the mean rate of each hour, which all machines of a model share in proportion to what they carry.
    peak_power_w : float or None
        Provisioned power of the hour that has most.
    """

    cost_usd: float
    machines: int
    machine_hours: int
    provisioned_kwh: float | None
    expected_kwh: float | None
    peak_power_w: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanBaseline:
    """What people do without an optimizer, under the same promises.

    Attributes
    ----------
    meaning : str
        The rule in words.
    counts : numpy.ndarray or None
        As in a plan; None when the rule runs out of machines.
    totals : Totals or None
        None likewise.
    reason : str
        Where it ran out of machines.
    value : float
        The objective; infinite likewise. Limits on switching do not apply.
    """

    meaning: str
    counts: NDArray[np.int64] | None
    totals: Totals | None
    value: float
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Scarce:
    """A type of machine of which every one is in use at times.

    Attributes
    ----------
    machine : str
        The type.
    hours : tuple of int
        When.
    worth : float or None
        By how much one more machine would lower the objective, in its unit, in the linear relaxation; None if unknown.
    """

    machine: str
    hours: tuple[int, ...]
    worth: float | None = None


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change that alone would make the plan possible.

    Attributes
    ----------
    change : str
        In words, with numbers.
    machine : str or None
        The type of which there must be more.
    machines : int or None
        How many more.
    factor : float or None
        Share of the demand that can be carried.
    """

    change: str
    machine: str | None = None
    machines: int | None = None
    factor: float | None = None


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """Why there is no plan.

    Attributes
    ----------
    reason : str
        One sentence with numbers.
    hours : tuple of int
        Hours that have too few machines.
    worst_hour : int or None
        The hour with the largest demand relative to what can be carried.
    models : tuple of str
        Models that no machine can run, or that use what is scarce.
    remedies : tuple of Remedy
        What would help.
    """

    reason: str
    hours: tuple[int, ...] = ()
    worst_hour: int | None = None
    models: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HourCheck:
    """One hour of one model, simulated at its highest rate as a steady state.

    Attributes
    ----------
    model : str
        Which.
    hour : int
        Which; the same machines and rate may occur in others.
    case : str
        ``as planned``, ``one machine lost`` or ``a domain lost``.
    qps : float
        Rate.
    machines : mapping
        ``type, policy`` -> machines in the simulation.
    verdict : {"pass", "fail", "undecided"}
        Whether the interval of the SLA's percentile lies within the bound.
    latency_s, interval_s : float, tuple of float
        The percentile and its 95 % interval.
    offered_load : float
        Work offered over what can be served.
    queries : int
        Simulated.
    status : str
        "ok", or what is wrong.
    """

    model: str
    hour: int
    case: str
    qps: float
    machines: Mapping[str, int]
    verdict: Verdict
    latency_s: float
    interval_s: tuple[float, float]
    offered_load: float
    queries: int
    status: str


@dataclass(frozen=True, kw_only=True)
class PlanVerification:
    """What the simulator says of the plan.

    Attributes
    ----------
    verdict : {"pass", "fail", "undecided"}
        ``pass`` when every check of the final plan passes.
    checks : tuple of HourCheck
        Of the final plan.
    steps_back : mapping
        Model -> how often less of it was relied on because the simulator did not confirm the plan.
    queries : int
        Simulated in all.
    """

    verdict: Verdict
    checks: tuple[HourCheck, ...]
    steps_back: Mapping[str, int]
    queries: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Which machines run which model in which hour, and how sure that is.

    Attributes
    ----------
    question : PlanQuestion
        What was asked.
    columns : tuple of Column
        What one machine can be used for.
    counts : numpy.ndarray or None
        Machines used as each column in each hour, shape ``(columns, hours)``; None when there is no plan.
    reliance : mapping
        Model -> share of the rates by formula that is relied on (the columns hold that share): below 1 where the
        simulator made the plan step back.
    totals : Totals or None
        What it comes to.
    switched : numpy.ndarray or None
        Machines that get another model at the start of each hour, shape ``(hours,)``.
    value, bound : float
        The objective (USD, kWh or machines), and the proven least that any plan for the same columns has.
    method : str
        How it was solved.
    baselines : mapping
        ``greedy``, ``proportional`` and ``peak all day``.
    scarce : tuple of Scarce
        Types of which every machine is in use at times.
    shortage : Shortage or None
        Why there is no plan.
    verification : PlanVerification or None
        None when it was not asked for.
    seconds : mapping
        Wall-clock time of each part.
    """

    question: PlanQuestion
    columns: tuple[Column, ...]
    counts: NDArray[np.int64] | None
    reliance: Mapping[str, float]
    totals: Totals | None
    switched: NDArray[np.int64] | None
    value: float
    bound: float
    method: str
    baselines: Mapping[str, PlanBaseline]
    scarce: tuple[Scarce, ...]
    shortage: Shortage | None
    verification: PlanVerification | None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Share of the objective that is not proven to be needed."""
        return max(self.value - self.bound, 0.0) / max(abs(self.value), 1e-12) if self.counts is not None else np.inf

    def machines_of(self, model: str) -> list[tuple[Column, NDArray[np.int64]]]:
        """Columns of a model that are used, with their machines in each hour."""
        if self.counts is None:
            return []
        return [(c, self.counts[i]) for i, c in enumerate(self.columns) if c.model == model and self.counts[i].any()]

    def on_of_type(self) -> Mapping[str, NDArray[np.int64]]:
        """Type -> machines on in each hour."""
        counts = np.zeros((len(self.columns), self.question.hours), np.int64) if self.counts is None else self.counts
        return {
            m.name: np.asarray(
                sum((counts[i] for i, c in enumerate(self.columns) if c.machine == m.name), 0 * counts[0])
            )
            for m in self.question.machines
        }
