"""Scenario -> queueing -> Performance; the only importer of the queueing mathematics."""

from recqueue.analysis.evaluate import MaxRate, evaluate, max_rate

__all__ = ["MaxRate", "evaluate", "max_rate"]
