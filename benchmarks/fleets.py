"""A day of 200 machines under every router: ``python -m benchmarks.fleets``; renews the table in docs/fleets.rst.

Each router gets the same queries, 24 hours long, with a third of the machines off at night. The reference is one
machine of that fleet at the same load with about as many queries, in the simulator of a single machine. Both draw their
random inputs as they go. All are timed in turns, in processor time of one core; the best round of each counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from recqueue.profiles import Contention, LatencyCurve
from recqueue.serving import Day, Fleet, MachineGroup, Policy, Router, Scenario, Sla, System
from recqueue.simulate import run_once, spawn
from recqueue.simulate.fleet import load_per_qps, router_stream, run_day
from recqueue.simulate.machines import kind_of
from recqueue.workload import mlperf_sizes

MACHINES = 200
LOAD = 0.75
"""Offered load when all machines are on, at noon."""
ROUTERS = (
    Router(choice="random"),
    Router(choice="round_robin"),
    Router(choice="jsq", sampled=2),
    Router(choice="least_work", sampled=2),
    Router(choice="jsq"),
    Router(choice="least_work"),
)
RESULT = Path(__file__).with_name("results") / "fleets.json"
TABLE = Path(__file__).parents[1] / "docs" / "fleets_table.inc"


def machine(*, cv: float = 0.2) -> System:
    """Sixteen cores that slow each other, with service noise."""
    return System(
        name="server",
        cores=16,
        service=LatencyCurve(items=(1, 64, 1024), seconds=(2e-4, 9e-4, 1.3e-2), cv=cv),
        contention=Contention(busy=(1, 8, 16), factor=(1.0, 1.1, 1.3)),
    )


def fleet() -> Fleet:
    """The fleet; its router is replaced by each in turn."""
    sizes, policy = mlperf_sizes(), Policy(64)
    capacity = MACHINES / load_per_qps(kind_of(machine(), policy, sizes.max_items), sizes)
    active = tuple(MACHINES if 7 <= hour < 23 else 2 * MACHINES // 3 for hour in range(24))
    return Fleet(
        name="two hundred",
        model="custom",
        groups=(MachineGroup(name="server", system=machine(), policy=policy, count=MACHINES, active=active),),
        router=ROUTERS[0],
        day=Day(time_h=(3, 12, 20), qps=(0.4 * LOAD * capacity, LOAD * capacity, LOAD * capacity)),
        sizes=sizes,
        sla=Sla(latency_s=0.05),
    )


def tasks(queries: int) -> dict[str, Callable[[], tuple[int, int]]]:
    """Name -> a call that simulates and returns sub-requests and queries."""
    described = fleet()
    (group,) = described.groups
    kinds = [kind_of(group.system, group.policy, described.sizes.max_items)]
    hour_s = queries / float(described.day.hourly_qps().sum())
    alone = Scenario(
        name="one", model="custom", system=group.system, sizes=described.sizes, sla=described.sla, policy=group.policy
    )
    rate = LOAD / load_per_qps(kinds[0], described.sizes)

    def day(router: Router) -> tuple[int, int]:
        run = run_day(replace(described, router=router), kinds, hour_s, spawn(0, 1)[0], router_stream(0, 0))
        return run.sub_requests, len(run.latency_s)

    def one() -> tuple[int, int]:
        run = run_once(alone, group.policy, rate, round(0.8 * queries), spawn(0, 1)[0])
        return run.sub_requests, queries

    return {"one machine, single-machine simulator": one} | {
        f"{MACHINES} machines, {router}": lambda router=router: day(router) for router in ROUTERS
    }


def measure(queries: int, rounds: int) -> list[dict[str, object]]:
    """Best processor time of each task."""
    calls = tasks(queries)
    best: dict[str, tuple[float, int, int]] = {}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            begin = time.process_time()
            sub_requests, answered = call()
            seconds = time.process_time() - begin
            if turn and seconds < best.get(name, (np.inf, 0, 0))[0]:  # the first turn compiles
                best[name] = seconds, sub_requests, answered
    reference = best["one machine, single-machine simulator"]
    return [
        {
            "name": name,
            "seconds": seconds,
            "queries": answered,
            "sub_requests": sub_requests,
            "sub_requests_per_s": sub_requests / seconds,
            "events_per_s": (sub_requests + answered) / seconds,
            "ratio": (sub_requests / seconds) / (reference[1] / reference[0]),
        }
        for name, (seconds, sub_requests, answered) in best.items()
    ]


def processor() -> str:
    """Name of the processor, as Linux says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def table(record: dict[str, object]) -> str:
    """The measured rows as reStructuredText."""
    lines = [
        f".. list-table:: {record['processor']}, {record['cores']} cores, numba {record['numba']}; one core used",
        "   :header-rows: 1",
        "",
    ]
    header = ["fleet and router", "million sub-requests/s", "million events/s", "times the single machine"]
    rows = [
        [r["name"], *(f"{r[key] / 1e6:.3g}" for key in ("sub_requests_per_s", "events_per_s")), f"{r['ratio']:.2f}"]
        for r in record["rows"]  # type: ignore[attr-defined]
    ]
    for row in [header, *rows]:
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and renew the committed result and the table of the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=400_000, help="queries of the day")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    record: dict[str, object] = {
        "schema": 1,
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numba": version("numba"),
        "queries": options.queries,
        "rounds": options.rounds,
        "rows": measure(options.queries, options.rounds),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    TABLE.write_text(table(record), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
