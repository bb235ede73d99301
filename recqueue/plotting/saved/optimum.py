"""The best policy against the bound on the latency, from a sweep with method optimize."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recqueue.errors import InputError
from recqueue.plotting.optimum import optimum_by_sla
from recqueue.plotting.saved.options import KNOBS, Options, Results, refuse_more, sla_in, table_of, title
from recqueue.plotting.style import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MADE_BY = (
    "recqueue sweep SCENARIO --vary model=dlrm-rmc1,ncf --vary sla.latency_ms=5..200:log10 --method optimize "
    "--out FILE.parquet"
)


def optimum(results: Results, options: Options) -> Figure:
    """Rate, batch size and threshold of the optimum against the bound, a line for each model."""
    table = table_of(results, "optimum", MADE_BY, options.where)
    models, sla = table.values("model", made_by=MADE_BY), table.numbers("sla.latency_ms", made_by=MADE_BY)
    refuse_more(table, "figure of the optimum", but=("model", "sla.latency_ms", "qps", *KNOBS))
    columns = {n: table.numbers(n, made_by=MADE_BY) for n in ("qps", "batch_size", "offload_threshold")}
    if len(set(models)) > len(COLOURS):
        raise InputError(f"{table.where}: {len(set(models))} models; at most {len(COLOURS)} can be told apart")
    answers = {}
    for model in dict.fromkeys(models):
        mine = np.flatnonzero([m == model for m in models])
        order = mine[np.argsort(sla[mine])]
        answers[str(model)] = {"sla_ms": sla[order], **{n: c[order] for n, c in columns.items()}}
    figure, axes = new_figure(3, 1, height_in=7.4, sharex=True)
    promise = sla_in(results, options)
    optimum_by_sla(figure, axes, answers, percentile=promise.percentile if promise else 95)
    title(axes[0], options, "")
    return figure
