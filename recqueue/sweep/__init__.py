"""Grids over scenario keys: every point evaluated, simulated, searched or optimized, in one Parquet table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recqueue.sweep.grid import Axis, axis
from recqueue.sweep.points import METHODS, Options
from recqueue.sweep.run import Outcome, Sweep, run
from recqueue.sweep.table import Table, read

if TYPE_CHECKING:
    from recqueue.sweep.document import sweep_of

__all__ = ["METHODS", "Axis", "Options", "Outcome", "Sweep", "Table", "axis", "read", "run", "sweep_of"]


def __getattr__(name: str) -> Any:
    if name == "sweep_of":  # reads files, which a worker has no need of
        from recqueue.sweep.document import sweep_of

        return sweep_of
    raise AttributeError(f"module 'recqueue.sweep' has no attribute {name!r}")
