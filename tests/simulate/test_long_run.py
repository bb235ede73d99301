from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest

from recqueue.errors import InputError
from recqueue.profiles import LatencyCurve
from recqueue.serving import Policy, Scenario, Sla, System
from recqueue.simulate import TimeSeries, long_run, run_blocks, run_once, spawn
from recqueue.simulate.quantiles import RELATIVE_ERROR
from recqueue.workload import sizes_from_pmf

SCENARIO = Scenario(
    name="s",
    model="m",
    system=System(name="cores", cores=4, service=LatencyCurve(items=(1, 64), seconds=(0.002, 0.0083), cv=0.2)),
    sizes=sizes_from_pmf([4, 16, 40], [0.5, 0.3, 0.2]),
    sla=Sla(latency_s=0.02),
    policy=Policy(10),
)


def test_a_long_run_is_the_runs_it_consists_of():
    found = long_run(SCENARIO, qps=500, queries=8000, replications=3, seed=4)
    runs = [run_once(SCENARIO, SCENARIO.policy, 500, 2667, streams) for streams in spawn(4, 3)]
    latency = np.concatenate([r.latency_s for r in runs])
    assert found.histogram.count == len(latency)
    assert found.histogram.mean_s == pytest.approx(latency.mean(), rel=1e-12)
    for rank in (0.5, 0.95, 0.99):
        exact = np.percentile(latency, 100 * rank, method="inverted_cdf")
        assert found.histogram.quantile_s(rank) == pytest.approx(exact, rel=1.0001 * RELATIVE_ERROR)
    assert sum(found.breakdown_s.values()) == pytest.approx(latency.mean(), rel=1e-9)
    assert found.sub_requests == sum(r.sub_requests for r in runs)


def test_threads_processes_and_nothing_give_the_same_numbers():
    options = {"qps": 500, "queries": 4000, "replications": 4, "seed": 2}
    alone = long_run(SCENARIO, **options)
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        for executor in (threads, processes):
            found = long_run(SCENARIO, **options, executor=executor)
            np.testing.assert_array_equal(found.histogram.counts, alone.histogram.counts)
            assert found.breakdown_s == alone.breakdown_s
            assert found.cpu_utilization == alone.cpu_utilization


def test_time_series_adds_up_to_the_run():
    series, latencies = TimeSeries(0.5), []

    def visit(finished):
        series.add(finished)
        latencies.append(finished.latency_s)

    totals = run_blocks(SCENARIO, Policy(10), 500.0, 5000, spawn(1, 1)[0], visit, block=700)
    latency, columns = np.concatenate(latencies), series.columns()
    assert columns["arrivals"].sum() == 5000
    assert 0.5 * columns["queries_present"].sum() == pytest.approx(latency.sum())  # Little's law over the run
    assert np.nansum(columns["arrivals"] * columns["mean_latency_s"]) == pytest.approx(latency.sum())
    assert np.all(columns["queries_waiting"] <= columns["queries_present"] + 1e-9)  # sums of the same times, rounded
    assert len(columns["start_s"]) == int(totals.span_s / 0.5) + 1


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: long_run(replace(SCENARIO, policy=None), qps=1, queries=1), "no policy"),
        (lambda: long_run(SCENARIO, qps=0.0, queries=1), "at 0.0 queries/s"),
        (lambda: long_run(SCENARIO, qps=1.0, queries=0), "0 queries in 1 replications"),
        (lambda: TimeSeries(0.0), "bins of 0.0 s"),
    ],
)
def test_bad_questions_are_refused_in_one_line(ask, says):
    with pytest.raises(InputError, match=says) as error:
        ask()
    assert "\n" not in str(error.value)
