"""What one machine carries, kept in a JSON file beside what it depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from recqueue.errors import InputError
from recqueue.io.tables import read_text
from recqueue.serving import PlanQuestion, Policy

if TYPE_CHECKING:
    from recqueue.optimize.plan_columns import Column


def fingerprint(question: PlanQuestion) -> str:
    """Digest of all that the columns of a question depend on: systems, sizes, promises, and whether tables fit."""
    parts = []
    for (machine, model), system in sorted(question.systems.items()):
        demand = next(d for d in question.demands if d.name == model)
        offload = (machine, model) not in question.no_offload
        parts.append(repr((machine, model, system, demand.sla, demand.sizes.pmf.tolist(), offload)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read_columns(file: str | Path, question: PlanQuestion) -> tuple[Column, ...] | None:
    """Columns from a file; None when there is no such file.

    Raises
    ------
    InputError
        When they were worked out for something else, or the file is not of that form.
    """
    from recqueue.optimize.plan_columns import Column

    path = Path(file)
    if not path.exists():
        return None
    text = read_text(path, "a file that 'recqueue plan --columns' wrote")
    try:
        record = json.loads(text)
        kept, rows = record["fingerprint"], record["columns"]
        found = tuple(Column(**{**r, "policy": None if r["policy"] is None else Policy(**r["policy"])}) for r in rows)
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: not a file that 'recqueue plan --columns' wrote; give another name") from None
    if kept != fingerprint(question):
        raise InputError(
            f"{path}: worked out for other machines, models, sizes or promises; delete it, or give another name"
        )
    return found


def write_columns(file: str | Path, question: PlanQuestion, columns: tuple[Column, ...]) -> None:
    """Write columns to a file.

    Raises
    ------
    InputError
        When it cannot be written.
    """
    record = {
        "schema": 1,
        "kind": "plan-columns",
        "fingerprint": fingerprint(question),
        "columns": [dataclasses.asdict(c) for c in columns],
    }
    try:
        Path(file).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); give a file in a folder that exists") from None
