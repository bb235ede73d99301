"""Print a table of timings and write benchmarks/results.json."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.cases import CASES
from benchmarks.timing import measure

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Time every case and show it."""
    rows = [measure(case) for group in CASES for case in group()]
    table = Table("operation", "median", "range", "reference", "its median", "ratio", "limit")
    for r in rows:
        limit = "" if r["limit_s"] is None else f"{r['limit_s']} s {'kept' if r['within_limit'] else 'MISSED'}"
        table.add_row(
            str(r["name"]),
            f"{r['median_s']:.4f} s",
            f"{r['fastest_s']:.4f}..{r['slowest_s']:.4f}",
            str(r["reference"]),
            f"{r['reference_s']:.4f} s",
            f"{r['ratio']:.2f}",
            limit,
        )
    Console(width=120).print(table)
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    packages = {name: version(name) for name in ("recqueue", "numpy", "scipy", "numba")}
    record = {"schema": 1, "machine": machine, "packages": packages, "cases": rows}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
