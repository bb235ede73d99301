"""Records of sub-requests: the same run as that of the queries, and possible on the machine that there is."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from recqueue.io.sub_requests import COLUMNS, write_sub_requests
from recqueue.profiles import Contention, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import run_blocks, spawn, sub_requests
from recqueue.workload import sizes_from_pmf

CURVE = LatencyCurve(items=(1, 180), seconds=(0.002, 0.0199), cv=0.2)
CHIP = Accelerator(name="d", service=CURVE, count=2, max_fused_queries=3)
BASE = Scenario(
    name="s",
    model="m",
    system=System(name="c", cores=4, service=CURVE, wakeup_s=1e-4, accelerator=CHIP),
    sizes=sizes_from_pmf([4, 16, 40, 60], [0.4, 0.3, 0.2, 0.1]),
    sla=Sla(latency_s=0.02),
)
SYSTEMS = {
    "central": BASE.system,
    "no noise": replace(BASE.system, service=replace(CURVE, cv=0.0), wakeup_s=0.0),
    "contention": replace(BASE.system, contention=Contention(busy=(1, 4), factor=(1.0, 1.5))),
    "random": replace(BASE.system, dispatch="random"),
    "jsq": replace(BASE.system, dispatch="jsq"),
    "prefetch": replace(BASE.system, dispatch="prefetch", prefetch=2),
}
QUERIES, QPS, POLICY = 3000, 330.0, Policy(10, 40, 3)


@pytest.fixture(params=SYSTEMS, ids=lambda name: name.replace(" ", "-"))
def both(request):
    """Sub-requests, and the queries of the same streams."""
    scenario, blocks = replace(BASE, system=SYSTEMS[request.param]), []
    run_blocks(scenario, POLICY, QPS, QUERIES, spawn(5, 1)[0], blocks.append)
    return sub_requests(scenario, POLICY, QPS, QUERIES, spawn(5, 1)[0]), blocks, request.param


def test_the_last_sub_request_ends_when_its_query_does(both):
    runs, blocks, _ = both
    assert [r.queue for r in runs] == ["cpu", "accelerator"]
    assert sum(len(np.unique(r.query)) for r in runs) == QUERIES
    for run in runs:
        queries = [b for b in blocks if b.pool == run.queue]
        number, start, finish, items = (
            np.concatenate([getattr(b, name) for b in queries]) for name in ("query", "start_s", "finish_s", "items")
        )
        first, last, total = np.full(QUERIES, np.inf), np.zeros(QUERIES), np.zeros(QUERIES)
        np.minimum.at(first, run.query, run.start_s)
        np.maximum.at(last, run.query, run.end_s)
        np.add.at(total, run.query, run.items)
        np.testing.assert_array_equal(last[number], finish)
        np.testing.assert_array_equal(first[number], start)
        np.testing.assert_array_equal(total[number], items)
        assert run.items.max() <= (10 if run.queue == "cpu" else 60)


def test_no_worker_does_two_things_at_once(both):
    runs, _, name = both
    for run, workers in zip(runs, (4, 2), strict=True):
        assert set(run.worker) == set(range(workers))
        for w in range(workers):
            mine = run.worker == w
            start, end = run.start_s[mine], run.end_s[mine]
            if run.queue == "accelerator":  # queries of a launch share it
                start, end = np.unique(np.stack([start, end]), axis=1)
            order = np.argsort(start, kind="stable")
            assert np.all(start[order][1:] >= end[order][:-1] - 1e-12), name
    near = runs[0]
    assert np.all(near.start_s >= near.arrival_s)
    if name in ("central", "no noise", "contention"):
        assert np.all(np.diff(near.start_s) >= 0)  # first come, first served


def test_launches_take_what_is_allowed(both):
    far = both[0][1]
    _, counts = np.unique(np.stack([far.start_s, far.worker]), axis=1, return_counts=True)
    assert 2 <= counts.max() <= 3


def test_the_file_has_the_columns_of_a_live_server(tmp_path):
    runs = sub_requests(BASE, POLICY, QPS, 500, spawn(5, 1)[0])
    file = tmp_path / "run.csv"
    assert write_sub_requests(file, runs) == sum(len(r.query) for r in runs)
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [p.name for p in tmp_path.iterdir()] == ["run.csv"]
    near = [r for r in rows if r["queue"] == "cpu"]
    assert [int(r["query"]) for r in near] == runs[0].query.tolist()
    assert [float(r["end_s"]) for r in near] == pytest.approx(runs[0].end_s, abs=1e-9)
    from recqueue.errors import InputError

    with pytest.raises(InputError, match="cannot write"):
        write_sub_requests(tmp_path / "no" / "run.csv", runs)
