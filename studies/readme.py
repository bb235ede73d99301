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
from textwrap import fill

import numpy as np

from calibration.judge import summary
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
    """The errors on the live servers as a table, and what they mean for a choice."""
    machines = json.loads(live_rounds.RECORD.read_text(encoding="utf-8"))["machines"]
    one = json.loads(live_server.RECORD.read_text(encoding="utf-8"))
    measured = {
        "16 Xeon cores and an H200, three models, each for nine minutes": live_rounds.MACHINES["h200"].rows,
        "one core of a noisier EPYC host, three models, each for eight": live_rounds.MACHINES["2c"].rows,
        "16 Xeon cores and an H200, six models, seconds for each policy": live_server.rows(),
    }
    lines = ["| served on, at policies not fitted | load | measurements | formula's p95 off by | at known speeds |",
             "|---|---|---|---|---|"]  # fmt: skip
    for machine, every in measured.items():
        for high in (False, True):
            mine = [r for r in live_server.held_out(every) if (float(r["load"]) > live_server.MODERATE) == high]
            off = (summary(mine)[way]["p95"] for way in ("still", "own_speed"))
            sizes = (f"{100 * e['median']:.1f} % / {_whole(e['p90'])}" for e in off)
            lines.append(f"| {machine} | {'90 %' if high else 'up to 80 %'} | {len(mine)} | {' | '.join(sizes)} |")
    rate = np.median(np.abs([e for c in machines["h200"]["choices"] for e in c["errors"]]))
    picks = [c for m in (*machines.values(), one) for c in m["choices"]]
    carried = min(c["picked_qps"] / c["best_qps"] for c in picks)
    words = fill(
        f"Median and 90th percentile of the absolute error; *at known speeds* knows how quick the shared machine was "
        f"at each moment of the run. The largest rate within a bound is off by {100 * rate:.1f} % in the median (first "
        f"machine). Of the policies measured the formula picked one that carries at least {100 * carried:.0f} % of the "
        f"best, in each of {len(picks)} questions.",
        width=118,
    )
    return "\n".join([*lines, "", words])


def _whole(x: float) -> str:
    return f"{100 * x:.0f} %" if np.isfinite(x) else "saturated"


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
