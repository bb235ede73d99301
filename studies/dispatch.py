"""Private queues, dealt at random or in turn, beside the central queue: formula against a small simulation.

Claim: the formulas for private queues are within 2 % of the simulated p95 in the median, and dealing to private queues
costs several times the latency of one central queue at high load.

``python -m studies.dispatch`` writes ``studies/results/dispatch.csv``, its record ``dispatch.json`` and the tables
``docs/theory/dispatch_table.inc``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from itertools import product

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recqueue.errors import OutOfValidityError
from recqueue.queueing import forkjoin
from recqueue.queueing.dispatch import random_dispatch, round_robin_dispatch
from recqueue.queueing.split_queries import SplitQueries
from recqueue.workload import fixed_sizes, lognormal_sizes, mlperf_sizes, production_sizes
from studies.accuracy_table import listing
from studies.record import DOCS, RESULTS, command_line, read_rows, save_record, write_rows

CSV, TABLE = RESULTS / "dispatch.csv", DOCS / "theory" / "dispatch_table.inc"
SIZES = {
    "fixed 500": partial(fixed_sizes, 500),
    "mlperf": mlperf_sizes,
    "production": production_sizes,
    "log-normal": partial(lognormal_sizes, 4.5, 0.8, 1000),
}
POLICIES = {"random": random_dispatch, "in turn": round_robin_dispatch}
LEVELS = (0.5, 0.95, 0.99)
BATCHES = 20
"""Stretches of the run from whose quantiles the interval is made."""


@numba.njit(cache=True)
def responses(
    queries: int,
    seed: int,
    rate: float,
    cumulative: NDArray[np.float64],
    full: NDArray[np.int64],
    last_s: NDArray[np.float64],
    full_s: float,
    cv: float,
    servers: int,
    in_turn: bool,
) -> NDArray[np.float64]:
    """Responses of queries whose sub-requests go to private FIFO queues; each is the time at which it will be empty."""
    np.random.seed(seed)  # the generator inside compiled code
    empty = np.zeros(servers)
    out = np.empty(queries)
    now, turn = 0.0, 0
    sigma = np.sqrt(np.log1p(cv * cv))
    for i in range(queries):
        now += np.random.exponential(1 / rate)
        kind = np.searchsorted(cumulative, np.random.random())
        done = now
        for j in range(full[kind] + 1):
            service = full_s if j < full[kind] else last_s[kind]
            service *= np.exp(sigma * np.random.normal() - sigma * sigma / 2)
            place = turn if in_turn else np.random.randint(servers)
            turn = (turn + 1) % servers
            empty[place] = max(empty[place], now) + service
            done = max(done, empty[place])
        out[i] = done - now
    return out


def split(sizes: str, batch_size: int, cv: float) -> SplitQueries:
    """Queries of those sizes, cut at ``batch_size`` items, with S(b) = 0.2 + 0.01 b ms."""
    pmf = SIZES[sizes]().pmf
    items = np.flatnonzero(pmf)
    full = (items - 1) // batch_size

    def service_s(b: NDArray[np.int64] | int) -> NDArray[np.float64]:
        return np.asarray(2e-4 + 1e-5 * np.asarray(b), dtype=float)

    return SplitQueries(
        pmf[items] / pmf[items].sum(), full, service_s(items - full * batch_size), float(service_s(batch_size)), cv
    )


def compare(
    sizes: str, batch_size: int, servers: int, rho: float, cv: float, policy: str, *, queries: int, seed: int
) -> dict[str, object]:
    """One row: formula, simulation with its half-width, and the central queue's formula."""
    q = split(sizes, batch_size, cv)
    rate = rho * servers / q.work_mean_s
    row: dict[str, object] = {
        "policy": policy, "sizes": sizes, "batch_size": batch_size, "servers": servers, "utilization": rho, "cv": cv,
    }  # fmt: skip
    try:
        formula = POLICIES[policy](rate, q, servers)
    except OutOfValidityError as refused:
        return row | {"status": str(refused).partition(":")[0] + " refused"}
    enough = round(queries * min(1 / (1 - rho), 8))
    run = responses(
        enough + enough // 10, seed, rate, np.cumsum(q.probability), q.full, q.last_s, q.full_s, cv, servers,
        policy == "in turn",
    )[enough // 10 :]  # fmt: skip
    row |= {"status": "compared", "queries": enough}
    stretches = np.quantile(run[: enough // BATCHES * BATCHES].reshape(BATCHES, -1), LEVELS, axis=1)
    half = stats.t.ppf(0.975, BATCHES - 1) * stretches.std(axis=1, ddof=1) / np.sqrt(BATCHES)
    central = forkjoin.response(rate, q, servers)
    for p, h in zip(LEVELS, half, strict=True):
        simulated, value = float(np.quantile(run, p)), float(formula.quantile(p))
        name = f"p{100 * p:.0f}"
        row |= {
            f"{name}_formula_ms": 1e3 * value,
            f"{name}_simulated_ms": 1e3 * simulated,
            f"{name}_half_width": h / simulated,
            f"{name}_error": value / simulated - 1,
            f"{name}_over_central": value / forkjoin.quantile([(1.0, central)], p),
        }
    return row


def run(
    *, queries: int, seed: int, servers: Sequence[int] = (4, 32), utilizations: Sequence[float] = (0.5, 0.9)
) -> list[dict[str, object]]:
    """A row for each cell."""
    cells = product(SIZES, (64, 256), servers, utilizations, (0.0, 0.2), POLICIES)
    return [
        compare(*cell, queries=queries, seed=seed + i)
        for i, cell in enumerate(cells)
        if cell[4] == 0.2 or cell[1] == 64  # constant services at one batch size only
    ]


def read() -> list[dict[str, str]]:
    """Rows of the committed run."""
    return read_rows(CSV)


def text(rows: Sequence[dict[str, str]]) -> str:
    """The tables of the documentation."""
    done = [r for r in rows if r["status"] == "compared"]
    refused = len(rows) - len(done)
    errors, cost = [], []
    for policy in POLICIES:
        mine = [r for r in done if r["policy"] == policy]
        for name in ("p50", "p95", "p99"):
            e = 100 * np.abs([float(r[f"{name}_error"]) for r in mine])
            h = 100 * np.array([float(r[f"{name}_half_width"]) for r in mine])
            figures = (np.median(e), np.quantile(e, 0.95), e.max(), np.median(h), h.max())
            errors.append([policy, name, str(len(mine)), *(f"{x:.1f}" for x in figures)])
        for k in dict.fromkeys(r["servers"] for r in mine):
            for rho in dict.fromkeys(r["utilization"] for r in mine):
                ratio = [float(r["p95_over_central"]) for r in mine if (r["servers"], r["utilization"]) == (k, rho)]
                if int(k) > 1 and ratio:
                    cost.append([policy, k, rho, f"{min(ratio):.2f}", f"{np.median(ratio):.2f}", f"{max(ratio):.2f}"])
    head = ["dealt", "quantile", "cells", "median", "95th percentile", "worst", "half-width, median", "worst"]
    return "\n".join(
        [
            ".. made by python -m studies.dispatch; do not edit",
            "",
            listing("Absolute error of the formulas for private queues, per cent", head, errors),
            f"Of {len(rows)} cells, {refused} were refused as out of validity.",
            "",
            listing(
                "p95 over that of the central queue, both by formula: over sizes, batch sizes and cv",
                ["dealt", "queues", "utilization", "least", "median", "most"],
                cost,
            ),
        ]
    )


def main() -> None:
    """Run at full size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=5)
    a = parser.parse_args()
    rows = run(queries=a.queries, seed=a.seed)
    write_rows(CSV, rows, 5)
    save_record(RESULTS / "dispatch.json", command_line("studies.dispatch"), seed=a.seed, queries=a.queries)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(text(read()))
    print(f"wrote {CSV.name} and {TABLE.name}")


if __name__ == "__main__":
    main()
