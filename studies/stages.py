"""How good the decomposition of networks of stages is: end-to-end times against a simulation, stage by stage.

``python -m studies.stages`` simulates random feed-forward networks and writes results/stages.json and the table of the
documentation.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import stats

from recqueue.queueing.network import NetworkState, Stage, network
from studies.record import DOCS, RESULTS, command_line, save_record

Array = NDArray[np.float64]
CASES = 120
JOBS = 400_000
REPLICATIONS = 5


@njit(cache=True)
def departures(arrival: Array, service: Array, servers: int) -> Array:
    """FCFS with identical servers: when each job ends; ``arrival`` ascends."""
    free = np.zeros(servers)
    end = np.empty(len(arrival))
    for i in range(len(arrival)):
        s = np.argmin(free)
        free[s] = max(free[s], arrival[i]) + service[i]
        end[i] = free[s]
    return end


def simulate_stages(
    stages: dict[Any, Stage], routing: dict[Any, dict[Any, float]], jobs: int, rng: np.random.Generator
) -> Array:
    """Times from end to end of ``jobs`` jobs, first fifth dropped; stages in an order in which no job goes back."""
    names = list(stages)
    external = np.array([stages[u].arrival_rate for u in names])
    at: dict[Any, list[tuple[Array, NDArray[np.int64]]]] = {u: [] for u in names}
    born = np.cumsum(rng.exponential(1 / external.sum(), jobs))
    entry = rng.choice(len(names), jobs, p=external / external.sum())
    for i, u in enumerate(names):
        mine = np.flatnonzero(entry == i)
        at[u].append((born[mine], mine))
    done = born.copy()
    for u in names:
        when, job = (np.concatenate(part) for part in zip(*at[u], strict=True))
        order = np.argsort(when, kind="stable")
        when, job = when[order], job[order]
        service = stages[u].service.rvs(len(when), random_state=rng)  # type: ignore[attr-defined]
        end = departures(when, service, stages[u].servers)
        done[job] = end
        ways = routing.get(u, {})
        p = np.array([*ways.values(), 0.0])
        p[-1] = max(1 - p.sum(), 0.0)
        to = rng.choice(len(p), len(job), p=p / p.sum())
        for j, v in enumerate(ways):
            at[v].append((end[to == j], job[to == j]))
    return (done - born)[jobs // 5 :]


def random_network(seed: int) -> tuple[dict[str, Stage], dict[str, dict[str, float]]]:
    """2 to 5 stages in a row, some skipped by chance, gamma services of SCV 0.05 to 2, loads 0.3 to 0.9."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    names = [f"stage {i + 1}" for i in range(n)]
    routing: dict[str, dict[str, float]] = {}
    for i in range(n - 1):
        skip = float(rng.choice([0.0, 0.0, 0.3])) if i + 2 < n else 0.0
        routing[names[i]] = {names[i + 1]: 1 - skip} | ({names[i + 2]: skip} if skip else {})
    visits = np.zeros(n)
    visits[0] = 1.0
    for i in range(n - 1):
        for v, p in routing[names[i]].items():
            visits[names.index(v)] += visits[i] * p
    stages = {}
    for i, u in enumerate(names):
        k, rho, scv = int(rng.choice([1, 2, 8, 32])), rng.uniform(0.3, 0.9), float(rng.choice([0.05, 0.3, 1.0, 2.0]))
        mean = rho * k / visits[i]
        stages[u] = Stage(service=stats.gamma(1 / scv, scale=mean * scv), servers=k, arrival_rate=float(i == 0))
    return stages, routing


def errors(found: NetworkState, runs: list[Array]) -> dict[str, float]:
    """Relative errors of mean, p50, p95 and p99, and the half-width of the 95 % interval of the p95."""
    rows = np.array([[r.mean(), *np.quantile(r, [0.5, 0.95, 0.99])] for r in runs])
    ours = np.array([found.response.mean, *np.asarray(found.response.quantile([0.5, 0.95, 0.99]))])
    error = ours / rows.mean(axis=0) - 1
    half = stats.t.ppf(0.975, len(runs) - 1) * rows.std(axis=0, ddof=1) / np.sqrt(len(runs)) / rows.mean(axis=0)
    names = ("mean", "p50", "p95", "p99")
    return dict(zip(names, error.tolist(), strict=True)) | {"half_width_p95": float(half[2])}


def main() -> None:
    """Simulate all cases and write the record and the table."""
    started, rows = time.perf_counter(), []
    for seed in range(CASES):
        stages, routing = random_network(seed)
        found = network(stages, routing)
        rng = np.random.default_rng([seed, 1])
        runs = [simulate_stages(stages, routing, JOBS // REPLICATIONS, rng) for _ in range(REPLICATIONS)]
        rows.append({"seed": seed, "stages": len(stages), **errors(found, runs)})
    summary = {}
    for name in ("mean", "p50", "p95", "p99"):
        e = np.abs([r[name] for r in rows])
        summary[name] = [float(np.median(e)), float(np.quantile(e, 0.95)), float(e.max())]
    half = float(np.median([r["half_width_p95"] for r in rows]))
    seconds = time.perf_counter() - started
    save_record(
        RESULTS / "stages.json",
        command_line("studies.stages"),
        jobs=JOBS,
        summary=summary,
        half_width_p95=half,
        seconds=seconds,
        cases=rows,
    )
    lines = [
        f"{CASES} random networks, {JOBS:,} jobs each; the median half-width of the simulated p95 is {half:.1%}.",
        "",
        "==========  ========  ===============  ========",
        "quantity    median    95th percentile  worst",
        "==========  ========  ===============  ========",
        *(f"{name:<10}  {a:<8.1%}  {b:<15.1%}  {c:<8.1%}" for name, (a, b, c) in summary.items()),
        "==========  ========  ===============  ========",
        "",
    ]
    (DOCS / "theory" / "stages_table.inc").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
