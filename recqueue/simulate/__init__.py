"""The witness: a Monte Carlo simulator that shares no formula with ``queueing`` or ``analysis``."""

from recqueue.simulate.comparison import Comparison, Difference, compare_policies
from recqueue.simulate.experiment import simulate
from recqueue.simulate.fleet import simulate_fleet
from recqueue.simulate.long_run import LongRun, long_run
from recqueue.simulate.pools import Finished
from recqueue.simulate.quantiles import LatencyHistogram
from recqueue.simulate.replication import Run, Totals, run_blocks, run_once
from recqueue.simulate.settling import offered_load, trusted_length
from recqueue.simulate.stages import simulate_pipeline
from recqueue.simulate.streams import spawn
from recqueue.simulate.sub_requests import SubRequests, sub_requests
from recqueue.simulate.time_series import TimeSeries

__all__ = [
    "Comparison",
    "Difference",
    "Finished",
    "LatencyHistogram",
    "LongRun",
    "Run",
    "SubRequests",
    "TimeSeries",
    "Totals",
    "compare_policies",
    "long_run",
    "offered_load",
    "run_blocks",
    "run_once",
    "simulate",
    "simulate_fleet",
    "simulate_pipeline",
    "spawn",
    "sub_requests",
    "trusted_length",
]
