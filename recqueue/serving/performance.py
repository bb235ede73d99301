"""The answer to a question about a scenario; the formulas and the simulator both return it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "unstable"]


@dataclass(frozen=True, kw_only=True)
class Performance:
    """What a policy does at a rate.

    Attributes
    ----------
    kind : {"evaluate", "simulate"}
        Which command made it.
    method : str
        The formula or the simulator, in words.
    qps : float
        Offered queries per second.
    latency_s : mapping
        ``mean``, ``p50``, ``p95``, ``p99`` and the percentile of the SLA, in seconds; infinite when unstable.
    utilization : mapping
        ``cpu`` and ``accelerator``: busy share of each pool (offered load per server when unstable, so above 1);
        ``accelerator`` is None where there is none.
    offloaded : mapping
        ``queries`` and ``items``: shares in 0..1 that go to the accelerator.
    power_w : float or None
        Mean electrical power; None where no power figure is known.
    meets_sla : bool or None
        Whether the promise is kept; None when a simulation cannot tell (its interval contains the bound).
    status : str
        A sentence: "ok", or what is wrong, with numbers.
    stable : bool
        Whether a steady state exists.
    error : mapping
        Relative error that the formula's percentiles stay within in 95 of 100 scenarios like this, as found by
        simulation (:doc:`/accuracy`); empty where that was not measured, and a note says so (formula only).
    interval_s : mapping
        95 % confidence intervals of latencies (simulation only).
    queries : int or None
        Queries counted (simulation only).
    sub_requests : int or None
        Sub-requests simulated, warm-up included (simulation only).
    seed : int or None
        Seed (simulation only).
    notes : tuple of str
        What a reader should know: extrapolated tables, approximations outside their comfort.
    """

    kind: Literal["evaluate", "simulate"]
    method: str
    qps: float
    latency_s: Mapping[str, float]
    utilization: Mapping[str, float | None]
    offloaded: Mapping[str, float]
    power_w: float | None
    meets_sla: bool | None
    status: str
    stable: bool = True
    error: Mapping[str, float] = field(default_factory=dict)
    interval_s: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    queries: int | None = None
    sub_requests: int | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()
