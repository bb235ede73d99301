"""Scenario -> queueing -> Performance; the only importer of the queueing mathematics."""

from recqueue.analysis.evaluate import Limit, MaxRate, evaluate, max_rate
from recqueue.analysis.ledger import Ledger, error_ledger

__all__ = ["Ledger", "Limit", "MaxRate", "error_ledger", "evaluate", "max_rate"]
