"""Other simulators, as near to 40 cores with split queries as their models allow."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import time
from importlib.util import find_spec
from itertools import pairwise

import numpy as np

from benchmarks.c_loop import service_table
from recqueue.serving import Scenario

LINE_PYTHON = "LINE_PYTHON"
"""Environment variable with the interpreter of an environment that holds line-solver."""
_LINE = """
import sys, time
from line_solver import LDES, Exp, Network, OpenClass, Queue, SchedStrategy, Sink, Source
cores, load, seed, samples = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
m = Network("m")
source, queue, sink = Source(m, "source"), Queue(m, "queue", SchedStrategy.FCFS), Sink(m, "sink")
queue.set_number_of_servers(cores)
job = OpenClass(m, "job")
source.set_arrival(job, Exp(load * cores))
queue.set_service(job, Exp(1.0))
m.link(Network.serial_routing(source, queue, sink))
begin = time.perf_counter()
LDES(m, samples=samples, seed=seed).avg_table()
print("seconds", time.perf_counter() - begin)
"""


def missing(package: str) -> str | None:
    """Reason to skip a peer, or None."""
    if package == "line_solver":
        if not os.environ.get(LINE_PYTHON):
            return f"line-solver needs an environment of its own: set {LINE_PYTHON} to its interpreter"
        return None
    return None if find_spec(package) else f"{package} is not installed: pip install 'recqueue[bench]'"


def ciw(scenario: Scenario, queries: int) -> tuple[int, float]:
    """M^X/D/k: all sub-requests of one size, which is as far as its batches go. (sub-requests, seconds)."""
    import ciw as library

    policy, qps = scenario.policy, scenario.qps
    assert policy is not None
    assert qps is not None
    items = np.arange(1, scenario.sizes.max_items + 1)
    parts = np.bincount(-(-items // policy.batch_size), scenario.sizes.pmf[1:])
    sizes = [int(x) for x in np.flatnonzero(parts)]
    library.seed(1)
    network = library.create_network(
        arrival_distributions=[library.dists.Exponential(rate=qps)],
        service_distributions=[library.dists.Deterministic(value=float(service_table(scenario)[-1]))],
        number_of_servers=[scenario.system.cores],
        batching_distributions=[library.dists.Pmf(values=sizes, probs=[float(parts[x]) for x in sizes])],
    )
    simulation = library.Simulation(network)
    begin = time.process_time()
    simulation.simulate_until_max_time(queries / qps)
    seconds = time.process_time() - begin
    return len(simulation.get_all_records()), seconds


def simpy(scenario: Scenario, queries: int) -> tuple[int, float]:
    """The same model as ours, latencies recorded: a process for each sub-request. (sub-requests, seconds)."""
    import simpy as library

    policy, qps = scenario.policy, scenario.qps
    assert policy is not None
    assert qps is not None
    service, batch = service_table(scenario).tolist(), policy.batch_size
    sizes = random.Random(1).choices(range(len(scenario.sizes.pmf)), scenario.sizes.pmf.tolist(), k=queries)
    gaps = random.Random(2)
    environment = library.Environment()
    cores = library.Resource(environment, capacity=scenario.system.cores)
    latencies = []

    def part(seconds):  # type: ignore[no-untyped-def]
        with cores.request() as core:
            yield core
            yield environment.timeout(seconds)

    def query(items):  # type: ignore[no-untyped-def]
        arrival = environment.now
        cuts = [*range(0, items, batch), items]
        yield environment.all_of([environment.process(part(service[b - a])) for a, b in pairwise(cuts)])
        latencies.append(environment.now - arrival)

    def source():  # type: ignore[no-untyped-def]
        for items in sizes:
            yield environment.timeout(gaps.expovariate(qps))
            environment.process(query(items))

    environment.process(source())
    begin = time.process_time()
    environment.run()
    seconds = time.process_time() - begin
    assert len(latencies) == queries
    return sum(-(-n // batch) for n in sizes), seconds


def line(scenario: Scenario, load: float, few: int = 200_000, many: int = 1_200_000) -> tuple[int, float]:
    """LINE's LDES engine on M/M/k (no batches), between two run lengths, so without start-up. (jobs, seconds).

    It is a process of its own: its time is the smaller of the time that passes and the processor time of its threads.
    """

    def run(samples: int) -> tuple[float, float]:
        command = [os.environ[LINE_PYTHON], "-c", _LINE, str(scenario.system.cores), str(load), "1", str(samples)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        passed = next(float(row.split()[1]) for row in out.splitlines() if row.startswith("seconds"))
        return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    first, second = run(few), run(many)
    return many - few, min(b - a for a, b in zip(first, second, strict=True))
