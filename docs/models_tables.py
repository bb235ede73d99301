"""Write docs/models_tables.inc, the tables of the page on models, from the models themselves.

Run ``python docs/models_tables.py`` after a change to recqueue/models; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import sympy as sp

from recqueue.models import SIZES, Kind, get, names
from recqueue.models.costs import kind_cost
from recqueue.models.roles import roles

TARGET = Path(__file__).with_name("models_tables.inc")
SYMBOLS = {
    "width": "w", "steps": "t", "in_width": "m", "out_width": "n", "inputs": "k", "rows": "r", "dim": "d",
    "lookups": "l", "hidden": "h", "table": "i",
}  # fmt: skip


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a list-table."""
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join(lines)


def totals(found: Sequence[str], title: str) -> str:
    """Return the table of totals of one item."""
    header = ("model", "MAC", "of which", "parameters outside tables", "lookups", "embedding bytes", "input bytes",
              "tables (GB)", "operators")  # fmt: skip
    rows = []
    for m in map(get, found):
        parts = ", ".join(f"{part} {n:,}" for part, n in m.mac_by_part.items())
        numbers = (m.mlp_parameters, m.lookups_per_item, m.embedding_bytes_read_per_item, m.feed_bytes_per_item)
        storage, count = f"{m.table_storage_bytes / 1e9:.3f}", f"{len(m.operators):,}"
        rows.append((f"``{m.name}``", f"{m.mac_per_item:,}", parts, *(f"{n:,}" for n in numbers), storage, count))
    return table(title, header, rows)


def formulas() -> str:
    """Return the table of what each kind of operator costs."""
    rows = []
    for kind in Kind:
        sizes = {key: sp.Symbol(SYMBOLS[key], positive=True) for key in SIZES[kind]}
        cost = kind_cost(kind, sizes)
        used = (cost.macs, cost.flops, cost.bytes_read, cost.bytes_written, cost.parameters)
        words = ", ".join(f":math:`{SYMBOLS[k]}` {k.replace('_', ' ')}" for k in SIZES[kind] if k != "table")
        rows.append((str(kind), words, *(f":math:`{sp.latex(sp.factor_terms(sp.expand(e)))}`" for e in used)))
    header = ("operator", "sizes", "MAC", "FLOPs", "bytes read", "bytes written", "parameters")
    return table("Cost of an operator on a batch of :math:`b` items", header, rows)


def operators(name: str) -> str:
    """Return the table of the operators of one model."""
    model = get(name)
    rows = [
        (f"``{role.name}``", str(role.count), str(role.kind), role.shape, *(
            f":math:`{sp.latex(e)}`" for e in (role.cost.flops, role.cost.bytes_read, role.cost.bytes_written)
        ))
        for role in roles(model)
    ]  # fmt: skip
    header = ("operator", "times", "kind", "size", "FLOPs", "bytes read", "bytes written")
    return table(f"{model.title}: {model.description}", header, rows)


def notes(found: Sequence[str]) -> str:
    """Return what a reader should know about each model."""
    lines = []
    for model in map(get, found):
        lines += [f"``{model.name}``", *(f"   {note}" for note in (f"{model.source}.", *model.notes)), ""]
    return "\n".join(lines).rstrip()


def sections() -> dict[str, str]:
    """Return the pieces of the page by the label with which models.rst includes them."""
    defaults, variants = names(), [n for n in names(include_variants=True) if n not in names()]
    return {
        "totals": totals(defaults, "The eight models, one item"),
        "variants": totals(variants, "Variants, one item (those of Table I are unverified)"),
        "formulas": formulas(),
        "operators": "\n\n".join(operators(name) for name in defaults),
        "notes": notes(defaults),
        "variant-notes": notes(variants),
    }


def render() -> str:
    """Return the whole file."""
    head = ".. Written by docs/models_tables.py; do not edit.\n"
    return head + "".join(f"\n.. begin {label}\n\n{text}\n\n.. end {label}\n" for label, text in sections().items())


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
