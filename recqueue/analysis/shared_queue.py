"""Accelerators that several models use together: one FCFS queue for the offloaded queries of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recqueue.analysis.pools import Costs
from recqueue.errors import InputError, OutOfValidityError, UnstableQueueError
from recqueue.queueing.forkjoin import response
from recqueue.queueing.split_queries import SplitQueries
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """Queries of one model, some of which go to the accelerators.

    Attributes
    ----------
    scenario : Scenario
        With the accelerators that are shared, and the promise.
    policy : Policy
        With an ``offload_threshold``.
    qps : float
        All its queries per second.
    costs : Costs
        Its service times.
    """

    scenario: Scenario
    policy: Policy
    qps: float
    costs: Costs

    @property
    def share(self) -> float:
        """Share of its queries that are offloaded."""
        return float(self.scenario.sizes.pmf[self.policy.offload_threshold or len(self.scenario.sizes.pmf) :].sum())


def far_in_time_together(streams: Sequence[Stream]) -> list[float]:
    r"""Share of all queries of each model that are offloaded and answered within its bound; -inf when saturated.

    Poisson streams add up to a Poisson stream whose services are a mixture, so all of them wait as in M/G/c with that
    mixture (exact for one accelerator), and each then takes its own service. Busy cores of the host slow every launch
    as if all of them were busy.

    Parameters
    ----------
    streams : sequence of Stream
        Models on the same accelerators, one query in a launch, Poisson arrivals.

    Raises
    ------
    InputError
        When arrivals are not Poisson, or launches fuse queries.
    """
    queries, rates = [], []
    for s in streams:
        device = s.policy.accelerator_of(s.scenario.system)
        if device is None or device.max_fused_queries > 1 or s.scenario.arrivals.process != "poisson":
            raise InputError("shared accelerators: known for Poisson arrivals and launches of one query only")
        own = s.costs.far(s.scenario, s.policy)
        queries.append(own.scaled(1 + device.host_slowdown) if device.host_slowdown else own)
        rates.append(s.qps * s.share)
    first = streams[0].scenario.system.accelerator
    if first is None:
        raise InputError("shared accelerators: there are none")
    longest = max(s.scenario.sla.latency_s for s in streams)
    try:
        waiting = response(sum(rates), merged(queries, rates), first.count, horizon_s=longest, wakeup_s=first.wakeup_s)
    except (UnstableQueueError, OutOfValidityError):
        return [-np.inf] * len(streams)
    return [
        s.share * float(replace(waiting, queries=own).cdf(s.scenario.sla.latency_s))
        for s, own in zip(streams, queries, strict=True)
    ]


def merged(queries: Sequence[SplitQueries], rates: Sequence[float]) -> SplitQueries:
    """Queries of several streams as one; the noise has the cv that keeps the second moment of their services."""
    weight = np.concatenate([r * q.probability for q, r in zip(queries, rates, strict=True)]) / sum(rates)
    seconds = np.concatenate([q.last_s for q in queries])
    square = weight * seconds**2
    cv2 = np.concatenate([np.full(len(q.probability), q.cv**2) for q in queries])
    return SplitQueries(
        probability=weight,
        full=np.zeros(len(weight), dtype=np.int64),
        last_s=seconds,
        full_s=max(q.full_s for q in queries),
        cv=float(np.sqrt(square @ cv2 / square.sum())),
    )
