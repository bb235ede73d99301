"""Finished work survives interrupts and dying workers; numbers do not depend on who computes them."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from recqueue.errors import InputError, WorkerLostError
from recqueue.profiles import LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import experiment, offered_load, simulate
from recqueue.simulate.execution import Crew
from recqueue.simulate.replication import run_once
from recqueue.workload import mmpp_arrivals, sizes_from_pmf

CURVE = LatencyCurve(items=(1, 64), seconds=(0.002, 0.0083), cv=0.2)
DEVICE = Accelerator(name="device", service=LatencyCurve(items=(1, 64), seconds=(0.001, 0.002)))
SCENARIO = Scenario(
    name="s",
    model="m",
    system=System(name="cores", cores=4, service=CURVE, accelerator=DEVICE),
    sizes=sizes_from_pmf([4, 16, 40], [0.5, 0.3, 0.2]),
    sla=Sla(latency_s=0.02),
    policy=Policy(10, 40),
)
RATE = 0.7 / max(offered_load(SCENARIO, SCENARIO.policy, 1.0))


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def die_once(flag, value):
    """Kill the worker the first time."""
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def die(value):
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise InputError("no")


def square(x):
    return x * x


@pytest.mark.parametrize("sequential", [False, True])
def test_same_numbers_from_any_number_of_threads_and_from_processes(processes, sequential):
    options = {"qps": RATE, "queries": 8000, "seed": 4}
    if sequential:
        options |= {"half_width": 0.01, "max_queries": 32_000}
    one = simulate(SCENARIO, workers=1, **options)
    assert one == simulate(SCENARIO, workers=2, **options)
    assert one == simulate(SCENARIO, workers=3, **options)
    assert one == simulate(SCENARIO, executor=processes, **options)
    with ThreadPoolExecutor(1) as pool:
        assert one == simulate(SCENARIO, executor=pool, **options)
        assert pool.submit(square, 3).result() == 9  # left open
    assert one.latency_s != simulate(SCENARIO, workers=2, **options | {"seed": 5}).latency_s


def test_an_executor_of_the_users_own_will_do():
    class Inline(Executor):
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            future.set_result(fn(*args, **kwargs))
            return future

    options = {"qps": RATE, "queries": 2400}
    assert simulate(SCENARIO, executor=Inline(), **options) == simulate(SCENARIO, **options)


def test_a_killed_worker_is_replaced_and_its_work_repeated(tmp_path):
    with ProcessPoolExecutor(1) as pool, Crew(pool, workers=1) as crew:
        tasks = [partial(square, 2), partial(die_once, tmp_path / "flag", 5), partial(square, 3)]
        done = crew.run(tasks)
        assert done == {0: 4, 1: 5, 2: 9}
        assert 1 <= crew.repeated <= 3
        assert (crew.lost, crew.interrupted) == (0, False)
        assert crew.run([partial(square, 7)]) == {0: 49}  # the replacement works on


def test_a_worker_that_dies_again_is_given_up_and_reported():
    with ProcessPoolExecutor(1) as pool, Crew(pool, workers=1) as crew:
        assert crew.run([partial(die, 1)]) == {}
        assert (crew.repeated, crew.lost) == (1, 1)
    lost = pytest.raises(WorkerLostError, match="0 of 1 replications are left")
    with ProcessPoolExecutor(1) as pool, Crew(pool, workers=1) as crew, lost:
        crew.run_all([partial(die, 1)])


def test_errors_of_a_task_are_raised_as_they_are():
    with Crew(workers=1) as crew, pytest.raises(InputError, match="no"):
        crew.run([partial(square, 1), fail])
    with Crew(workers=2) as crew:
        assert crew.run_all([partial(square, n) for n in range(5)]) == [0, 1, 4, 9, 16]
    fast = replace(SCENARIO, arrivals=mmpp_arrivals([1, 2], [[0, 1e6], [1e6, 0]]))
    with pytest.raises(InputError, match="use process poisson"):
        simulate(fast, qps=RATE, queries=2400)


def interrupt_at(call):
    """``run_once`` that also presses Ctrl-C in its n-th call."""
    calls = iter(range(10**6))

    def run(*args, **kwargs):
        if next(calls) == call:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return run_once(*args, **kwargs)

    return run


def test_ctrl_c_keeps_what_is_finished(monkeypatch):
    monkeypatch.setattr(experiment, "run_once", interrupt_at(5))
    found = simulate(SCENARIO, qps=RATE, queries=3_200_000, replications=400, workers=1)  # 4 s, looked at every 0.1 s
    e = found.experiment
    assert e.interrupted
    assert 5 <= e.replications < 400
    settling = experiment.relaxation_queries(SCENARIO, SCENARIO.policy, RATE)
    total = 8000 + min(np.ceil(3 * settling), 8000)  # of each replication, the planned warm-up included
    assert found.queries == e.replications * (total - e.warm_up)
    assert found.notes[-1] == f"interrupted: {e.replications} of 400 replications were finished and count"


def test_ctrl_c_before_there_is_anything_to_keep_ends_the_run(monkeypatch):
    monkeypatch.setattr(experiment, "run_once", interrupt_at(0))
    monkeypatch.setattr(experiment, "LEAST_REPLICATIONS", 400)
    with pytest.raises(KeyboardInterrupt):
        simulate(SCENARIO, qps=RATE, queries=200_000, replications=2000, workers=1)


def lose(scenario, policy, qps, queries, streams, *, warm_up):
    """``run_once`` whose worker always dies."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_simulation_whose_workers_always_die_says_so(monkeypatch):
    monkeypatch.setattr(experiment, "run_once", lose)
    with ProcessPoolExecutor(1) as pool, pytest.raises(WorkerLostError, match="0 of 8 replications are left"):
        simulate(SCENARIO, qps=RATE, queries=2400, executor=pool, workers=1)


def test_workers_are_checked():
    for workers, says in ((0, "0 workers; it must be 1 or more"), (1.5, "workers 1.5; it must be a whole number")):
        with pytest.raises(InputError, match=says):
            simulate(SCENARIO, qps=RATE, workers=workers)
