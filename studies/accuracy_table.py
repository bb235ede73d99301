"""The accuracy table of the documentation, from ``studies/results/accuracy.csv``.

``python -m studies.accuracy_table`` writes ``docs/accuracy_table.inc``.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from studies.record import DOCS, RESULTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CSV, TABLE = RESULTS / "accuracy.csv", DOCS / "accuracy_table.inc"
TARGETS = (("median", 50, 0.01), ("95th percentile", 95, 0.06))
"""Of the absolute error of p95 over all scenarios."""
FACTORS = {
    "cores": "cores",
    "batch_size": "batch size",
    "rho": "utilization",
    "sizes": "sizes",
    "cv": "service cv",
    "offload": "offload",
}

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


def listing(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as reStructuredText."""
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for row in (header, *rows):
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def _line(label: str, value: str, rows: Rows, key: str = "p95") -> list[str]:
    e, half = errors(rows, key), column(rows, f"{key}_half_width")
    figures = (np.median(e), np.percentile(e, 95), e.max(), half.mean(), half.max())
    return [label, value, str(len(rows)), *(f"{100 * x:.2f}" for x in figures)]


def text(rows: Rows) -> str:
    """The tables as reStructuredText."""
    e = errors(rows)
    targets = [
        [
            f"{name} of the absolute error of p95",
            f"<= {100 * limit:g} %",
            f"{100 * np.percentile(e, rank):.2f} %",
            "reached" if np.percentile(e, rank) <= limit else "**missed**",
        ]
        for name, rank, limit in TARGETS
    ]
    groups = [_line("all", key, rows, key) for key in ("p95", "p99", "mean")]
    for factor, label in FACTORS.items():
        for value in dict.fromkeys(r[factor] for r in rows):
            shown = {"True": "yes", "False": "no"}.get(value, value)
            groups.append(_line(label, shown, [r for r in rows if r[factor] == value]))
    worst = [
        [
            *(rows[i][f] for f in ("cores", "batch_size", "rho", "sizes", "cv")),
            rows[i]["offload_from"] or "never",
            f"{float(rows[i]['p95_formula_ms']):.3f}",
            f"{float(rows[i]['p95_simulated_ms']):.3f}",
            f"{100 * float(rows[i]['p95_error']):+.2f}",
            f"{100 * float(rows[i]['p95_half_width']):.2f}",
        ]
        for i in np.argsort(-e, kind="stable")[:5]
    ]
    return "\n".join(
        [
            ".. made by python -m studies.accuracy_table; do not edit",
            "",
            listing(f"Targets over {len(rows)} scenarios", ["figure", "target", "found", ""], targets),
            listing(
                "Absolute error of the formula, and half-width of the simulated 95 % interval, in per cent (of p95 "
                "unless it says otherwise)",
                ["", "", "scenarios", "median", "95th percentile", "worst", "half-width, mean", "half-width, worst"],
                groups,
            ),
            listing(
                "The five largest errors of p95",
                ["cores", "batch size", "utilization", "sizes", "cv", "offload from", "formula (ms)", "simulated (ms)",
                 "error (%)", "half-width (%)"],
                worst,
            ),
        ]
    )  # fmt: skip


def draw(rows: Rows, ax: Axes) -> None:
    """Signed error of p95, one dot for each scenario, by utilization and query sizes; the target of 6 % shaded."""
    groups = list(dict.fromkeys((r["rho"], r["sizes"]) for r in rows))
    for place, (rho, size) in enumerate(groups):
        here = [r for r in rows if (r["rho"], r["sizes"]) == (rho, size)]
        for offload, colour, side in (("False", "tab:blue", -0.17), ("True", "tab:orange", 0.17)):
            e = 100 * column([r for r in here if r["offload"] == offload], "p95_error")
            x = place + side + np.linspace(-0.13, 0.13, len(e))
            label = {"False": "cores alone", "True": "with an accelerator"}[offload]
            ax.plot(x, e, ".", color=colour, label=label if place == 0 else None)
    limit = 100 * TARGETS[1][2]
    ax.axhspan(-limit, limit, color="0.92", zorder=0, label=f"target for 95 % of the scenarios: ±{limit:g} %")
    ax.axhline(0, color="0.4", lw=0.8)
    ax.set_xticks(range(len(groups)), [f"{size}\n{rho}" for rho, size in groups], fontsize="small")
    ax.set_xlabel("query sizes and utilization")
    ax.set_ylabel("error of the formula's p95 (%)")
    ax.legend(fontsize="small")


def write() -> None:
    """Renew the table in the documentation."""
    TABLE.write_text(text(read()))


if __name__ == "__main__":
    write()
