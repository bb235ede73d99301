"""Several models on one machine, each with its own demand and promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from recqueue.errors import InputError
from recqueue.serving.scenario import Scenario

Goal = Literal["scale", "rate"]
"""``scale``: the largest common multiple of the demands; ``rate``: the largest weighted sum of the rates."""


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """A model that shares the machine.

    Parameters
    ----------
    name : str
        For reports.
    scenario : Scenario
        The model with the whole machine to itself; its ``qps`` is the demand, its ``policy`` is not used.
    weight : float
        Of its rate in the weighted sum.

    Raises
    ------
    InputError
        When there is no demand, or the weight is below 0.
    """

    name: str
    scenario: Scenario
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.scenario.qps is None:
            raise InputError(f"{self.name}: qps: missing; give its demand in queries per second")
        if not (np.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"{self.name}: weight {self.weight}; it must be finite and 0 or more")

    @property
    def demand_qps(self) -> float:
        """Queries per second that it should carry at scale 1."""
        return self.scenario.qps or 0.0


@dataclass(frozen=True, kw_only=True)
class SharedMachine:
    """Models that share one machine.

    Parameters
    ----------
    name : str
        For reports.
    tenants : tuple of Tenant
        The models, all described on the same machine.
    goal : {"scale", "rate"}
        What the partition should have most of.
    shared_accelerators : bool
        Whether models may use the accelerators together, in one queue, where that carries a larger scale.

    Raises
    ------
    InputError
        When there are no tenants, two have the same name, there are fewer cores than tenants, or they are described on
        different machines.
    """

    name: str
    tenants: tuple[Tenant, ...]
    goal: Goal = "scale"
    shared_accelerators: bool = True

    def __post_init__(self) -> None:
        if not self.tenants:
            raise InputError("models: none given; at least one is needed")
        names = [t.name for t in self.tenants]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"models: {twice[0]!r} is given twice; give each a 'name' of its own")
        machines = []
        for t in self.tenants:
            s = t.scenario.system
            known = s.name, s.cores, (s.accelerator.name, s.accelerator.count) if s.accelerator else None
            machines += [] if known in machines else [known]
        if len(machines) > 1:
            raise InputError(f"models: described on different machines {machines}; use the same for all")
        if self.cores < len(self.tenants):
            raise InputError(f"server.cores {self.cores} for {len(self.tenants)} models; each needs a core of its own")
        if self.goal == "rate" and not any(t.weight for t in self.tenants):
            raise InputError("models: every weight is 0; give one above 0")

    @property
    def cores(self) -> int:
        """Cores of the machine."""
        return self.tenants[0].scenario.system.cores

    @property
    def accelerators(self) -> int:
        """Accelerators of the machine."""
        device = self.tenants[0].scenario.system.accelerator
        return device.count if device else 0
