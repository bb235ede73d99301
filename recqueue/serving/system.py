"""The machine: cores with their contention, an accelerator beside them, and the power they draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from recqueue.errors import InputError
from recqueue.profiles.contention import NO_CONTENTION, Contention
from recqueue.profiles.curve import LatencyCurve
from recqueue.profiles.drift import Drift

Dispatch = Literal["central", "random", "round_robin", "jsq", "prefetch"]
"""How sub-requests find their core."""


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
    fused_query_s : float
        Seconds that each query of a launch beyond the first adds to the time of their items.
    fusion_wait_s : float
        Seconds that a free accelerator lets the first query wait for others before it launches with fewer than
        ``max_fused_queries``.
    power : Power or None
        Power of one accelerator; None when unknown.
    wakeup_s : float
        Seconds from the arrival of a query at an idle accelerator until its launch starts.
    host_slowdown : float
        Share that a launch takes longer while all cores of the host are busy, in proportion to the busy ones: they
        compete with the process that prepares the launch and copies.
    """

    name: str
    service: LatencyCurve
    count: int = 1
    max_fused_queries: int = 1
    fused_query_s: float = 0.0
    fusion_wait_s: float = 0.0
    power: Power | None = None
    wakeup_s: float = 0.0
    host_slowdown: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"accelerator.count {self.count}; it must be 1 or more (use 'accelerator: null' for none)")
        if self.max_fused_queries < 1:
            raise InputError(f"accelerator.max_fused_queries {self.max_fused_queries}; it must be 1 or more")
        if not (np.isfinite(self.host_slowdown) and self.host_slowdown >= 0):
            raise InputError(f"accelerator.host_slowdown {self.host_slowdown}; it must be finite and 0 or more")
        for name in ("fused_query_s", "fusion_wait_s", "wakeup_s"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"accelerator.{name.removesuffix('_s')} {value} s; it must be finite and 0 or more")
        if self.fusion_wait_s > 0 and self.max_fused_queries == 1:
            raise InputError(
                f"accelerator.fusion_wait {self.fusion_wait_s:g} s without fusion; allow max_fused_queries above 1, or "
                "wait 0"
            )


@dataclass(frozen=True, kw_only=True)
class System:
    """A server: identical cores that take sub-requests in order of arrival, and at most one kind of accelerator.

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
    wakeup_s : float
        Further seconds that a sub-request occupies its core when the core was idle: its process must be woken first.
    drift : Drift or None
        How the speed of the cores changes while they serve; None for a machine that stays the same.
    dispatch : {"central", "random", "round_robin", "jsq", "prefetch"}
        ``central``: one queue in front of all cores. Otherwise each core has a queue of its own, and a sub-request
        goes to any core with the same probability (``random``), to each in turn (``round_robin``), or to one that holds
        fewest (``jsq``). ``prefetch``: a shared queue from which cores with room in their own buffer take in turn,
        as the feeder threads of the published engine do.
    prefetch : int
        Room in the buffer of each core, beside the sub-request it works on (``prefetch`` only).
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
    wakeup_s: float = 0.0
    drift: Drift | None = None
    dispatch: Dispatch = "central"
    prefetch: int = 8
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
        for name in ("dispatch_overhead_s", "wakeup_s"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"server.{name.removesuffix('_s')} {value} s; it must be finite and 0 or more")
        if self.dispatch not in get_args(Dispatch):
            raise InputError(f"server.dispatch {self.dispatch!r}; allowed: {', '.join(get_args(Dispatch))}")
        if self.prefetch < 1:
            raise InputError(f"server.prefetch {self.prefetch}; it must be a whole number of 1 or more")
