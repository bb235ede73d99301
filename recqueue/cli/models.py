"""``recqueue models``: the models, and what their operators cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recqueue.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from recqueue.models import Model
    from recqueue.models.costs import Cost

_PICTURES = (".pdf", ".png", ".svg")


@click.command("models")
@click.argument("name", required=False)
@click.option("--variants", is_flag=True, help="List the variants of the models as well.")
@click.option("--batch-size", type=int, default=64, show_default=True, help="Items for the numeric columns.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the operators into this file (pdf, png or svg).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def models(name: str | None, variants: bool, batch_size: int, plot: Path | None, as_json: bool) -> None:
    """List the models, or show the operators of one with their costs.

    NAME is a model such as dlrm-rmc1. Costs are formulas in the batch size b and their values at --batch-size;
    operators that differ only in their embedding table share a row, and the row holds the cost of all of them.
    """
    from recqueue import models as catalog

    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size}; it must be a whole number of 1 or more")
    if name is None:
        if plot is not None:
            raise InputError(
                "--plot needs the name of one model, for example: recqueue models dlrm-rmc1 --plot dag.svg"
            )
        found = [catalog.get(known) for known in catalog.names(include_variants=variants)]
        if as_json:
            click.echo(json.dumps({"schema": 1, "kind": "models", "models": [_totals(m) for m in found]}, indent=2))
        else:
            _print(_list(found))
            if not variants:
                click.echo("Variants (as published, or Table I of the paper): recqueue models --variants")
        return
    model = catalog.get(name)
    if plot is not None:
        _draw(model, plot)
    if as_json:
        click.echo(json.dumps(_record(model, batch_size), indent=2))
        return
    click.echo(f"{model.title} ({model.name}): {model.description}")
    click.echo(f"Sizes: {'' if model.verified else 'UNVERIFIED. '}{model.source}")
    for note in model.notes:
        click.echo(f"Note: {note}")
    _print(_operators(model, batch_size))
    click.echo(
        f"One item: {model.mac_per_item:,} multiply-accumulates "
        f"({', '.join(f'{part} {n:,}' for part, n in model.mac_by_part.items())}), {model.lookups_per_item:,} lookups, "
        f"{model.embedding_bytes_read_per_item:,} bytes of embeddings, {model.feed_bytes_per_item:,} bytes of input"
    )
    click.echo(
        f"Memory: {model.table_storage_bytes / 1e9:.3f} GB of tables, {model.mlp_parameters:,} parameters outside them"
    )
    if plot is not None:
        click.echo(f"Drawn: {plot}")


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    # a table in a file or a pipe keeps its rows on one line each
    console.print(table) if console.is_terminal else Console(width=max(console.width, 170)).print(table)


def _list(found: list[Model]) -> Table:
    from rich.table import Table

    table = Table("model", title="Models, costs of one item", title_justify="left")
    for column in ("MAC", "MLP parameters", "lookups", "embedding bytes", "input bytes", "tables GB", "operators"):
        table.add_column(column, justify="right")
    for m in found:
        table.add_row(
            m.name + ("" if m.verified else " (unverified)"),
            *(f"{n:,}" for n in (m.mac_per_item, m.mlp_parameters, m.lookups_per_item)),
            *(f"{n:,}" for n in (m.embedding_bytes_read_per_item, m.feed_bytes_per_item)),
            f"{m.table_storage_bytes / 1e9:.3f}",
            f"{len(m.operators):,}",
        )
    return table


def _operators(model: Model, batch_size: int) -> Table:
    from rich.table import Table

    from recqueue.models.costs import b
    from recqueue.models.roles import roles

    table = Table(title="Operators in running order", title_justify="left")
    for column in ("operator", "kind", "size"):
        table.add_column(column, overflow="fold")
    for column in ("FLOPs", "bytes read", "bytes written"):
        table.add_column(column, justify="right")
        table.add_column(f"at b = {batch_size:,}", justify="right")

    def cells(cost: Cost) -> list[str]:
        expressions = (cost.flops, cost.bytes_read, cost.bytes_written)
        return [cell for e in expressions for cell in (_words(e), f"{int(e.subs(b, batch_size)):,}")]

    for role in roles(model):
        times = f" ×{role.count}" if role.count > 1 else ""
        table.add_row(role.name + times, role.kind, role.shape, *cells(role.cost))
    table.add_section()
    table.add_row("total", "", f"{len(model.operators):,} operators", *cells(model.cost))
    return table


def _words(expression: Any) -> str:
    """Write 8224*b + 33024 as ``8,224 b + 33,024``; the expressions are lines in b."""
    from recqueue.models.costs import b

    slope, constant = int(expression.coeff(b, 1)), int(expression.coeff(b, 0))
    terms = ([f"{slope:,} b"] if slope else []) + ([f"{constant:,}"] if constant else [])
    return " + ".join(terms) or "0"


def _totals(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "title": model.title,
        "description": model.description,
        "verified": model.verified,
        "source": model.source,
        "notes": list(model.notes),
        "operator_counts": {str(kind): n for kind, n in model.operator_counts.items()},
        "mac_per_item": model.mac_per_item,
        "mac_by_part": model.mac_by_part,
        "mlp_parameters": model.mlp_parameters,
        "lookups_per_item": model.lookups_per_item,
        "embedding_bytes_read_per_item": model.embedding_bytes_read_per_item,
        "feed_bytes_per_item": model.feed_bytes_per_item,
        "table_storage_bytes": model.table_storage_bytes,
    }


def _record(model: Model, batch_size: int) -> dict[str, Any]:
    from recqueue.models.costs import b, cost_of

    def values(cost: Cost) -> dict[str, Any]:
        return {
            key: {"expression": str(e), "value": int(e.subs(b, batch_size))}
            for key, e in (
                ("flops", cost.flops),
                ("bytes_read", cost.bytes_read),
                ("bytes_written", cost.bytes_written),
            )
        }

    operators = [
        {"name": op.name, "kind": str(op.kind), "part": op.part, "role": op.role, "sizes": dict(op.sizes)}
        | {"inputs": list(op.inputs), "after": list(op.after)}
        | values(cost_of(op))
        for op in model.operators
    ]
    head = {"schema": 1, "kind": "model", "batch_size": batch_size}
    return head | _totals(model) | {"total": values(model.cost), "operators": operators}


def _draw(model: Model, path: Path) -> None:
    if path.suffix.lower() not in _PICTURES:
        raise InputError(f"--plot {path}: the ending says the format; allowed: {', '.join(_PICTURES)}")
    from recqueue.plotting.dag import model_figure

    try:
        model_figure(model).savefig(path, dpi=150)
    except OSError as error:
        raise InputError(f"--plot {path}: cannot be written ({error.strerror or error})") from error
