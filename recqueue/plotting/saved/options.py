"""What a figure of saved results can be asked for, and what all kinds need to know of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recqueue.errors import InputError
from recqueue.io.answers import policy_from, sla_of
from recqueue.io.results import Saved, Table, shown
from recqueue.serving import Policy, Sla

Results = Sequence[Saved | Table]
KNOBS = ("batch_size", "offload_threshold", "max_fused_queries")
WORDS = {"batch_size": "batch", "offload_threshold": "from", "max_fused_queries": "fuse"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to show.

    Attributes
    ----------
    where : mapping
        Column -> value: only rows of tables with these values are used.
    show : str or None
        Column or latency to show, instead of the usual one.
    sla_ms : float or None
        Bound to draw, where the results do not say or another one is meant.
    measured : tuple of str
        Files of measured latencies to draw on top (``latency``).
    measured_where : mapping
        Column -> value: only rows of these with these values are used.
    title : str or None
        Instead of the usual one; an empty text for none.
    bound : float or None
        Largest relative error to draw (``error``).
    """

    where: Mapping[str, Any] = field(default_factory=dict)
    show: str | None = None
    sla_ms: float | None = None
    measured: tuple[str, ...] = ()
    measured_where: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    bound: float | None = None


def table_of(results: Results, kind: str, made_by: str, where: Mapping[str, Any]) -> Table:
    """The one table that a kind of figure needs, only the rows that are asked for."""
    if len(results) != 1 or not isinstance(results[0], Table):
        given = ", ".join(r.where for r in results)
        raise InputError(f"plot {kind}: takes one table, .parquet or .csv, not {given}; it is made by: {made_by}")
    return results[0].matching(where, made_by=made_by)


def method_of(table: Table) -> str | None:
    """What was asked at each point, where the table says."""
    method = table.metadata.get("config", {}).get("method")
    return None if method is None else str(method)


def varied(table: Table, *, but: Sequence[str]) -> list[str]:
    """Columns in which rows of a table differ by what was asked, apart from some; short names of knobs only once."""
    asked = table.metadata.get("config", {}).get("vary")
    names = list(asked) if asked else [n for n in table.columns if "." in n or n in ("model", "method", "name")]
    names += [n for n in (*KNOBS, "qps") if n in table.columns and method_of(table) not in ("max-rate", "optimize")]
    kept = []
    for name in dict.fromkeys(names):
        short = name.removeprefix("policy.")
        if (
            short not in but
            and short not in kept
            and name in table.columns
            and len(set(map(str, table.columns[name]))) > 1
        ):
            kept.append(short if short in table.columns else name)
    return kept


def refuse_more(table: Table, kind: str, *, but: Sequence[str]) -> None:
    """Refuse a table whose rows differ in more than the figure shows."""
    more = varied(table, but=but)
    if more:
        values = list(dict.fromkeys(map(shown, table.columns[more[0]])))
        some = ", ".join(values[:8]) + (" ..." if len(values) > 8 else "")
        raise InputError(
            f"{table.where}: its rows differ in {' and '.join(more)} too, which a {kind} does not show; choose with "
            f"--where {more[0]}={values[0]} (there are {some})"
        )


def sla_in(results: Results, options: Options) -> Sla | None:
    """The promise behind the results, or that of the options."""
    percentile, latency_s = 95.0, None
    for r in results:
        if isinstance(r, Saved) and "sla" in r.record:
            found = sla_of(r)
            percentile, latency_s = found.percentile, latency_s or found.latency_s
        elif isinstance(r, Table):
            block = r.metadata.get("config", {}).get("scenario", {}).get("sla") or {}
            percentile = float(block.get("percentile", percentile))
            bounds = {b for b in r.columns.get("sla.latency_ms", [block.get("latency_ms")]) if b is not None}
            if len(bounds) == 1:
                latency_s = latency_s or float(bounds.pop()) / 1e3
    if options.sla_ms is not None:
        latency_s = options.sla_ms / 1e3
    return None if latency_s is None else Sla(percentile=percentile, latency_s=latency_s)


def name_in(results: Results) -> str:
    """Scenario or model that the results are about; nothing where they differ."""
    names = set()
    for r in results:
        if isinstance(r, Saved):
            names.add(r.record.get("scenario") or r.record.get("model"))
        else:
            scenario = r.metadata.get("config", {}).get("scenario", {})
            models = set(r.columns.get("model", [scenario.get("model")]))
            names |= models
    return str(names.pop()) if len(names) == 1 and None not in names else ""


def policy_in(row: Mapping[str, Any]) -> Policy | None:
    """Policy of a row."""
    fused = row.get("max_fused_queries")
    knobs = {k: row.get(k) for k in KNOBS}
    return policy_from(knobs | {"max_fused_queries": fused if (fused or 1) > 1 else None})


def title(ax: Any, options: Options, usual: str) -> None:
    """Title of the figure, above the legend that stands above the axes."""
    text = usual if options.title is None else options.title
    if text:
        ax.figure.suptitle(text, fontsize="medium", fontweight="bold")
