"""The numbers in ``README.md``, each from the command or the file that makes it.

``python -m studies.readme`` runs ``recqueue optimize dlrm-rmc1`` and replaces what stands between the markers
``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np

from studies import accuracy_table, eight_models, live_rounds, live_server
from studies.record import DOCS, RESULTS

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


def reality_block() -> str:
    """The errors on two live servers in three sentences."""
    found = json.loads(live_server.RECORD.read_text(encoding="utf-8"))
    formula, known = (found["held_out"][way] for way in ("still", "own_speed"))
    carried = [c["picked_qps"] / c["best_qps"] for c in found["choices"]]
    runs = found["ledger"]["all"]["runs"]
    second = json.loads(live_rounds.RECORD.read_text(encoding="utf-8"))["held_out"]
    on_second = [
        f"{100 * second[way]['p95']['median']:.1f} %, {100 * second[way]['p95']['p90']:.0f} % and "
        f"{100 * second[way]['mean']['median']:.1f} %"
        for way in ("still", "own_speed")
    ]
    return (
        f"On a live server with policies that it was not fitted to, {runs} runs of six models "
        f"up to 90 % load, the\nformula's p95 is off by {100 * formula['p95']['median']:.1f} % in the median and by "
        f"{100 * formula['p95']['p90']:.0f} % at the 90th percentile, its mean by "
        f"{100 * formula['mean']['median']:.1f} %\nin the median; where the speed of that shared machine at each "
        f"moment is known, by {100 * known['p95']['median']:.1f} %, {100 * known['p95']['p90']:.0f} % and "
        f"{100 * known['mean']['median']:.1f} %. Of the policies\nmeasured it picked one that carries at least "
        f"{100 * min(carried):.0f} % of the best, in each of {len(carried)} questions.\n"
        f"On one core of a second, noisier host the formula is off by {on_second[0]};\n"
        f"where the speed at each moment is known, by {on_second[1]}."
    )


def search_block() -> str:
    """What exhaustive simulation says of the policies found."""
    s = json.loads((RESULTS / "optimizer.json").read_text(encoding="utf-8"))["summary"]
    climb = s["share_of_ours"]["repaired"]
    return (
        f"Against exhaustive simulation over {s['cases']} cases (8 models, 3 latency bounds, with and without "
        f"accelerator) the policy\nfound carries at most {100 * s['largest_gap']:.2f} % less than the best one; "
        f"DeepRecSched's climb as published ends at {100 * climb['median']:.0f} % of it in the\nmedian and at "
        f"{100 * climb['least']:.0f} % at worst."
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
    blocks = {"models": models_block, "accuracy": accuracy_block, "reality": reality_block, "search": search_block}
    for name, made in blocks.items():
        text = replace_block(text, name, made())
    return text


def main() -> None:
    """Renew the README."""
    README.write_text(from_files(replace_block(README.read_text(), "optimize", optimize_block())))


if __name__ == "__main__":
    main()
