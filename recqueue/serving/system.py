"""The machine: cores with their contention, an accelerator beside them, and the power they draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recqueue.errors import InputError
from recqueue.profiles.contention import NO_CONTENTION, Contention
from recqueue.profiles.curve import LatencyCurve


@dataclass(frozen=True, kw_only=True)
class Power:
    """Electrical power of a device, linear in its utilization.

    Parameters
    ----------
    idle_w, busy_w : float
        Watts at utilization 0 and 1; ``0 <= idle_w <= busy_w``.
    source : str
        Where the figures come from.
    """

    idle_w: float
    busy_w: float
    source: str = ""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.busy_w) and 0 <= self.idle_w <= self.busy_w):
            raise InputError(f"power: idle {self.idle_w} W, busy {self.busy_w} W; 0 <= idle <= busy is needed")

    def watts(self, utilization: float) -> float:
        """Watts at a utilization in 0..1 (more counts as 1)."""
        return self.idle_w + (self.busy_w - self.idle_w) * min(utilization, 1.0)


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """Accelerators fed by one FCFS queue of whole queries.

    Parameters
    ----------
    name : str
        Name of the hardware.
    service : LatencyCurve
        End-to-end time of one launch (copies included) against its items.
    count : int
        Number of identical accelerators.
    max_fused_queries : int
        Most queries in one launch; 1 means no fusion.
    power : Power or None
        Power of one accelerator; None when unknown.
    """

    name: str
    service: LatencyCurve
    count: int = 1
    max_fused_queries: int = 1
    power: Power | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"accelerator.count {self.count}; it must be 1 or more (use 'accelerator: null' for none)")
        if self.max_fused_queries < 1:
            raise InputError(f"accelerator.max_fused_queries {self.max_fused_queries}; it must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class System:
    """A server: identical cores behind one FCFS queue of sub-requests, and at most one kind of accelerator.

    Parameters
    ----------
    name : str
        Name of the CPU.
    cores : int
        Cores that take sub-requests, 1 or more.
    service : LatencyCurve
        Time of one sub-request on one core against its items, with one core busy.
    contention : Contention
        Slow-down against the number of busy cores.
    dispatch_overhead_s : float
        Seconds that each sub-request occupies its core beyond ``service``.
    accelerator : Accelerator or None
        None when the machine has none.
    power : Power or None
        Power of all cores and their memory; None when unknown.
    """

    name: str
    cores: int
    service: LatencyCurve
    contention: Contention = NO_CONTENTION
    dispatch_overhead_s: float = 0.0
    accelerator: Accelerator | None = None
    power: Power | None = None

    def power_w(self, cpu: float, accelerator: float) -> float | None:
        """Watts at these utilizations; None when the power of a part is unknown."""
        if self.power is None or (self.accelerator and self.accelerator.power is None):
            return None
        watts = self.power.watts(cpu)
        if self.accelerator and self.accelerator.power:
            watts += self.accelerator.count * self.accelerator.power.watts(accelerator)
        return watts

    def __post_init__(self) -> None:
        if self.cores < 1:
            raise InputError(f"server.cores {self.cores}; it must be a whole number of 1 or more")
        if not (np.isfinite(self.dispatch_overhead_s) and self.dispatch_overhead_s >= 0):
            raise InputError(f"server.dispatch_overhead {self.dispatch_overhead_s} s; it must be finite and 0 or more")
