"""What a campaign left of a model: its runs, each a segment, and what belongs together as one measurement."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.live import Run, even_load, piece
from calibration.records import Record, read_records
from calibration.seen import interval_of
from calibration.testbed import Load
from calibration.windows import Services, Windows
from recqueue.errors import InputError
from recqueue.serving import Policy
from recqueue.workload import mlperf_sizes

OVERHEAD_S = 0.25
"""From the end of a run to the begin of the next, for campaigns that did not write down when a run began."""
FEWEST_BATCHES = 8
"""Least batches of the interval of several segments: each segment is one, or several where there are fewer."""
NAMES = ("mean", "p50", "p95", "p99")


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file.

    Raises
    ------
    InputError
        When there is no such file.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; run python -m calibration campaign first")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True, eq=False)
class Segment:
    """A run without interruption: its row and its records.

    Attributes
    ----------
    row : mapping
        Of ``live.csv`` or ``services.csv``.
    record : mapping
        Its columns, see :mod:`calibration.records`.
    began_s : float
        Seconds from the start of the model's campaign.
    """

    row: Mapping[str, str]
    record: Record
    began_s: float

    @property
    def workers(self) -> int:
        """Serving cores."""
        return int(self.row["workers"])

    @property
    def kind(self) -> str:
        """What is the same in the segments of a kind: model, policy and load, or batch size and level."""
        r = self.row
        return f"{r['configuration']} at {r['load']}" if "configuration" in r else f"{r['kind']} {r['items']}"

    @property
    def load(self) -> Load:
        """The queries that were sent."""
        r = self.row
        queries = int(r.get("all_queries", r["queries"]))
        run = Run(batch_size=int(r["batch_size"]), qps=float(r["qps"]), queries=queries, seed=int(r["seed"]))
        load = even_load(run, mlperf_sizes())
        return piece(load, int(r["piece"]), int(r["pieces"]), run.queries / run.qps) if "piece" in r else load

    def counted(self, latency: NDArray[Any]) -> NDArray[Any]:
        """Latencies without the first ones, which found a queue that is not yet what it will be."""
        return latency[int(len(latency) * float(self.row.get("skipped", 0.1))) :]

    @cached_property
    def services(self) -> Services | None:
        """Its sub-requests, where they were kept."""
        return Services.of(self.record) if len(self.record["start_us"]) else None

    @cached_property
    def windows(self) -> Windows | None:
        """Sums over windows; None where the cores served nothing."""
        return Windows.of_record(self.record, self.workers)


def statistics(latency_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean, median, p95 and p99."""
    return np.array([latency_s.mean(), *np.quantile(latency_s, (0.5, 0.95, 0.99))])


@dataclass(frozen=True, eq=False)
class Measured:
    """Segments of one policy at one rate, pooled; one segment in a campaign without rounds."""

    segments: Sequence[Segment]

    @property
    def policy(self) -> Policy:
        """The policy of the run."""
        row = self.segments[0].row
        if not row["offload_threshold"]:
            return Policy(int(row["batch_size"]))
        return Policy(int(row["batch_size"]), int(row["offload_threshold"]), int(row["max_fused_queries"]))

    @cached_property
    def row(self) -> dict[str, Any]:
        """What was measured, with the interval of p95; times in seconds."""
        rows = [s.row for s in self.segments]
        kept = ("model", "split", "configuration", "load", "qps", "batch_size", "offload_threshold",
                "max_fused_queries")  # fmt: skip
        length = np.array([float(r["queries"]) / float(r["qps"]) for r in rows])
        return {
            **{k: rows[0][k] for k in kept},
            "segments": len(rows),
            "queries": sum(int(r["queries"]) for r in rows),
            **self._latency(),
            "utilization_cpu": float(np.average([float(r["utilization_cpu"]) for r in rows], weights=length)),
            "lateness_p99_s": float(np.median([float(r["lateness_p99_s"]) for r in rows])),
            "steal_s": sum(float(r["steal_s"]) for r in rows),
        }

    def _latency(self) -> dict[str, float]:
        """Statistics and interval; those of a single segment are in its row."""
        columns = (*(f"{n}_s" for n in NAMES), "p95_low_s", "p95_high_s")
        if len(self.segments) == 1:
            return {name: float(self.segments[0].row[name]) for name in columns}
        latency = np.concatenate([s.counted(s.record["latency_us"]) for s in self.segments]) / 1e6
        batches = len(self.segments) * -(-FEWEST_BATCHES // len(self.segments))  # each within a segment
        values = (*statistics(latency), *interval_of(latency, 0.95, batches=batches))
        return {name: float(v) for name, v in zip(columns, values, strict=True)}


def segments_of(folder: Path, model: str) -> list[Segment]:
    """All runs of a model in the order in which they were made: at loads, of single batch sizes, and canaries.

    Raises
    ------
    InputError
        When its records are missing.
    """
    path = folder / f"records-{model}.npz"
    rows = rows_of(folder / "live.csv")
    if (folder / "services.csv").exists():  # a campaign of chosen configurations has none
        rows += rows_of(folder / "services.csv")
    if not path.exists():
        raise InputError(f"{path}: no such file; run python -m calibration campaign --models {model}")
    by_number: dict[str, Mapping[str, str]] = {}
    for row in rows:
        if row["model"] == model:
            by_number.setdefault(row["number"], row)
    found, clock = [], 0.0
    for number, record in sorted(read_records(path).items(), key=lambda item: int(item[0])):
        row = by_number.get(number)
        if row is not None:
            began = float(row["began_s"]) if "began_s" in row else clock
            found.append(Segment(row, record, began))
        clock += float(record["arrival_us"].max()) / 1e6 + OVERHEAD_S if "arrival_us" in record else OVERHEAD_S
    return found


def measured_runs(folder: Path, model: str) -> Iterator[Measured]:
    """What was measured of a model at loads, each with its segments."""
    groups: dict[tuple[str, ...], list[Segment]] = {}
    for s in segments_of(folder, model):
        if "configuration" in s.row:
            groups.setdefault(tuple(s.row[k] for k in ("split", "configuration", "load", "qps")), []).append(s)
    for group in groups.values():
        yield Measured(group)
