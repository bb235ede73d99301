"""How much work it is to prove the best policy, and whether brute force agrees.

Claims: the search proves the best policy of every packaged scenario, with its own query sizes and with the heavy-tailed
mix of a million policies; and on hundreds of random small systems no largest rate of any policy is above the one found
by more than its tolerance.

``python -m studies.exact_search`` searches the packaged scenarios, ``python -m studies.exact_search --random 210`` the
random systems; each checks its claim and writes ``studies/results/exact_search*.csv`` with its record and a part of
``docs/optimization.rst``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence

import numpy as np

from recqueue import load_scenario
from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import largest_rate
from recqueue.io import packaged_scenarios
from recqueue.optimize.lattice import Lattice, Place, lattice
from recqueue.optimize.search import Found, search
from recqueue.profiles import NO_CONTENTION, Contention, LatencyCurve
from recqueue.serving import Accelerator, Scenario, Sla, System
from recqueue.workload import sizes_from_pmf
from studies.record import DOCS, RESULTS, command_line, read_rows, save_record, write_rows

CSV, TABLE = RESULTS / "exact_search.csv", DOCS / "exact_search_table.inc"
RANDOM, BRUTE = RESULTS / "exact_search_random.csv", DOCS / "exact_search_random.inc"
EQUAL = 3e-4
"""A policy counts as better from 2e-4 on, and rates are found to 1e-4."""


def random_scenario(seed: int, *, fusing: bool = False) -> Scenario:
    """6 to 14 items, 1 to 6 cores, with or without accelerator, contention, noise, wake-ups; a tight bound or not."""
    rng = np.random.default_rng(seed)
    largest = int(rng.integers(6, 15))
    n = np.unique(np.append(rng.integers(1, largest, int(rng.integers(1, 5))), largest))
    points = (1, 2, 4, 8, 16)
    seconds = 1e-3 * (rng.uniform(0.1, 2) + rng.uniform(0.05, 0.3) * np.array(points) ** rng.uniform(0.7, 1.2))
    cores = int(rng.integers(1, 7))
    device = None
    if fusing or rng.random() < 0.6:
        times = tuple(seconds[-1] * rng.uniform(0.1, 0.8) + 1e-5 * rng.uniform(0, 20) * np.array((*points[:-1], 42)))
        device = Accelerator(
            name="d",
            service=LatencyCurve(items=(*points[:-1], 42), seconds=times, cv=0.1 * rng.integers(0, 2)),
            max_fused_queries=int(rng.integers(2, 4)) if fusing else 1,
            host_slowdown=0.3 * (seed % 7 == 0),
        )
    contention = NO_CONTENTION
    if rng.random() < 0.4:
        factor = (1.0, rng.uniform(1, 2))
        contention = Contention(busy=(1, 7), factor=factor)
        if seed % 3 == 0:
            contention = Contention(busy=(1, 7), factor=factor, items=(1, 8), strength=(rng.uniform(0, 1), 1.0))
    system = System(
        name="c",
        cores=cores,
        service=LatencyCurve(items=points, seconds=tuple(seconds), cv=0.2 * rng.integers(0, 2)),
        contention=contention,
        accelerator=device,
        wakeup_s=1e-4 * (seed % 5 == 0),
    )
    sizes = sizes_from_pmf(n.tolist(), rng.uniform(0.05, 1, len(n)).tolist())
    bound = float(seconds[-1] * rng.uniform(0.8, 4))
    return Scenario(name=f"seed {seed}", model="m", system=system, sizes=sizes, sla=Sla(latency_s=bound))


def places(grid: Lattice) -> list[Place]:
    """Every policy that differs from the others."""
    return [
        (i, j, f)
        for i, j in np.argwhere(grid.distinct > 0).tolist()
        for f in range(1 if grid.thresholds[j] is None else len(grid.fusions))
    ]


def brute_force(scenario: Scenario, costs: Costs) -> tuple[float, int]:
    """Best of the largest rates, and how many were found: of all policies that do not saturate below the best."""
    grid = lattice(scenario, costs)
    best, tried = 0.0, 0
    for place in sorted(places(grid), key=lambda place: -grid.bound_of(place)):
        if grid.bound_of(place) <= best:
            break
        best, tried = max(best, largest_rate(scenario, grid.policy(place), costs)), tried + 1
    return best, tried


def searched(scenario: Scenario) -> tuple[Found, float]:
    """What an exact search finds, and its CPU seconds, reading the tables included."""
    started = time.process_time()
    return search(scenario, Costs.of(scenario), exact=True), time.process_time() - started


def row_of(scenario: Scenario, found: Found, seconds: float) -> dict[str, object]:
    """One row of either file."""
    c = found.certificate
    return {
        "scenario": scenario.name,
        "sizes": scenario.sizes.name,
        "batch_size": found.policy.batch_size if found.policy else "",
        "offload_threshold": (found.policy.offload_threshold or "never") if found.policy else "",
        "qps": found.qps,
        "policies": c.lattice,
        "identical": c.identical,
        **{name.replace(" ", "_"): n for name, n in c.excluded.items()},
        "tested": c.tested,
        "open": c.open,
        "evaluations": found.evaluations,
        "low": c.low,
        "high": c.high,
        "exact": c.exact,
        "checks": sum(check.done for check in c.checks.values()),
        "violated": sum(check.violated for check in c.checks.values()),
        "cpu_s": seconds,
    }


def packaged() -> list[dict[str, object]]:
    """Every packaged scenario with both query sizes."""
    rows = []
    for sizes in ("mlperf", "production"):
        for name in packaged_scenarios():
            overrides = {"workload.sizes": {"distribution": sizes}}
            scenario = load_scenario(name, overrides=overrides, ignore_policy=True)
            rows.append(row_of(scenario, *searched(scenario)))
    return rows


def random_systems(seeds: Iterable[int]) -> list[dict[str, object]]:
    """Random small systems, each thirtieth of which fuses, with the best rate of brute force."""
    rows = []
    for seed in seeds:
        scenario = random_scenario(seed, fusing=seed % 30 == 29)
        found, seconds = searched(scenario)
        best, tried = brute_force(scenario, Costs.of(scenario))
        rows.append({**row_of(scenario, found, seconds), "brute_force_qps": best, "largest_rates": tried})
    return rows


def check(rows: Sequence[dict[str, str]]) -> None:
    """The claims of this study."""
    for row in rows:
        assert (row["exact"], row["open"]) == ("True", "0"), row
        if "brute_force_qps" in row:
            best, qps = float(row["brute_force_qps"]), float(row["qps"])
            assert abs(best - qps) <= EQUAL * best, row


def table(rows: Sequence[dict[str, str]]) -> str:
    """The packaged scenarios for the documentation."""
    columns = ("policies", "the same", "saturation", "service", "offload", "less work", "tested", "bracket", "CPU s")
    lines = [".. list-table::", "   :header-rows: 1", "", "   * - scenario", "     - best policy"]
    lines += [f"     - {name}" for name in columns]
    for r in rows:
        lines.append(f"   * - {r['scenario']}, {r['sizes']}")
        lines.append(
            f"     - {r['batch_size']}, offload from {r['offload_threshold']}".replace("offload from never", "none")
        )
        counts = ("policies", "identical", "saturation", "service", "offload", "less_work", "tested")
        lines += [f"     - {int(r[name]):,}" for name in counts]
        lines.append(f"     - {float(r['low']):,.1f} .. {float(r['high']):,.1f}")
        lines.append(f"     - {float(r['cpu_s']):.2g}")
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[dict[str, str]]) -> str:
    """What brute force says, in a sentence."""
    apart = [abs(float(r["brute_force_qps"]) / float(r["qps"]) - 1) for r in rows if float(r["qps"]) > 0]
    total = {name: sum(int(r[name]) for r in rows) for name in ("policies", "largest_rates", "checks", "violated")}
    return (
        f"On {len(rows)} random systems of up to 14 items and 6 cores ({total['policies']:,} policies), brute force\n"
        "over the largest rates of every policy that does not saturate below the best "
        f"({total['largest_rates']:,} of them)\nfinds the same best rate, at most {100 * max(apart):.2g} % apart; "
        f"{len(rows) - len(apart)} of the systems keep their promise with no\npolicy, by both. The claims were checked "
        f"{total['checks']:,} times and violated {total['violated']} times\n"
        "(``python -m studies.exact_search --random 210``).\n"
    )


def main() -> None:
    """Run what was asked for and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, metavar="N", help="random small systems against brute force")
    n = parser.parse_args().random
    file, shown, rows = (CSV, TABLE, packaged()) if n is None else (RANDOM, BRUTE, random_systems(range(n)))
    write_rows(file, rows, 6)
    read = read_rows(file)
    check(read)
    shown.write_text(table(read) if n is None else summary(read))
    save_record(file.with_suffix(".json"), command_line("studies.exact_search"), rows=len(rows))
    print(shown.read_text())


if __name__ == "__main__":
    main()
