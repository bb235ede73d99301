"""The witness: a Monte Carlo simulator that shares no formula with ``queueing`` or ``analysis``."""

from recqueue.simulate.experiment import Run, offered_load, run_once, simulate
from recqueue.simulate.streams import spawn

__all__ = ["Run", "offered_load", "run_once", "simulate", "spawn"]
