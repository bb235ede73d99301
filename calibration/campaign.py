"""The campaign: a live server over configurations and loads, to fit a model of it and to judge that model.

:mod:`calibration.plan` says what is measured and why in rounds. A campaign leaves ``live.csv`` (a row per segment),
``services.csv`` (what single sub-requests and launches take, and the canaries), ``capacities.csv``,
``records-MODEL.npz`` (see :mod:`calibration.records`) and a manifest. Rows are written as they are made and records
after each round: a campaign that is killed keeps them.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from calibration import insitu
from calibration.insitu import Notebook
from calibration.live import Run, even_load, live_server, piece, summary
from calibration.plan import (
    EVERY,
    MODEL_WEIGHT,
    SKIPPED,
    Campaign,
    Configuration,
    Planned,
    dealt,
    in_order,
    planned,
    round_of,
    seconds_of,
    unit_of,
)
from calibration.rows import write_manifest
from calibration.testbed import Server
from calibration.timing import CORES, FORK, Budget
from recqueue.errors import InputError
from recqueue.workload import QuerySizes, mlperf_sizes

SERVICES_SHARE, LAUNCHES_SHARE = 0.07, 0.05
"""Share of each round for single sub-requests and for launches, at most."""
CANARY_S = 0.35
"""What a canary takes, about."""
PASSES, CAPACITIES_SHARE, SHORT_S, PILOT_LOAD = 2, 0.08, (0.1, 0.4), 0.7
"""Capacities: passes over all configurations, their share of the time, seconds of each of their two runs at least and
at most, and the load of the second."""
WARM = 1.05
"""What the cores carry when all work waits over what the share busy at 0.7 says: services in a row are quicker."""
CANARY_EVERY = 9
"""Segments from one canary to the next within a round; two more are at its ends."""
MOST_RECORDS = 25_000
"""Sub-requests of a run whose records are kept."""
Both = tuple[float, float]


def run_campaign(out: Path, campaign: Campaign) -> str:
    """Measure all models within the budget; returns a line per model.

    Raises
    ------
    InputError
        When the folder has records of one of them.
    """
    for name in campaign.names:
        if (out / f"records-{name}.npz").exists():
            raise InputError(f"{out}: has a campaign of {name}; choose another folder")
    torch.set_num_threads(1)
    budget = Budget(campaign.seconds)
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    workers = campaign.workers or max(1, len(CORES) - 2)
    splits = {split: [str(c) for c in half] for split, half in campaign.splits.items()}
    loads = {split: sorted({r.load for r in planned(campaign) if r.split == split}) for split in splits}
    write_manifest(out, stamp, campaign=True, models=[*campaign.names], workers=workers, device=campaign.device or "",
                   table_scale=campaign.table_scale, splits=splits, loads=loads, seconds=campaign.seconds,
                   rounds=campaign.how_often, explore=campaign.explore, arrivals="even", sizes="mlperf")  # fmt: skip
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
        Measurement(server, notes, campaign, budget).run()


@dataclass
class Measurement:
    """The campaign of one model on a running server."""

    server: Server
    notes: Notebook
    campaign: Campaign
    budget: Budget
    sizes: QuerySizes = field(default_factory=mlperf_sizes)
    quiet: bool = False

    def run(self) -> None:
        """Capacities, which set the rates, then the rounds."""
        runs = [
            r for r in planned(self.campaign)
            if r.configuration.offload_threshold is None or self.server.has_accelerator
        ]  # fmt: skip
        seed = zlib.crc32(self.notes.common["model"].encode())
        capacity = self._capacities(list(dict.fromkeys(r.configuration for r in runs)))
        rates = [_rate(run, capacity[run.configuration]) for run in runs]
        self._fewer_rounds(runs, rates)
        rounds, whole = self.campaign.how_often, not self.campaign.configurations
        services = dealt(len(insitu.SERVICES) if whole else 0, rounds, seed)
        launches = dealt(len(insitu.LAUNCHES) if whole and self.server.has_accelerator else 0, rounds, seed + 1)
        canary = insitu.Canary(self.server, self.notes)
        total = self.budget.left
        seconds = self._lengths(runs, rates, total / rounds)
        for number in range(rounds):
            if self.budget.left < 0.5 and number:
                self._say(f"stopped before round {number + 1} of {rounds}")
                break
            self.notes.round, self.notes.share = number, (number + 1) / rounds
            canary.run()
            insitu.measure_services(self.server, self.notes, SERVICES_SHARE * total / rounds, services[number])
            insitu.measure_launches(self.server, self.notes, LAUNCHES_SHARE * total / rounds, launches[number])
            order = in_order(runs, self.notes.common["model"], number, rounds)
            for i, run in enumerate(order):
                if self.budget.left < 0.5 + seconds[run] and (i or number):  # one at least
                    self._say(f"no time for segment {i + 1} of {len(order)}")
                    continue
                if i and i % CANARY_EVERY == 0:
                    canary.run()
                self._serve(run, seconds[run], capacity[run.configuration])
            canary.run()
            self.notes.write()
            self._say(f"round {number + 1} of {rounds} done, records {self.notes.archive.size / 2**20:.1f} MiB")

    @property
    def _share(self) -> float:
        """Share of the time that runs at a load get."""
        return 1 - (0 if self.campaign.configurations else SERVICES_SHARE + LAUNCHES_SHARE)

    def _fewer_rounds(self, runs: Sequence[Planned], rates: Sequence[float]) -> None:
        """As many rounds as there is time for, where a server is so slow that its shortest segments take all of it."""
        asked = self.campaign.how_often
        each = (round_of(runs, rates, 0.0) + _canaries_s(runs)) / self._share
        if (rounds := max(1, min(asked, int(self.budget.left / each)))) < asked:
            self._say(f"a slow server: {rounds} rounds, for {asked} would take {asked * each:.0f} s; give it more time")
            self.campaign = replace(self.campaign, rounds=rounds)

    def _lengths(self, runs: Sequence[Planned], rates: Sequence[float], round_s: float) -> dict[Planned, float]:
        """Seconds of the segments of each run, the same in all rounds, so that the rounds fill the time."""
        unit = unit_of(runs, rates, self._share * round_s - _canaries_s(runs))
        self._say(f"segments of {unit:.2f} s times their weight")
        return {
            run: seconds_of(run, unit, qps, self._most(run.configuration))
            for run, qps in zip(runs, rates, strict=True)
        }  # fmt: skip

    def _most(self, configuration: Configuration) -> int:
        """Queries that fit on the board whatever they are; sub-requests of the mean, with room to spare."""
        parts = float(self.sizes.pmf @ -(-np.arange(len(self.sizes.pmf)) // configuration.batch_size))
        return int(0.9 * self.server.capacity / max(1.0, parts))

    def _capacities(self, configurations: Sequence[Configuration]) -> dict[Configuration, Both]:
        """What the cores and the accelerator carry in each configuration, over passes through all of them.

        All work waiting at once says it first. But that lasts less than a second and its services follow each other
        closely: the share that is busy at a load of ``PILOT_LOAD`` may lower it. So the rates of all rounds rest on
        several moments of the machine.
        """
        each_s = CAPACITIES_SHARE * self.budget.left / (2 * PASSES * len(configurations)) - insitu.OVERHEAD_S
        each_s = float(np.clip(each_s, *SHORT_S))
        waiting: dict[Configuration, list[Both]] = defaultdict(list)
        found: dict[Configuration, Both] = {}
        for turn in range(PASSES):
            for c in configurations:
                both, queries = waiting[c][-1] if turn else self._saturated(c, 40), 40
                queries = int(np.clip(each_s * min(both), 60, self._most(c)))
                waiting[c].append(self._saturated(c, queries, turn))
        for c, rates in waiting.items():
            found[c] = (float(np.mean([r[0] for r in rates])), float(np.mean([r[1] for r in rates])))
        busy: dict[Configuration, list[float]] = defaultdict(list)
        for turn in range(PASSES):
            for c in configurations:
                qps = float(f"{PILOT_LOAD * min(found[c]):.6g}")
                run = _run(c, qps, int(np.clip(each_s * qps, 60, self._most(c))), 100 + turn)
                row = summary(run, self.notes.run(self.server, even_load(run, self.sizes)), self.notes.workers)
                busy[c].append(row["utilization_cpu"] / qps)
                self._note_capacity("pilot", turn, run, found[c], row["utilization_cpu"])
        for c in configurations:
            per_query = float(np.mean(busy[c]))
            found[c] = (min(found[c][0], WARM / per_query if per_query > 0 else float("inf")), found[c][1])
            self._say(f"{c!s:>10s}  capacity {found[c][0]:.5g} qps of the cores, {found[c][1]:.5g} of the rest")
        return found

    def _saturated(self, configuration: Configuration, queries: int, turn: int = 0) -> Both:
        run = _run(configuration, 1.0, queries, 7 + turn)
        seen = self.notes.run(self.server, insitu.saturated(even_load(run, self.sizes)))
        cpu, far = insitu.capacities(seen, self.notes.workers)
        self._note_capacity("waiting", turn, run, (cpu, far), 1.0)
        return cpu, far

    def _note_capacity(self, kind: str, turn: int, run: Run, both: Both, busy: float) -> None:
        c = Configuration(run.batch_size, run.offload_threshold, run.max_fused_queries)
        self.notes.add("capacities.csv", kind=kind, turn=turn, configuration=str(c), batch_size=run.batch_size,
                       offload_threshold=run.offload_threshold, max_fused_queries=run.max_fused_queries,
                       queries=run.queries, capacity_cpu_qps=both[0], capacity_accelerator_qps=both[1],
                       utilization_cpu=busy)  # fmt: skip

    def _serve(self, this: Planned, seconds: float, capacity: Both) -> None:
        """A segment: its piece of the load that all segments of this run make together."""
        notes, c = self.notes, this.configuration
        every = min(EVERY.get(this.load, 1), self.campaign.how_often)
        pieces = -(-self.campaign.how_often // every)
        qps = _rate(this, capacity)
        seed = zlib.crc32(f"{notes.common['model']} {c} {this.load}".encode())
        run = _run(c, qps, max(round(pieces * seconds * qps), pieces), seed)
        number = min(notes.round // every, pieces - 1)
        load = piece(even_load(run, self.sizes), number, pieces, run.queries / qps)
        seen = notes.run(self.server, load, keep=1.0 if this.split == "fit" else notes.share)
        row = summary(run, seen, notes.workers, skipped=SKIPPED)
        queries = row["queries"]
        notes.add("live.csv", split=this.split, configuration=str(c), load=this.load,
                  arrivals="even", sizes="mlperf", capacity_cpu_qps=capacity[0],
                  capacity_accelerator_qps=capacity[1], piece=number, pieces=pieces, all_queries=run.queries,
                  skipped=SKIPPED, **row)  # fmt: skip
        self._say(f"{notes.round:2d} {c!s:>10s} at {this.load:4.2f}  {qps:8.1f} qps {queries:6d} "
                  f"queries  p95 {1e3 * row['p95_s']:8.2f} ms  busy {row['utilization_cpu']:.3f} "
                  f"{row['utilization_accelerator']:.3f}  late {1e6 * row['lateness_p99_s']:.0f} us"
                  f"  stolen {notes.stolen_s:.2f} s")  # fmt: skip

    def _say(self, text: str) -> None:
        if not self.quiet:
            print(f"{self.notes.common['model']} {self.budget.left:4.0f} s left: {text}", flush=True)


def _canaries_s(runs: Sequence[Planned]) -> float:
    """Seconds of the canaries of a round."""
    return CANARY_S * (2 + len(runs) // CANARY_EVERY)


def _rate(run: Planned, capacity: Both) -> float:
    return float(f"{run.load * min(capacity):.6g}")


def _run(configuration: Configuration, qps: float, queries: int, seed: int) -> Run:
    return Run(batch_size=configuration.batch_size, offload_threshold=configuration.offload_threshold,
               max_fused_queries=configuration.max_fused_queries, qps=qps, queries=queries, seed=seed)  # fmt: skip
