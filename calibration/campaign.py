"""The campaign: a live server over configurations and loads, to fit a model of it and to judge that model.

Which configurations are fitted and which are held out is fixed here, before anything is measured. A campaign leaves
``live.csv`` (a row per run), ``services.csv`` (what single sub-requests and launches take, and the capacities),
``records-MODEL.npz`` (see :mod:`calibration.records`) and a manifest. Rows are written as they are made: a campaign
that is killed keeps them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from calibration import insitu
from calibration.insitu import OVERHEAD_S, Notebook
from calibration.live import Run, even_load, live_server, summary
from calibration.rows import write_manifest
from calibration.testbed import Server
from calibration.timing import CORES, FORK, Budget
from recqueue.errors import InputError
from recqueue.workload import QuerySizes, mlperf_sizes


@dataclass(frozen=True)
class Configuration:
    """A policy of the live server."""

    batch_size: int
    offload_threshold: int | None = None
    max_fused_queries: int = 1

    def __str__(self) -> str:
        far = "" if self.offload_threshold is None else f"/{self.offload_threshold}/{self.max_fused_queries}"
        return f"{self.batch_size}{far}"

    @classmethod
    def parse(cls, text: str) -> Configuration:
        """Read ``BATCH`` or ``BATCH/THRESHOLD/FUSED``.

        Raises
        ------
        InputError
            When it is neither.
        """
        numbers = text.split("/")
        if len(numbers) not in (1, 3) or not all(n.isdecimal() and int(n) > 0 for n in numbers):
            raise InputError(f"configuration {text!r}; expected BATCH or BATCH/THRESHOLD/FUSED, such as 128/300/4")
        return cls(*map(int, numbers))


FIT = tuple(map(Configuration.parse, ("25", "128", "1000", "128/300/1", "64/500/16", "1000/300/4")))
HELD_OUT = tuple(map(Configuration.parse, ("64", "256", "64/300/4", "256/500/1", "256/300/16")))
LOADS = {"held-out": (0.2, 0.5, 0.7, 0.8, 0.9), "fit": (0.7,)}
"""Share of a configuration's measured capacity that is offered."""
ORDER = (0.7, 0.9, 0.5, 0.8, 0.2)
"""All configurations at one load, then at the next: what a cut-off leaves is spread over all of them."""
WEIGHT = {0.2: 0.5, 0.5: 0.8, 0.7: 1.0, 0.8: 1.4, 0.9: 2.0}
"""Share of the time that a run gets: the fuller a server, the longer its memory."""
QUERIES = {0.2: 6000, 0.5: 12000, 0.7: 20000, 0.8: 40000, 0.9: 60000}
"""Most queries of a run; more would not narrow the interval of p95 noticeably below 3 %."""
HELD_OUT_WEIGHT = 1.3
MODEL_WEIGHT = {"ncf": 0.6, "dlrm-rmc1": 0.8, "din": 1.3, "dlrm-rmc2": 1.4}
"""Share of the time that a model gets, 1 if not named: a slow model needs longer for as many queries."""
SERVICES_SHARE, LAUNCHES_SHARE, SATURATED_S = 0.14, 0.08, 0.8
WARM = 1.05
"""What the cores carry when all work waits over what the share busy at 0.7 says: services in a row are quicker."""
DRIFT_EVERY = 15
MOST_RECORDS = 25_000
"""Sub-requests of a run whose records are kept."""
EXPLORED = {"fit": tuple(map(Configuration.parse, ("128", "64/500/16")))}
EXPLORED_LOADS = (0.7, 0.9)


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What to run."""

    names: Sequence[str]
    seconds: float
    device: str | None = "cuda"
    workers: int | None = None
    explore: bool = False
    configurations: Sequence[Configuration] = ()
    table_scale: float = 1.0

    @property
    def splits(self) -> dict[str, tuple[Configuration, ...]]:
        """Configurations by the half that they belong to, without those that need an accelerator if there is none."""
        chosen = {"fit": FIT, "held-out": HELD_OUT}
        if self.configurations:
            chosen = {"other": tuple(c for c in self.configurations if c not in FIT + HELD_OUT)} | {
                split: tuple(c for c in half if c in self.configurations) for split, half in chosen.items()
            }
        elif self.explore:
            chosen = EXPLORED
        return {
            split: tuple(c for c in half if self.device or c.offload_threshold is None)
            for split, half in chosen.items()
        }


@dataclass(frozen=True)
class Planned:
    """A run to come."""

    split: str
    configuration: Configuration
    load: float

    @property
    def weight(self) -> float:
        """Share of the time, beside those of others."""
        return WEIGHT[self.load] * (HELD_OUT_WEIGHT if self.split == "held-out" else 1.0)


def planned(campaign: Campaign) -> list[Planned]:
    """All runs of a model in their order."""
    return [
        Planned(split, configuration, load)
        for load in (EXPLORED_LOADS if campaign.explore else ORDER)
        for split, half in campaign.splits.items()
        if campaign.explore or load in LOADS["fit" if split == "fit" else "held-out"]
        for configuration in half
    ]


def queries_of(runs: Sequence[Planned], left_s: float, qps: float, most: int) -> int:
    """Queries of the first of these runs: its share of what is left, no more than are needed or fit on the board."""
    share = runs[0].weight / sum(r.weight for r in runs)
    seconds = max(0.3, (left_s - OVERHEAD_S * len(runs)) * share)
    return int(max(60, min(seconds * qps, QUERIES[runs[0].load], most)))


def run_campaign(out: Path, campaign: Campaign) -> str:
    """Measure all models within the budget; returns a line per model."""
    torch.set_num_threads(1)
    budget = Budget(campaign.seconds)
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    workers = campaign.workers or max(1, len(CORES) - 2)
    splits = {split: [str(c) for c in half] for split, half in campaign.splits.items()}
    write_manifest(out, stamp, campaign=True, models=[*campaign.names], workers=workers, device=campaign.device or "",
                   table_scale=campaign.table_scale, splits=splits, loads=LOADS, seconds=campaign.seconds,
                   explore=campaign.explore, arrivals="even", sizes="mlperf")  # fmt: skip
    lines, weights = [], [MODEL_WEIGHT.get(name, 1.0) for name in campaign.names]
    for i, name in enumerate(campaign.names):
        part = Budget(budget.left * weights[i] / sum(weights[i:]))
        before = part.left
        child = FORK.Process(target=_measure, args=(name, out, stamp, campaign, workers, part))
        child.start()  # a process of its own: its memory is gone before the next
        child.join()
        state = "" if child.exitcode == 0 else f", FAILED with exit code {child.exitcode}"
        lines.append(f"{name}: {before - part.left:.0f} s of {before:.0f} s{state}")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def _measure(name: str, out: Path, stamp: str, campaign: Campaign, workers: int, budget: Budget) -> None:
    torch.set_num_threads(1)
    with ExitStack() as stack:
        device, server = campaign.device, None
        graphs = device == "cuda"
        while server is None:
            start = live_server(name, workers=workers, device=device, graphs=graphs, table_scale=campaign.table_scale)
            try:
                server = stack.enter_context(start)
            except RuntimeError as error:
                if device is None:
                    raise
                print(f"{name}: no accelerator, {error}; going on without", flush=True)
                device, graphs = None, False
        common = {"run": stamp, "model": name, "workers": workers, "device": device or "", "graphs": int(graphs),
                  "table_scale": campaign.table_scale}  # fmt: skip
        notes = Notebook(out, common, workers, MOST_RECORDS)
        print(f"{name}: serving, {budget.left:.0f} s left", flush=True)
        _Measurement(server, notes, campaign, budget).run()


@dataclass
class _Measurement:
    server: Server
    notes: Notebook
    campaign: Campaign
    budget: Budget

    def run(self) -> None:
        """Services first, then capacities, then runs at loads."""
        total = self.budget.left
        if not self.campaign.configurations:
            insitu.measure_services(self.server, self.notes, SERVICES_SHARE * total)
            self._say("services measured")
            if self.server.has_accelerator:
                insitu.measure_launches(self.server, self.notes, LAUNCHES_SHARE * total)
                self._say("launches measured")
        runs = [r for r in planned(self.campaign) if self._possible(r.configuration)]
        sizes = mlperf_sizes()
        found = dict(self._capacities(list(dict.fromkeys(r.configuration for r in runs)), sizes))
        insitu.measure_drift(self.server, self.notes)
        for i, run in enumerate(runs):
            if i and self.budget.left < 0.5:  # one at least
                self._say(f"stopped before run {i} of {len(runs)}")
                break
            found[run.configuration] = self._serve(runs[i:], found[run.configuration], sizes)
            if i % DRIFT_EVERY == DRIFT_EVERY - 1:
                insitu.measure_drift(self.server, self.notes)
        insitu.measure_drift(self.server, self.notes)

    def _possible(self, configuration: Configuration) -> bool:
        return configuration.offload_threshold is None or self.server.has_accelerator

    def _most(self, configuration: Configuration, sizes: QuerySizes) -> int:
        """Queries that fit on the board whatever they are; sub-requests of the mean, with room to spare."""
        parts = float(sizes.pmf @ -(-np.arange(len(sizes.pmf)) // configuration.batch_size))
        return int(0.9 * self.server.capacity / max(1.0, parts))

    def _capacities(
        self, configurations: Sequence[Configuration], sizes: QuerySizes
    ) -> Iterator[tuple[Configuration, tuple[float, float]]]:
        """What the cores and the accelerator carry in each configuration: a short try sets the length of a longer."""
        for configuration in configurations:
            queries, both = 40, (float("inf"), float("inf"))
            for _ in range(2):
                run = _run(configuration, 1.0, queries, 7)
                seen = self.notes.run(self.server, insitu.saturated(even_load(run, sizes)))
                cpu, far = insitu.capacities(seen, self.notes.workers)
                both = (cpu, far)
                queries = int(np.clip(SATURATED_S * min(both), 60, min(6000, self._most(configuration, sizes))))
            self.notes.add("capacities.csv", configuration=str(configuration), batch_size=configuration.batch_size,
                           offload_threshold=configuration.offload_threshold,
                           max_fused_queries=configuration.max_fused_queries, queries=len(seen.load.items),
                           capacity_cpu_qps=both[0], capacity_accelerator_qps=both[1])  # fmt: skip
            self._say(f"{configuration!s:>10s}  capacity {both[0]:.5g} qps of the cores, {both[1]:.5g} of the rest")
            yield configuration, both

    def _serve(self, runs: Sequence[Planned], capacity: tuple[float, float], sizes: QuerySizes) -> tuple[float, float]:
        """The first of these runs; returns the capacity, lowered where the share that was busy says so.

        Everything waiting at once lasts less than a second, so it may fall on a good moment of the machine.
        """
        this = runs[0]
        qps = float(f"{this.load * min(capacity):.6g}")
        queries = queries_of(runs, self.budget.left, qps, self._most(this.configuration, sizes))
        seed = zlib.crc32(f"{self.notes.common['model']} {this.configuration} {this.load}".encode())
        run = _run(this.configuration, qps, queries, seed)
        seen = self.notes.run(self.server, even_load(run, sizes))
        row = summary(run, seen, self.notes.workers)
        self.notes.add("live.csv", split=this.split, configuration=str(this.configuration), load=this.load,
                       arrivals="even", sizes="mlperf", capacity_cpu_qps=capacity[0],
                       capacity_accelerator_qps=capacity[1], **row)  # fmt: skip
        half = (row["p95_high_s"] - row["p95_low_s"]) / 2 / row["p95_s"]
        self._say(f"{this.configuration!s:>10s} at {this.load:4.2f}  {qps:8.1f} qps {queries:6d} queries"
                  f"  p95 {1e3 * row['p95_s']:8.2f} ms ± {100 * half:4.1f} %  busy {row['utilization_cpu']:.3f}"
                  f" {row['utilization_accelerator']:.3f}  late {1e6 * row['lateness_p99_s']:.0f} us"
                  f"  stolen {self.notes.stolen_s:.2f} s")  # fmt: skip
        if this.load != ORDER[0] or row["utilization_cpu"] == 0:
            return capacity
        return min(capacity[0], WARM * qps / row["utilization_cpu"]), capacity[1]

    def _say(self, text: str) -> None:
        print(f"{self.notes.common['model']} {self.budget.left:4.0f} s left: {text}", flush=True)


def _run(configuration: Configuration, qps: float, queries: int, seed: int) -> Run:
    return Run(batch_size=configuration.batch_size, offload_threshold=configuration.offload_threshold,
               max_fused_queries=configuration.max_fused_queries, qps=qps, queries=queries, seed=seed)  # fmt: skip
