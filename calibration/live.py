"""Runs of the live server over policies and loads: a row per run, and every sub-request beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.accelerator import HostPool, QueryLauncher
from calibration.measure import OnCpu
from calibration.network import Network, Pool
from calibration.records import Archive
from calibration.rows import append_row, write_manifest
from calibration.seen import busy_share, interval_of, launches
from calibration.testbed import Load, Seen, Server, serving
from calibration.timing import Budget, keep_freed_memory
from recqueue import models
from recqueue.workload import QuerySizes, mlperf_sizes

GRAPH_SIZES = (*range(128, 1025, 128), *range(1280, 2049, 256), *range(2560, 4097, 512), *range(5120, 8193, 1024),
               9216, 10240, 11264)  # fmt: skip
"""Numbers of items captured as CUDA graphs; a launch is padded to the next one, by less than a quarter beyond 512.

The last holds 16 of the largest packaged queries.
"""
POOL_ITEMS = 16384
"""Items of the queries that wait in host memory to be sent to the accelerator, over and over."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to run: a policy at a rate."""

    batch_size: int
    qps: float
    queries: int
    offload_threshold: int | None = None
    max_fused_queries: int = 1
    seed: int = 0


def even_load(run: Run, sizes: QuerySizes) -> Load:
    """Queries that offer just the rate and the work that a long run would: for runs too short to average over chance.

    Poisson arrivals given their number (points drawn evenly over the run, in order), and sizes in the proportions of
    their distribution (the one at the middle of each of as many equal parts), in random order. The same seed gives the
    same queries whatever the policy.
    """
    at, order = (np.random.default_rng(s) for s in np.random.SeedSequence(run.seed).spawn(2))
    levels = (np.arange(run.queries) + 0.5) / run.queries
    items = np.searchsorted(np.cumsum(sizes.pmf), levels)
    return Load(
        arrival_s=np.sort(at.uniform(0.0, run.queries / run.qps, run.queries)),
        items=order.permutation(np.minimum(items, len(sizes.pmf) - 1)),
        batch_size=run.batch_size,
        offload_threshold=run.offload_threshold,
        max_fused_queries=run.max_fused_queries,
    )


def piece(load: Load, number: int, pieces: int, seconds: float) -> Load:
    """One of as many equally long pieces of a load that lasts ``seconds`` in all, from its own start.

    An even load in one piece offers exactly its rate; a piece of it does not, as little as a stretch of a long run.
    """
    length = seconds / pieces
    mine = np.minimum((load.arrival_s / length).astype(np.int64), pieces - 1) == number
    return replace(load, arrival_s=load.arrival_s[mine] - number * length, items=load.items[mine])


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
        return QueryLauncher(far, HostPool(far, POOL_ITEMS, seed=3), GRAPH_SIZES[-1], graph_sizes=sizes)

    beside = with_accelerator if device else None
    with serving(at_home, beside, workers=workers, capacity=capacity) as server:
        yield server


def summary(run: Run, seen: Seen, workers: int, *, skipped: float = 0.1) -> dict[str, Any]:
    """Row of a run, the first of its queries left out, a tenth of them by default; times in seconds."""
    first = int(len(seen.load.items) * skipped)
    latency = seen.latency_s[first:]
    low, high = interval_of(latency, 0.95)
    service, window = seen.end_s - seen.start_s, (seen.load.arrival_s[first], seen.load.arrival_s[-1])
    full = seen.sub_items == run.batch_size
    far = launches(seen)
    took = far["end"] - far["start"]
    late = np.quantile(seen.lateness_s, [0.5, 0.99])
    return {
        **asdict(run),
        "queries": len(seen.load.items),
        "mean_s": latency.mean(),
        **{f"p{100 * p:g}_s": np.quantile(latency, p) for p in (0.5, 0.95, 0.99)},
        "p95_low_s": low,
        "p95_high_s": high,
        "sent_qps": len(seen.sent_s) / seen.sent_s[-1],
        "lateness_p50_s": late[0],
        "lateness_p99_s": late[1],
        "utilization_cpu": busy_share(seen.start_s, seen.end_s, window, workers),
        "utilization_accelerator": busy_share(far["start"], far["end"], window),
        "full_service_mean_s": service[full].mean() if full.any() else np.nan,
        "full_service_cv": service[full].std() / service[full].mean() if full.any() else np.nan,
        "launch_mean_s": took.mean() if len(took) else np.nan,
        "launch_cv": took.std() / took.mean() if len(took) else np.nan,
        "launch_queries": far["queries"].mean() if len(took) else np.nan,
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
    """Run them one after the other within a budget; rows go to ``live.csv``, records to ``live-RUN.npz``."""
    budget, sizes = Budget(seconds), sizes or mlperf_sizes()
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    common = {"run": stamp, "model": name, "workers": workers, "device": device or "", "graphs": int(graphs)}
    write_manifest(out, stamp, live=True, model=name, workers=workers, graphs=graphs, table_scale=table_scale)
    path, archive = out / "live.csv", Archive(out / f"live-{stamp}.npz", workers)
    with live_server(name, workers=workers, device=device, graphs=graphs, table_scale=table_scale) as server:
        for number, run in enumerate(runs):
            if budget.left < 1.2 * run.queries / run.qps:
                print(f"{name}: stopped before run {number} of {len(runs)}, {budget.left:.0f} s left", flush=True)
                break
            seen = server.run(poisson_load(run, sizes))
            append_row(path, {**common, "number": number, **summary(run, seen, workers)})
            archive.add(number, seen)
            archive.write()
    return path
