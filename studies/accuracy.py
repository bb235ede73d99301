"""Formula against simulation over a grid of systems, batch sizes, loads and query sizes.

Claim: the formula's p95 is within 1 % of the simulated one in the median and within 6 % in 95 of 100 scenarios.

``python -m studies.accuracy`` runs the grid and writes ``studies/results/accuracy.csv``, its record ``accuracy.json``
and the table ``docs/accuracy_table.inc``; ``python -m studies.accuracy_table`` renews the table alone.
After a change of the formulas, ``--formula-only`` compares them with the simulations already there.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from recqueue import evaluate, simulate
from recqueue.profiles import LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import offered_load
from recqueue.workload import QuerySizes, lognormal_sizes, mlperf_sizes, production_sizes
from studies.record import RESULTS, command_line, save_record

CORES = (4, 16, 40)
BATCH_SIZES = (16, 64, 256, 1000)
LOADS = (0.3, 0.7, 0.9)
SIZES = {
    "mlperf": mlperf_sizes,
    "production": production_sizes,
    "lognormal": partial(lognormal_sizes, 4.5, 0.8, 1000),
}
CVS = (0.0, 0.2)
OFFLOAD = (False, True)

SETUP_S, PER_ITEM_S = 0.2e-3, 0.02e-3
"""S(b) of a core: setup plus time per item, in the range of the packaged CPU profiles."""
ACCELERATOR_SETUP_ITEMS = 100
"""Setup of an accelerator launch, in items; its speed is set so that it is as busy as the cores."""
QUERIES = 55_000
"""Simulated queries at no load on 16 cores; see :func:`queries_for`."""
REPLICATIONS = 16
QUANTITIES = ("mean", "p95", "p99")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One point of the grid."""

    cores: int
    batch_size: int
    rho: float
    sizes: str
    cv: float
    offload: bool


def grid() -> list[Case]:
    """Every combination."""
    names = ("cores", "batch_size", "rho", "sizes", "cv", "offload")
    values = itertools.product(CORES, BATCH_SIZES, LOADS, SIZES, CVS, OFFLOAD)
    return [Case(**dict(zip(names, v, strict=True))) for v in values]


def scenario_of(case: Case) -> Scenario:
    """The scenario with its policy, at the rate that makes cores (and accelerator) busy a share ``rho`` of the time.

    Queries from a threshold on go to the accelerator, the largest ones, so that they hold half of all items.
    """
    sizes: QuerySizes = SIZES[case.sizes]()
    n = np.arange(len(sizes.pmf))
    from_size = np.cumsum((n * sizes.pmf)[::-1])[::-1] / sizes.mean
    threshold = int(np.flatnonzero((from_size >= 0.5) & (sizes.pmf > 0))[-1]) if case.offload else None

    def line(setup_s: float, per_item_s: float) -> LatencyCurve:
        return LatencyCurve(
            items=(1, 1000), seconds=(setup_s + per_item_s, setup_s + 1000 * per_item_s), cv=case.cv, source="affine"
        )

    def with_accelerator(per_item_s: float) -> Scenario:
        service = line(ACCELERATOR_SETUP_ITEMS * per_item_s, per_item_s)
        system = System(
            name="grid",
            cores=case.cores,
            service=line(SETUP_S, PER_ITEM_S),
            accelerator=Accelerator(name="grid", service=service) if case.offload else None,
        )
        policy = Policy(case.batch_size, threshold)
        return Scenario(name="grid", model="grid", system=system, sizes=sizes, sla=Sla(latency_s=1.0), policy=policy)

    first = with_accelerator(PER_ITEM_S)
    assert first.policy is not None
    cpu, accelerator = offered_load(first, first.policy, 1.0)
    scenario = with_accelerator(PER_ITEM_S * cpu / accelerator) if case.offload else first
    return replace(scenario, qps=case.rho / cpu)


def queries_for(case: Case, queries: int) -> int:
    """Queries for intervals of similar width: queues forget in a time like (1 - rho)^-2, and small pools vary more."""
    return round(queries * np.sqrt(16 / case.cores) / (1 - case.rho) ** 2)


def compare(case: Case, seed: int, queries: int) -> dict[str, object]:
    """One row: both answers (ms), the error of the formula and the half-width of the simulated interval."""
    scenario = scenario_of(case)
    assert scenario.policy is not None
    formula = evaluate(scenario)
    simulated = simulate(scenario, queries=queries_for(case, queries), replications=REPLICATIONS, seed=seed, workers=1)
    row: dict[str, object] = {**vars(case), "offload_from": scenario.policy.offload_threshold, "qps": scenario.qps}
    row |= {"seed": seed, "queries": simulated.queries}
    for key in QUANTITIES:
        truth, (low, high) = simulated.latency_s[key], simulated.interval_s[key]
        row[f"{key}_formula_ms"] = formula.latency_s[key] * 1e3
        row[f"{key}_simulated_ms"] = truth * 1e3
        row[f"{key}_error"] = formula.latency_s[key] / truth - 1
        row[f"{key}_half_width"] = (high - low) / 2 / truth
    return {k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()}


def compare_again(case: Case, row: dict[str, str]) -> dict[str, object]:
    """``row`` with the formula's answer of today; the simulation stays as it was."""
    formula = evaluate(scenario_of(case))
    renewed: dict[str, object] = dict(row)
    for key in QUANTITIES:
        renewed[f"{key}_formula_ms"] = f"{formula.latency_s[key] * 1e3:.7g}"
        renewed[f"{key}_error"] = f"{formula.latency_s[key] * 1e3 / float(row[f'{key}_simulated_ms']) - 1:.7g}"
    return renewed


def run(cases: Sequence[Case], *, seed: int, queries: int, workers: int) -> list[dict[str, object]]:
    """Rows of all cases, in their order; every case has random numbers of its own, so errors are independent."""
    seeds = [seed * 100_000 + i for i in range(len(cases))]
    if workers == 1:
        return [compare(c, s, queries) for c, s in zip(cases, seeds, strict=True)]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(compare, cases, seeds, [queries] * len(cases)))


def main() -> None:
    """Run the grid and write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--queries",
        type=int,
        default=QUERIES,
        help="simulated at no load on 16 cores",
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "accuracy.csv")
    parser.add_argument("--formula-only", action="store_true", help="keep the simulated values in --out")
    options = parser.parse_args()
    started = time.perf_counter()
    if options.formula_only:
        with options.out.open(newline="") as file, ProcessPoolExecutor(options.workers) as pool:
            rows = list(pool.map(compare_again, grid(), csv.DictReader(file)))
    else:
        rows = run(grid(), seed=options.seed, queries=options.queries, workers=options.workers)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if not options.formula_only:
        save_record(
            options.out.with_suffix(".json"),
            command_line("studies.accuracy"),
            seed=options.seed,
            queries_at_no_load_on_16_cores=options.queries,
            replications=REPLICATIONS,
            scenarios=len(rows),
            simulated_queries=sum(int(str(r["queries"])) for r in rows),
            seconds=round(time.perf_counter() - started, 1),
        )
    if options.out == RESULTS / "accuracy.csv":
        from studies.accuracy_table import write

        write()


if __name__ == "__main__":
    main()
