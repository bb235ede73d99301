"""The policy that carries the most queries under the SLA, its baselines, and the simulator's verdict."""

from recqueue.optimize.result import Baseline, Optimization, Verification
from recqueue.optimize.solve import optimize

__all__ = ["Baseline", "Optimization", "Verification", "optimize"]
