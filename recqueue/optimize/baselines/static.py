"""The policy of somebody who does not tune at all."""

from __future__ import annotations

from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import largest_rate
from recqueue.optimize.baselines.candidate import Candidate
from recqueue.serving import Policy, Scenario


def static(scenario: Scenario, costs: Costs) -> Candidate:
    """Batch size ceil(largest query / cores), so that the largest query just fills the machine; never offload."""
    policy = Policy(-(-scenario.sizes.max_items // scenario.system.cores))
    rate = largest_rate(scenario, policy, costs)
    return Candidate("largest query / cores", policy if rate else None, rate)
