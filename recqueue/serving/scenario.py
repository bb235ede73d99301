"""Everything that a question about a serving system needs, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recqueue.errors import InputError
from recqueue.serving.policy import Policy
from recqueue.serving.system import System
from recqueue.workload.arrivals import POISSON, Arrivals
from recqueue.workload.sizes import QuerySizes


@dataclass(frozen=True, kw_only=True)
class Sla:
    """The promise: ``percentile`` per cent of *queries* answered within ``latency_s`` seconds.

    Raises
    ------
    InputError
        When the percentile is not inside (0, 100) or the latency is not a finite number above 0.
    """

    percentile: float = 95.0
    latency_s: float

    def __post_init__(self) -> None:
        if not 0 < self.percentile < 100:
            raise InputError(f"sla.percentile {self.percentile}; it must lie strictly between 0 and 100")
        if not (np.isfinite(self.latency_s) and self.latency_s > 0):
            raise InputError(f"sla.latency {self.latency_s} s; it must be a finite number above 0")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A model on a system under a workload, with a promise to keep.

    Parameters
    ----------
    name : str
        For reports.
    model : str
        Name of the recommendation model, or what the user calls it.
    system : System
        The machine.
    sizes : QuerySizes
        Distribution of the items in a query.
    sla : Sla
        The promise.
    arrivals : Arrivals
        The arrival process, without its rate.
    policy : Policy or None
        The policy to evaluate; None where one is sought.
    qps : float or None
        Offered queries per second; None where the largest is sought.

    Raises
    ------
    InputError
        When the parts do not fit each other.
    """

    name: str
    model: str
    system: System
    sizes: QuerySizes
    sla: Sla
    arrivals: Arrivals = POISSON
    policy: Policy | None = None
    qps: float | None = None

    def __post_init__(self) -> None:
        if self.qps is not None and not (np.isfinite(self.qps) and self.qps > 0):
            raise InputError(f"qps {self.qps}; it must be a finite rate above 0 queries per second")
        if self.policy is not None:
            self.policy.check(self.system, self.sizes.max_items, "policy.")
