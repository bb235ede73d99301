"""Predictions for what a live server did, and what each miss is made of.

Four predictions stand beside each measurement (the pooled segments of a policy at a load). Three know nothing but the
rate and the policy: *still* is the formula for a machine whose speed stays the same, *formula* knows how it drifts,
*simulated* is the simulator for an endless run on the drifting machine. The *replay* sends the queries of these very
segments, at their arrival times and with their sizes and from an empty queue each, through a simulated server that
drifts by chance; it also says in which range such a measurement should lie, given that it is short. The last one,
*own_speed*, knows the measured speed of the machine at each moment of each segment.
Their ratios name the parts of a miss:

``formula``
    formula against simulator, both for an endless run.
``arrivals``
    simulator against replay: what these segments offered by chance, and that they are short.
``drift``
    replay against the replay at the measured speeds: that the machine happened to be quicker or slower than usual.
``rest``
    that replay against the measurement: everything the model does not know.

How large that rest is in the fitting half widens the range: services and their noise are not known exactly either.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from calibration.judge import WHOLE
from calibration.livefit import LiveFit, fit
from calibration.livetext import scenario_text
from calibration.runs import NAMES, Measured, Segment, measured_runs, rows_of, statistics
from calibration.testbed import Load
from calibration.windows import WINDOW_S
from recqueue import load_scenario
from recqueue.analysis import evaluate
from recqueue.errors import InputError
from recqueue.serving import Performance, Scenario
from recqueue.simulate import simulate, spawn
from recqueue.simulate.pools import AcceleratorPool, core_pool
from recqueue.simulate.replication import typical_batch

REPLAYS, CHANCES = 12, 40
"""Replays of a segment at the measured speed, and of one that drifts by chance; their mean is the prediction, and the
latter tell the range in which a measurement of that length should lie."""
QUERIES, CHANGES, MOST_QUERIES, HALF_WIDTH = 400_000, 400, 80_000_000, 0.03
"""A simulation that stands for an endless run: its least queries, as many changes of the speed in the mean, and what
its p95 is to be known to unless that takes more queries than the most."""
ENOUGH = 4
"""Measurements whose rests tell how large a rest is."""
TRACE_S, TRACED = 0.1, 30
"""Stretch over which the measured speed is averaged, and the services in it, at least: with fewer of them single ones
would be taken for drift."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Measured speeds in place of a random drift, each from the middle of its stretch to that of the next by a line.

    The simulator asks for the speed when a sub-request comes, and one that came in a stall was served after it: where
    it is known when those that came then were served (``came_s``, ``start_s``), the speed is that of their service.
    """

    time_s: NDArray[np.float64]
    factor: NDArray[np.float64]
    came_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    start_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def at(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factors for sub-requests that come at these times."""
        if len(self.came_s):
            known = (time_s >= self.came_s[0]) & (time_s <= self.came_s[-1])
            time_s = np.where(known, np.interp(time_s, self.came_s, self.start_s), time_s)
        return np.asarray(np.interp(time_s, self.time_s, self.factor))


def trace(fitted: LiveFit, segment: Segment) -> Trace | None:
    """How quick the machine was during a segment; None where its cores served nothing."""
    w = segment.windows
    if w is None or not w.seconds.sum():
        return None
    each = float(w.count.sum(axis=1)[w.count.any(axis=1)].mean())
    wide = max(round(TRACE_S / WINDOW_S), ceil(TRACED / each))
    cuts = np.arange(0, len(w.seconds), wide)
    seconds = np.add.reduceat(w.seconds.sum(axis=1), cuts)
    expected = np.add.reduceat(w.expected(fitted.expected).sum(axis=1), cuts)
    ends = np.append(cuts[1:], len(w.seconds))
    known = expected > 0
    start = segment.record.get("start_us", np.empty(0)) / 1e6
    came = start - segment.record.get("wait_us", np.empty(0)) / 1e6
    order = np.argsort(came, kind="stable")
    return Trace(((cuts + ends) / 2 * WINDOW_S)[known], seconds[known] / expected[known], came[order], start[order])


def replay(scenario: Scenario, load: Load, seed: int, speeds: Trace | None = None) -> NDArray[np.float64]:
    """Latencies of these very queries on the simulated server of the scenario, in order of arrival.

    With ``speeds`` its cores are as quick as they say at each moment, instead of drifting by chance.
    """
    policy, streams = scenario.policy, spawn(seed, 1)[0]
    assert policy is not None  # set by the caller
    system, sizes = scenario.system, scenario.sizes
    cores: Any = core_pool(system, policy, sizes.max_items, sizes.mean, typical_batch(scenario, policy), streams)
    if speeds is not None:
        cores.noise.drift = speeds
    latency, query = np.empty(len(load.items)), np.arange(len(load.items))
    far = load.items >= (policy.offload_threshold or sizes.max_items + 1)
    done = cores.serve(query[~far], load.arrival_s[~far], load.items[~far], last=True)
    latency[done.query] = done.latency_s
    device = policy.accelerator_of(system)
    if far.any() and device is not None:
        busy = min(cores.busy_s / (system.cores * float(load.arrival_s[-1])), 1.0)
        pool = AcceleratorPool(device, policy.offload_threshold or 1, sizes.max_items, streams)
        done = pool.serve(query[far], load.arrival_s[far], load.items[far], last=True, host_busy=busy)
        latency[done.query] = done.latency_s
    return latency


def still(scenario: Scenario) -> Scenario:
    """The same on a machine whose speed stays the same."""
    return replace(scenario, system=replace(scenario.system, drift=None))


def endless(scenario: Scenario, qps: float) -> Performance:
    """Simulated for so long that the machine had many speeds."""
    drift = scenario.system.drift
    lasting = qps * drift.lasting_s if drift else 0.0
    queries = int(np.clip(CHANGES * lasting, QUERIES, MOST_QUERIES / 4))
    seed = zlib.crc32(f"{scenario.model} {scenario.policy} {qps:g}".encode())  # not the same slow moments for all
    return simulate(scenario, qps=qps, queries=queries, seed=seed, half_width=HALF_WIDTH, max_queries=MOST_QUERIES)


@dataclass(frozen=True, eq=False)
class Prediction:
    """A measurement beside its predictions, and p95 of the replays that drift by chance."""

    row: dict[str, Any]
    chances_s: NDArray[np.float64]

    @property
    def rest(self) -> float:
        """What is left of the miss at the measured speed, as a logarithm."""
        return float(np.log(self.row["own_speed_p95_s"] / self.row["p95_s"]))

    def within(self, unknown: float) -> dict[str, Any]:
        """The row with the range in which 95 % of such measurements lie, if the rest has that standard deviation."""
        c = np.log(self.chances_s)
        levels = [brentq(lambda x, p=p: norm.cdf((x - c) / max(unknown, 1e-6)).mean() - p, c.min() - 1, c.max() + 1)
                  for p in (0.025, 0.975)]  # fmt: skip
        low, high = np.exp(levels).tolist()
        return {**self.row, "unknown": unknown, "range_p95_low_s": low, "range_p95_high_s": high}


def unknown_of(found: Sequence[Prediction]) -> float:
    """Root mean square of the rests of the fitting half, of those whose speed is known if there are enough."""
    fitted = [p for p in found if p.row["split"] == "fit"]
    known = [p for p in fitted if p.row["covered"] >= WHOLE]
    rests = [p.rest for p in (known if len(known) >= ENOUGH else fitted)]
    return float(np.sqrt(np.mean(np.square(rests)))) if rests else 0.0


def predict(scenario: Scenario, fitted: LiveFit, measured: Measured) -> Prediction:
    """Measured, predicted in all ways, and the speed of the machine meanwhile."""
    s = replace(scenario, policy=measured.policy)
    calm, row = still(s), measured.row
    qps, segments = float(row["qps"]), measured.segments
    formula, simulated = evaluate(s, qps=qps), endless(s, qps)
    chances = _replays(s, segments, [None] * len(segments), CHANCES)
    windows = [segment.windows for segment in segments if segment.windows is not None]
    seconds = sum(float(w.seconds.sum()) for w in windows)
    expected = sum(float(w.expected(fitted.expected).sum()) for w in windows)
    ways = {
        "still": _of(evaluate(calm, qps=qps).latency_s),
        "formula": _of(formula.latency_s),
        "simulated": _of(simulated.latency_s),
        "replayed": chances.mean(axis=0),
        "own_speed": _replays(calm, segments, [trace(fitted, segment) for segment in segments], REPLAYS).mean(axis=0),
    }  # fmt: skip
    whole = {
        **row,
        "predicted_utilization_cpu": formula.utilization["cpu"],
        "speed": seconds / expected if expected > 0 else 1.0,
        "covered": covered(measured),
        **dict(zip(("simulated_p95_low_s", "simulated_p95_high_s"), simulated.interval_s["p95"], strict=True)),
        **{f"{way}_{n}_s": float(v) for way, values in ways.items() for n, v in zip(NAMES, values, strict=True)},
    }
    return Prediction(whole, chances[:, NAMES.index("p95")])


def covered(measured: Measured) -> float:
    """Share of the time of a measurement whose services were kept; 1 where the cores served nothing."""
    kept, whole = 0.0, 0.0
    for segment in measured.segments:
        if segment.windows is not None and len(segment.windows.count):
            used = np.flatnonzero(segment.windows.count.sum(axis=1))
            kept += float(len(used) * WINDOW_S)
            whole += max(float(segment.load.arrival_s[-1]), float(len(used) * WINDOW_S))
    return kept / whole if whole else 1.0


def _of(latency_s: Any) -> NDArray[np.float64]:
    return np.array([latency_s[n] for n in NAMES])


def _replays(
    scenario: Scenario, segments: Sequence[Segment], speeds: Sequence[Trace | None], count: int
) -> NDArray[np.float64]:
    """Statistics of all segments together, as the measured ones are of them, for each of some replays."""
    loads = [segment.load for segment in segments]
    found = []
    for turn in range(count):
        latency = [
            segment.counted(replay(scenario, load, count * i + turn, known))
            for i, (segment, load, known) in enumerate(zip(segments, loads, speeds, strict=True))
        ]
        found.append(statistics(np.concatenate(latency)))
    return np.array(found)


def measured_models(folder: Path) -> list[str]:
    """Models of a campaign, in the order in which they were measured."""
    return list(dict.fromkeys(r["model"] for r in rows_of(folder / "live.csv")))


def write_scenarios(folder: Path, names: list[str], out: Path) -> None:
    """Fit each model of a campaign, write its scenario into ``out`` and what was found of the drift beside them."""
    out.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    for name in names:
        fitted = fit(folder, name)
        text = scenario_text(fitted, f"python -m calibration live-fit --models {name}")
        (out / f"{name}.yaml").write_text(text, encoding="utf-8")
        w = fitted.weather
        found += [
            {"model": name, "sd": w.sd, "lasting_s": w.lasting_s, "within_run_sd": w.within, "lag_s": lag,
             "covariance": c, "pairs": n}
            for lag, c, n in zip(w.lag_s, w.covariance, w.pairs, strict=True)
        ]  # fmt: skip
        text = f"drift of {100 * w.sd:.1f} % lasting {w.lasting_s:.2g} s" if w.known else "drift not known"
        print(f"{out / name}.yaml: {text}", flush=True)
    path = out / "drift.csv"
    kept: list[dict[str, Any]] = [{**r} for r in (rows_of(path) if path.exists() else []) if r["model"] not in names]
    if kept or found:
        _write(path, kept + found)


def predict_all(folder: Path, names: list[str], out: Path, *, runs: Path | None = None) -> None:
    """Predict all measurements of a campaign by the scenarios in ``out``; rows go to ``predicted.csv`` there.

    With ``runs`` those of another campaign, in ``predicted-NAME.csv`` for its folder's name; how large the rest of
    their misses may be is then as ``predicted.csv`` says.
    """
    rows: list[dict[str, Any]] = []
    before = out / "predicted.csv"
    known = {r["model"]: float(r["unknown"]) for r in rows_of(before)} if runs and before.exists() else {}
    if runs and (lacking := [name for name in names if name not in known]):
        raise InputError(f"{before}: nothing of {', '.join(lacking)}; run live-predict without --runs first")
    for name in names:
        fitted, scenario = fit(folder, name), load_scenario(out / f"{name}.yaml")
        found = [predict(scenario, fitted, m) for m in measured_runs(runs or folder, name)]
        unknown = known[name] if runs else unknown_of(found)
        rows += [p.within(unknown) for p in found]
        print(f"{name}: {len(found)} measurements predicted, p95 to {100 * unknown:.1f} % were the speed known",
              flush=True)  # fmt: skip
    _write(out / ("predicted.csv" if runs is None else f"predicted-{runs.name}.csv"), rows)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in r.items()} for r in rows)
