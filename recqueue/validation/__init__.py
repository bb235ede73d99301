"""Measured against predicted, and promises held against bounds: values in, verdicts out."""

from recqueue.validation.checks import (
    Check,
    check_against,
    check_headroom,
    check_measured,
    check_rate,
    check_sla,
    check_utilization,
    overall,
)
from recqueue.validation.comparison import BINS, Compared, Comparison, Ledger, Spread, compare
from recqueue.validation.measured import Measured, summarize
from recqueue.validation.prediction import nearest, predict

__all__ = [
    "BINS",
    "Check",
    "Compared",
    "Comparison",
    "Ledger",
    "Measured",
    "Spread",
    "check_against",
    "check_headroom",
    "check_measured",
    "check_rate",
    "check_sla",
    "check_utilization",
    "compare",
    "nearest",
    "overall",
    "predict",
    "summarize",
]
