"""Grids over scenario keys: every point evaluated, simulated, searched or optimized, in one Parquet table."""

from __future__ import annotations

from recqueue.sweep.document import sweep_of
from recqueue.sweep.grid import Axis, axis
from recqueue.sweep.points import METHODS, Options
from recqueue.sweep.run import Outcome, Sweep, run
from recqueue.sweep.table import Table, read

__all__ = ["METHODS", "Axis", "Options", "Outcome", "Sweep", "Table", "axis", "read", "run", "sweep_of"]
