"""Predictions for the runs of a live server, and what each miss is made of.

Three predictions stand beside each measured run. The *formula* and the *simulator* know the rate and the policy; the
*replay* sends the queries of that very run, at their arrival times and with their sizes, through the simulated server
a few times. Their differences name the parts of a miss:

``formula``
    formula against simulator, both for an endless run.
``arrivals``
    simulator against replay: what the few seconds of this run offered by chance.
``tracked``
    a replay at the speed of the machine during the run before, which had another policy or load.
``speed``
    replay against a replay whose services are all longer or shorter by the factor that the services of this very run
    were: drift of the machine between the runs.
``rest``
    that replay against the measured run: everything the model does not know.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.live import Run, even_load
from calibration.livefit import LiveFit, Services, fit, rows_of, scenario_text
from calibration.testbed import Load
from recqueue import load_scenario
from recqueue.analysis import evaluate
from recqueue.serving import Policy, Scenario
from recqueue.simulate import simulate, spawn
from recqueue.simulate.pools import AcceleratorPool, core_pool
from recqueue.simulate.replication import typical_batch
from recqueue.workload import mlperf_sizes

NAMES = ("mean", "p50", "p95", "p99")
REPLAYS = 12
"""Replays of a run, each with other service noise; their mean is the prediction."""
QUERIES = 200_000
"""Queries of a simulation that stands for an endless run."""


def replay(scenario: Scenario, load: Load, seed: int) -> NDArray[np.float64]:
    """Latencies of these very queries on the simulated server of the scenario, in order of arrival."""
    policy, streams = scenario.policy, spawn(seed, 1)[0]
    assert policy is not None  # set by the caller
    system, sizes = scenario.system, scenario.sizes
    cores = core_pool(system, policy, sizes.max_items, sizes.mean, typical_batch(scenario, policy), streams)
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


@dataclass(frozen=True)
class Measured:
    """A row of ``live.csv`` with the records behind it."""

    row: Mapping[str, str]
    records: Mapping[str, NDArray[Any]]

    @property
    def policy(self) -> Policy:
        """The policy of the run."""
        threshold = self.row["offload_threshold"]
        if not threshold:
            return Policy(int(self.row["batch_size"]))
        return Policy(int(self.row["batch_size"]), int(threshold), int(self.row["max_fused_queries"]))

    @property
    def load(self) -> Load:
        """The queries that were sent."""
        r = self.row
        run = Run(batch_size=int(r["batch_size"]), qps=float(r["qps"]), queries=int(r["queries"]), seed=int(r["seed"]))
        return even_load(run, mlperf_sizes())


def measured_runs(folder: Path, model: str) -> Iterator[Measured]:
    """Runs of a model at loads."""
    rows = [r for r in rows_of(folder / "live.csv") if r["model"] == model]
    with np.load(folder / f"records-{model}.npz") as archive:
        by_run: dict[str, dict[str, NDArray[Any]]] = {}
        for name in archive.files:
            number, _, column = name.partition("_")
            by_run.setdefault(number, {})[column] = archive[name]
    for row in rows:
        yield Measured(row, by_run[row["number"]])


def speed(fitted: LiveFit, run: Measured) -> float:
    """How much longer the services of a run were than expected of its batch sizes, busy workers and wake-ups."""
    if not len(run.records["start_us"]):
        return 1.0
    seen = Services.of(run.records)
    expected = fitted.expected(seen.items, seen.busy, seen.idle)
    return float(seen.seconds.sum() / expected.sum())


def slowed(scenario: Scenario, factor: float) -> Scenario:
    """The same with all services of the cores longer by a factor."""
    service = scenario.system.service
    longer = replace(service, seconds=tuple(factor * s for s in service.seconds))
    return replace(scenario, system=replace(scenario.system, service=longer))


def _quantiles(latency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean, median, p95 and p99 without the first tenth, as in the measured rows."""
    kept = latency[len(latency) // 10 :]
    return np.array([kept.mean(), *np.quantile(kept, (0.5, 0.95, 0.99))])


def predict(scenario: Scenario, fitted: LiveFit, run: Measured, before: float) -> dict[str, Any]:
    """Row of a run: measured, predicted in all ways, and the factors of its own speed and of that of the run before."""
    s = replace(scenario, policy=run.policy)
    qps, load, factor = float(run.row["qps"]), run.load, speed(fitted, run)
    formula, endless = evaluate(s, qps=qps), simulate(s, qps=qps, queries=QUERIES, seed=1)
    ways = {
        "formula": np.array([formula.latency_s[n] for n in NAMES]),
        "simulated": np.array([endless.latency_s[n] for n in NAMES]),
        "replayed": np.mean([_quantiles(replay(s, load, seed)) for seed in range(REPLAYS)], axis=0),
        "tracked": np.mean([_quantiles(replay(slowed(s, before), load, seed)) for seed in range(REPLAYS)], axis=0),
        "own_speed": np.mean([_quantiles(replay(slowed(s, factor), load, seed)) for seed in range(REPLAYS)], axis=0),
    }
    r = run.row
    kept = ("model", "split", "configuration", "load", "qps", "queries", "batch_size", "offload_threshold",
            "max_fused_queries")  # fmt: skip
    return {
        **{k: r[k] for k in kept},
        **{f"{n}_s": float(r[f"{n}_s"]) for n in NAMES},
        "p95_low_s": float(r["p95_low_s"]),
        "p95_high_s": float(r["p95_high_s"]),
        "utilization_cpu": float(r["utilization_cpu"]),
        "lateness_p99_s": float(r["lateness_p99_s"]),
        "steal_s": float(r["steal_s"]),
        "predicted_utilization_cpu": formula.utilization["cpu"],
        "speed": factor,
        "speed_before": before,
        **{f"{way}_{n}_s": float(v) for way, values in ways.items() for n, v in zip(NAMES, values, strict=True)},
    }


def measured_models(folder: Path) -> list[str]:
    """Models of a campaign, in the order in which they were measured."""
    return list(dict.fromkeys(r["model"] for r in rows_of(folder / "live.csv")))


def write_scenarios(folder: Path, names: list[str], out: Path) -> None:
    """Fit each model of a campaign and write its scenario into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        text = scenario_text(fit(folder, name), f"python -m calibration live-fit --models {name}")
        (out / f"{name}.yaml").write_text(text, encoding="utf-8")
        print(f"{out / name}.yaml", flush=True)


def predict_all(folder: Path, names: list[str], out: Path, *, runs: Path | None = None) -> None:
    """Predict all runs of a campaign by the scenarios in ``out``; rows go to ``predicted.csv`` there.

    With ``runs`` those of another campaign, in ``predicted-NAME.csv`` for its folder's name.
    """
    measured = runs or folder
    path = out / ("predicted.csv" if runs is None else f"predicted-{runs.name}.csv")
    rows: list[dict[str, Any]] = []
    for name in names:
        fitted, scenario, before = fit(folder, name), load_scenario(out / f"{name}.yaml"), 1.0
        for run in measured_runs(measured, name):
            rows.append(predict(scenario, fitted, run, before))
            before = rows[-1]["speed"]
        print(f"{name}: {len(rows)} runs predicted", flush=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in r.items()} for r in rows)
