"""Errors: of the formulas by features, of the accuracy study's scenarios, of predictions by load."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

from recqueue.errors import InputError
from recqueue.io.results import Saved
from recqueue.plotting.errors import error_by_load, error_cloud, error_map
from recqueue.plotting.saved.options import Options, Results, table_of, title
from recqueue.plotting.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MADE_BY = "python -m studies.accuracy (studies/results/accuracy.csv)"


def packaged_map() -> Saved:
    """The error map that the package ships."""
    text = (files("recqueue") / "data" / "accuracy.json").read_text(encoding="utf-8")
    return Saved(where="recqueue/data/accuracy.json", kind="accuracy", record=json.loads(text))


def error(results: Results, options: Options) -> Figure:
    """Map of ``accuracy.json``, cloud of the study's scenarios, or errors by load of a record of ``compare``."""
    first = results[0]
    if len(results) == 1 and isinstance(first, Saved):
        if first.kind == "accuracy":
            return _map(first, options)
        if first.kind == "compare":
            return _by_load(first, options)
        raise InputError(
            f"{first.where}: a record of kind {first.kind!r}; this figure takes that of 'recqueue compare --json', the "
            "error map (recqueue/data/accuracy.json), or studies/results/accuracy.csv"
        )
    table = table_of(results, "error", MADE_BY, options.where)
    names = [options.show] if options.show else ["p95", "p99"]
    figure, axes = new_figure(len(names), 1, height_in=3.4 * len(names), squeeze=False)
    flags = table.columns.get("flagged")
    flagged = None if flags is None else [bool(f) for f in flags]
    for ax, name in zip(axes[:, 0], names, strict=True):
        load, errors = (table.numbers(n, made_by=MADE_BY) for n in ("utilization", f"{name}_error"))
        error_cloud(ax, load, errors, name=name, flagged=flagged)
    title(axes[0, 0], options, f"formula against simulation, {len(table):,} scenarios")
    return figure


def _map(saved: Saved, options: Options) -> Figure:
    names = [options.show] if options.show else ["p95", "p99"]
    figure, axes = new_figure(len(names), 1, height_in=3.4 * len(names), squeeze=False)
    for ax, name in zip(axes[:, 0], names, strict=True):
        error_map(ax, saved.need("cells"), name)
    title(axes[0, 0], options, "")
    return figure


def _by_load(saved: Saved, options: Options) -> Figure:
    runs, there = saved.need("runs"), saved.need("error")
    names = options.show.split(",") if options.show else [n for n in ("p50", "p95", "p99") if n in there] or list(there)
    for name in names:
        if name not in there:
            raise InputError(f"{saved.where}: no errors of {name} in it; there are {', '.join(there)}")
    figure, ax = new_figure()
    bound = options.bound or (saved.record.get("bound") or {}).get("max_error")
    error_by_load(ax, runs, names, bound=bound)
    title(
        ax, options, f"{saved.record.get('result', '')} by {saved.record.get('by', 'model')}, {len(runs)} measured runs"
    )
    return figure
