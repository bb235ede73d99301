"""Waits of M/G/k beside LINE's matrix-analytic solver and Ciw's simulation, where the three overlap.

Not part of the tests: LINE brings several hundred megabytes. In an environment of its own::

    python -m venv comparison
    comparison/bin/pip install -r comparisons/requirements.txt
    PYTHONPATH=. comparison/bin/python comparisons/compare.py

writes ``comparisons/results.csv`` and ``docs/theory/comparison_table.inc``, with the versions.
"""

from __future__ import annotations

import contextlib
import csv
import io
import warnings
from importlib.metadata import version
from itertools import product
from pathlib import Path

import ciw
import line_solver as line
import numpy as np

from recqueue.queueing.constant_service import mdk
from recqueue.queueing.phase_service import mphk

HERE = Path(__file__).parent
CSV, TABLE = HERE / "results.csv", HERE.parent / "docs" / "theory" / "comparison_table.inc"
JOBS, RUNS = 40_000, 8
SCV = 4.0
BALANCED = (1 + np.sqrt((SCV - 1) / (SCV + 1))) / 2
E2 = (np.array([1.0, 0.0]), np.array([[-2.0, 2.0], [0.0, -2.0]]))
H2 = (np.array([BALANCED, 1 - BALANCED]), np.diag([-2 * BALANCED, -2 * (1 - BALANCED)]))
SERVICES = {
    "constant": (None, lambda: line.Det(1.0), lambda: ciw.dists.Deterministic(1.0)),
    "Erlang-2": (E2, lambda: line.Erlang(2.0, 2), lambda: ciw.dists.Erlang(2.0, 2)),
    "exponential": (
        (np.array([1.0]), np.array([[-1.0]])),
        lambda: line.Exp(1.0),
        lambda: ciw.dists.Exponential(1.0),
    ),
    "hyperexponential, SCV 4": (
        H2,
        lambda: line.HyperExp(BALANCED, 2 * BALANCED, 2 * (1 - BALANCED)),
        lambda: ciw.dists.HyperExponential([2 * BALANCED, 2 * (1 - BALANCED)], [BALANCED, 1 - BALANCED]),
    ),
}


def by_recqueue(name: str, servers: int, rate: float) -> tuple[float, float]:
    """Mean wait and p95 of the response."""
    law = SERVICES[name][0]
    state = mdk(rate, 1.0, servers) if law is None else mphk(rate, law, servers)
    return state.wait.mean, float(state.response.quantile(0.95))


def by_line(name: str, servers: int, rate: float) -> tuple[float, float, str]:
    """The same by LINE's MAM solver, and what it warned of."""
    model = line.Network("one station")
    source, queue = line.Source(model, "source"), line.Queue(model, "queue", line.SchedStrategy.FCFS)
    sink = line.Sink(model, "sink")
    queue.setNumberOfServers(servers)
    jobs = line.OpenClass(model, "jobs")
    source.setArrival(jobs, line.Exp(rate))
    queue.setService(jobs, SERVICES[name][1]())
    model.link(line.Network.serialRouting(source, queue, sink))
    with warnings.catch_warnings(record=True) as said, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        solver = line.MAM(model)
        mean = float(np.asarray(solver.getAvgTable()["RespT"])[1]) - 1.0
        try:
            p95 = float(solver.getPerctRespT([95])[0][0]["values"][0])
        except Exception:  # whatever it raises, there is no percentile
            p95 = float("nan")
    fell = any("falling back" in str(w.message) for w in said)
    return mean, p95, "exact solver failed, fell back" if fell else ""


def by_ciw(name: str, servers: int, rate: float) -> tuple[float, float, float, float]:
    """Mean wait and p95 of the response with their 95 % half-widths, from independent runs of Ciw."""
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(rate)],
        service_distributions=[SERVICES[name][2]()],
        number_of_servers=[servers],
    )
    means, tails = [], []
    for run in range(RUNS):
        ciw.seed(run)
        simulation = ciw.Simulation(network)
        simulation.simulate_until_max_customers(JOBS, method="Finish")
        records = sorted(simulation.get_all_records(), key=lambda r: r.arrival_date)[JOBS // 10 :]
        means.append(np.mean([r.waiting_time for r in records]))
        tails.append(np.quantile([r.exit_date - r.arrival_date for r in records], 0.95))
    t = 2.365  # Student's t for 7 degrees of freedom, 97.5 %
    half = [t * np.std(x, ddof=1) / np.sqrt(RUNS) for x in (means, tails)]
    return float(np.mean(means)), half[0], float(np.mean(tails)), half[1]


def text(rows: list[dict[str, str]], versions: str) -> str:
    """The table of the documentation."""
    lines = [
        ".. made by comparisons/compare.py; do not edit",
        "",
        f".. list-table:: Mean wait and p95 of the response, services of 1 s ({versions})",
        "   :header-rows: 1",
        "",
    ]
    head = ["service", "k", "utilization", "mean wait: recqueue", "LINE", "Ciw", "p95: recqueue", "LINE", "Ciw", ""]
    body = [
        [
            r["service"], r["servers"], r["utilization"], r["mean_recqueue"], r["mean_line"],
            f"{r['mean_ciw']} ± {r['mean_ciw_half']}", r["p95_recqueue"], r["p95_line"],
            f"{r['p95_ciw']} ± {r['p95_ciw_half']}", r["line_said"],
        ]
        for r in rows
    ]  # fmt: skip
    for row in (head, *body):
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and write the results."""
    rows = []
    for name, servers, rho in product(SERVICES, (1, 4, 16), (0.5, 0.9)):
        rate = rho * servers
        ours, theirs, simulated = (f(name, servers, rate) for f in (by_recqueue, by_line, by_ciw))
        values = {
            "mean_recqueue": ours[0], "mean_line": theirs[0], "mean_ciw": simulated[0], "mean_ciw_half": simulated[1],
            "p95_recqueue": ours[1], "p95_line": theirs[1], "p95_ciw": simulated[2], "p95_ciw_half": simulated[3],
        }  # fmt: skip
        row = {"service": name, "servers": str(servers), "utilization": str(rho)}
        rows.append(row | {k: f"{v:.4g}" for k, v in values.items()} | {"line_said": theirs[2]})
        print(rows[-1], flush=True)
    with CSV.open("w", newline="") as f:
        writer = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    versions = f"LINE {version('line-solver')}, Ciw {version('ciw')}"
    TABLE.write_text(text(rows, versions))


if __name__ == "__main__":
    main()
