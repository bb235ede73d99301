"""The witness: a Monte Carlo simulator that shares no formula with ``queueing`` or ``analysis``."""

from recqueue.simulate.experiment import offered_load, simulate
from recqueue.simulate.replication import Run, run_once
from recqueue.simulate.streams import spawn

__all__ = ["Run", "offered_load", "run_once", "simulate", "spawn"]
