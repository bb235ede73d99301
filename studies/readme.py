"""The numbers in ``README.md``, each from the command or the file that makes it.

``python -m studies.readme`` runs ``recqueue optimize dlrm-rmc1`` and replaces what stands between the markers
``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np

from studies import accuracy_table, eight_models
from studies.record import DOCS

README = DOCS.parent / "README.md"
COMMAND = ("optimize", "dlrm-rmc1")


def optimize_block() -> str:
    """What the command prints, 114 columns wide."""
    environment = {**os.environ, "COLUMNS": "114", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "recqueue", *COMMAND]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    body = "\n".join(line.rstrip() for line in out.strip().splitlines())
    return f"```console\n$ recqueue {' '.join(COMMAND)}\n{body}\n```"


def models_block() -> str:
    """The table of the eight models."""
    rows = [eight_models.cells(r) for r in accuracy_table.read(eight_models.CSV)]
    lines = [eight_models.HEADER, ["---"] * len(eight_models.HEADER), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def accuracy_block() -> str:
    """The errors of the formulas in one sentence."""
    every = accuracy_table.read()
    rows = accuracy_table.unflagged(every)
    e, half = accuracy_table.errors(rows), accuracy_table.column(rows, "p95_half_width")
    return (
        f"Over {len(every):,} random scenarios the formula's p95 differs from the simulated one by "
        f"{100 * np.median(e):.2f} %\n"
        f"in the median, {100 * np.percentile(e, 95):.1f} % at the 95th percentile and {100 * e.max():.1f} % at worst "
        f"(half-width of the\nsimulated 95 % intervals: {100 * np.median(half):.1f} % in the median, "
        f"{100 * half.max():.1f} % at most),\nleaving out the {100 * (1 - len(rows) / len(every)):.1f} % that the "
        "formula itself flags."
    )


def replace_block(text: str, name: str, body: str) -> str:
    """``text`` with the block between the markers of ``name`` replaced."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"{README.name}: the markers '{begin}' and '{end}' must occur once, in this order")
    return pattern.sub(lambda _: f"{begin}\n{body}\n{end}", text)


def from_files(text: str) -> str:
    """``text`` with the blocks that come from committed results renewed."""
    return replace_block(replace_block(text, "models", models_block()), "accuracy", accuracy_block())


def main() -> None:
    """Renew the README."""
    README.write_text(from_files(replace_block(README.read_text(), "optimize", optimize_block())))


if __name__ == "__main__":
    main()
