r"""What is sought, under which constraints, among which policies: the optimization problem as a value.

For a batch size B, an offload threshold T and a fusion limit F, with R the response time of a query by formula, the
offered rate :math:`\lambda`, the bound L and the percentile p of the SLA,

.. math::

   \max_{B, T, F, \lambda} \; f(B, T, F, \lambda) \quad \text{subject to} \quad
   P(R_{B,T,F}(\lambda) \le L) \ge p, \quad \lambda \le 0.98\, \lambda_\text{sat}(B, T, F), \quad
   \text{tables} \le \text{memory}

over B = 1..n, T = 1..n or never, F = 1..what the accelerator fuses, n the largest query. ``docs/optimization.rst`` says
the same in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from recqueue.errors import InputError
from recqueue.optimize.memory import Memory, memory_of
from recqueue.serving import Scenario

Objective = Literal["qps", "qps-per-watt", "latency", "headroom"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True, kw_only=True)
class Problem:
    r"""A question to the optimizer.

    Parameters
    ----------
    scenario : Scenario
        Machine, model, workload and SLA; its own policy is not used.
    objective : {"qps", "qps-per-watt", "latency", "headroom"}
        ``qps``: the largest rate, :math:`f = \lambda`. ``qps-per-watt``: the most queries per joule,
        :math:`f = \lambda / W(\lambda)`, W the power of the machine, at whichever rate within the SLA that is.
        ``latency``: the lowest percentile of the SLA at the rate ``qps``, whether or not it is within the bound.
        ``headroom``: the largest factor by which ``qps`` may grow, :math:`f = \lambda / Q`; the policy is that of the
        objective ``qps``, and the one with the most slack in latency is that of ``latency``.
    qps : float or None
        Q, for ``latency`` and ``headroom``; the rate of the scenario by default.

    Raises
    ------
    InputError
        When the objective is unknown, its rate is missing, or the power of the machine is not known.
    """

    scenario: Scenario
    objective: Objective = "qps"
    qps: float | None = None

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective {self.objective!r}; allowed: {', '.join(OBJECTIVES)}")
        if self.objective in ("latency", "headroom"):
            if self.demand_qps is None:
                raise InputError(
                    f"objective {self.objective}: at which rate? give --qps, or 'qps: 1000' in the scenario"
                )
            if not (np.isfinite(self.demand_qps) and self.demand_qps > 0):
                raise InputError(f"objective {self.objective}: qps {self.qps}; it must be a finite rate above 0")
        elif self.qps is not None:
            raise InputError(f"objective {self.objective} finds the rate itself; leave out qps {self.qps:g}")
        if self.objective == "qps-per-watt" and not self.scenario.system.power_w(0.0, 0.0):
            raise InputError(
                "objective qps-per-watt: the power of this machine is not known (or is 0 when idle); use packaged "
                "hardware (recqueue hardware)"
            )

    @property
    def demand_qps(self) -> float | None:
        """The rate that is asked for."""
        return self.scenario.qps if self.qps is None else self.qps

    @property
    def memory(self) -> Memory:
        """What the tables of the model need and what there is."""
        return memory_of(self.scenario)

    @property
    def unit(self) -> str:
        """Of the value of the objective."""
        return {"qps": "queries/s", "qps-per-watt": "queries/s per W", "latency": "s", "headroom": "times the rate"}[
            self.objective
        ]
