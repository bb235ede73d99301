"""The three suites that measure a machine: cpu, gpu and served. Each keeps to a budget of seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.accelerator import Launcher
from calibration.network import Network, Pool
from calibration.rows import RowFile, gpu_name, write_manifest
from calibration.served import Runner, serve
from calibration.timing import CORES, FORK, Budget, keep_freed_memory, neighbours, pin, repeat, summary
from recqueue import models

BATCHES = tuple(2**i for i in range(12))
BUSY = (1, 2, 4, 8, 12, 16)
CONTENTION_BATCHES = (4, 64, 512)
FUSED = (1, 2, 4, 8, 16)
LOADS = (0.3, 0.6, 0.85)
GROUPS = ((1, 2, 4, 8, 16, 32), (64, 128, 256), (512, 1024, 2048))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure; the defaults are the full measurement."""

    names: Sequence[str] = models.names()
    batches: Sequence[int] = BATCHES
    busy: Sequence[int] = BUSY
    loads: Sequence[float] = LOADS
    fused: Sequence[int] = FUSED
    reps: int = 30
    each: int = 40
    table_scale: float = 1.0
    device: str = "cuda"
    seconds: float = 520.0

    @property
    def cores(self) -> int:
        """Cores that may be used."""
        return len(CORES)


def run_suite(suite: str, out: Path, plan: Plan) -> Path:
    """Measure a suite for all models of the plan; return the CSV file that rows were appended to."""
    torch.set_num_threads(1)
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{suite}"
    settings = {k: v for k, v in vars(plan).items() if k != "names"}
    write_manifest(out, run, suite=suite, plan=settings, models=[*plan.names], freed_memory_kept=keep_freed_memory())
    rows = RowFile(out / f"{suite}.csv", run=run, table_scale=plan.table_scale)
    budget = Budget(plan.seconds)
    for i, name in enumerate(plan.names):
        part = budget.part(len(plan.names) - i)
        before = part.left
        child = FORK.Process(target=_guarded, args=(SUITES[suite], name, rows, plan, part))
        child.start()  # a process of its own: its memory is gone before the next, and only it ever touches the GPU
        child.join()
        state = "" if child.exitcode == 0 else f", FAILED with exit code {child.exitcode}"
        print(f"{suite} {name}: {before - part.left:.0f} s of {before:.0f} s{state}", flush=True)
    return out / f"{suite}.csv"


def _guarded(suite: Callable[..., None], name: str, rows: RowFile, plan: Plan, budget: Budget) -> None:
    torch.set_num_threads(1)
    suite(name, rows, plan, budget)


def _cpu(name: str, rows: RowFile, plan: Plan, budget: Budget) -> None:
    network = Network(models.get(name), table_scale=plan.table_scale)
    pin(0)
    common = {"model": name, "way": "tight", "device": "cpu"}
    levels = [n for n in plan.busy if n <= plan.cores]
    for law in ("uniform", "zipf"):
        pool = Pool(network, law=law, seed=1, items=2 * max(plan.batches))

        def run(turn: int, b: int, pool: Pool = pool) -> None:
            network.run(pool.batch(b, turn))

        for b in plan.batches:
            if budget.left < 0:
                return
            rows.add(**common, scope="end_to_end", batch=b, ids=law, busy=1,
                     **summary(*repeat(lambda t, b=b: run(t, b), reps=plan.reps)))  # fmt: skip
            if law == "uniform":
                _operators(network, pool, rows, b, plan.reps, common)
        for n in levels[1:] if law == "uniform" else ():
            for b in (b for b in CONTENTION_BATCHES if b in plan.batches):
                if budget.left < 0:
                    return
                with neighbours(n - 1, lambda t, b=b: run(t, b), network.touch):
                    times = repeat(lambda t, b=b: run(t, b), reps=plan.reps, extra_s=0.4)
                rows.add(**common, scope="end_to_end", batch=b, ids=law, busy=n, **summary(*times))


def _operators(network: Network, pool: Pool, rows: RowFile, b: int, reps: int, common: dict[str, str]) -> None:
    for turn in range(3):
        network.run_timed(pool.batch(b, turn))
    both = np.array([network.run_timed(pool.batch(b, turn + 3)) for turn in range(reps)])
    for r, (role, kind, count) in enumerate(network.role_counts()):
        rows.add(**common, scope="operator", operator=role, kind=kind, count=count, batch=b, ids="uniform", busy=1,
                 **summary(both[:, 0, r], both[:, 1, r]))  # fmt: skip


def _served(name: str, rows: RowFile, plan: Plan, budget: Budget) -> None:
    model = models.get(name)
    network = Network(model, table_scale=plan.table_scale)
    pool = Pool(network, seed=2, items=2 * max(plan.batches))

    def work(items: int, turn: int) -> None:
        network.run(pool.batch(items, turn))

    def make() -> Runner:
        network.touch()
        return work

    guess = {b: float(np.median(repeat(lambda t, b=b: work(b, t), reps=3, extra_s=0)[0])) for b in plan.batches}
    gpu = plan.device != "cpu" and bool(gpu_name())
    workers = plan.cores - 2 if plan.cores >= 4 else plan.cores  # the sender needs a core too, where one can be spared
    groups = [[b for b in g if b in plan.batches] for g in GROUPS]
    groups = [g for g in groups if g]
    for load in plan.loads:
        for g in groups:
            if budget.left < (40 if gpu else 0):
                break
            seen = serve(make, workers=workers, batches=g, seconds=[guess[b] for b in g], load=load,
                         each=plan.each, seed=round(100 * load) + g[0])  # fmt: skip
            _served_rows(rows, seen, {"model": name, "device": "cpu", "busy": workers, "load": load})
    if gpu:
        for host in (0, max(1, workers - 1)):
            with neighbours(host, lambda t: work(64, t), network.touch):
                _served_gpu(name, rows, plan, host, budget)


def _served_gpu(name: str, rows: RowFile, plan: Plan, host: int, budget: Budget) -> None:
    def make() -> Runner:
        network = Network(models.get(name), device=plan.device, table_scale=plan.table_scale)
        launchers = {b: Launcher(network, b) for b in plan.batches}
        return lambda items, turn: launchers[items](turn)

    guess, batches = [1e-3] * len(plan.batches), list(plan.batches)
    for load, each in ((0.05, 3), (plan.loads[len(plan.loads) // 2], plan.each)):  # a pilot sets the rate
        if budget.left < 0:
            return
        seen = serve(make, workers=1, batches=batches, seconds=guess, load=load, each=each, seed=5, first_core=-1)
        took = seen["end"] - seen["start"]
        guess = [float(np.median(took[seen["items"] == b])) for b in batches]
    _served_rows(rows, seen, {"model": name, "device": plan.device, "busy": 1, "load": load, "host_busy": host})


def _served_rows(rows: RowFile, seen: dict[str, np.ndarray], common: dict[str, Any]) -> None:
    gaps = seen["gap"][np.isfinite(seen["gap"])]
    for b in np.unique(seen["items"]):
        mine = (seen["items"] == b) & (np.arange(len(seen["items"])) >= 5)  # the first few start cold machinery
        if mine.sum() < 2:
            continue
        rows.add(**common, way="served", scope="end_to_end", batch=int(b), ids="uniform",
                 mean_busy=float(seen["busy"][mine].mean()),
                 dispatch_s=float(np.median(gaps)) if len(gaps) >= 5 else "",
                 **summary((seen["end"] - seen["start"])[mine], seen["cpu"][mine]))  # fmt: skip


def _gpu(name: str, rows: RowFile, plan: Plan, budget: Budget) -> None:
    model, hosts = models.get(name), [0, plan.cores - 1]
    cpu = Network(model, table_scale=plan.table_scale)  # for the neighbours, which fork before CUDA exists here
    pool = Pool(cpu, seed=3, items=512)
    for k, host in enumerate(hosts):
        with neighbours(host, lambda t: cpu.run(pool.batch(64, t)), cpu.touch):
            child = FORK.Process(target=_gpu_at, args=(name, rows, plan, budget.part(len(hosts) - k), host))
            child.start()
            child.join()
            if child.exitcode != 0:
                raise RuntimeError(f"{name} on {plan.device} with {host} busy host processes failed")


def _gpu_at(name: str, rows: RowFile, plan: Plan, budget: Budget, host: int) -> None:
    pin(0)
    network = Network(models.get(name), device=plan.device, table_scale=plan.table_scale)
    common = {"model": name, "way": "tight", "device": plan.device, "ids": "uniform", "host_busy": host}
    for graph in (0, 1) if plan.device != "cpu" else (0,):
        for b in plan.batches:
            if budget.left < 0:
                return
            launch = Launcher(network, b, graph=bool(graph))
            rows.add(
                **common, scope="end_to_end", batch=b, fused=1, graph=graph, **summary(*repeat(launch, reps=plan.reps))
            )
            if graph == 0 and host == 0:
                for scope in ("copy_in", "copy_back"):
                    rows.add(**common, scope=scope, batch=b, fused=1, graph=0,
                             **summary(*repeat(getattr(launch, scope), reps=plan.reps)))  # fmt: skip
                each = np.array([launch.operator_seconds() for _ in range(plan.reps + 3)])[3:]
                for r, (role, kind, count) in enumerate(network.role_counts()):
                    rows.add(**common, scope="operator", operator=role, kind=kind, count=count, batch=b, fused=1,
                             graph=0, **summary(each[:, r]))  # fmt: skip
    for fused in plan.fused[1:]:
        for b in (b for b in plan.batches if b * fused <= 4096):
            if budget.left < 0:
                return
            launch = Launcher(network, b, fused=fused)
            rows.add(
                **common, scope="end_to_end", batch=b, fused=fused, graph=0, **summary(*repeat(launch, reps=plan.reps))
            )


SUITES: dict[str, Callable[..., None]] = {"cpu": _cpu, "gpu": _gpu, "served": _served}
