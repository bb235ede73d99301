"""A pipeline, simulated stage by stage: no query comes back, so a stage is done with once those before it are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.serving.policy import Policy
from recqueue.serving.stages import Pipeline, PipelinePerformance, Stage, StagePerformance
from recqueue.serving.system import System
from recqueue.simulate.execution import Crew
from recqueue.simulate.experiment import SETTLING_TIMES, check_options
from recqueue.simulate.fleet import latency_statistics, load_per_qps
from recqueue.simulate.machines import Kind, kind_of, new_state
from recqueue.simulate.replication import WARM_UP_SHARE
from recqueue.simulate.routing import ROUND_ROBIN, advance_all, serve
from recqueue.simulate.statistics import student_interval
from recqueue.simulate.streams import Streams, arrival_times_s, query_items, spawn
from recqueue.workload.sizes import MAX_ITEMS, QuerySizes


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """One replication; every array holds one value for each query, in order of arrival.

    Attributes
    ----------
    response_s : numpy.ndarray
        From arrival to the end of the last stage.
    wait_s, stage_s, critical_s : mapping
        Stage -> time to the first start, time in the stage, and the part of it that the whole query waits for.
    utilization : mapping
        Stage -> busy share of its servers until the last completion.
    sub_requests : int
        Completed.
    """

    response_s: NDArray[np.float64]
    wait_s: Mapping[str, NDArray[np.float64]]
    stage_s: Mapping[str, NDArray[np.float64]]
    critical_s: Mapping[str, NDArray[np.float64]]
    utilization: Mapping[str, float]
    sub_requests: int


def items_at(pipeline: Pipeline) -> dict[str, NDArray[np.int64]]:
    """Items that enter each stage, for a query of 0, 1, ... items on arrival.

    Raises
    ------
    InputError
        When branches add up to a query that is too large.
    """
    entering: dict[str, NDArray[np.int64]] = {}
    leaving: dict[str, NDArray[np.int64]] = {}
    for stage in pipeline.order():
        branches = [leaving[name] for name in pipeline.before(stage.name)]
        if not branches:
            n = np.arange(pipeline.sizes.max_items + 1)
        else:
            n = np.sum(branches, axis=0) if stage.merge == "sum" else np.max(branches, axis=0)
        if n[-1] > MAX_ITEMS:
            raise InputError(f"stage {stage.name}: up to {n[-1]} items enter; at most {MAX_ITEMS} are supported")
        # the product of a share and a whole number may lie a rounding above a whole number
        out = np.ceil(np.round(stage.keep * n, 9)).astype(np.int64)
        entering[stage.name], leaving[stage.name] = n, out if stage.most is None else np.minimum(out, stage.most)
    return entering


def kinds_of(pipeline: Pipeline) -> dict[str, Kind]:
    """Tables of each stage."""
    largest = {name: int(n[-1]) for name, n in items_at(pipeline).items()}

    def kind(s: Stage) -> Kind:
        pool = System(
            name=s.name,
            cores=s.servers,
            service=s.service,
            contention=s.contention,
            dispatch_overhead_s=s.dispatch_overhead_s,
        )
        return kind_of(pool, Policy(s.batch_size), largest[s.name])

    return {s.name: kind(s) for s in pipeline.stages}


def offered_load_by_stage(pipeline: Pipeline, qps: float) -> dict[str, float]:
    """Work offered to each stage over what its servers can do, all of them busy."""
    kinds, loads = kinds_of(pipeline), {}
    for name, n in items_at(pipeline).items():
        pmf = np.bincount(n, weights=pipeline.sizes.pmf).astype(float)
        loads[name] = qps * load_per_qps(kinds[name], QuerySizes(pmf, name))
    return loads


def stage_noise(seed: int, replication: int, pipeline: Pipeline) -> dict[str, np.random.Generator]:
    """Generator of the service noise of each stage, beside the streams of :func:`recqueue.simulate.spawn`."""
    return {
        s.name: np.random.default_rng(
            np.random.SeedSequence(seed, spawn_key=(replication, len(Streams._fields) + 1, i))
        )
        for i, s in enumerate(pipeline.stages)
    }


def run_pipeline(
    pipeline: Pipeline,
    arrival_s: NDArray[np.float64],
    items: NDArray[np.int64],
    noise: Mapping[str, np.random.Generator],
) -> PipelineRun:
    """Take queries (arrival times ascending) through all stages; ``noise`` maps each to its random numbers."""
    entering, kinds = items_at(pipeline), kinds_of(pipeline)
    ready: dict[str, NDArray[np.float64]] = {}
    finish: dict[str, NDArray[np.float64]] = {}
    started: dict[str, NDArray[np.float64]] = {}
    core_s, sub_requests = {}, 0
    for stage in pipeline.order():
        name, before = stage.name, pipeline.before(stage.name)
        ready[name] = np.max([finish[b] for b in before], axis=0) if before else arrival_s
        queue = np.argsort(ready[name], kind="stable")
        state = new_state(
            [kinds[name]],
            np.zeros(1, np.int64),
            ready[name][queue],
            entering[name][items[queue]],
            (noise[name], noise[name]),
        )
        alone, nothing, used = np.zeros(1, np.int64), np.empty(0), np.zeros(2, np.int64)
        serve(state, 0, len(items), alone, ROUND_ROBIN, 1, nothing, 0, used, np.random.default_rng(0))  # draws nothing
        advance_all(state, np.inf)
        finish[name], started[name] = np.empty(len(items)), np.empty(len(items))
        finish[name][queue], started[name][queue] = state.query["finish"], state.query["started"]
        core_s[name] = float(state.machine["core_s"][0])
        sub_requests += int(state.machine["sub_requests"][0])

    stage_s = {name: finish[name] - ready[name] for name in finish}
    # Backwards along what each query waited for last: the times on that way add up to its response.
    decides = _latest(pipeline.last(), finish, np.ones(len(items), dtype=bool))
    for stage in reversed(pipeline.order()):
        for name, mask in _latest(pipeline.before(stage.name), finish, decides[stage.name]).items():
            decides[name] = decides.get(name, np.zeros(len(items), dtype=bool)) | mask
    end = np.max([finish[name] for name in pipeline.last()], axis=0)
    span = float(end.max())
    return PipelineRun(
        response_s=end - arrival_s,
        wait_s={name: started[name] - ready[name] for name in finish},
        stage_s=stage_s,
        critical_s={name: np.where(decides[name], stage_s[name], 0.0) for name in finish},
        utilization={s.name: core_s[s.name] / (s.servers * span) for s in pipeline.stages},
        sub_requests=sub_requests,
    )


def _latest(
    names: Sequence[str], finish: Mapping[str, NDArray[np.float64]], among: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """For which queries each stage ends last of these (the first of them when equal)."""
    if not names:
        return {}
    last = np.argmax([finish[name] for name in names], axis=0)
    return {name: among & (last == i) for i, name in enumerate(names)}


def simulate_pipeline(
    pipeline: Pipeline,
    *,
    qps: float | None = None,
    queries: int = 200_000,
    replications: int = 8,
    seed: int = 0,
    workers: int | None = None,
    executor: Executor | None = None,
) -> PipelinePerformance:
    """Simulate a pipeline; every latency comes with a 95 % confidence interval.

    Parameters
    ----------
    pipeline : Pipeline
        What to simulate.
    qps : float, optional
        Offered queries per second; the pipeline's own by default.
    queries : int
        Counted queries over all replications, at least 100 for each of them.
    replications : int
        Independent replications, 3 or more; each starts empty and drops
        ``recqueue.simulate.replication.WARM_UP_SHARE`` of its queries, a fifth.
    seed : int
        The same seed gives the same numbers, whatever ``workers`` is.
    workers : int, optional
        Threads; all cores by default.
    executor : concurrent.futures.Executor, optional
        Where the replications run instead; it is not shut down.

    Returns
    -------
    PipelinePerformance
        Of the whole query and of each stage.

    Raises
    ------
    InputError
        When the rate is missing or an option is out of range.
    """
    rate = pipeline.qps if qps is None else qps
    if rate is None or not (np.isfinite(rate) and rate > 0):
        raise InputError(f"simulate: qps {rate}; give a finite rate above 0 queries per second")
    check_options(queries, replications, seed, workers, executor)
    total = -(-queries // replications) + round(queries / replications * WARM_UP_SHARE / (1 - WARM_UP_SHARE))

    tasks = [
        partial(_replicate, pipeline, rate, total, streams, stage_noise(seed, r, pipeline))
        for r, streams in enumerate(spawn(seed, replications))
    ]
    with Crew[PipelineRun](executor, workers) as crew:
        runs = crew.run_all(tasks)
    return _summarize(pipeline, rate, runs, total - -(-queries // replications), seed)


def _replicate(
    pipeline: Pipeline, qps: float, queries: int, streams: Streams, noise: Mapping[str, np.random.Generator]
) -> PipelineRun:
    """One replication from an empty pipeline on."""
    arrival = arrival_times_s(pipeline.arrivals, qps, queries, streams.arrivals)
    return run_pipeline(pipeline, arrival, query_items(pipeline.sizes, queries, streams.sizes), noise)


def _summarize(
    pipeline: Pipeline, qps: float, runs: Sequence[PipelineRun], warm_up: int, seed: int
) -> PipelinePerformance:
    """Statistics over replications."""
    sla, own = pipeline.sla, f"p{pipeline.sla.percentile:g}"
    counted = [r.response_s[warm_up:] for r in runs]
    latency, intervals = latency_statistics(sla.percentile, counted)
    late = [x > np.percentile(x, sla.percentile) for x in counted]
    loads, entering = offered_load_by_stage(pipeline, qps), items_at(pipeline)

    def stage(s: Stage) -> StagePerformance:
        mean, half = student_interval(np.array([r.stage_s[s.name][warm_up:].mean() for r in runs]))
        critical = [r.critical_s[s.name][warm_up:] for r in runs]
        return StagePerformance(
            name=s.name,
            mean_items=float(pipeline.sizes.pmf @ entering[s.name]),
            offered_load=loads[s.name],
            utilization=float(np.mean([r.utilization[s.name] for r in runs])),
            wait_s=float(np.mean([r.wait_s[s.name][warm_up:].mean() for r in runs])),
            response_s=float(mean),
            response_interval_s=(max(float(mean - half), 0.0), float(mean + half)),
            critical_s=float(np.mean([c.mean() for c in critical])),
            critical_late_s=float(np.mean([c[x].mean() for c, x in zip(critical, late, strict=True) if x.any()])),
        )

    stages = tuple(stage(s) for s in pipeline.order())
    load = max(loads.values())
    low, high = intervals[own]
    meets, status = (True if high <= sla.latency_s else False if low > sla.latency_s else None), "ok"
    settling = 2 * (1 + pipeline.sizes.scv) / (1 - load) ** 2 if load < 1 else np.inf
    if load >= 1:
        busiest, meets = max(loads, key=lambda name: loads[name]), False
        status = (
            f"overloaded: offered load {load:.3f} on stage {busiest}; 1 is all that it can do; the latencies shown "
            "grow with the length of the run"
        )
    elif meets and warm_up < SETTLING_TIMES * settling:
        needed = SETTLING_TIMES * settling * (1 - WARM_UP_SHARE) / WARM_UP_SHARE * len(runs)
        meets = None
        status = f"too short to settle at offered load {load:.3f}: use at least {needed:,.0f} queries"
    return PipelinePerformance(
        method=f"discrete-event simulation, {len(runs)} replications, {WARM_UP_SHARE:.0%} of each dropped as warm-up",
        qps=qps,
        latency_s=latency,
        interval_s=intervals,
        stages=stages,
        meets_sla=meets,
        stable=load < 1,
        status=status,
        queries=sum(map(len, counted)),
        sub_requests=sum(r.sub_requests for r in runs),
        replications=len(runs),
        seed=seed,
    )
