"""Figures of saved results: files in, a figure out; nothing is computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from recqueue.errors import InputError
from recqueue.io.results import Saved, read_result
from recqueue.plotting.saved.breakdown import breakdown
from recqueue.plotting.saved.error import error, packaged_map
from recqueue.plotting.saved.heatmap import heatmap
from recqueue.plotting.saved.latency import latency
from recqueue.plotting.saved.optimum import optimum
from recqueue.plotting.saved.options import Options, Results
from recqueue.plotting.saved.pareto import pareto
from recqueue.plotting.style import RC

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KINDS", "Options", "comparison", "figure"]

KINDS: dict[str, Callable[[Results, Options], Figure]] = {
    "heatmap": heatmap,
    "latency": latency,
    "pareto": pareto,
    "optimum": optimum,
    "error": error,
    "breakdown": breakdown,
}


def figure(kind: str, files: Sequence[str | Path], options: Options | None = None) -> Figure:
    """Figure of saved results.

    Parameters
    ----------
    kind : str
        One of ``KINDS``.
    files : sequence of path
        Tables of ``recqueue sweep`` (``.parquet``, or ``.csv`` with the same columns) or JSON records; none means, for
        ``error``, the error map that the package ships.
    options : Options or None
        What to show.

    Raises
    ------
    InputError
        One line: the file, what it lacks and has, and the command that makes it.
    """
    if kind not in KINDS:
        raise InputError(f"plot {kind!r}; allowed: {', '.join(KINDS)}")
    if not files and kind != "error":
        raise InputError(f"plot {kind}: no RESULT given; it takes saved results, such as those of 'recqueue sweep'")
    results = [read_result(f) for f in files] if files else [packaged_map()]
    with mpl.rc_context(RC):
        return KINDS[kind](results, options or Options())


def comparison(record: Mapping[str, Any]) -> Figure:
    """Figure ``error`` of a record of ``recqueue compare`` that was not saved."""
    with mpl.rc_context(RC):
        return error([Saved(where="compare", kind="compare", record=record)], Options())
