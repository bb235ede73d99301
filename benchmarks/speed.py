"""The simulator against a C loop and other simulators, in turns: ``python -m benchmarks.speed``."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np

from benchmarks import c_loop, peers, scenarios
from recqueue.serving import Scenario
from recqueue.simulate import Finished, long_run, run_blocks, spawn
from recqueue.simulate.engine import FINISH, central_ring, central_sorted
from recqueue.simulate.streams import arrival_times_s, query_items, service_noise

QUERIES = 1 << 19
ROUNDS = 7


@dataclass
class Contestant:
    """A simulator on a workload; ``run`` returns (sub-requests, events, seconds)."""

    name: str
    reference: str
    run: Callable[[], tuple[int, int, float]]
    rounds: int = ROUNDS
    best_s: float = np.inf
    sub_requests: int = 0
    events: int = 0


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def ours(name: str, scenario: Scenario, reference: str, queries: int = QUERIES) -> Contestant:
    """All that a user gets: inputs drawn, queries served, every latency stored."""
    latency = np.empty(queries)

    def visit(finished: Finished) -> None:
        latency[finished.query] = finished.latency_s

    def run() -> tuple[int, int, float]:
        assert scenario.policy is not None
        begin = time.perf_counter()
        totals = run_blocks(scenario, scenario.policy, scenario.qps or 0.0, queries, spawn(1, 1)[0], visit)
        seconds = time.perf_counter() - begin
        # what an event list would hold: an arrival for each query, a completion for each sub-request
        return totals.sub_requests, totals.sub_requests + queries, seconds

    return Contestant(name, reference, run)


def against_c(cv: float) -> list[Contestant]:
    """Both ways to compare: everything included, and the loops alone on the same numbers."""
    c, scenario, label = c_loop.load(), scenarios.central(cv=cv), "noise" if cv else "no noise"
    n = QUERIES
    run_c, latency_c = c_loop.own_inputs(c, scenario, n)
    streams = spawn(1, 1)[0]
    arrival, items = arrival_times_s(scenario.arrivals, scenario.qps, n, streams.arrivals), None
    items = query_items(scenario.sizes, n, streams.sizes)
    parts = int((-(-items // scenarios.BATCH_SIZE)).sum())
    noise = service_noise(cv, parts, streams.service_cpu)
    loop_c, given_c = c_loop.given_inputs(c, scenario, arrival, items, noise if cv else None)
    service, cores, out = c_loop.service_table(scenario), scenario.system.cores, np.empty((4, n))

    def loop() -> None:
        if cv:
            free = np.append(np.zeros(cores), np.inf)
            central_sorted(arrival, items, scenarios.BATCH_SIZE, service, noise, free, out)
        else:
            full, part, state = np.zeros(64), np.empty(cores), np.array([0, cores, 0])
            central_ring(arrival, items, scenarios.BATCH_SIZE, service, full, part, state, out)

    loop_c(), loop(), run_c()
    if not np.array_equal(out[FINISH] - arrival, given_c):
        raise SystemExit("the C loop and ours disagree on the same inputs: nothing to compare")
    mean, other = float(np.mean(out[FINISH] - arrival)), float(latency_c.mean())
    if abs(mean / other - 1) > 0.02:  # about 0.3 % of standard error each: a different model, not bad luck
        raise SystemExit(f"the C loop has mean latency {other:.6f} s where ours has {mean:.6f} s")

    def run_own() -> tuple[int, int, float]:
        begin = time.perf_counter()
        count = run_c()
        return count, count + n, time.perf_counter() - begin

    reference, alone = f"C heap, {label}", f"C heap, {label}, loop alone"
    structure = "sorted cores" if cv else "ring"
    return [
        Contestant(reference, reference, run_own),
        ours(f"recqueue {structure}, {label}", scenario, reference),
        Contestant(alone, alone, lambda: (parts, parts + n, timed(loop_c))),
        Contestant(f"recqueue {structure}, {label}, loop alone", alone, lambda: (parts, parts + n, timed(loop))),
    ]


def event_loops() -> list[Contestant]:
    """What needs a list of events, beside the C loop that does without one."""
    reference, few = f"C heap, {'noise'}", QUERIES >> 2
    return [
        ours("recqueue contention, noise", scenarios.with_contention(), reference, few),
        *(
            ours(f"recqueue {dispatch}, noise", scenarios.with_dispatch(dispatch), reference, few)
            for dispatch in ("random", "round_robin", "jsq", "prefetch")
        ),
        ours("recqueue fusion, noise", scenarios.with_fusion(), reference),
    ]


def others() -> tuple[list[Contestant], dict[str, str]]:
    """Peers that are installed, and why the others are missing."""
    scenario, found, reasons = scenarios.central(), [], {}
    runs: dict[str, tuple[str, Callable[[], tuple[int, float]]]] = {
        "ciw": ("Ciw, M^X/D/40", lambda: peers.ciw(scenario, 400)),
        "simpy": ("SimPy, split queries", lambda: peers.simpy(scenario, 1500)),
        "line_solver": ("LINE LDES, M/M/40", lambda: peers.line(scenario, scenarios.LOAD)),
    }
    for package, (name, run) in runs.items():
        reason = peers.missing(package)
        if reason:
            reasons[name] = reason
            continue

        def once(run: Callable[[], tuple[int, float]] = run) -> tuple[int, int, float]:
            count, seconds = run()
            return count, count, seconds

        found.append(Contestant(name, "C heap, no noise", once, rounds=3))
    return found, reasons


def race(contestants: list[Contestant]) -> list[dict[str, object]]:
    """Let all run in turns and keep the best time of each, with the ratio to the best of its reference."""
    for c in contestants:
        c.run()  # compile, fill caches
    for turn in range(max(c.rounds for c in contestants)):
        for c in contestants:
            if turn < c.rounds:
                count, events, seconds = c.run()
                if seconds < c.best_s:
                    c.sub_requests, c.events, c.best_s = count, events, seconds
    rate = {c.name: c.sub_requests / c.best_s for c in contestants}
    return [
        {
            "name": c.name,
            "sub_requests": c.sub_requests,
            "best_s": c.best_s,
            "sub_requests_per_s": rate[c.name],
            "events_per_s": c.events / c.best_s,
            "reference": c.reference,
            "ratio": rate[c.name] / rate[c.reference],
            "rounds": c.rounds,
        }
        for c in contestants
    ]


def efficiency(workers: int, *, kind: str, queries: int = QUERIES, rounds: int = ROUNDS) -> dict[str, object]:
    """Speed of ``workers`` workers with one replication each over that many times the speed of one worker."""
    scenario, best = scenarios.central(), {1: np.inf, workers: np.inf}
    make: Callable[[], Executor] = (
        (lambda: ThreadPoolExecutor(workers))
        if kind == "threads"
        else lambda: ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    )

    def run(executor: Executor, count: int) -> float:
        return timed(
            lambda: long_run(
                scenario, qps=scenario.qps or 0.0, queries=count * queries, replications=count, executor=executor
            )
        )

    with make() as executor:
        list(executor.map(time.sleep, [0.2] * workers))  # every worker has started
        long_run(replace(scenario), qps=1.0, queries=workers, replications=workers, executor=executor)
        for _ in range(rounds):
            for count in best:
                best[count] = min(best[count], run(executor, count))
    return {"kind": kind, "workers": workers, "efficiency": best[1] / best[workers], "seconds": list(best.values())}
