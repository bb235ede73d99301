"""Rate against energy or latency, from a Pareto record or a sweep over policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recqueue.errors import InputError
from recqueue.io.results import Saved
from recqueue.plotting.pareto import pareto_front
from recqueue.plotting.saved.options import Options, Results, name_in, policy_in, sla_in, table_of, title
from recqueue.plotting.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MADE_BY = (
    "recqueue sweep SCENARIO --vary policy.batch_size=1..1024:log2 --vary policy.offload_threshold=100,300,500,null "
    "--method max-rate --out FILE.parquet"
)


def pareto(results: Results, options: Options) -> Figure:
    """Queries/s against queries/s per W (``show`` "qps_per_w", the usual one) or a latency ("p95_s")."""
    sla, record = sla_in(results, options), results[0].record if isinstance(results[0], Saved) else {}
    by_latency = record.get("against") == "latency"
    show = options.show or (f"p{sla.percentile if sla else 95:g}_s" if by_latency else "qps_per_w")
    if len(results) == 1 and isinstance(results[0], Saved):
        rows = _points(results[0])
        source = results[0].where
    else:
        table = table_of(results, "pareto", MADE_BY, options.where)
        table.values("qps", made_by=MADE_BY)
        for name in ("power_w",) if show == "qps_per_w" else (show,):
            table.values(name, made_by=MADE_BY)
        rows, source = [r for r in table.rows() if r.get("meets_sla") in (True, None) and r["qps"]], table.where
    if show == "qps_per_w":
        y = [r.get("qps_per_w") or (r["qps"] / r["power_w"] if r.get("power_w") else np.nan) for r in rows]
    elif rows and show not in rows[0]:
        raise InputError(f"{source}: its points have no {show}; they have {', '.join(rows[0])}")
    else:
        y = [np.nan if r.get(show) is None else 1e3 * r[show] for r in rows]
    figure, ax = new_figure()
    bound = sla.latency_s * 1e3 if sla and show == f"p{sla.percentile:g}_s" else None
    pareto_front(
        ax,
        [r["qps"] for r in rows],
        y,
        [_name(r) for r in rows],
        quantity="qps_per_w" if show == "qps_per_w" else "latency",
        y_label="queries/s per W" if show == "qps_per_w" else f"{show.removesuffix('_s')} latency (ms)",
        bound=bound,
        bound_label=f"SLA: p{sla.percentile:g} <= {bound:g} ms" if sla and bound else "",
    )
    proof = ""
    if "exact" in record:
        proof = "proved" if record["exact"] else f"not proved: {record.get('left_open', 0):,} policies left open"
    title(ax, options, ", ".join(part for part in (name_in(results), proof) if part))
    return figure


def _points(saved: Saved) -> Sequence[Mapping[str, Any]]:
    if saved.kind != "pareto":
        raise InputError(f"{saved.where}: a record of kind {saved.kind!r}; this figure takes kind 'pareto', or a sweep")
    points: Sequence[Mapping[str, Any]] = saved.need("points")
    if not points:
        raise InputError(f"{saved.where}: no points in it: no policy keeps the SLA")
    return points


def _name(row: Mapping[str, Any]) -> str:
    policy = policy_in(row.get("policy") or row)
    return str(policy) if policy else ""
