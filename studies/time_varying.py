"""How good the formulas for time-varying load are, through an overload and back, against simulated virtual waits.

``python -m studies.time_varying`` writes results/time_varying.json, the table and the picture of the documentation.
"""

from __future__ import annotations

import time

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import stats

from recqueue.queueing.transient import TimeVaryingWait, pointwise_stationary, time_varying_wait
from studies.record import DOCS, RESULTS, command_line, save_record

Array = NDArray[np.float64]
HOURS = np.array([0.0, 4.0, 9.0, 14.0, 20.0, 24.0])
SHAPE = np.array([0.6, 0.4, 0.8, 0.9, 1.08, 0.6])
"""Load per server over the day: a trough at 4 h, a peak of 8 % above capacity at 20 h."""
CASES = [
    # servers, SCV of the service, services in a day (of one server at full load), SCV 0 is constant
    (k, scv, day)
    for k in (1, 4, 16)
    for scv in (0.0, 0.5, 1.0, 2.0)
    for day in (2_000.0, 20_000.0)
]
REPLICATIONS = {2_000.0: 1_000, 20_000.0: 300}
"""Of short and of long days."""


@njit(cache=True)
def virtual_waits(
    times: Array, rates: Array, rng: np.random.Generator, services: Array, servers: int, ask: Array, found: Array
) -> None:
    """Fill ``found[i]`` with what an arrival at ``ask[i]`` would wait; Poisson arrivals of a piecewise linear rate."""
    free = np.full(servers, times[0])
    top, now, i, n, piece = rates.max(), times[0], 0, 0, 0
    while i < len(ask):
        now += rng.exponential(1 / top)
        while i < len(ask) and ask[i] <= now:
            found[i] = max(free.min() - ask[i], 0.0)
            i += 1
        while piece < len(times) - 2 and times[piece + 1] < now:
            piece += 1
        along = (now - times[piece]) / (times[piece + 1] - times[piece])
        rate = rates[piece] + along * (rates[piece + 1] - rates[piece])
        if rng.random() * top <= rate:
            s = np.argmin(free)
            free[s] = max(free[s], now) + services[n % len(services)]
            n += 1


def day(servers: int, scv: float, length: float, points: int = 97) -> tuple[Array, Array, object]:
    """Times, rates and service law (mean 1 s) of a case; the day lasts ``length`` services."""
    t = np.linspace(0.0, length, points)
    rate = servers * np.interp(t, HOURS / 24 * length, SHAPE)
    service = stats.gamma(1 / scv, scale=scv) if scv > 0 else 1.0
    return t, rate, service


def simulated(servers: int, scv: float, t: Array, rate: Array, replications: int, seed: int) -> Array:
    """Virtual waits, shape (replications, times); each replication begins a quarter of a day early, empty."""
    rng = np.random.default_rng(seed)
    early = t[-1] / 4
    times, rates = np.concatenate(([-early], t)), np.concatenate(([rate[0]], rate))
    found = np.empty((replications, len(t)))
    for row in found:
        services = rng.gamma(1 / scv, scv, 100_000) if scv > 0 else np.ones(1)
        virtual_waits(times, rates, rng, services, servers, t, row)
    return found


def errors(formula: TimeVaryingWait, waits: Array) -> tuple[float, float]:
    """Largest error of the mean wait and of the p95 over the day, each as a share of its own largest value."""
    mean, p95 = waits.mean(axis=0), np.quantile(waits, 0.95, axis=0)
    ours = np.minimum(formula.mean_wait_s, 1e9)
    return float(np.max(np.abs(ours - mean)) / mean.max()), float(
        np.max(np.abs(np.minimum(formula.quantile(0.95), 1e9) - p95)) / p95.max()
    )


def main() -> None:
    """Run all cases, draw the day, write the record."""
    started, rows = time.perf_counter(), []
    for number, (k, scv, length) in enumerate(CASES):
        t, rate, service = day(k, scv, length)
        waits = simulated(k, scv, t, rate, REPLICATIONS[length], number)
        closure = time_varying_wait(t, rate, service, k)
        stationary = pointwise_stationary(t, rate, service, k)
        light = closure.utilization < 0.9
        half = 1.96 * waits.std(axis=0) / np.sqrt(REPLICATIONS[length])
        mean_error, p95_error = errors(closure, waits)
        rows.append(
            {
                "servers": k,
                "service_scv": scv,
                "services_in_a_day": length,
                "mean_error": mean_error,
                "p95_error": p95_error,
                "half_width": float(half.max() / waits.mean(axis=0).max()),
                "stationary_light_mean_error": float(
                    np.max(np.abs(stationary.mean_wait_s - waits.mean(axis=0))[light]) / waits.mean(axis=0).max()
                ),
                "peak_mean_s": float(waits.mean(axis=0).max()),
            }
        )
        if (k, scv, length) == (16, 0.5, 20_000.0):
            _draw(t, closure, stationary, waits)
    save_record(
        RESULTS / "time_varying.json",
        command_line("studies.time_varying"),
        replications=list(REPLICATIONS.values()),
        seconds=time.perf_counter() - started,
        cases=rows,
    )
    lines = [
        f"Largest error over the day as a share of the largest value, worst of the four SCVs of the service; "
        f"{len(CASES)} days with {' or '.join(map(str, REPLICATIONS.values()))} replications:",
        "",
        "==================  ========  ========  ========  ===================",
        "services in a day   servers   mean      p95       simulated half-width",
        "==================  ========  ========  ========  ===================",
    ]
    for length in (2_000.0, 20_000.0):
        for k in (1, 4, 16):
            some = [r for r in rows if r["servers"] == k and r["services_in_a_day"] == length]
            mean, p95, half = (max(r[key] for r in some) for key in ("mean_error", "p95_error", "half_width"))
            lines.append(f"{length:<18,.0f}  {k:<8}  {mean:<8.1%}  {p95:<8.1%}  {half:<19.1%}")
    lines += [lines[2], ""]
    (DOCS / "theory" / "time_varying_table.inc").write_text("\n".join(lines))


def _draw(t: Array, closure: TimeVaryingWait, stationary: TimeVaryingWait, waits: Array) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    hours = t / t[-1] * 24
    figure, (load, wait) = plt.subplots(2, 1, figsize=(7.2, 5.4), sharex=True, height_ratios=(1, 2.4))
    load.plot(hours, closure.utilization, color="black")
    load.axhline(1, color="grey", lw=0.8, ls=":")
    load.set_ylabel("load per server")
    mean, half = waits.mean(axis=0), 1.96 * waits.std(axis=0) / np.sqrt(len(waits))
    wait.fill_between(hours, np.maximum(mean - half, 1e-3), mean + half, color="C0", alpha=0.3, lw=0)
    wait.plot(hours, mean, "o", ms=2.5, color="C0", label="simulated mean, 95 % interval")
    wait.plot(hours, np.quantile(waits, 0.95, axis=0), "o", ms=2.5, color="C1", label="simulated p95")
    wait.plot(hours, closure.mean_wait_s, color="C0", label="closure, mean")
    wait.plot(hours, closure.quantile(0.95), color="C1", label="closure, p95")
    wait.plot(hours, stationary.mean_wait_s, color="C0", ls="--", lw=1, label="pointwise stationary, mean")
    wait.set(yscale="log", ylim=(5e-3, 3 * waits.max()), xlabel="hour of the day", ylabel="wait in mean services")
    wait.set_xlim(0, 24)
    wait.legend(fontsize=8, loc="upper left")
    figure.tight_layout()
    figure.savefig(DOCS / "theory" / "time_varying.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
