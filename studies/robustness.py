"""Random scenarios through the simulator: it never crashes, hangs or returns NaN, and it obeys the laws of queues.

Claim: whatever machine, load, sizes, arrivals and policy hypothesis comes up with, every query is answered once, the
latencies obey Little's law against an independent count of the queries in the system, servers are busy for exactly the
services they give (with contention, within its range), starts are first come, first served, and the statistics on top
are finite and in order.

``python -m studies.robustness --scenarios 10000`` needs the test dependencies and shows its progress. Each 250 of them
are a row of ``studies/results/robustness.csv``; a run that was stopped goes on where it was, ``--fresh`` starts again.
"""

from __future__ import annotations

import argparse
import csv
import faulthandler
import math
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from recqueue import simulate
from recqueue.cli.records import performance_record
from recqueue.errors import OutsideMeasuredRangeWarning
from recqueue.profiles import NO_CONTENTION, Contention, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import Finished, offered_load, run_blocks, spawn
from recqueue.simulate.streams import ArrivalTimes, QueryItems, ServiceNoise
from recqueue.workload import (
    POISSON,
    Arrivals,
    QuerySizes,
    diurnal_arrivals,
    mmpp_arrivals,
    renewal_arrivals,
    sizes_from_pmf,
    trace_arrivals,
)
from studies.record import RESULTS, command_line, read_rows, save_record

CSV = RESULTS / "robustness.csv"
CHUNK = 250
HANGS_S = 120.0
"""Seconds without an answer after which a scenario counts as hanging: the process ends and shows where."""
ROUNDING = 1e-9
"""Relative roundings of sums of some thousand times."""


@dataclass(frozen=True)
class Case:
    """A scenario, its load and rate, the length of the run and the seed."""

    scenario: Scenario
    load: float
    qps: float
    queries: int
    seed: int


def curves(largest: int) -> st.SearchStrategy[LatencyCurve]:
    """Latency tables that end anywhere, also below the largest query."""
    points = st.lists(st.integers(1, largest), min_size=1, max_size=4, unique=True).map(sorted)
    return points.flatmap(
        lambda items: st.builds(
            LatencyCurve,
            items=st.just(tuple(items)),
            seconds=st.lists(st.floats(1e-5, 0.05), min_size=len(items), max_size=len(items)).map(
                lambda times: tuple(sorted(times))
            ),
            cv=st.sampled_from([0.0, 0.0, 0.2, 1.5]),
        )
    )


@st.composite
def query_sizes(draw: st.DrawFn) -> QuerySizes:
    """One size, or a few with any weights."""
    items = draw(st.lists(st.integers(1, 600), min_size=1, max_size=5, unique=True).map(sorted))
    return sizes_from_pmf(items, draw(st.lists(st.floats(0.01, 1), min_size=len(items), max_size=len(items))))


@st.composite
def arrival_processes(draw: st.DrawFn, qps: float) -> Arrivals:
    """Every kind of process, its own times within a thousand times those of the queries."""
    kind = draw(st.sampled_from(["poisson", "renewal", "hyper", "mmpp", "diurnal", "trace", "legacy"]))
    if kind == "renewal":
        return renewal_arrivals(draw(st.sampled_from([0.0, 0.1, 1.0, 5.0])))
    if kind == "hyper":
        return renewal_arrivals(draw(st.floats(1, 30)), "hyperexponential")
    if kind == "mmpp":
        states = draw(st.integers(2, 4))
        rates = draw(st.lists(st.floats(0.01, 10), min_size=states, max_size=states))
        rows = st.lists(st.floats(1e-3, 5), min_size=states, max_size=states)
        switch = np.array(draw(st.lists(rows, min_size=states, max_size=states))) * qps
        return mmpp_arrivals(rates, switch * (1 - np.eye(states)))
    if kind == "diurnal":
        period = draw(st.floats(5, 5000)) / qps
        rates = draw(st.lists(st.floats(0, 5), min_size=2, max_size=6).filter(lambda r: max(r) > 0.1))
        return diurnal_arrivals(np.arange(len(rates)) / len(rates) * period, rates, period)
    if kind == "trace":
        gaps = draw(st.lists(st.floats(0, 3), min_size=2, max_size=30).filter(lambda g: sum(g) > 0.1))
        return trace_arrivals(np.concatenate(([0.0], np.cumsum(gaps))))
    return POISSON if kind == "poisson" else Arrivals(process="legacy_deeprecsys")


@st.composite
def cases(draw: st.DrawFn, most_queries: int = 1200) -> Case:
    """Machines of 1 to 64 cores with or without accelerators, loads from 5 % to 150 %, everything else at random."""
    sizes = draw(query_sizes())
    cores = draw(st.sampled_from([1, 2, 3, 8, 40, 64]))
    contention = NO_CONTENTION
    if cores > 1 and draw(st.booleans()):
        contention = Contention(busy=(1, cores), factor=(1.0, draw(st.sampled_from([0.7, 1.1, 2.5]))))
    accelerator = None
    if draw(st.booleans()):
        fused = draw(st.sampled_from([1, 1, 2, 5]))
        accelerator = Accelerator(
            name="device",
            service=draw(curves(600)),
            count=draw(st.integers(1, 3)),
            max_fused_queries=fused,
            fused_query_s=draw(st.sampled_from([0.0, 1e-4])),
            fusion_wait_s=draw(st.sampled_from([0.0, 2e-3])) if fused > 1 else 0.0,
        )
    system = System(
        name="cores",
        cores=cores,
        service=draw(curves(600)),
        contention=contention,
        dispatch_overhead_s=draw(st.sampled_from([0.0, 1e-4])),
        dispatch=draw(st.sampled_from(["central", "central", "random", "round_robin", "jsq", "prefetch"])),
        prefetch=draw(st.integers(1, 8)),
        accelerator=accelerator,
    )
    threshold = draw(st.none() | st.integers(1, sizes.max_items)) if accelerator else None
    policy = Policy(draw(st.integers(1, 700)), threshold)
    percentile, bound_s = draw(st.sampled_from([50.0, 95.0, 99.9])), draw(st.floats(1e-4, 1))
    plain = Scenario(
        name="random",
        model="random",
        system=system,
        sizes=sizes,
        sla=Sla(percentile=percentile, latency_s=bound_s),
        policy=policy,
    )
    load = draw(st.sampled_from([0.05, 0.5, 0.9, 0.99, 1.5]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideMeasuredRangeWarning)
        qps = load / max(offered_load(plain, policy, 1.0))
    scenario = replace(plain, arrivals=draw(arrival_processes(qps)), qps=qps)
    return Case(scenario, load, qps, draw(st.integers(300, most_queries)), draw(st.integers(0, 2**32)))


def check(case: Case) -> None:
    """Run a case and assert every law."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideMeasuredRangeWarning)
        check_laws(case)
        check_statistics(case)


def check_laws(case: Case) -> None:
    """One replication, query by query, against inputs drawn again from the same seed."""
    s, n = case.scenario, case.queries
    policy, system = s.policy, s.system
    assert policy is not None
    parts: list[Finished] = []
    totals = run_blocks(s, policy, case.qps, n, spawn(case.seed, 1)[0], parts.append, block=256)
    again = spawn(case.seed, 1)[0]
    arrival = ArrivalTimes(s.arrivals, case.qps, again.arrivals).take(n)
    items = QueryItems(s.sizes, again.sizes).take(n)
    finish, start, last_start = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    seen = np.concatenate([p.query for p in parts])
    assert np.array_equal(np.sort(seen), np.arange(n)), "every query is answered once"
    for p in parts:
        assert np.array_equal(p.arrival_s, arrival[p.query])
        assert np.array_equal(p.items, items[p.query])
        finish[p.query], start[p.query], last_start[p.query] = p.finish_s, p.start_s, p.last_start_s
        assert np.all(p.last_end_s <= p.finish_s)
        assert np.all(p.last_start_s < p.last_end_s)
    assert np.all(np.isfinite(finish))
    assert np.all(arrival <= start)
    assert np.all(start <= last_start)

    # Little's law: the number in the system, counted event by event, against rate times mean latency.
    span = totals.span_s
    assert span == finish.max()
    events = np.concatenate((arrival, finish))
    order = np.argsort(events, kind="stable")
    number = np.cumsum(np.repeat([1, -1], n)[order])
    assert number[-1] == 0
    assert number.min() >= 0
    area = float(number[:-1] @ np.diff(events[order]))
    assert math.isclose(area / span, n / span * float((finish - arrival).mean()), rel_tol=1e-6)

    far = items >= (policy.offload_threshold or s.sizes.max_items + 1)
    assert totals.offloaded_queries == far.sum()
    assert totals.offloaded_items == items[far].sum()
    batch = min(policy.batch_size, s.sizes.max_items)
    counts = -(-items[~far] // batch)
    assert totals.sub_requests == counts.sum() + far.sum()
    core_s = np.concatenate(([0.0], system.service.seconds_at(np.arange(1, batch + 1)) + system.dispatch_overhead_s))
    services = [core_s[batch]] * int((counts - 1).sum())
    last = items[~far] - (counts - 1) * batch
    services = np.full(counts.sum(), core_s[batch])
    services[np.cumsum(counts) - 1] = core_s[last]
    central = system.dispatch == "central"
    if system.service.cv == 0 or central:
        # in order of start, which is that of the queries behind one queue: the noise of each is known
        noise = ServiceNoise(system.service.cv, again.service_cpu).ahead(len(services))[: len(services)]
        work = float((services * noise).sum()) if system.service.cv > 0 else float(services.sum())
        factor = system.contention.factor_at(np.arange(1, system.cores + 1, dtype=float))
        low, high = work * float(factor.min()), work * float(factor.max())
        assert low * (1 - ROUNDING) <= totals.core_s <= high * (1 + ROUNDING), "busy time is the sum of the services"
    assert totals.core_s <= system.cores * span * (1 + ROUNDING)
    near = np.flatnonzero(~far)
    if central and len(near) > 1:
        assert np.all(start[near[1:]] >= last_start[near[:-1]] * (1 - ROUNDING)), "first come, first served"

    device = system.accelerator
    if device is not None and far.any():
        assert np.all(np.diff(start[far]) >= 0), "first come, first served"
        if device.max_fused_queries == 1:
            noise = ServiceNoise(device.service.cv, again.service_accelerator).ahead(int(far.sum()))[: int(far.sum())]
            whole = device.service.seconds_at(items[far])
            work = float((whole * noise).sum()) if device.service.cv > 0 else float(whole.sum())
            assert math.isclose(totals.accelerator_s, work, rel_tol=ROUNDING)
        else:
            launches = np.unique(np.column_stack((start[far], finish[far])), axis=0)
            together = np.unique(start[far], return_counts=True)[1]
            assert np.all(together <= device.max_fused_queries * device.count)
            assert float(np.diff(launches, axis=1).sum()) <= totals.accelerator_s * (1 + 1e-6)
        assert totals.accelerator_s <= device.count * span * (1 + ROUNDING)


def check_statistics(case: Case) -> None:
    """The whole experiment: finite numbers in order, and a verdict that follows from them."""
    found = simulate(
        case.scenario, qps=case.qps, queries=max(300, case.queries), replications=3, seed=case.seed, workers=1
    )
    record = performance_record(found, case.scenario)
    assert record["verdict"] in ("pass", "fail", "undecided")
    for name, value in found.latency_s.items():
        low, high = found.interval_s[name]
        assert 0 < low <= value * (1 + ROUNDING)
        assert value <= high * (1 + ROUNDING)
        assert math.isfinite(high) or high == np.inf
    ranked = [found.latency_s[p] for p in ("p50", "p95", "p99")]
    assert ranked == sorted(ranked)
    assert found.experiment is not None
    assert all(not isinstance(v, float) or not math.isnan(v) for v in flat(record))
    assert 0 < found.experiment.warm_up <= case.queries
    own = found.interval_s[f"p{case.scenario.sla.percentile:g}"]
    if found.meets_sla:
        assert own[1] <= case.scenario.sla.latency_s
        assert found.stable
    if found.verdict == "fail":
        assert own[0] > case.scenario.sla.latency_s or not found.stable


def flat(value: Any) -> list[Any]:
    """Leaves of nested mappings and sequences."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in flat(inner)]
    if isinstance(value, (list, tuple)):
        return [leaf for inner in value for leaf in flat(inner)]
    return [value]


def chunk(number: int, scenarios: int) -> dict[str, object]:
    """Check one chunk of scenarios, the same ones for the same number; a row of what they were."""
    done = {"scenarios": 0, "queries": 0, "with_accelerator": 0, "overloaded": 0, "not_poisson": 0}

    @seed(number)
    @settings(
        max_examples=scenarios,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def run(case: Case) -> None:
        faulthandler.dump_traceback_later(HANGS_S, exit=True)
        check(case)
        faulthandler.cancel_dump_traceback_later()
        done["scenarios"] += 1
        done["queries"] += case.queries
        done["with_accelerator"] += case.scenario.system.accelerator is not None
        done["overloaded"] += case.load > 1
        done["not_poisson"] += case.scenario.arrivals.process != "poisson"

    started = time.perf_counter()
    run()
    return {"chunk": number, **done, "seconds": round(time.perf_counter() - started, 1)}


def read() -> list[dict[str, str]]:
    """Rows so far."""
    return read_rows(CSV) if CSV.exists() else []


def main() -> None:
    """Check as many scenarios as asked for, in chunks that are kept as they are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=10_000)
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    a = parser.parse_args()
    if a.fresh:
        CSV.unlink(missing_ok=True)
    while (total := sum(int(r["scenarios"]) for r in read())) < a.scenarios:
        number = len(read())
        row = chunk(number, min(CHUNK, a.scenarios - total))
        new = not CSV.exists()
        with CSV.open("a", newline="") as f:
            writer = csv.DictWriter(f, row.keys(), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(
            f"{total + int(str(row['scenarios'])):,} of {a.scenarios:,} scenarios hold, {row['seconds']} s", flush=True
        )
    rows = read()
    save_record(
        RESULTS / "robustness.json",
        command_line("studies.robustness"),
        violations=0,
        **{key: sum(int(r[key]) for r in rows) for key in rows[0] if key not in ("chunk", "seconds")},
        seconds=round(sum(float(r["seconds"]) for r in rows)),
    )


if __name__ == "__main__":
    main()
