"""Replications on more and more workers: ``python -m benchmarks.scaling --workers 1 2 4 8 16 --out FILE``.

Needs numpy, scipy and numba only. Every worker gets one replication of the same length, so perfect scaling keeps the
time constant; efficiency is the time of one worker over the time of all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from benchmarks import scenarios
from recqueue.simulate import long_run


def processor() -> str:
    """Name of the processor, as Linux says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "numba")},
    }


def measure(kind: str, workers: list[int], queries: int, rounds: int) -> list[dict[str, object]]:
    """Best time of each number of workers, all of them in turns."""
    scenario = scenarios.central()
    context = get_context("spawn")
    pools: dict[int, Executor] = {
        w: ThreadPoolExecutor(w) if kind == "threads" else ProcessPoolExecutor(w, mp_context=context) for w in workers
    }
    best: dict[int, float] = {}
    counts: dict[int, int] = {}
    for turn in range(rounds + 1):
        for w, pool in pools.items():
            begin = time.perf_counter()
            # the first turn starts the workers and lets each of them compile
            each = queries if turn else 2000
            run = long_run(scenario, qps=scenario.qps or 0.0, queries=w * each, replications=w, executor=pool)
            seconds = time.perf_counter() - begin
            if turn and seconds < best.get(w, float("inf")):
                best[w], counts[w] = seconds, run.sub_requests
    for pool in pools.values():
        pool.shutdown()
    one = counts[workers[0]] / best[workers[0]] / workers[0]
    return [
        {
            "kind": kind,
            "workers": w,
            "best_s": best[w],
            "sub_requests_per_s": counts[w] / best[w],
            "efficiency": counts[w] / best[w] / w / one,
        }
        for w in workers
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--queries", type=int, default=2_000_000, help="counted queries of each replication")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=["threads", "processes"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [r for k in options.kinds for r in measure(k, sorted(options.workers), options.queries, options.rounds)]
    for r in rows:
        print(
            f"{r['kind']:>9} {r['workers']:>3} workers {r['sub_requests_per_s'] / 1e6:9.1f} million sub-requests/s, "
            f"efficiency {r['efficiency']:.2f}"
        )
    arguments = {"queries": options.queries, "rounds": options.rounds}
    if options.out:
        options.out.write_text(json.dumps({"machine": machine(), **arguments, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
