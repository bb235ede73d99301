"""The accuracy tables of the documentation and the error map of the package, from ``studies/results/accuracy.csv``.

``python -m studies.accuracy_table`` writes ``docs/accuracy_table.inc`` and ``recqueue/data/accuracy.json``.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from studies.record import DOCS, RESULTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CSV, TABLE = RESULTS / "accuracy.csv", DOCS / "accuracy_table.inc"
HELD_OUT = RESULTS / "accuracy_held_out.csv"
MAP = Path(__file__).parents[1] / "recqueue" / "data" / "accuracy.json"
TARGETS = (("median", 50, 0.005), ("95th percentile", 95, 0.03), ("worst", 100, 0.08))
"""Of the absolute error over all scenarios that are not flagged, for p95 and for p99."""
MOST_FLAGGED = 0.05
CELLS = {"utilization": (0.3, 0.6, 0.8, 0.95), "sub_requests": (1.5, 8.0, 4096.0), "cv": (0.0, 0.3)}
"""Upper edges of the cells of the error map."""
CONTENTION_UTILIZATION = (0.3, 0.65, 0.85, 0.95)

Rows = Sequence[dict[str, str]]


def read(file: Path = CSV) -> list[dict[str, str]]:
    """Rows of a run of ``studies.accuracy``."""
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def column(rows: Rows, name: str) -> NDArray[np.float64]:
    """One column as numbers."""
    return np.array([float(r[name]) for r in rows])


def errors(rows: Rows, key: str = "p95") -> NDArray[np.float64]:
    """Absolute relative errors of the formula."""
    return np.abs(column(rows, f"{key}_error"))


def unflagged(rows: Rows) -> list[dict[str, str]]:
    """Scenarios whose percentiles no guard flags."""
    return [r for r in rows if not r["flagged"]]


def error_map(rows: Rows, contention: Rows) -> dict[str, Any]:
    """What the package ships: limits of the study, and the errors in each cell."""
    good = unflagged(rows)
    limits: dict[str, float] = {
        name: float(column(rows, source).max())
        for name, source in (
            ("cores", "cores"),
            ("batch_size", "batch_size"),
            ("max_items", "max_items"),
            ("accelerators", "accelerators"),
        )
    }
    limits |= {"utilization": CELLS["utilization"][-1], "cv": CELLS["cv"][-1]}
    slowed = []
    for a, b in itertools.pairwise((0.0, *CONTENTION_UTILIZATION)):
        here = [r for r in contention if a < float(r["load"]) <= b]
        slowed.append({"up_to": {"utilization": b}, "scenarios": len(here), "error": _error(here, ("p95",))})
    source = "python -m studies.accuracy_table"
    return {"source": source, "limits": limits, "cells": _cells(good), "contention": slowed}


def _cells(good: Rows) -> list[dict[str, Any]]:
    """Errors in each cell of the map."""
    cells, low = [], dict.fromkeys(CELLS, -1.0)
    for edges in itertools.product(*(list(itertools.pairwise((low[name], *CELLS[name]))) for name in CELLS)):
        inside = dict(zip(CELLS, edges, strict=True))
        here = [r for r in good if all(a < float(r[name]) <= b for name, (a, b) in inside.items())]
        up_to = {name: b for name, (_, b) in inside.items()}
        cells.append({"up_to": up_to, "scenarios": len(here), "error": _error(here, ("p95", "p99"))})
    return cells


def _error(rows: Rows, names: Sequence[str]) -> dict[str, dict[str, float]]:
    ranks = {"median": 50, "95": 95, "worst": 100}
    return {
        name: {label: round(float(np.percentile(errors(rows, name), rank)), 5) for label, rank in ranks.items()}
        for name in names
    }


def listing(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as reStructuredText."""
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for row in (header, *rows):
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def targets(rows: Rows) -> list[list[str]]:
    """Each target, what was found, and whether it is reached."""
    good, lines = unflagged(rows), []
    for key, (name, rank, limit) in itertools.product(("p95", "p99"), TARGETS):
        found = float(np.percentile(errors(good, key), rank))
        verdict = "reached" if found <= limit else "**missed**"
        lines.append(
            [f"{name} of the absolute error of {key}", f"<= {100 * limit:g} %", f"{100 * found:.2f} %", verdict]
        )
    share = 1 - len(good) / len(rows)
    verdict = "reached" if share <= MOST_FLAGGED else "**missed**"
    return [*lines, ["scenarios flagged", f"<= {100 * MOST_FLAGGED:g} %", f"{100 * share:.2f} %", verdict]]


GROUPS: tuple[tuple[str, Callable[[dict[str, str]], str]], ...] = (
    ("utilization", lambda r: _between(float(r["utilization"]), (0.1, 0.3, 0.6, 0.8, 0.95))),
    ("cores", lambda r: _between(float(r["cores"]), (0, 1, 4, 16, 64, 128))),
    ("sub-requests, mean", lambda r: _between(float(r["sub_requests"]), (0, 1.5, 8, 4096))),
    ("sizes", lambda r: r["sizes"]),
    ("S(b)", lambda r: r["service"]),
    ("service cv", lambda r: "0" if float(r["cv"]) == 0 else "up to 0.3"),
    ("offload", lambda r: {"True": "yes", "False": "no"}[r["offload"]]),
)


def _between(value: float, edges: Sequence[float]) -> str:
    high = int(np.searchsorted(edges[1:], value)) + 1
    return f"{edges[high - 1]:g} to {edges[high]:g}"


def text(rows: Rows, held_out: Rows) -> str:
    """The tables as reStructuredText."""
    good = unflagged(rows)
    lines = [_line("all", key, good, key) for key in ("p95", "p99", "mean")]
    for label, of in GROUPS:
        for value in sorted({of(r) for r in good}, key=lambda v: (len(v.split()), _number(v), v)):
            lines.append(_line(label, value, [r for r in good if of(r) == value]))
    worst = sorted(good, key=lambda r: -max(abs(float(r["p95_error"])), abs(float(r["p99_error"]))))[:8]
    return "\n".join(
        [
            ".. made by python -m studies.accuracy_table; do not edit",
            "",
            listing(f"Targets over {len(rows)} scenarios", ["figure", "target", "found", ""], targets(rows)),
            listing(
                f"The same over {len(held_out)} scenarios drawn after the formula and its guards were settled",
                ["figure", "target", "found", ""],
                targets(held_out),
            ),
            listing(
                "Absolute error of the formula, and half-width of the simulated 95 % interval, in per cent (of p95 "
                "unless it says otherwise), where no guard flags the scenario",
                ["", "", "scenarios", "median", "95th percentile", "worst", "half-width, median", "half-width, worst"],
                lines,
            ),
            listing(
                "The eight largest errors",
                ["cores", "batch size", "utilization", "sizes", "S(b)", "cv", "offload from", "p95: formula (ms)",
                 "simulated (ms)", "error (%)", "half-width (%)", "p99: error (%)", "half-width (%)"],
                [_scenario(r) for r in worst],
            ),
        ]
    )  # fmt: skip


def _number(label: str) -> float:
    first = label.split()[0]
    return float(first) if first.replace(".", "").isdigit() else 0.0


def _line(label: str, value: str, rows: Rows, key: str = "p95") -> list[str]:
    e, half = errors(rows, key), column(rows, f"{key}_half_width")
    figures = (np.median(e), np.percentile(e, 95), e.max(), np.median(half), half.max())
    return [label, value, str(len(rows)), *(f"{100 * x:.2f}" for x in figures)]


def _scenario(r: dict[str, str]) -> list[str]:
    named = [r["cores"], r["batch_size"], f"{float(r['rho']):.2f}", r["sizes"], r["service"], f"{float(r['cv']):.2f}"]
    numbers = [f"{float(r['p95_formula_ms']):.3f}", f"{float(r['p95_simulated_ms']):.3f}"]
    for key in ("p95", "p99"):
        numbers += [f"{100 * float(r[f'{key}_error']):+.2f}", f"{100 * float(r[f'{key}_half_width']):.2f}"]
    return [*named, r["offload_from"] or "never", *numbers]


def draw(rows: Rows, axes: Sequence[Axes]) -> None:
    """Draw the error map: 95th percentile of the absolute error of p95 and of p99, and the scenarios in each cell."""
    from recqueue.plotting.errors import error_map as draw_map

    cells = _cells(unflagged(rows))
    for ax, key in zip(axes, ("p95", "p99"), strict=True):
        draw_map(ax, cells, key)


def write() -> None:
    """Renew the tables in the documentation and the map in the package."""
    rows = read()
    TABLE.write_text(text(rows, read(HELD_OUT)))
    MAP.write_text(json.dumps(error_map(rows, read(RESULTS / "contention.csv")), indent=1) + "\n")


if __name__ == "__main__":
    write()
