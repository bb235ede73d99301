"""How often the simulator's intervals hold the truth.

Claim: nominal 95 % intervals hold the exact quantile in 92 to 98 % of runs, on M/M/k, M/D/k and M^X/D/k at loads of 0.7
and 0.9, in runs of fixed length; in 92 % or more where the run stops when its interval is narrow; and a run that
stops as soon as its verdict is decided, nominally wrong in 5 % of runs, is wrong in at most 8 % with the bound put
where that is most likely.

``python -m studies.coverage`` makes 500 runs of each, in a few minutes on one core, and writes
``studies/results/coverage.csv``, its record ``coverage.json`` and the table ``docs/coverage_table.inc``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from recqueue import simulate
from recqueue.profiles import LatencyCurve
from recqueue.queueing.erlang import erlang_c
from recqueue.queueing.mxdk import start_times
from recqueue.serving import Performance, Policy, Scenario, Sla, System
from recqueue.simulate import offered_load
from recqueue.workload import QuerySizes, fixed_sizes, sizes_from_pmf
from studies.accuracy_table import listing
from studies.record import DOCS, RESULTS, command_line, read_rows, save_record, write_rows

CSV = RESULTS / "coverage.csv"
TABLE = DOCS / "coverage_table.inc"
MODELS = ("M/M/k", "M/D/k", "M^X/D/k")
LOADS = (0.7, 0.9)
KINDS = ("fixed length", "until narrow", "until decided")
CORES = 4
SERVICE_S = 0.01
RUNS = 500
QUERIES = 200_000
"""Of a run of fixed length: the default of ``recqueue.simulate``."""
FIRST_QUERIES = {0.7: 40_000, 0.9: 200_000}
"""Of the first look of a run that stops by itself; it may take 4 times as many."""
HALF_WIDTH = {0.7: 0.06, 0.9: 0.15}
"""Precision asked for: reached at the first look by some, at the last by others."""
RANKS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
LATTICE = 256
"""Points in a mean service at which exponential service is cut; its second moment is then right to 1e-6."""
BATCHES = ([1, 2, 4, 10], [0.4, 0.3, 0.2, 0.1])


@cache
def scenario(model: str, load: float) -> Scenario:
    """A queue of the textbooks as a scenario, with its rate."""
    sizes: QuerySizes = fixed_sizes(1)
    curve, batch = LatencyCurve(items=(1,), seconds=(SERVICE_S,)), 1
    if model == "M/M/k":
        # A query of n items, n geometric, takes n - 1/2 steps: exponential service on a fine lattice.
        n = np.arange(1, 4097)
        p = np.exp(-(n - 1) / LATTICE) - np.exp(-n / LATTICE)
        step = SERVICE_S / LATTICE
        sizes, batch = sizes_from_pmf(n.tolist(), (p / p.sum()).tolist()), 4096
        curve = LatencyCurve(items=(1, 4096), seconds=(0.5 * step, 4095.5 * step))
    elif model == "M^X/D/k":
        sizes = sizes_from_pmf(*BATCHES)
    system = System(name="cores", cores=CORES, service=curve)
    plain = Scenario(
        name=model, model=model, system=system, sizes=sizes, sla=Sla(latency_s=1.0), policy=Policy(batch), qps=1.0
    )
    return replace(plain, qps=load / offered_load(plain, Policy(batch), 1.0)[0])


def exact_s(model: str, load: float, p: float) -> float:
    """Exact quantile of the latency of a query."""
    s = scenario(model, load)
    assert s.qps is not None
    if model == "M/M/k":
        waits, drain, mu = erlang_c(CORES, load * CORES), (1 - load) * CORES / SERVICE_S, 1 / SERVICE_S

        def late(t: float) -> float:
            both = (drain * np.exp(-mu * t) - mu * np.exp(-drain * t)) / (drain - mu)
            return float((1 - waits) * np.exp(-mu * t) + waits * both)

        return float(brentq(lambda t: late(t) - (1 - p), 0.0, 1e3 * SERVICE_S, xtol=1e-12))
    pmf = s.sizes.pmf
    starts = start_times(pmf, s.qps, SERVICE_S, CORES, positions=len(pmf) - 1)
    # Services are equal and start in order, so the last part of a query, at position X, ends last.
    done = pmf[starts.positions] @ starts.cdf
    return float(np.interp(p, done, starts.times_s)) + SERVICE_S


def one(model: str, load: float, kind: str, exact: float, seed: int, queries: int) -> Performance:
    """One run; of a run that stops when it is decided the bound is the exact p95, so that any decision is wrong."""
    s = scenario(model, load)
    if kind == "fixed length":
        return simulate(s, queries=queries, seed=seed, workers=1)
    stop = {"max_queries": 4 * queries, "seed": seed, "queries": queries, "workers": 1}
    if kind == "until narrow":
        return simulate(s, half_width=HALF_WIDTH[load], **stop)
    return simulate(replace(s, sla=Sla(latency_s=exact)), until_decided=True, **stop)


def measure(model: str, load: float, kind: str, *, runs: int, queries: int, first_seed: int) -> dict[str, object]:
    """One row of the table."""
    exact = {name: exact_s(model, load, p) for name, p in RANKS.items()}
    found = [one(model, load, kind, exact["p95"], first_seed + i, queries) for i in range(runs)]
    low, high = (np.array([[p.interval_s[n][side] for n in RANKS] for p in found]) for side in (0, 1))
    value = np.array([[p.latency_s[n] for n in RANKS] for p in found])
    truth = np.array(list(exact.values()))
    # roundings: p50 of M/D/k is an atom, the service time of the many that do not wait, and its intervals are points
    held = ((low <= truth * (1 + 1e-9)) & (truth <= high * (1 + 1e-9))).mean(axis=0)
    experiments = [p.experiment for p in found if p.experiment]
    return {
        "model": model,
        "cores": CORES,
        "load": load,
        "kind": kind,
        "runs": runs,
        "exact_p95_ms": 1e3 * exact["p95"],
        **{f"held_{name}": float(h) for name, h in zip(RANKS, held, strict=True)},
        "all_below": float((high[:, 1] < truth[1]).mean()),
        "all_above": float((low[:, 1] > truth[1]).mean()),
        "half_width": float(((high - low) / 2 / truth)[:, 1].mean()),
        "bias": float((value / truth - 1)[:, 1].mean()),
        "queries": float(np.mean([p.queries for p in found])),
        "warm_up": float(np.mean([e.warm_up for e in experiments])),
        "not_stable": float(np.mean([e.trend != "stable" for e in experiments])),
        "decided": float(np.mean([p.meets_sla is not None for p in found])) if kind == "until decided" else np.nan,
    }


def read(file: Path = CSV) -> list[dict[str, str]]:
    """Rows of the committed run."""
    return read_rows(file)


def text(rows: Sequence[dict[str, str]]) -> str:
    """The tables of the documentation."""

    def per_cent(row: dict[str, str], key: str, digits: int = 1) -> str:
        return f"{100 * float(row[key]):.{digits}f}"

    parts = [".. made by python -m studies.coverage; do not edit", ""]
    for kind, title in (
        ("fixed length", "Runs of the default length: how often nominal 95 % intervals hold the exact quantile (%)"),
        ("until narrow", "Runs that stop when the interval of p95 is narrow enough"),
    ):
        chosen = [r for r in rows if r["kind"] == kind]
        body = [
            [
                r["model"],
                r["load"],
                *(per_cent(r, f"held_{n}") for n in RANKS),
                per_cent(r, "all_below"),
                per_cent(r, "all_above"),
                per_cent(r, "half_width"),
                f"{100 * float(r['bias']):+.2f}",
                f"{float(r['queries']):,.0f}",
                per_cent(r, "not_stable"),
            ]
            for r in chosen
        ]
        head = ["model", "load", "p50", "p95", "p99", "p95: below", "above", "half-width", "bias", "queries", "trend"]
        parts.append(listing(f"{title}, {chosen[0]['runs']} runs each, {chosen[0]['cores']} cores", head, body))
    chosen = [r for r in rows if r["kind"] == "until decided"]
    body = [
        [r["model"], r["load"], per_cent(r, "decided"), per_cent(r, "all_above"), per_cent(r, "all_below")]
        for r in chosen
    ]
    head = ["model", "load", "decided, wrongly", "of these FAIL", "of these PASS"]
    title = "Runs that stop when decided, with the bound at the exact p95: how often they decide at all (%)"
    parts.append(listing(f"{title}, {chosen[0]['runs']} runs each", head, body))
    return "\n".join(parts)


def main() -> None:
    """Run at full size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="renew these rows, keep the others")
    a = parser.parse_args()
    started = time.perf_counter()
    rows: list[dict[str, object]] = [dict(r) for r in (read() if CSV.exists() else []) if r["kind"] not in a.kinds]
    for kind in a.kinds:
        for model in MODELS:
            for load in LOADS:
                queries = QUERIES if kind == "fixed length" else FIRST_QUERIES[load]
                rows.append(measure(model, load, kind, runs=a.runs, queries=queries, first_seed=a.seed))
                print(f"{time.perf_counter() - started:6.0f} s", rows[-1], flush=True)
    write_rows(CSV, rows, 6)
    save_record(
        RESULTS / "coverage.json",
        command_line("studies.coverage"),
        seed=a.seed,
        runs=a.runs,
        kinds=a.kinds,
        seconds=round(time.perf_counter() - started),
    )
    TABLE.write_text(text(read()))
    print(f"wrote {CSV.name} and {TABLE.name}")


if __name__ == "__main__":
    main()
