"""The best policy of each packaged model, with and without its accelerator.

Claim: every packaged model has a rate that the simulator confirms, with and without the accelerator, and no baseline
carries more.

``python -m studies.eight_models`` optimizes all of them, checks the claim, and writes
``studies/results/eight_models.csv`` with its record and the table ``docs/studies/eight_models_table.inc``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from recqueue import load_scenario, optimize
from recqueue.io import packaged_scenarios
from recqueue.optimize import Optimization
from studies.accuracy_table import Rows, listing, read
from studies.record import DOCS, RESULTS, command_line, save_record

CSV, TABLE = RESULTS / "eight_models.csv", DOCS / "studies" / "eight_models_table.inc"
TIES = 2e-3
"""Rates closer than this are equal: the smallest step back of the verification is 0.25 %."""
SEED = 0


def row_of(found: Optimization, accelerator: bool) -> dict[str, str]:
    """One row of the file."""
    system, verification = found.scenario.system, found.verification
    row: dict[str, object] = {
        "model": found.scenario.model,
        "accelerator": accelerator,
        "sla_ms": found.scenario.sla.latency_s * 1e3,
        "batch_size": found.policy and found.policy.batch_size,
        "offload_threshold": found.policy and found.policy.offload_threshold,
        "qps": found.qps,
        "verdict": verification.verdict if verification else "infeasible",
        "limit": found.limit,
        "formula_qps": found.formula_qps,
    }
    for name in ("static", "hill_climb"):
        baseline = found.baselines.get(name)
        row[f"{name}_batch_size"] = baseline and baseline.policy and baseline.policy.batch_size
        row[f"{name}_offload_threshold"] = baseline and baseline.policy and baseline.policy.offload_threshold
        row[f"{name}_qps"] = baseline.qps if baseline else 0.0
    row["cpu_provenance"] = system.service.provenance
    row["accelerator_provenance"] = system.accelerator and system.accelerator.service.provenance
    return {k: "" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in row.items()}


def run(models: Iterable[str]) -> list[dict[str, str]]:
    """Optimize each model with and without its accelerator."""
    rows = []
    for name in models:
        for accelerator in (True, False):
            scenario = load_scenario(name, overrides={} if accelerator else {"accelerator": None}, ignore_policy=True)
            rows.append(row_of(optimize(scenario, seed=SEED), accelerator))
    return rows


def check(rows: Rows) -> None:
    """Assert the claim."""
    for row in rows:
        assert row["verdict"] == "pass", row
        assert float(row["qps"]) >= (1 - TIES) * max(float(row["static_qps"]), float(row["hill_climb_qps"])), row


def cells(row: dict[str, str]) -> list[str]:
    """One row as shown."""

    def gain(name: str) -> str:
        other = float(row[f"{name}_qps"])
        return f"{float(row['qps']) / other:.2f} x" if other else "carries nothing"

    return [
        row["model"],
        "yes" if row["accelerator"] == "True" else "no",
        f"{float(row['sla_ms']):g}",
        row["batch_size"],
        row["offload_threshold"] or "never",
        f"{float(row['qps']):,.0f}",
        row["verdict"],
        gain("static"),
        gain("hill_climb"),
    ]


HEADER = [
    "model", "accelerator", "p95 bound (ms)", "batch size", "offload from (items)", "queries/s, verified", "verdict",
    "against static", "against hill climb",
]  # fmt: skip


def text(rows: Rows) -> str:
    """The table as reStructuredText."""
    kinds = {f"{r['cpu_provenance']} (CPU)" for r in rows} | {
        f"{r['accelerator_provenance']} (accelerator)" for r in rows if r["accelerator_provenance"]
    }
    title = f"Best policies; service times: {', '.join(sorted(kinds))}"
    return "\n".join(
        [".. made by python -m studies.eight_models; do not edit", "", listing(title, HEADER, [cells(r) for r in rows])]
    )


def write() -> None:
    """Renew the table in the documentation."""
    TABLE.write_text(text(read(CSV)))


def save(rows: Rows, file: Path) -> None:
    """Write the rows."""
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Optimize everything and write."""
    rows = run(packaged_scenarios())
    save(rows, CSV)
    save_record(CSV.with_suffix(".json"), command_line("studies.eight_models"), seed=SEED)
    write()
    check(rows)


if __name__ == "__main__":
    main()
