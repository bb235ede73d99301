"""A sweep over policies and rates on more and more workers.

``OPENBLAS_NUM_THREADS=1 python -m benchmarks.sweep --points 1000000 --scaling 8000 --workers 1 2 4 8 16 --out DIR``
writes ``DIR/sweep.json`` and, for the large run, ``DIR/sweep.parquet``; ``python -m benchmarks.sweep --table DIR``
makes that the committed result and renews the table of the documentation.

Needs numpy, scipy, numba and pyarrow only. Every worker gets as many points of the same grid, so perfect scaling keeps
the time constant; the processes are started and warm before the clock is. Beside each number of workers a loop that
only adds and multiplies runs in as many processes: what the machine can give at the time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.scaling import _arithmetic, machine
from recqueue import profiles
from recqueue.analysis import evaluate
from recqueue.analysis.compiled import prepare
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.sweep import Options, Sweep, axis, read, run
from recqueue.sweep.points import FAST, Inner, Structure
from recqueue.workload import mlperf_sizes

BATCH_SIZES = axis("policy.batch_size", "4..500:+4", whole=True)
THRESHOLDS = axis("policy.offload_threshold", [None, "100..700:+100"], whole=True)
TOP_QPS = 2000.0
STEPS = 300_000_000
"""Of the arithmetic."""


def scenario() -> Scenario:
    """DLRM-RMC1 on 16 Xeon cores and an H200, as the packaged scenario of that name."""
    cpu, gpu = profiles.load("dlrm-rmc1", "xeon-16c"), profiles.load("dlrm-rmc1", "h200")
    return Scenario(
        name="dlrm-rmc1",
        model="dlrm-rmc1",
        system=System(
            name="xeon-16c",
            cores=16,
            service=cpu.service,
            contention=cpu.contention,
            dispatch_overhead_s=cpu.dispatch_overhead_s,
            accelerator=Accelerator(name="h200", service=gpu.service, fused_query_s=gpu.fused_query_s),
        ),
        sizes=mlperf_sizes(),
        sla=Sla(latency_s=0.1),
    )


def grid(points: int) -> Sweep:
    """About so many points: all policies at evenly spaced rates."""
    policies = len(BATCH_SIZES.values) * len(THRESHOLDS.values)
    count = max(2, round(points / policies))
    rates = axis("qps", ((np.arange(count) + 0.5) / count * TOP_QPS).tolist())
    axes = (BATCH_SIZES, THRESHOLDS, rates)
    values = {a.key: a.values for a in axes}
    return Sweep(
        axes=axes,
        structures=(Structure(scenario=scenario()),),
        inner=Inner(values=tuple(values.get(key) for key in FAST)),
        method="evaluate",
        options=Options(),
        config={"scenario": "benchmark", "vary": {key: list(v) for key, v in values.items()}, "method": "evaluate"},
        profiles={},
    )


def _spin(_: int) -> float:
    return _arithmetic(STEPS)


@contextmanager
def _started(workers: int) -> Iterator[Executor]:
    """Processes that have loaded and compiled everything, one after the other having begun at the same time."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        wait([pool.submit(prepare) for _ in range(2 * workers)])
        wait([pool.submit(time.sleep, 1.0) for _ in range(workers)])  # each process takes one
        wait([pool.submit(prepare) for _ in range(4 * workers)])
        wait([pool.submit(_arithmetic, 10) for _ in range(4 * workers)])
        yield pool


def _arithmetic_s(pool: Executor, workers: int) -> float:
    begin = time.perf_counter()
    wait([pool.submit(_spin, i) for i in range(workers)])
    return time.perf_counter() - begin


def scaling(each: int, workers: list[int], out: Path) -> list[dict[str, Any]]:
    """So many points for every worker."""
    rows: list[dict[str, Any]] = []
    for w in workers:
        with _started(w) as pool:
            sweep, path = grid(each * w), out / f"scaling-{w}.parquet"
            control_s = _arithmetic_s(pool, w)
            done = run(sweep, path, executor=pool, workers=w, fresh=True)
            path.unlink()
        row = {
            "workers": w,
            "points": done.points,
            "seconds": done.seconds,
            "points_per_s": done.points / done.seconds,
            "points_per_s_per_worker": done.points / done.seconds / w,
            "answered": done.statuses.get("ok", 0) / done.points,
            "arithmetic_s": control_s,
        }
        first = rows[0] if rows else row
        row["efficiency"] = row["points_per_s_per_worker"] / first["points_per_s_per_worker"]
        row["arithmetic_efficiency"] = first["arithmetic_s"] / control_s
        rows.append(row)
        print(
            f"{w:>3} workers {row['points']:>8,} points {row['seconds']:7.1f} s, {row['points_per_s']:8.0f} points/s, "
            f"{row['points_per_s_per_worker']:6.0f} each, efficiency {row['efficiency']:.2f} (arithmetic "
            f"{row['arithmetic_efficiency']:.2f})",
            flush=True,
        )
    return rows


def large(points: int, workers: int, out: Path) -> dict[str, Any]:
    """One large sweep from nothing to its table, processes included."""
    sweep, path = grid(points), out / "sweep.parquet"
    reported = 0.0

    def show(done: int, of: int) -> None:
        nonlocal reported
        if time.perf_counter() - reported > 10:
            reported = time.perf_counter()
            print(f"    {done:,} of {of:,}", flush=True)

    done = run(sweep, path, workers=workers, fresh=True, progress=show)
    row = {
        "workers": workers,
        "points": done.points,
        "seconds": done.seconds,
        "points_per_s": done.points / done.seconds,
        "points_per_s_per_worker": done.points / done.seconds / workers,
        "answered": done.statuses.get("ok", 0) / done.points,
        "statuses": dict(done.statuses),
        "bytes": path.stat().st_size,
        "largest_difference": _difference(path),
    }
    print(f"{row['points']:,} points on {workers} workers: {row['seconds']:.1f} s, {row['points_per_s']:.0f} points/s, "
          f"differs from evaluate by {row['largest_difference']:.1e}", flush=True)  # fmt: skip
    return row


def _difference(path: Path, rows: int = 200) -> float:
    """Largest relative difference of the percentiles of some rows from those that evaluate gives."""
    t, base, worst = read(path).columns, scenario(), 0.0
    answered = np.flatnonzero(t["status"] == "ok")
    for i in np.random.default_rng(0).choice(answered, min(rows, len(answered)), replace=False):
        threshold = t["offload_threshold"][i]
        policy = Policy(int(t["batch_size"][i]), None if threshold is None else int(threshold))
        p = evaluate(replace(base, policy=policy), qps=float(t["qps"][i]))
        worst = max(worst, *(abs(t[f"{name}_s"][i] / p.latency_s[name] - 1) for name in ("mean", "p50", "p95", "p99")))
    return float(worst)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=0, help="points of the large sweep, on the most workers; 0: none")
    parser.add_argument("--scaling", type=int, default=2000, help="points for each worker; 0: no scaling")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=Path("sweep-benchmark"))
    parser.add_argument("--table", type=Path, metavar="DIR", help="commit the result in DIR; measure nothing")
    options = parser.parse_args()
    if options.table:
        shutil.copy(options.table / "sweep.json", tables.RESULTS / "sweep.json")
        tables.write()
        return
    options.out.mkdir(parents=True, exist_ok=True)
    begin, where, workers = time.perf_counter(), machine(), sorted(options.workers)
    prepare()
    compile_s = time.perf_counter() - begin
    print(f"compiled or loaded in {compile_s:.1f} s", flush=True)
    found: dict[str, Any] = {
        "schema": 1,
        "machine": where,
        "grid": {"batch_sizes": len(BATCH_SIZES.values), "thresholds": len(THRESHOLDS.values), "top_qps": TOP_QPS},
        "compile_s": compile_s,
        "rows": [],
        "large": None,
    }
    path = options.out / "sweep.json"
    if options.scaling:
        found["rows"] = scaling(options.scaling, workers, options.out)
        path.write_text(json.dumps(found, indent=1) + "\n")
    if options.points:
        found["large"] = large(options.points, workers[-1], options.out)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{path}: {time.perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
