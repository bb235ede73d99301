"""Time everything, print tables, and renew the committed results and the tables of the documentation.

``python -m benchmarks answers`` or ``speed`` renews one of the two.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import speed, tables
from benchmarks.cases import CASES
from benchmarks.scaling import machine
from benchmarks.timing import measure

RESULTS = Path(__file__).with_name("results")


def answers() -> dict[str, object]:
    """Every case, against its reference."""
    packages = {name: version(name) for name in ("recqueue", "numpy", "scipy", "numba")}
    return {"packages": packages, "rows": [measure(case) for group in CASES for case in group()]}


PARTS: dict[str, Callable[[], dict[str, object]]] = {"answers": answers, "speed": speed.measure}


def main() -> None:
    """Time every case and show it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to time; all of it by default")
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; give {' or '.join(PARTS)}")
    where = machine()
    RESULTS.mkdir(exist_ok=True)
    for name in parts:
        text = json.dumps({"schema": 1, "machine": where, **PARTS[name]()}, indent=1)
        (RESULTS / f"{name}.json").write_text(text + "\n")
    tables.write()
    for name, (header, rows) in tables.tables().items():
        shown = Table(*header, title=name)
        for row in rows:
            shown.add_row(*row)
        Console(width=120).print(shown)


if __name__ == "__main__":
    main()
