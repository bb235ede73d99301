"""The witness: a Monte Carlo simulator that shares no formula with ``queueing`` or ``analysis``."""

from recqueue.simulate.experiment import simulate

__all__ = ["simulate"]
