"""Replications on more and more workers: ``python -m benchmarks.scaling --workers 1 2 4 8 16 --out FILE``.

Needs numpy, scipy and numba only. Every worker gets one replication of the same length, so perfect scaling keeps the
time constant; efficiency is the time of one worker over the time of all. Beside it, in turns, a loop that only adds and
multiplies, on as many threads: what the machine can give at the time.
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

from numba import njit

from benchmarks import scenarios
from recqueue.simulate import long_run

CONTROL = "arithmetic"
KINDS = ["threads", "processes", CONTROL]


def processor() -> str:
    """Name of the processor, as Linux says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def machine() -> dict[str, object]:
    """What the figures are taken on, and how many processes wanted to run in the minute before."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "numba")},
    }


@njit(cache=True, nogil=True)
def _arithmetic(steps: int) -> float:
    x = 1.0
    for _ in range(steps):
        x = x * 1.0000001 + 1e-9
    return x


def _pool(kind: str, workers: int) -> Executor:
    if kind == "processes":
        return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    return ThreadPoolExecutor(workers)


def _work(kind: str, pool: Executor, workers: int, queries: int) -> int:
    """Give every worker its share; the sub-requests simulated, 0 of plain arithmetic."""
    if kind == CONTROL:
        list(pool.map(_arithmetic, [30 * queries] * workers))  # about as long as the replication
        return 0
    scenario = scenarios.central()
    run = long_run(scenario, qps=scenario.qps or 0.0, queries=workers * queries, replications=workers, executor=pool)
    return run.sub_requests


def measure(kinds: list[str], workers: list[int], queries: int, rounds: int) -> list[dict[str, object]]:
    """Best time of each kind and number of workers, all of them in turns."""
    pools = {(kind, w): _pool(kind, w) for kind in kinds for w in workers}
    best = dict.fromkeys(pools, float("inf"))
    done = dict.fromkeys(pools, 0)
    for turn in range(rounds + 1):
        for (kind, w), pool in pools.items():
            begin = time.perf_counter()
            # the first turn starts the workers and lets each of them compile
            done[kind, w] = _work(kind, pool, w, queries if turn else 2000)
            if turn:
                best[kind, w] = min(best[kind, w], time.perf_counter() - begin)
    for pool in pools.values():
        pool.shutdown()
    return [
        {
            "kind": kind,
            "workers": w,
            "best_s": best[kind, w],
            "sub_requests_per_s": done[kind, w] / best[kind, w],
            "efficiency": best[kind, workers[0]] / best[kind, w],
        }
        for kind, w in pools
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--queries", type=int, default=2_000_000, help="counted queries of each replication")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--out", type=Path)
    options, where = parser.parse_args(), machine()
    rows = measure(options.kinds, sorted(options.workers), options.queries, options.rounds)
    for r in rows:
        speed = f"{r['sub_requests_per_s'] / 1e6:9.1f} million sub-requests/s, " if r["sub_requests_per_s"] else ""
        print(f"{r['kind']:>10} {r['workers']:>3} workers {speed}efficiency {r['efficiency']:.2f}")
    arguments = {"queries": options.queries, "rounds": options.rounds}
    if options.out:
        options.out.write_text(json.dumps({"machine": where, **arguments, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
