"""Formula against simulation where busy cores slow each other.

Claim: with slow-downs of up to 1.6 the formula's p95 is within 2 % of the simulated one in the median, and the
utilization of the cores within 1 %.

``python -m studies.contention`` draws 200 scenarios at random and writes ``studies/results/contention.csv``, its record
``contention.json`` and the table ``docs/contention_table.inc``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from recqueue import evaluate, simulate
from recqueue.profiles import Contention, LatencyCurve
from recqueue.serving import Policy, Scenario, Sla, System
from recqueue.simulate import offered_load
from recqueue.workload import fixed_sizes, lognormal_sizes, mlperf_sizes, production_sizes
from studies.record import DOCS, RESULTS, command_line, read_rows, save_record, write_rows

CSV = RESULTS / "contention.csv"
TABLE = DOCS / "contention_table.inc"
SIZES = (mlperf_sizes, production_sizes, partial(lognormal_sizes, 4.5, 0.8, 1000), partial(fixed_sizes, 500))
PER_ITEM_S = 1e-5
QUERIES = 60_000
"""Simulated queries at no load; they grow with 1 / (1 - load)^2 up to 25 times as many."""


def scenarios(count: int, seed: int) -> Iterator[Scenario]:
    """Scenarios drawn at random, each with its rate."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        sizes = SIZES[rng.integers(len(SIZES))]()
        cores, slowest = int(rng.choice([2, 8, 16, 64])), float(rng.choice([1.1, 1.3, 1.6]))
        batch = int(np.exp(rng.uniform(np.log(2), np.log(sizes.max_items))))
        setup_s, cv = PER_ITEM_S * 10 ** rng.uniform(0.5, 2), float(rng.choice([0.0, 0.1, 0.3]))
        per_batch = LatencyCurve(items=(1, 2048), seconds=(setup_s + PER_ITEM_S, setup_s + 2048 * PER_ITEM_S), cv=cv)
        scenario = Scenario(
            name=str(i),
            model=f"S(b) = {setup_s * 1e6:.0f} us + 10 us b, cv {cv:g}",
            system=System(
                name=f"{cores} cores slowed up to {slowest:g} times",
                cores=cores,
                service=per_batch,
                contention=Contention(busy=(1, cores), factor=(1.0, slowest)),
            ),
            sizes=sizes,
            sla=Sla(latency_s=1.0),
            policy=Policy(batch),
            qps=1.0,
        )
        load = float(rng.choice([0.1, 0.5, 0.8, 0.9]))
        yield replace(scenario, qps=load / offered_load(scenario, Policy(batch), 1.0)[0])


def compare(scenario: Scenario, *, queries: int, seed: int) -> dict[str, object]:
    """One row: what the scenario is, and formula and simulation side by side."""
    policy, system = scenario.policy, scenario.system
    assert policy is not None
    assert scenario.qps is not None
    load = offered_load(scenario, policy, scenario.qps)[0]
    enough = round(queries * min(1 / (1 - load) ** 2, 25))
    formula, simulated = (
        evaluate(scenario),
        simulate(scenario, queries=enough, seed=seed + int(scenario.name), workers=1),
    )
    p95 = simulated.latency_s["p95"]
    return {
        "cores": system.cores,
        "slowest": system.contention.factor[-1],
        "batch_size": policy.batch_size,
        "load": round(load, 6),
        "sizes": scenario.sizes.name,
        "service": scenario.model,
        "qps": scenario.qps,
        "queries": enough,
        "p95_formula_ms": formula.latency_s["p95"] * 1e3,
        "p95_simulated_ms": p95 * 1e3,
        "p95_half_width": simulated.interval_s["p95"][1] / p95 - 1,
        "p95_error": formula.latency_s["p95"] / p95 - 1,
        "utilization_error": formula.utilization["cpu"] / simulated.utilization["cpu"] - 1,
    }


def run(count: int, *, seed: int, queries: int, workers: int) -> list[dict[str, object]]:
    """Rows of ``count`` scenarios."""
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(partial(compare, queries=queries, seed=seed), scenarios(count, seed)))


def read(file: Path = CSV) -> list[dict[str, str]]:
    """Rows of the committed run."""
    return read_rows(file)


def text(rows: Sequence[dict[str, str]]) -> str:
    """The table of the documentation."""
    groups: list[tuple[str, Callable[[dict[str, str]], bool]]] = [("all", lambda r: True)]
    groups += [(f"slow-down up to {s}", lambda r, s=s: float(r["slowest"]) == s) for s in (1.1, 1.3, 1.6)]
    groups += [(f"load {v}", lambda r, v=v: abs(float(r["load"]) - v) < 1e-3) for v in (0.1, 0.5, 0.8, 0.9)]
    head = (
        "",
        "scenarios",
        "p95: median",
        "95th percentile",
        "worst",
        "half-width, median",
        "utilization: median",
        "worst",
    )
    lines = [
        ".. made by python -m studies.contention; do not edit",
        "",
        ".. list-table:: Absolute error of the formula under contention, per cent",
        "   :header-rows: 1",
        "",
    ]
    body = []
    for name, inside in groups:
        chosen = [r for r in rows if inside(r)]
        p95 = np.abs([float(r["p95_error"]) for r in chosen]) * 100
        half = np.median([float(r["p95_half_width"]) for r in chosen]) * 100
        use = np.abs([float(r["utilization_error"]) for r in chosen]) * 100
        figures = (np.median(p95), np.quantile(p95, 0.95), p95.max(), half, np.median(use), use.max())
        body.append((name, str(len(chosen)), *(f"{x:.2f}" for x in figures)))
    for row in (head, *body):
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run at full size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--workers", type=int, default=2)
    a = parser.parse_args()
    rows = run(a.count, seed=a.seed, queries=a.queries, workers=a.workers)
    write_rows(CSV, rows, 7)
    save_record(
        RESULTS / "contention.json",
        command_line("studies.contention"),
        seed=a.seed,
        queries=a.queries,
        scenarios=a.count,
    )
    TABLE.write_text(text(read()))
    print(f"wrote {CSV.name} and {TABLE.name}")


if __name__ == "__main__":
    main()
