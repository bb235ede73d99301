"""What a study keeps beside its numbers, so that they can be made again."""

from __future__ import annotations

import csv
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
"""Full-size results, committed."""
DOCS = Path(__file__).parents[1] / "docs"


def versions() -> dict[str, str]:
    """Of Python and of what the numbers depend on."""
    return {"python": platform.python_version(), **{n: _version(n) for n in ("recqueue", "numpy", "scipy", "numba")}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout
        return "not installed"


def save_record(file: Path, command: str, **facts: Any) -> None:
    """Write ``facts`` to a JSON file with the command, the versions and the number of CPUs."""
    record = {"command": command, "versions": versions(), "cpus": os.cpu_count(), **facts}
    file.write_text(json.dumps(record, indent=2) + "\n")


def write_rows(file: Path, rows: Sequence[Mapping[str, object]], digits: int) -> None:
    """Write rows as CSV, floats with so many significant digits; a row may lack columns that others have."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with file.open("w", newline="") as f:
        writer = csv.DictWriter(f, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.{digits}g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def read_rows(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with file.open(newline="") as f:
        return list(csv.DictReader(f))


def command_line(module: str) -> str:
    """The command that runs now, as one would type it."""
    return " ".join(["python -m", module, *sys.argv[1:]])
