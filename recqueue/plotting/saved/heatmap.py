"""Batch size by offload threshold, from a sweep over both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.io.results import Table
from recqueue.plotting.heatmap import RATE_LABEL, policy_heatmap
from recqueue.plotting.saved.options import (
    Options,
    Results,
    method_of,
    name_in,
    refuse_more,
    sla_in,
    table_of,
    title,
)
from recqueue.plotting.style import new_figure
from recqueue.serving import Policy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MADE_BY = (
    "recqueue sweep SCENARIO --vary policy.batch_size=1..1024:log2 --vary policy.offload_threshold=100,300,500,null "
    "--method max-rate --out FILE.parquet"
)
NEAR = 0.05
UNITS = {"_s": "(ms)", "power_w": "(W)", "qps": "(queries/s)"}


def heatmap(results: Results, options: Options) -> Figure:
    """Largest rate of each policy, or with one rate its percentile; the SLA's region and the optimum marked."""
    table = table_of(results, "heatmap", MADE_BY, options.where)
    batches, thresholds = (table.values(name, made_by=MADE_BY) for name in ("batch_size", "offload_threshold"))
    refuse_more(table, "heat map", but=("batch_size", "offload_threshold", "qps", "max_fused_queries"))
    sla = sla_in(results, options)
    rates = {q for q in table.values("qps", made_by=MADE_BY) if q is not None}
    asked = options.show or ("qps" if method_of(table) in ("max-rate", "optimize") or len(rates) > 1 else None)
    name = asked or f"p{sla.percentile if sla else 95:g}_s"
    meets = _meets(table, options)
    by_rate = name == "qps"
    if by_rate:
        value = np.where(meets, table.numbers("qps"), np.nan)
    else:
        value = table.numbers(name, made_by=MADE_BY) * (1e3 if name.endswith("_s") else 1.0)
        if len(rates) > 1:
            one = f"{min(rates):g}"
            raise InputError(
                f"{table.where}: {name} at {len(rates)} rates; choose with --where qps={one}, or --show qps"
            )
    x = sorted({int(b) for b in batches if b is not None})
    y = [*sorted({int(t) for t in thresholds if t is not None}), *([None] if None in thresholds else [])]
    grid, feasible = _gridded(x, y, batches, thresholds, value, meets)
    if not np.isfinite(grid).any():
        raise InputError(f"{table.where}: no row has a finite {name}; nothing to draw")
    best = _best(x, y, np.where(feasible, grid, np.nan), largest=by_rate)
    near = None
    if by_rate and best is not None:
        near = grid >= (1 - NEAR) * np.nanmax(grid)
    figure, ax = new_figure(height_in=4.6)
    label = RATE_LABEL if by_rate else _label(name, rates)
    policy_heatmap(ax, x, y, grid, label=label, feasible=feasible if not feasible.all() else None,
                   near_optimum=near, optimum=best, small_is_good=not by_rate,
                   largest=2e3 * sla.latency_s if sla and name.endswith("_s") else None,
                   nothing="no rate keeps the SLA" if by_rate else "no steady state")  # fmt: skip
    promise = f", p{sla.percentile:g} <= {sla.latency_s * 1e3:g} ms" if sla else ""
    title(ax, options, f"{name_in(results)}{promise}".strip(", "))
    return figure


def _label(name: str, rates: set[Any]) -> str:
    at = f" at {next(iter(rates)):,.0f} queries/s" if rates else ""
    if name.endswith("_s"):
        return f"{name.removesuffix('_s')} latency (ms){at}"
    return f"{name.replace('_', ' ')} {UNITS.get(name, '')}".strip() + at


def _meets(table: Table, options: Options) -> NDArray[np.bool_]:
    """Which rows keep the SLA: by the column, or by the bound that was asked for."""
    if options.sla_ms is not None and "p95_s" in table.columns:
        return np.nan_to_num(table.numbers("p95_s"), nan=np.inf) * 1e3 <= options.sla_ms
    if "meets_sla" in table.columns:
        return np.array([v is not None and bool(v) for v in table.columns["meets_sla"]])
    return np.nan_to_num(table.numbers("qps", made_by=MADE_BY)) > 0


def _gridded(
    x: list[int], y: list[Any], batches: list[Any], thresholds: list[Any], value: NDArray[np.float64],
    meets: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:  # fmt: skip
    """Values by threshold and batch size; of several rates the largest that has one."""
    grid, feasible = np.full((len(y), len(x)), np.nan), np.zeros((len(y), len(x)), dtype=bool)
    column, line = {b: j for j, b in enumerate(x)}, {t: i for i, t in enumerate(y)}
    for b, t, v, m in zip(batches, thresholds, value, meets, strict=True):
        if b is None:
            continue
        at = line[None if t is None else int(t)], column[int(b)]
        grid[at] = v if np.isnan(grid[at]) else np.nanmax([grid[at], v])
        feasible[at] |= bool(m)
    return grid, feasible


def _best(x: list[int], y: list[Any], grid: NDArray[np.float64], *, largest: bool) -> Policy | None:
    finite = np.where(np.isfinite(grid), grid, -np.inf if largest else np.inf)
    i, j = np.unravel_index(int(finite.argmax() if largest else finite.argmin()), grid.shape)
    return Policy(x[j], y[i]) if np.isfinite(finite[i, j]) else None
