"""How good the formulas for batch service are: against a simulation that shares nothing with them.

``python -m studies.batch_service`` writes results/batch_service.json, the table and the picture of the documentation.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import stats

from recqueue.queueing import bulk
from recqueue.queueing.service import ServiceMixture
from studies.record import DOCS, RESULTS, command_line, save_record

CASES = list(itertools.product((1, 2, 4), (2, 8, 16), (0.4, 0.7, 0.9), (0.07, 0.7), (0.0, 0.2)))
"""Servers, largest batch, load, time of a further job relative to that of launching, cv of the service."""
JOBS = 600_000
REPLICATIONS = 6


@njit(cache=True)
def simulate_batches(
    gaps: NDArray[np.float64],
    items: NDArray[np.int64],
    seconds: NDArray[np.float64],
    extra_s: float,
    largest: int,
    noise: NDArray[np.float64],
    servers: int,
    wait: NDArray[np.float64],
    response: NDArray[np.float64],
    sizes: NDArray[np.int64],
) -> float:
    """FCFS batch service, job by job: q jobs take ``(seconds[sum of their items] + (q - 1) extra_s) x noise``.

    A free server takes at once what waits, at most ``largest``. Fills ``wait``, ``response`` and the counts ``sizes``
    of batch sizes; returns the busy server-seconds divided by the time span.
    """
    n = len(gaps)
    free = np.zeros(servers)
    arrival = np.cumsum(gaps)
    head, launch, busy = 0, 0, 0.0
    while head < n:
        s = np.argmin(free)
        start = max(free[s], arrival[head])
        q, total = 0, 0
        while head + q < n and q < largest and arrival[head + q] <= start:
            total += items[head + q]
            q += 1
        service = (seconds[total] + (q - 1) * extra_s) * noise[launch]
        for i in range(head, head + q):
            wait[i] = start - arrival[i]
            response[i] = wait[i] + service
        free[s] = start + service
        busy += service
        sizes[q] += 1
        head += q
        launch += 1
    return busy / free.max()


def simulated(
    rate: float, seconds: NDArray[np.float64], largest: int, servers: int, cv: float, seed: int
) -> NDArray[np.float64]:
    """Rows of mean wait, p50, p95, p99 of the response and utilization, one for each replication."""
    rng, rows, n = np.random.default_rng(seed), [], JOBS // REPLICATIONS
    for _ in range(REPLICATIONS):
        waits, found = np.empty(n), np.empty(n)
        noise = rng.lognormal(-np.log1p(cv**2) / 2, np.sqrt(np.log1p(cv**2)), n) if cv else np.ones(n)
        one, counts = np.ones(n, dtype=np.int64), np.zeros(largest + 1, dtype=np.int64)
        gaps = rng.exponential(1 / rate, n)
        busy = simulate_batches(gaps, one, seconds, 0.0, largest, noise, servers, waits, found, counts)
        kept = slice(n // 5, None)
        rows.append([waits[kept].mean(), *np.quantile(found[kept], [0.5, 0.95, 0.99]), busy / servers])
    return np.array(rows)


def main() -> None:
    """Run all cases, draw one, write the record and the table."""
    started, rows = time.perf_counter(), []
    for number, (servers, largest, load, slope, cv) in enumerate(CASES):
        seconds = np.concatenate(([0.0], 1 + slope * np.arange(1, largest + 1)))
        rate = load * largest * servers / seconds[-1]
        laws = [ServiceMixture(np.ones(1), np.array([s]), cv) for s in seconds[1:]]
        found = bulk.one_server(rate, laws) if servers == 1 else bulk.many_servers(rate, laws, servers)
        seen = simulated(rate, seconds, largest, servers, cv, number)
        ours = np.array([found.wait.mean, *np.asarray(found.response.quantile([0.5, 0.95, 0.99]))])
        error = ours / seen[:, :4].mean(axis=0) - 1
        half = stats.t.ppf(0.975, REPLICATIONS - 1) * seen.std(axis=0, ddof=1) / np.sqrt(REPLICATIONS)
        names = ("mean_wait", "p50", "p95", "p99")
        rows.append(
            {"servers": servers, "largest_batch": largest, "load": load, "slope": slope, "cv": cv}
            | dict(zip(names, error.tolist(), strict=True))
            | {
                "utilization": float(found.utilization - seen[:, 4].mean()),
                "half_width_p95": float(half[2] / seen[:, 2].mean()),
            }
        )
    save_record(
        RESULTS / "batch_service.json",
        command_line("studies.batch_service"),
        jobs=JOBS,
        seconds=time.perf_counter() - started,
        cases=rows,
    )
    rule = "========  =======  ========  ========  ==========  ========  ===========  =========="
    head = "servers   systems  p50       p95       median p95  p99       utilization  half-width"
    lines = [
        f"Largest relative errors of the response (utilization: difference), {JOBS:,} jobs each:",
        "",
        rule,
        head,
        rule,
    ]
    for servers in (1, 2, 4):
        some = [r for r in rows if r["servers"] == servers]

        def worst(key: str, some: list[dict[str, float]] = some) -> float:
            return float(max(abs(r[key]) for r in some))

        median = float(np.median([abs(r["p95"]) for r in some]))
        lines.append(
            f"{servers:<8}  {len(some):<7}  {worst('p50'):<8.1%}  {worst('p95'):<8.1%}  {median:<10.1%}  "
            f"{worst('p99'):<8.1%}  {worst('utilization'):<11.3f}  {worst('half_width_p95'):<10.1%}"
        )
    (DOCS / "theory" / "batch_service_table.inc").write_text("\n".join([*lines, rule, ""]))
    draw()


def draw() -> None:
    """p95 against the offered rate for several largest batches: launches of an accelerator, 0.44 ms and 30 us a job."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.8))
    for color, largest in enumerate((1, 2, 8, 32)):
        seconds = np.concatenate(([0.0], 0.44e-3 + 30e-6 * np.arange(1, largest + 1)))
        top = largest / seconds[-1]
        rates = top * np.linspace(0.03, 0.97, 24)
        p95 = [float(bulk.one_server(r, list(seconds[1:])).response.quantile(0.95)) for r in rates]
        axes.plot(rates, 1e3 * np.array(p95), color=f"C{color}", label=f"F = {largest}")
        for number, rate in enumerate(rates[3::7]):
            seen = simulated(rate, seconds, largest, 1, 0.0, number)[:, 2]
            half = stats.t.ppf(0.975, REPLICATIONS - 1) * seen.std(ddof=1) / np.sqrt(REPLICATIONS)
            axes.errorbar(rate, 1e3 * seen.mean(), 1e3 * half, fmt="o", ms=3, color=f"C{color}", capsize=2)
    axes.set(xscale="log", yscale="log", xlabel="offered jobs per second", ylabel="p95 of the response (ms)")
    axes.legend(title="lines: exact; points: simulated", fontsize=8, title_fontsize=8)
    figure.tight_layout()
    figure.savefig(DOCS / "theory" / "batch_service.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
