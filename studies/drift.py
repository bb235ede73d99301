"""Formula against simulation where the speed of the cores drifts, and what a formula without the drift would say.

Claim: up to 90 % load the formula's p95 is within 3 % of the simulated one in the median; without the drift it is too
low by several times that at high load.

``python -m studies.drift`` draws 160 scenarios at random and writes ``studies/results/drift.csv``, its record
``drift.json``, the table ``docs/theory/drift_table.inc`` and the picture ``docs/theory/drift.png``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from recqueue import evaluate, simulate
from recqueue.plotting.style import COLOURS, new_figure
from recqueue.profiles import Contention, Drift, LatencyCurve
from recqueue.serving import Policy, Scenario, Sla, System
from recqueue.simulate import offered_load
from recqueue.workload import lognormal_sizes, mlperf_sizes, production_sizes
from studies.accuracy_table import listing
from studies.record import DOCS, RESULTS, command_line, read_rows, save_record, write_rows

CSV = RESULTS / "drift.csv"
TABLE, PICTURE = DOCS / "theory" / "drift_table.inc", DOCS / "theory" / "drift.png"
SIZES = (mlperf_sizes, production_sizes, partial(lognormal_sizes, 4.5, 0.8, 1000))
PER_ITEM_S = 1e-5
LOADS, SPREADS, LASTING = (0.3, 0.6, 0.8, 0.9), (0.03, 0.06, 0.1), (30, 300, 3000)
"""Loads, standard deviations of the factor, and queries that come while one factor stays."""
FACTORS = 7
HALF_WIDTH, MOST = 0.02, 20_000_000
"""A simulation ends when the interval of p95 is this narrow, or after so many queries."""
SHOWN_SPREAD = 0.06


def normal_factors(spread: float, count: int = FACTORS) -> tuple[float, ...]:
    """Equally likely factors of mean 1 and this standard deviation, spread like a normal law."""
    z = norm.ppf((np.arange(count) + 0.5) / count)
    return tuple((1 + spread * z / z.std()).tolist())


def machine(cores: int, batch: int, setup_s: float, cv: float, slowest: float, **more: object) -> Scenario:
    """A machine with a policy, at one query per second."""
    per_batch = LatencyCurve(items=(1, 2048), seconds=(setup_s + PER_ITEM_S, setup_s + 2048 * PER_ITEM_S), cv=cv)
    contention = Contention(busy=(1, cores), factor=(1.0, slowest)) if slowest > 1 else Contention()
    return Scenario(
        name="drift",
        model=f"S(b) = {setup_s * 1e6:.0f} us + 10 us b, cv {cv:g}",
        system=System(name=f"{cores} cores", cores=cores, service=per_batch, contention=contention),
        sizes=mlperf_sizes(),
        sla=Sla(latency_s=1.0),
        policy=Policy(batch),
        qps=1.0,
    )


def drifting(scenario: Scenario, load: float, spread: float, queries: float) -> Scenario:
    """At a load, with factors of that spread which stay while so many queries come."""
    assert scenario.policy is not None
    qps = load / offered_load(scenario, scenario.policy, 1.0)[0]
    drift = Drift(factor=normal_factors(spread), lasting_s=queries / qps)
    return replace(scenario, qps=qps, system=replace(scenario.system, drift=drift))


def scenarios(count: int, seed: int) -> Iterator[tuple[int, Scenario, float, float, int]]:
    """Scenarios drawn at random, each with its number, load, spread and queries in a drift."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        sizes = SIZES[rng.integers(len(SIZES))]()
        s = machine(
            cores=int(rng.choice([2, 8, 16, 32])),
            batch=int(np.exp(rng.uniform(np.log(16), np.log(sizes.max_items)))),
            setup_s=PER_ITEM_S * 10 ** rng.uniform(0.5, 2),
            cv=float(rng.choice([0.0, 0.1, 0.3])),
            slowest=float(rng.choice([1.0, 1.0, 1.3])),
        )
        load, spread, lasting = float(rng.choice(LOADS)), float(rng.choice(SPREADS)), int(rng.choice(LASTING))
        yield i, drifting(replace(s, sizes=sizes), load, spread, lasting), load, spread, lasting


def compare(case: tuple[int, Scenario, float, float, int], *, seed: int) -> dict[str, object]:
    """One row: what the scenario is, and formula, formula without the drift and simulation side by side."""
    number, s, load, spread, lasting = case
    steady = replace(s, system=replace(s.system, drift=None))
    simulated = simulate(s, queries=400_000, half_width=HALF_WIDTH, max_queries=MOST, seed=seed + number, workers=1)
    row: dict[str, object] = {
        "cores": s.system.cores,
        "batch_size": s.policy.batch_size if s.policy else None,
        "sizes": s.sizes.name,
        "service": s.model,
        "slowest": s.system.contention.factor[-1],
        "load": load,
        "spread": spread,
        "lasting_queries": lasting,
        "qps": s.qps,
        "p95_simulated_ms": simulated.latency_s["p95"] * 1e3,
        "p95_half_width": simulated.interval_s["p95"][1] / simulated.latency_s["p95"] - 1,
    }
    for name, scenario in (("", s), ("_steady", steady)):
        found = evaluate(scenario).latency_s
        for quantity in ("mean", "p95", "p99"):
            row[f"{quantity}{name}_error"] = found[quantity] / simulated.latency_s[quantity] - 1
    return row


def run(count: int, *, seed: int, workers: int) -> list[dict[str, object]]:
    """Rows of ``count`` scenarios."""
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(partial(compare, seed=seed), scenarios(count, seed)))


def text(rows: Sequence[dict[str, str]]) -> str:
    """The table of the documentation."""
    groups: list[tuple[str, Callable[[dict[str, str]], bool]]] = [("all", lambda r: True)]
    groups += [(f"load {v:g}", lambda r, v=v: float(r["load"]) == v) for v in LOADS]
    groups += [(f"standard deviation {100 * v:g} %", lambda r, v=v: float(r["spread"]) == v) for v in SPREADS]
    groups += [(f"{v} queries at a time", lambda r, v=v: int(r["lasting_queries"]) == v) for v in LASTING]
    lines = []
    for name, inside in groups:
        chosen = [r for r in rows if inside(r)]
        if not chosen:
            continue

        def sizes(column: str, chosen: Sequence[dict[str, str]] = chosen) -> str:
            e = 100 * np.abs([float(r[column]) for r in chosen])
            return f"{np.median(e):.1f} / {np.quantile(e, 0.95):.1f} / {e.max():.1f}"

        half = 100 * np.median([float(r["p95_half_width"]) for r in chosen])
        lines.append(
            [name, str(len(chosen)), sizes("mean_error"), sizes("p95_error"), sizes("p99_error"), f"± {half:.1f}",
             sizes("p95_steady_error")]
        )  # fmt: skip
    head = ["", "scenarios", "mean", "p95", "p99", "interval of the simulated p95, median", "p95 without the drift"]
    title = "Absolute error of the formula under drift, per cent: median / 95th percentile / worst"
    return ".. made by python -m studies.drift; do not edit\n\n" + listing(title, head, lines)


def picture() -> Figure:
    """Latency over load, for a steady speed and for drifts that last longer and longer."""
    s = machine(16, 128, 2e-4, 0.1, 1.0)
    assert s.policy is not None
    saturation = 1 / offered_load(s, s.policy, 1.0)[0]
    figure, ax = new_figure(1, 1, height_in=4.2)
    loads = np.linspace(0.3, 0.95, 27)
    steady = [evaluate(replace(s, qps=x * saturation)).latency_s["p95"] * 1e3 for x in loads]
    ax.plot(loads, steady, color="black", label="steady speed")
    for colour, queries in zip(COLOURS, LASTING, strict=False):
        found = [evaluate(drifting(s, x, SHOWN_SPREAD, queries)).latency_s["p95"] * 1e3 for x in loads]
        ax.plot(loads, found, color=colour, label=f"drift, {queries / saturation * 1e3:.3g} ms at a time")
        for x in LOADS:
            seen = simulate(drifting(s, x, SHOWN_SPREAD, queries), queries=400_000, half_width=HALF_WIDTH,
                            max_queries=MOST, seed=1)  # fmt: skip
            p95, (low, high) = seen.latency_s["p95"] * 1e3, seen.interval_s["p95"]
            ax.errorbar(x, p95, [[p95 - low * 1e3], [high * 1e3 - p95]], fmt="o", ms=4, capsize=2, color=colour)
    ax.set_yscale("log")
    ax.set_xlabel("load at the mean speed")
    ax.set_ylabel("p95 (ms)")
    ax.legend(title="lines: formula; points: simulation, 95 % interval")
    return figure


def main() -> None:
    """Run at full size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=160)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    a = parser.parse_args()
    rows = run(a.count, seed=a.seed, workers=a.workers)
    write_rows(CSV, rows, 7)
    save_record(
        RESULTS / "drift.json",
        command_line("studies.drift"),
        scenarios=len(rows),
        p95_median=float(np.median(np.abs([float(str(r["p95_error"])) for r in rows]))),
    )
    TABLE.write_text(text(read_rows(CSV)), encoding="utf-8")
    picture().savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
