"""The simulator against a C loop and other simulators, in turns.

All of them use one core, and their time is processor time, so that other work on the machine disturbs less: on an idle
machine it is the time that passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import c_loop, peers, scaling, scenarios
from recqueue.serving import Scenario
from recqueue.simulate import Finished, run_blocks, spawn
from recqueue.simulate.engine import FINISH, central_ring, central_sorted
from recqueue.simulate.streams import arrival_times_s, query_items, service_noise

QUERIES = 1 << 19
ROUNDS = 5
PEER_ROUNDS = 2
SHORT, BURSTS = 200_000, 60
"""Queries of a worker and rounds where two workers are compared with one: short, so that some find both cores idle."""


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
    """Seconds of processor time of one call."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def ours(name: str, scenario: Scenario, reference: str, queries: int = QUERIES) -> Contestant:
    """All that a user gets: inputs drawn, queries served, every latency stored."""
    latency = np.empty(queries)

    def visit(finished: Finished) -> None:
        latency[finished.query] = finished.latency_s

    def run() -> tuple[int, int, float]:
        assert scenario.policy is not None
        begin = time.process_time()
        totals = run_blocks(scenario, scenario.policy, scenario.qps or 0.0, queries, spawn(1, 1)[0], visit)
        seconds = time.process_time() - begin
        # what an event list would hold: an arrival for each query, a completion for each sub-request
        return totals.sub_requests, totals.sub_requests + queries, seconds

    return Contestant(name, reference, run)


def against_c(cv: float) -> list[Contestant]:
    """Both ways to compare: everything included, and the loops alone on the same numbers."""
    c, scenario, label = c_loop.load(), scenarios.central(cv=cv), "noise" if cv else "no noise"
    n = QUERIES
    run_c, latency_c = c_loop.own_inputs(c, scenario, n)
    streams = spawn(1, 1)[0]
    arrival = arrival_times_s(scenario.arrivals, scenario.qps or 0.0, n, streams.arrivals)
    items = query_items(scenario.sizes, n, streams.sizes)
    parts = int((-(-items // scenarios.BATCH_SIZE)).sum())
    noise = service_noise(cv, parts, streams.service_cpu)
    loop_c, given_c = c_loop.given_inputs(c, scenario, arrival, items, noise if cv else None)
    service, cores, out = c_loop.service_table(scenario), scenario.system.cores, np.empty((4, n))

    def loop() -> None:
        if cv:
            free = np.append(np.zeros(cores), np.inf)
            central_sorted(arrival, items, scenarios.BATCH_SIZE, service, noise, 0.0, free, out)
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
        begin = time.process_time()
        count = run_c()
        return count, count + n, time.process_time() - begin

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
    reference, few = "C heap, noise", QUERIES >> 2
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
        "ciw": ("Ciw, M^X/D/40", lambda: peers.ciw(scenario, 1500)),
        "simpy": ("SimPy, split queries", lambda: peers.simpy(scenario, 4000)),
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

        found.append(Contestant(name, "C heap, no noise", once, rounds=PEER_ROUNDS))
    return found, reasons


def race(contestants: list[Contestant]) -> list[dict[str, object]]:
    """Let all run in turns and keep the best time of each, with the ratio to the best of its reference."""
    for c in contestants:
        if c.rounds > PEER_ROUNDS:
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


def measure() -> dict[str, object]:
    """Everything; C, its rivals and two workers."""
    if c_loop.compiler() is None:
        raise SystemExit("the reference of these benchmarks is a C loop, and there is no gcc here; install gcc")
    peers_found, reasons = others()
    rows = race([*against_c(0.0), *against_c(scenarios.CV), *event_loops(), *peers_found])
    return {
        "compiler": c_loop.compiler(),
        "flags": " ".join(c_loop.FLAGS[:2]),
        "rows": rows,
        "skipped": reasons,
        "workers": scaling.measure(scaling.KINDS, [1, 2], SHORT, BURSTS),
    }
