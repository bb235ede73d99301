"""Scenario -> queueing -> Performance; the only importer of the queueing mathematics."""

from recqueue.analysis.evaluate import Limit, MaxRate, evaluate, max_rate

__all__ = ["Limit", "MaxRate", "evaluate", "max_rate"]
