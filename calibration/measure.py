"""Measure this machine: tight loops, contention, as served, and the accelerator, within a budget of seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.accelerator import HostPool, Launcher
from calibration.crew import Shared, Worker, busy, crew, loop_together
from calibration.network import Network, Pool
from calibration.rows import RowFile, gpu_name, write_manifest
from calibration.served import serve
from calibration.timing import CORES, FORK, Budget, keep_freed_memory, pin, repeat, summary
from recqueue import models

BATCHES = tuple(2**i for i in range(12))
BEYOND = (4096, 8192)
"""Further items of one accelerator launch, which may hold several queries."""
ZIPF_BATCHES = (1, 4, 16, 64, 256, 1024)
BUSY = (1, 2, 4, 8, 12, 16)
CONTENTION_BATCHES = (4, 64, 512)
FUSED = (1, 2, 4, 8, 16)
LOADS = (0.1, 0.3, 0.6, 0.85)
GROUPS = ((1, 2, 4, 8, 16, 32), (64, 128, 256), (512, 1024, 2048))
PARTS = {
    "tight": "cpu",
    "contention": "cpu",
    "served": "served",
    "launches": "gpu",
    "served-launches": "served",
    "operators": "cpu",
    "launch-operators": "gpu",
    "fused": "gpu",
    "zipf": "cpu",
}
"""Parts of a measurement in their order, and the file that gets their rows; what comes first is needed most."""
ON_ACCELERATOR = ("launches", "served-launches", "launch-operators", "fused")
NEIGHBOUR_ITEMS = 64
"""Items of the sub-requests that keep the host's other cores busy beside an accelerator."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure; the defaults are the full measurement."""

    names: Sequence[str] = models.names()
    parts: Sequence[str] = tuple(PARTS)
    batches: Sequence[int] = BATCHES
    busy: Sequence[int] = BUSY
    loads: Sequence[float] = LOADS
    fused: Sequence[int] = FUSED
    reps: int = 30
    each: int = 40
    table_scale: float = 1.0
    device: str = "cuda"
    seconds: float = 560.0

    @property
    def cores(self) -> int:
        """Cores that may be used."""
        return len(CORES)

    @property
    def accelerator_batches(self) -> tuple[int, ...]:
        """Items of one accelerator launch, those of several queries included."""
        return (*self.batches, *(b for b in BEYOND if b > max(self.batches) >= BEYOND[0] // 2))


def measure(out: Path, plan: Plan) -> str:
    """Measure all models of the plan; rows are appended to ``out/SUITE.csv``. Returns a line per model."""
    torch.set_num_threads(1)
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    settings = {k: v for k, v in vars(plan).items() if k != "names"}
    write_manifest(out, run, plan=settings, models=[*plan.names], freed_memory_kept=keep_freed_memory())
    budget = Budget(plan.seconds)
    lines = []
    for i, name in enumerate(plan.names):
        part = budget.part(len(plan.names) - i)
        before = part.left
        child = FORK.Process(target=_guarded, args=(name, out, run, plan, part))
        child.start()  # a process of its own: its memory is gone before the next
        child.join()
        state = "" if child.exitcode == 0 else f", FAILED with exit code {child.exitcode}"
        lines.append(f"{name}: {before - part.left:.0f} s of {before:.0f} s{state}")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def _guarded(name: str, out: Path, run: str, plan: Plan, budget: Budget) -> None:
    torch.set_num_threads(1)
    Measurement(name, out, run, plan, budget).run()


@dataclass
class Measurement:
    """All that is measured of one model; what comes first is needed most, and the budget ends what comes last."""

    name: str
    out: Path
    run_name: str
    plan: Plan
    budget: Budget
    shared: Shared = field(default_factory=Shared)
    alone: dict[int, float] = field(default_factory=dict)

    def run(self) -> None:
        """Measure all parts of the plan."""
        plan = self.plan
        common = {"run": self.run_name, "table_scale": plan.table_scale, "model": self.name}
        self.files = {PARTS[p]: RowFile(self.out / f"{PARTS[p]}.csv", **common) for p in plan.parts}
        self.network = Network(models.get(self.name), table_scale=plan.table_scale)
        self.pool = Pool(self.network, seed=1, items=2 * max(plan.batches))
        accelerated = set(plan.parts) & set(ON_ACCELERATOR) and (plan.device == "cpu" or gpu_name())
        host = list(range(plan.cores))
        # The accelerator's process forks while no thread or CUDA context exists; it stands idle at first.
        beside = crew(self._with_accelerator, [0], self.shared) if accelerated else nullcontext([None])
        with crew(self._at_home, host, self.shared) as workers, beside as (device,):
            for part in PARTS:
                if part in plan.parts and (device is not None or part not in ON_ACCELERATOR):
                    getattr(self, "_" + part.replace("-", "_"))(workers, device)

    def _at_home(self) -> OnCpu:
        self.network.touch()
        return OnCpu(self.network, self.pool)

    def _with_accelerator(self) -> OnAccelerator:
        return OnAccelerator(self.name, self.plan)

    def _add(self, suite: str, **values: Any) -> None:
        self.files[suite].add(**{"scope": "end_to_end", "ids": "uniform", **values})

    def _sizes(self, sizes: Sequence[int]) -> Iterator[int]:
        """Batch sizes of the plan among ``sizes``, until the budget is used."""
        for b in sizes:
            if b in self.plan.accelerator_batches and self.budget.left > 0:
                yield b

    def _tight(self, workers: list[Worker], _: Any) -> None:
        for b in self._sizes(self.plan.batches):
            found = workers[0].ask(_repeat, b, self.plan.reps, "uniform")
            self.alone[b] = found["median_s"]
            self._add("cpu", way="tight", device="cpu", batch=b, busy=1, **found)

    def _contention(self, workers: list[Worker], _: Any) -> None:
        for n in sorted((n for n in self.plan.busy if 1 < n <= self.plan.cores), reverse=True):
            for b in self._sizes(CONTENTION_BATCHES):
                times = loop_together(workers[:n], self.shared, b, reps=self.plan.reps)
                self._add("cpu", way="tight", device="cpu", batch=b, busy=n, **summary(*times))

    def _served(self, workers: list[Worker], _: Any) -> None:
        plan = self.plan
        for b in self._sizes(plan.batches):
            if b not in self.alone:  # the tight loop was not asked for
                self.alone[b] = workers[0].ask(_repeat, b, 3, "uniform")["median_s"]
        serving = self._serving(workers)
        groups = [g for g in ([b for b in g if b in self.alone] for g in GROUPS) if g]
        for load in sorted(plan.loads, key=lambda x: abs(x - 0.6)):
            for g in groups:
                if self.budget.left < 0:
                    break
                seen = serve(serving, self.shared, batches=g, seconds=[self.alone[b] for b in g], load=load,
                             each=plan.each * (2 if max(g) <= 32 else 1), seed=round(100 * load) + g[0])  # fmt: skip
                self._served_rows(seen, {"device": "cpu", "busy": len(serving), "load": load})

    def _serving(self, workers: list[Worker]) -> list[Worker]:
        """Workers that serve; this process, the sender, keeps the last core, where one can be spared."""
        if len(workers) < 4:
            return workers
        pin(-1)
        return workers[1:-1]

    def _served_rows(self, seen: dict[str, np.ndarray], common: dict[str, Any]) -> None:
        gaps = seen["gap"][np.isfinite(seen["gap"])]
        for b in np.unique(seen["items"]):
            mine = (seen["items"] == b) & (np.arange(len(seen["items"])) >= 5)  # the first few start cold machinery
            if mine.sum() < 2:
                continue
            self._add("served", **common, way="served", batch=int(b), mean_busy=float(seen["busy"][mine].mean()),
                      dispatch_s=float(np.median(gaps)) if len(gaps) >= 5 else "",
                      **summary((seen["end"] - seen["start"])[mine], seen["cpu"][mine]))  # fmt: skip

    @property
    def _graphs(self) -> tuple[int, ...]:
        return (0, 1) if self.plan.device != "cpu" else (0,)

    def _launches(self, workers: list[Worker], device: Worker) -> None:
        """End to end in a tight loop, eager and as a CUDA graph, with the host idle and busy."""
        for host in (0, self.plan.cores - 1):
            with busy(workers[1:], self.shared, NEIGHBOUR_ITEMS) if host else nullcontext():
                for graph in self._graphs:
                    for b in self._sizes(self.plan.accelerator_batches):
                        found = device.ask(_launch, b, 1, graph, self.plan.reps)
                        self._add("gpu", way="tight", device=self.plan.device, batch=b, fused=1, graph=graph,
                                  host_busy=host, **found)  # fmt: skip

    def _served_launches(self, workers: list[Worker], device: Worker) -> None:
        """Queries one by one at a paced Poisson rate, the workers of the host idle or all busy."""
        serving = self._serving(workers)
        for host in (0, len(serving)):
            with busy(serving, self.shared, NEIGHBOUR_ITEMS) if host else nullcontext():
                for graph in self._graphs:
                    if self.budget.left > 0:
                        self._serve_launches(device, graph, host)

    def _serve_launches(self, device: Worker, graph: int, host: int) -> None:
        device.ask(_use_graph, graph)
        guess, batches = [1e-3] * len(self.plan.batches), list(self.plan.batches)
        for load, each in ((0.05, 3), (0.6, self.plan.each)):  # a pilot sets the rate
            seen = serve([device], self.shared, batches=batches, seconds=guess, load=load, each=each, seed=5)
            took = seen["end"] - seen["start"]
            guess = [float(np.median(took[seen["items"] == b])) for b in batches]
        common = {"device": self.plan.device, "busy": 1, "load": load, "host_busy": host, "graph": graph}
        self._served_rows(seen, common)

    def _operators(self, workers: list[Worker], _: Any) -> None:
        for b in self._sizes(self.plan.batches):
            for values in workers[0].ask(_operators, b, self.plan.reps):
                self._add("cpu", way="tight", device="cpu", scope="operator", batch=b, busy=1, **values)

    def _zipf(self, workers: list[Worker], _: Any) -> None:
        for b in self._sizes(ZIPF_BATCHES):
            found = workers[0].ask(_repeat, b, self.plan.reps, "zipf")
            self._add("cpu", way="tight", device="cpu", ids="zipf", batch=b, busy=1, **found)

    def _launch_operators(self, _: Any, device: Worker) -> None:
        """Copies and operators of the accelerator, with the host idle."""
        for b in self._sizes(self.plan.accelerator_batches):
            for values in device.ask(_parts, b, self.plan.reps):
                self._add("gpu", way="tight", device=self.plan.device, batch=b, fused=1, graph=0, host_busy=0, **values)

    def _fused(self, _: Any, device: Worker) -> None:
        """Several queries in one launch, with the host idle."""
        for graph in self._graphs:
            for fused in self.plan.fused[1:]:
                for b in self._sizes([b for b in self.plan.batches if b * fused <= max(self.plan.accelerator_batches)]):
                    found = device.ask(_launch, b, fused, graph, self.plan.reps)
                    self._add("gpu", way="tight", device=self.plan.device, batch=b, fused=fused, graph=graph,
                              host_busy=0, **found)  # fmt: skip


class OnCpu:
    """The work of a core: sub-requests of a network with uniform ids; Zipf ids are drawn when first asked for."""

    def __init__(self, network: Network, pool: Pool) -> None:
        self.network, self.pools = network, {"uniform": pool}

    def __call__(self, items: int, turn: int) -> Any:
        """Run one sub-request."""
        return self.network.run(self.pools["uniform"].batch(items, turn))

    def pool(self, law: str) -> Pool:
        """Inputs with ids of a law."""
        if law not in self.pools:
            self.pools[law] = Pool(self.network, law=law, seed=1, items=self.pools["uniform"].items)
        return self.pools[law]


def _repeat(work: OnCpu, _: Shared, items: int, reps: int, law: str) -> dict[str, float]:
    pool = work.pool(law)
    return summary(*repeat(lambda turn: work.network.run(pool.batch(items, turn)), reps=reps))


def _operators(work: OnCpu, _: Shared, items: int, reps: int) -> list[dict[str, Any]]:
    pool, network = work.pool("uniform"), work.network
    for turn in range(3):
        network.run_timed(pool.batch(items, turn))
    both = np.array([network.run_timed(pool.batch(items, turn + 3)) for turn in range(reps)])
    return [
        {"operator": role, "kind": kind, "count": count, **summary(both[:, 0, r], both[:, 1, r])}
        for r, (role, kind, count) in enumerate(network.role_counts())
    ]


class OnAccelerator:
    """The work of an accelerator's host process: launches of a network; everything is made when first needed."""

    def __init__(self, name: str, plan: Plan) -> None:
        self.name, self.plan, self.graph = name, plan, 0
        self._network: Network | None = None
        self._kept: dict[tuple[int, int], Launcher] = {}

    @property
    def network(self) -> Network:
        """The network on the device."""
        if self._network is None:
            pin(0)
            self._network = Network(models.get(self.name), device=self.plan.device, table_scale=self.plan.table_scale)
            self._pool = HostPool(self._network, max(self.plan.accelerator_batches) + 2048, seed=3)
        return self._network

    def launcher(self, items: int, fused: int, graph: int) -> Launcher:
        """A launcher for this shape; those of single queries are kept."""
        key = (items, graph)
        if fused == 1 and key in self._kept:
            return self._kept[key]
        network = self.network
        made = Launcher(network, self._pool, items, fused=fused, graph=bool(graph))
        if fused == 1:
            self._kept[key] = made
        return made

    def __call__(self, items: int, turn: int) -> Any:
        """Serve one query."""
        return self.launcher(items, 1, self.graph)(turn)


def _launch(device: OnAccelerator, _: Shared, items: int, fused: int, graph: int, reps: int) -> dict[str, float]:
    return summary(*repeat(device.launcher(items, fused, graph), reps=reps))


def _use_graph(device: OnAccelerator, _: Shared, graph: int) -> None:
    device.graph = graph


def _parts(device: OnAccelerator, _: Shared, items: int, reps: int) -> list[dict[str, Any]]:
    launch = device.launcher(items, 1, 0)
    found: list[dict[str, Any]] = [
        {"scope": scope, **summary(*repeat(getattr(launch, scope), reps=reps))} for scope in ("copy_in", "copy_back")
    ]
    each = np.array([launch.operator_seconds() for _ in range(reps + 3)])[3:]
    for r, (role, kind, count) in enumerate(device.network.role_counts()):
        found.append({"scope": "operator", "operator": role, "kind": kind, "count": count, **summary(each[:, r])})
    return found
