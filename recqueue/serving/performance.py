"""The answer to a question about a scenario; the formulas and the simulator both return it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """How a simulated answer came about, and how far to trust it.

    Attributes
    ----------
    replications : int
        Independent replications that were finished.
    warm_up : int
        Queries dropped at the start of each of them.
    looks, most_looks : int
        How often the replications were evaluated before the run ended, and how often that could have been.
    confidence : float
        Nominal coverage of each interval: 0.95 at a single look, more otherwise, so that all looks together are
        nominally wrong at most as often as one.
    trend : {"stable", "backlogged", "overloaded"}
        Whether latencies grew beyond chance over the counted queries, and whether that growth went on.
    growth : float
        Mean latency of the second half of the counted queries over that of the first, less one.
    needed_queries : float or None
        Estimated queries in all that would give what was asked for (a verdict, a precision); None when it is there,
        infinite when no length of run would.
    interrupted : bool
        Whether Ctrl-C ended the run early; finished replications are kept.
    repeated, lost : int
        Replications run again because their worker process died, and those lost because it died twice.
    """

    replications: int
    warm_up: int
    looks: int
    most_looks: int
    confidence: float
    trend: Literal["stable", "backlogged", "overloaded"]
    growth: float
    needed_queries: float | None
    interrupted: bool = False
    repeated: int = 0
    lost: int = 0


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
    breakdown_s : mapping
        Mean parts of the latency after the planned warm-up (simulation only): ``wait``, until the last sub-request
        starts; ``service``, that sub-request; ``straggler``, after it until all have ended.
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
        Confidence intervals of latencies (simulation only), 95 % in all.
    queries : int or None
        Queries counted (simulation only).
    sub_requests : int or None
        Sub-requests simulated, warm-up included (simulation only).
    seed : int or None
        Seed (simulation only).
    experiment : Experiment or None
        Replications, warm-up, trend and what more it would take (simulation only).
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
    breakdown_s: Mapping[str, float] = field(default_factory=dict)
    queries: int | None = None
    sub_requests: int | None = None
    seed: int | None = None
    experiment: Experiment | None = None
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """``meets_sla`` as a word."""
        return "undecided" if self.meets_sla is None else "pass" if self.meets_sla else "fail"
