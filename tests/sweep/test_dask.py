"""On a real Dask cluster of this machine, two worker processes."""

import os
import signal
import threading
import time
import warnings

import pytest

import recqueue
from recqueue.errors import WorkerLostError
from recqueue.sweep import read
from recqueue.sweep.farm import ATTEMPTS, Farm

pytestmark = pytest.mark.filterwarnings("default")  # Dask and its libraries warn of their own future


@pytest.fixture(scope="module")
def cluster():
    import dask
    from distributed import LocalCluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A worker that dies under a task once is reported at once, not after Dask has tried three others.
        with (
            dask.config.set({"distributed.scheduler.allowed-failures": 0}),
            LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as started,
        ):
            yield started


def kill_one(cluster, journal, killed):
    """Kill a worker once the sweep has finished a block."""
    end, header = time.monotonic() + 200, 0
    while time.monotonic() < end:
        size = journal.stat().st_size if journal.exists() else 0
        header = header or size
        if size > header:
            killed.append(cluster.workers[0].process.process.pid)
            os.kill(killed[0], signal.SIGKILL)
            return
        time.sleep(0.02)


def test_a_worker_killed_in_mid_run_costs_no_point(cluster, recqueue_command, tmp_path):
    out = tmp_path / "t.parquet"
    killed = []
    killer = threading.Thread(target=kill_one, args=(cluster, tmp_path / "t.parquet.journal", killed))
    killer.start()
    result = recqueue_command(
        *("sweep", "dlrm-rmc1", "--vary", "qps=100..1600:+100", "--method", "simulate", "--queries", "300000"),
        *("--scheduler", cluster.scheduler_address, "--out", out, "--json"),
    )
    killer.join()
    assert len(killed) == 1
    assert result.exit_code == 0, result.output
    t = read(out)
    assert set(t.columns["status"]) <= {"ok", "unstable"}
    seen = recqueue.simulate(recqueue.load_scenario("dlrm-rmc1"), qps=100, queries=300_000)
    assert t.columns["p95_s"][0] == seen.latency_s["p95"]


def test_a_task_that_kills_every_worker_is_one_line(cluster, tmp_path):
    from distributed import Client

    with Client(cluster.scheduler_address, set_as_default=False) as client, Farm(client.get_executor(), 1) as farm:
        with pytest.raises(WorkerLostError, match=f"{ATTEMPTS} workers died under the same points") as error:
            list(farm.results(iter([(0, 9)]), os._exit))
        assert "\n" not in str(error.value)
        assert farm.retried == ATTEMPTS - 1


def test_no_scheduler_is_one_line(recqueue_command, tmp_path):
    result = recqueue_command(
        *("sweep", "dlrm-rmc1", "--vary", "qps=100", "--out", tmp_path / "t.parquet"),
        *("--scheduler", "tcp://127.0.0.1:1"),
    )
    assert result.exit_code == 3
    assert "no Dask scheduler answers there" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_processes_of_our_own_die_as_well(tmp_path):
    with Farm(None, 1) as farm:
        with pytest.raises(WorkerLostError, match="the same command goes on"):
            list(farm.results(iter([(0, 9)]), os._exit))
        assert farm.retried == ATTEMPTS - 1
