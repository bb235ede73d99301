"""How far the predictions for a live server were off, and what they would have cost whoever followed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis import max_rate
from recqueue.serving import Policy, Scenario, Sla

STATISTICS = ("mean", "p50", "p95", "p99")
WAYS = ("still", "formula", "replayed", "own_speed")
BOUNDS = (1.5, 2.0, 3.0)
"""Latency bounds, in medians of the measured p95 at half load: the promises that a planner might have to keep."""
QUIET_STEAL, QUIET_LATENESS_S = 0.03, 3e-4
"""A quiet run: other guests took less than 3 % of a core, and the generator's p99 was less than 0.3 ms late."""
WHOLE = 0.9
"""Share of a measurement whose services are known, from which its speed is."""
Row = Mapping[str, Any]


def error(row: Row, way: str, name: str) -> float:
    """Relative error of a prediction, positive when it is too high."""
    return float(row[f"{way}_{name}_s"]) / float(row[f"{name}_s"]) - 1


def half_width(row: Row) -> float:
    """Relative half-width of the measured interval of p95."""
    return (float(row["p95_high_s"]) - float(row["p95_low_s"])) / 2 / float(row["p95_s"])


def in_interval(row: Row, way: str) -> bool:
    """Whether a predicted p95 lies in the 95 % interval of the measured one."""
    return float(row["p95_low_s"]) <= float(row[f"{way}_p95_s"]) <= float(row["p95_high_s"])


def as_simulated(row: Row) -> bool:
    """Whether the formula's p95 lies in the 95 % interval of an endless simulation."""
    return float(row["simulated_p95_low_s"]) <= float(row["formula_p95_s"]) <= float(row["simulated_p95_high_s"])


def in_range(row: Row) -> bool:
    """Whether the measured p95 lies where 95 % of such measurements should, by replays that drift by chance."""
    return float(row["range_p95_low_s"]) <= float(row["p95_s"]) <= float(row["range_p95_high_s"])


def quiet(row: Row) -> bool:
    """Whether the machine was left alone during a run."""
    seconds = float(row["queries"]) / float(row["qps"])
    return float(row["steal_s"]) < QUIET_STEAL * seconds and float(row["lateness_p99_s"]) < QUIET_LATENESS_S


def sizes(errors: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    """Median and 90th percentile of the absolute value."""
    size = np.abs(errors)
    between = "linear" if np.isfinite(size).all() else "higher"  # a saturated formula is infinitely off
    return {"median": float(np.median(size)), "p90": float(np.quantile(size, 0.9, method=between))}


def summary(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Median and 90th percentile of the absolute error, and the median error, by way and by quantity."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for way in WAYS:
        found[way] = {}
        for name in STATISTICS:
            e = np.array([error(r, way, name) for r in rows])
            found[way][name] = {**sizes(e), "bias": float(np.median(e))}
    return found


def parts(row: Row) -> dict[str, float]:
    """A miss of the formula's p95 as ratios less 1 whose product (each plus 1) is the whole miss."""
    p = {way: float(row[f"{way}_p95_s"]) for way in ("formula", "simulated", "replayed", "own_speed")}
    return {
        "formula": p["formula"] / p["simulated"] - 1,
        "arrivals": p["simulated"] / p["replayed"] - 1,
        "drift": p["replayed"] / p["own_speed"] - 1,
        "rest": p["own_speed"] / float(row["p95_s"]) - 1,
    }


def crossing(rates: Sequence[float], p95_s: Sequence[float], bound_s: float) -> tuple[float, bool]:
    """Largest rate whose p95 is within a bound, between measured ones by a line; and whether the bound was reached.

    The p95 at a higher rate counts as no less than at a lower one. 0 when the lowest rate measured breaks the bound.
    """
    order = np.argsort(rates)
    x, y = np.asarray(rates, dtype=float)[order], np.maximum.accumulate(np.asarray(p95_s, dtype=float)[order])
    if y[0] > bound_s:
        return 0.0, True
    if y[-1] <= bound_s:
        return float(x[-1]), False
    i = int(np.searchsorted(y, bound_s, side="right"))
    return float(x[i - 1] + (x[i] - x[i - 1]) * (bound_s - y[i - 1]) / (y[i] - y[i - 1])), True


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What following the formula would have carried, of the policies that were measured.

    Attributes
    ----------
    model : str
        The model.
    bound_s, times : float
        Bound on p95, and the entry of ``BOUNDS`` that it comes from.
    picked, best : str
        Policy with the largest rate by formula, and by measurement.
    picked_qps, best_qps : float
        Rates measured for them.
    errors : tuple of float
        Relative error of the formula's largest rate, of each policy whose measured p95 crossed the bound.
    """

    model: str
    bound_s: float
    times: float
    picked: str
    best: str
    picked_qps: float
    best_qps: float
    errors: tuple[float, ...]

    @property
    def carried(self) -> float:
        """Share of the best measured rate."""
        return self.picked_qps / self.best_qps if self.best_qps else 1.0


def policy_of(row: Row) -> Policy:
    """Policy of a row."""
    if not row["offload_threshold"]:
        return Policy(int(row["batch_size"]))
    return Policy(int(row["batch_size"]), int(row["offload_threshold"]), int(row["max_fused_queries"]))


def choices(rows: Sequence[Row], scenario: Scenario) -> Iterator[Choice]:
    """For each bound: the policy that the formula picks among the held-out ones of a model."""
    held = [r for r in rows if r["split"] == "held-out" and r["model"] == scenario.model]
    if not held:
        return
    half = float(np.median([float(r["p95_s"]) for r in held if float(r["load"]) == 0.5]))
    for times in BOUNDS:
        sla = Sla(latency_s=times * half)
        measured, predicted, errors = {}, {}, []
        for name in dict.fromkeys(r["configuration"] for r in held):
            mine = [r for r in held if r["configuration"] == name]
            rate, reached = crossing([float(r["qps"]) for r in mine], [float(r["p95_s"]) for r in mine], sla.latency_s)
            measured[name] = rate
            predicted[name] = max_rate(replace(scenario, policy=policy_of(mine[0]), sla=sla)).qps
            if reached and rate > 0:
                errors.append(predicted[name] / rate - 1)
        picked, best = max(predicted, key=predicted.__getitem__), max(measured, key=measured.__getitem__)
        yield Choice(model=scenario.model, bound_s=sla.latency_s, times=times, picked=picked, best=best,
                     picked_qps=measured[picked], best_qps=measured[best], errors=tuple(errors))  # fmt: skip
