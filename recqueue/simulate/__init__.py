"""The witness: a Monte Carlo simulator that shares no formula with ``queueing`` or ``analysis``."""

from recqueue.simulate.experiment import Run, offered_load, run_once, simulate
from recqueue.simulate.fleet import simulate_fleet
from recqueue.simulate.stages import simulate_pipeline
from recqueue.simulate.streams import spawn

__all__ = ["Run", "offered_load", "run_once", "simulate", "simulate_fleet", "simulate_pipeline", "spawn"]
