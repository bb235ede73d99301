"""A few of the ten thousand random scenarios of ``studies.robustness``; and the checks catch what they are for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from recqueue.profiles import LatencyCurve
from recqueue.serving import Policy, Scenario, Sla, System
from recqueue.simulate import pools
from recqueue.workload import fixed_sizes
from studies import robustness
from studies.robustness import Case, cases, check, check_laws


@given(cases(most_queries=600))
@settings(max_examples=60)
def test_random_scenarios_obey_the_laws_of_queues(case):
    check(case)


SCENARIO = Scenario(
    name="s",
    model="m",
    system=System(name="cores", cores=2, service=LatencyCurve(items=(1, 8), seconds=(0.01, 0.02))),
    sizes=fixed_sizes(8),
    sla=Sla(latency_s=0.1),
    policy=Policy(3),
)
CASE = Case(SCENARIO, 0.9, 70.0, 400, 1)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: f._replace(query=f.query * 0), "answered once"),
        (lambda f: f._replace(arrival_s=f.arrival_s + 1e-3), None),
        (lambda f: f._replace(finish_s=f.finish_s + np.nan), None),
        (lambda f: f._replace(last_start_s=f.last_end_s - 1e-9), "first come, first served"),
        (lambda f: f._replace(sub_requests=f.sub_requests + 1), None),
    ],
)
def test_a_loop_that_breaks_a_law_is_caught(monkeypatch, spoil, says):
    check_laws(CASE)
    original = pools._finished
    monkeypatch.setattr(pools, "_finished", lambda *args: spoil(original(*args)))
    with pytest.raises(AssertionError, match=says):
        check_laws(CASE)


def test_a_loop_that_loses_work_is_caught(monkeypatch):
    check_laws(CASE)
    run = robustness.run_blocks
    faster = replace(
        SCENARIO, system=replace(SCENARIO.system, service=LatencyCurve(items=(1, 8), seconds=(0.01, 0.0199)))
    )
    monkeypatch.setattr(robustness, "run_blocks", lambda s, *args, **kwargs: run(faster, *args, **kwargs))
    with pytest.raises(AssertionError, match="busy time is the sum of the services"):
        check_laws(CASE)


def test_chunks_are_the_same_scenarios_each_time():
    rows = [robustness.chunk(3, 5) for _ in range(2)]
    for row in rows:
        del row["seconds"]
    assert rows[0] == rows[1]
    assert rows[0]["scenarios"] == 5
