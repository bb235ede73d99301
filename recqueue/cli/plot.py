"""``recqueue plot``: figures of saved results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from recqueue.cli.questions import _share
from recqueue.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {
    "heatmap": "batch size by offload threshold, from a sweep over both",
    "latency": "latency against the rate, from a sweep over qps or records of evaluate and simulate",
    "pareto": "queries/s against queries/s per W, or p95, from a Pareto record or a sweep over policies",
    "optimum": "the best policy against the SLA, from a sweep over model and sla.latency_ms with method optimize",
    "error": "error of the formulas (the packaged map, or studies/results/accuracy.csv), or a record of compare",
    "breakdown": "wait, service and stragglers, from records of simulate",
}


@click.command(
    epilog="Kinds: " + "; ".join(f"{name}: {text}" for name, text in KINDS.items()) + ".",
)
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("result", nargs=-1)
@click.option("--out", required=True, metavar="FILE", help="The picture: png, svg or pdf, by its ending.")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only rows of a table with this value.")
@click.option("--show", metavar="NAME", help="Column or latency to show, such as p99_s, mean or utilization_cpu.")
@click.option("--sla", "sla_ms", type=float, metavar="MS", help="Bound to draw, instead of that of the results.")
@click.option("--measured", multiple=True, metavar="CSV", help="latency: measured runs to draw on top; repeatable.")
@click.option("--measured-where", multiple=True, metavar="COLUMN=VALUE", help="Only measured rows with this value.")
@click.option("--bound", callback=_share, metavar="PERCENT", help="error: largest error, drawn as a line.")
@click.option("--title", metavar="TEXT", help="Instead of the usual one; '' for none.")
def plot(
    kind: str,
    result: tuple[str, ...],
    out: str,
    where: tuple[str, ...],
    show: str | None,
    sla_ms: float | None,
    measured: tuple[str, ...],
    measured_where: tuple[str, ...],
    bound: float | None,
    title: str | None,
) -> None:
    """Draw saved RESULTs: tables of sweep (Parquet, or CSV with the same columns) or JSON records.

    Nothing is computed: a picture shows what its files hold, and says in one line what they lack.
    """
    from recqueue.cli.compare import columns
    from recqueue.plotting.saved import Options, figure
    from recqueue.plotting.style import save

    if measured and kind != "latency":
        raise InputError(
            f"--measured is for the kind 'latency'; 'recqueue compare {measured[0]} RESULT' has the errors"
        )
    options = Options(
        where=columns(where),
        show=show,
        sla_ms=sla_ms,
        measured=measured,
        measured_where=columns(measured_where, "--measured-where"),
        title=title,
        bound=bound,
    )
    save(figure(kind, result, options), out)
    click.echo(f"picture: {out}")


def save_comparison(record: Mapping[str, Any], file: str) -> None:
    """Draw a record of ``recqueue compare``."""
    from recqueue.plotting.saved import comparison
    from recqueue.plotting.style import save

    drawn: Figure = comparison(record)
    save(drawn, file)
