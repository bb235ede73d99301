"""What a baseline ends on, before the simulator has confirmed it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recqueue.serving import Policy, Scenario


@dataclass(frozen=True)
class Candidate:
    """A policy and the rate that whoever chose it believes it carries.

    Attributes
    ----------
    method : str
        How it was chosen.
    policy : Policy or None
        None when nothing that was tried kept the promise.
    believed_qps : float
        Queries per second, as measured on the way; 0 without a policy.
    sub_requests : int
        Sub-requests simulated to choose it.
    """

    method: str
    policy: Policy | None
    believed_qps: float
    sub_requests: int = 0


def normal_form(scenario: Scenario, policy: Policy) -> Policy:
    """The same policy with the smallest batch size and threshold that do the same.

    A batch size beyond the largest query that stays on the cores is that query, a threshold is the next size that
    occurs, and one that no query reaches is None. As many queries in a launch as the accelerator allows is None too.
    """
    sizes = np.flatnonzero(scenario.sizes.pmf)
    threshold = policy.offload_threshold
    reached = sizes[sizes >= threshold] if threshold is not None and scenario.system.accelerator else sizes[:0]
    local = sizes[sizes < reached[0]] if len(reached) else sizes
    device, fused = scenario.system.accelerator, policy.max_fused_queries
    return replace(
        policy,
        max_fused_queries=None if device is None or fused == device.max_fused_queries else fused,
        batch_size=min(policy.batch_size, int(local[-1])) if len(local) else 1,
        offload_threshold=int(reached[0]) if len(reached) else None,
    )
