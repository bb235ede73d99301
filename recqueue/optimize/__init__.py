"""The policy that carries the most queries under the SLA, its baselines, the simulator's verdict, and headroom."""

from recqueue.optimize.certificate import Certificate, Check
from recqueue.optimize.pareto import Pareto, ParetoPoint, pareto_front
from recqueue.optimize.remedies import Infeasibility, Remedy, remedies_for
from recqueue.optimize.result import Baseline, Optimization, Verification
from recqueue.optimize.sensitivity import Circumstance, Gain, Sensitivity, sensitivity_of
from recqueue.optimize.solve import optimize

__all__ = [
    "Baseline",
    "Certificate",
    "Check",
    "Circumstance",
    "Gain",
    "Infeasibility",
    "Optimization",
    "Pareto",
    "ParetoPoint",
    "Remedy",
    "Sensitivity",
    "Verification",
    "optimize",
    "pareto_front",
    "remedies_for",
    "sensitivity_of",
]
