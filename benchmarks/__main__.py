"""Time everything, print tables, and renew the committed results and the tables of the documentation."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import speed, tables
from benchmarks.cases import CASES
from benchmarks.scaling import machine
from benchmarks.timing import measure

RESULTS = Path(__file__).with_name("results")


def main() -> None:
    """Time every case and show it."""
    where = machine()
    answers = [measure(case) for group in CASES for case in group()]
    packages = {name: version(name) for name in ("recqueue", "numpy", "scipy", "numba")}
    RESULTS.mkdir(exist_ok=True)
    for name, record in (("answers", {"packages": packages, "rows": answers}), ("speed", speed.measure())):
        text = json.dumps({"schema": 1, "machine": where, **record}, indent=1)
        (RESULTS / f"{name}.json").write_text(text + "\n")
    tables.write()
    for name, (header, rows) in tables.tables().items():
        shown = Table(*header, title=name)
        for row in rows:
            shown.add_row(*row)
        Console(width=120).print(shown)


if __name__ == "__main__":
    main()
