"""Runs of the live server over policies and loads: a row per run, and every sub-request beside it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.accelerator import HostPool, QueryLauncher
from calibration.measure import OnCpu
from calibration.network import Network, Pool
from calibration.rows import write_manifest
from calibration.testbed import Load, Seen, Server, serving
from calibration.timing import Budget, keep_freed_memory
from recqueue import models
from recqueue.workload import QuerySizes, mlperf_sizes

GRAPH_SIZES = (*range(128, 1025, 128), 1536, 2048, 3072, 4096)
"""Numbers of items captured as CUDA graphs; a launch is padded to the next one."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to run: a policy at a rate."""

    batch_size: int
    qps: float
    queries: int
    offload_threshold: int | None = None
    max_fused_queries: int = 1
    seed: int = 0


def poisson_load(run: Run, sizes: QuerySizes) -> Load:
    """Poisson arrivals with sizes of a distribution; the same seed gives the same queries whatever the policy."""
    gaps, items = (np.random.default_rng(s) for s in np.random.SeedSequence(run.seed).spawn(2))
    return Load(
        arrival_s=np.cumsum(gaps.exponential(1 / run.qps, run.queries)),
        items=items.choice(len(sizes.pmf), run.queries, p=sizes.pmf),
        batch_size=run.batch_size,
        offload_threshold=run.offload_threshold,
        max_fused_queries=run.max_fused_queries,
    )


@contextmanager
def live_server(
    name: str, *, workers: int, device: str | None, graphs: bool, capacity: int = 400_000, table_scale: float = 1.0
) -> Iterator[Server]:
    """Serve a model with full-size tables on ``workers`` cores, and on ``device`` where one is named."""
    torch.set_num_threads(1)
    keep_freed_memory()
    network = Network(models.get(name), table_scale=table_scale)
    pool = Pool(network, seed=1)

    def at_home() -> OnCpu:
        network.touch()
        return OnCpu(network, pool)

    def with_accelerator() -> QueryLauncher:
        far = Network(models.get(name), device=str(device), table_scale=table_scale)
        sizes = GRAPH_SIZES if graphs else ()
        return QueryLauncher(far, HostPool(far, 2 * GRAPH_SIZES[-1], seed=3), GRAPH_SIZES[-1], graph_sizes=sizes)

    beside = with_accelerator if device else None
    with serving(at_home, beside, workers=workers, capacity=capacity) as server:
        yield server


def interval_of_quantile(x: NDArray[np.float64], p: float, batches: int = 20) -> tuple[float, float]:
    """Rough 95 % interval of a quantile of a correlated series: from the spread over consecutive batches."""
    each = np.array([np.quantile(part, p) for part in np.array_split(x, batches)])
    half = 2.09 * each.std(ddof=1) / np.sqrt(batches)  # Student's t with 19 degrees of freedom
    middle = float(np.quantile(x, p))
    return middle - half, middle + half


def summary(run: Run, seen: Seen) -> dict[str, Any]:
    """Row of a run, the first tenth of the queries left out; times in seconds."""
    keep = slice(len(seen.load.items) // 10, None)
    latency = seen.latency_s[keep]
    low, high = interval_of_quantile(latency, 0.95)
    service, span = seen.end_s - seen.start_s, float(seen.load.arrival_s[-1])
    full = seen.sub_items == run.batch_size
    far = seen.far_end_s - seen.far_start_s
    launches = np.unique(seen.far_launch, return_index=True)[1]
    return {
        **asdict(run),
        "mean_s": latency.mean(),
        **{f"p{100 * p:g}_s": np.quantile(latency, p) for p in (0.5, 0.95, 0.99)},
        "p95_low_s": low,
        "p95_high_s": high,
        "sent_qps": len(seen.sent_s) / seen.sent_s[-1],
        "lateness_p99_s": np.quantile(seen.lateness_s, 0.99),
        "utilization_cpu": service.sum() / span / max(1, len(np.unique(seen.worker))),
        "utilization_accelerator": far[launches].sum() / span,
        "full_service_mean_s": service[full].mean() if full.any() else np.nan,
        "full_service_cv": service[full].std() / service[full].mean() if full.any() else np.nan,
        "launch_mean_s": far[launches].mean() if len(far) else np.nan,
        "launch_cv": far[launches].std() / far[launches].mean() if len(far) else np.nan,
        "offloaded": seen.offloaded.mean(),
    }


def measure_live(
    name: str,
    runs: Sequence[Run],
    out: Path,
    *,
    workers: int,
    device: str | None,
    graphs: bool,
    seconds: float,
    table_scale: float = 1.0,
    sizes: QuerySizes | None = None,
) -> Path:
    """Run them one after the other within a budget; rows go to ``live.csv``, sub-requests to ``live-RUN.npz``."""
    budget, sizes = Budget(seconds), sizes or mlperf_sizes()
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    common = {"run": stamp, "model": name, "workers": workers, "device": device or "", "graphs": int(graphs)}
    write_manifest(out, stamp, live=True, model=name, workers=workers, graphs=graphs, table_scale=table_scale)
    path, records = out / "live.csv", {}
    with live_server(name, workers=workers, device=device, graphs=graphs, table_scale=table_scale) as server:
        for number, run in enumerate(runs):
            if budget.left < 1.2 * run.queries / run.qps:
                print(f"{name}: stopped before run {number} of {len(runs)}, {budget.left:.0f} s left", flush=True)
                break
            seen = server.run(poisson_load(run, sizes))
            row = {**common, "number": number, **summary(run, seen)}
            new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
            records |= {f"{number}_{k}": v for k, v in _compact(seen).items()}
    np.savez_compressed(out / f"live-{stamp}.npz", **records)  # type: ignore[arg-type]
    return path


def _compact(seen: Seen) -> dict[str, NDArray[Any]]:
    """Sub-requests in the fewest bytes: microseconds as whole numbers."""
    micro = partial(np.multiply, 1e6)
    return {
        "start_us": np.rint(micro(seen.start_s)).astype(np.int64),
        "service_us": np.rint(micro(seen.end_s - seen.start_s)).astype(np.int32),
        "items": seen.sub_items.astype(np.int16),
        "query": seen.query.astype(np.int32),
        "worker": seen.worker.astype(np.int8),
        "sent_us": np.rint(micro(seen.sent_s)).astype(np.int64),
        "far_start_us": np.rint(micro(seen.far_start_s)).astype(np.int64),
        "far_end_us": np.rint(micro(seen.far_end_s)).astype(np.int64),
        "far_query": seen.far_query.astype(np.int32),
    }
