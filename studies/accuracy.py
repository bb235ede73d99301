"""Formula against simulation over scenarios drawn at random.

Claim: beyond what the simulated intervals explain, the formula's p95 and p99 are within 0.5 % in the median of 2,000
scenarios and within 3 % in 95 of 100 where the validity guard flags none of them; one or two, next to a jump of the
distribution, are more than 8 % off.

Two steps that need nothing of each other but a file:

``python -m studies.accuracy --simulate --seconds 180 --workers 16`` appends rounds of simulation to
``studies/results/accuracy_reference.csv``, first one for each scenario, then more for those whose intervals are widest,
until the time is over; called again it goes on. ``python -m studies.accuracy_gpu`` does all of it on a GPU, into
``accuracy_reference_gpu.csv``. ``python -m studies.accuracy --formula-only`` compares the formula with
what is there and writes ``studies/results/accuracy.csv``, its record ``accuracy.json``, the map that the package ships
(``recqueue/data/accuracy.json``) and the table ``docs/accuracy_table.inc``.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from recqueue.analysis.accuracy import features, in_step, on_jump
from recqueue.analysis.pools import Costs, mixture
from recqueue.profiles import LatencyCurve, available, hardware, load
from recqueue.queueing import forkjoin
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import offered_load
from recqueue.simulate.replication import WARM_UP_SHARE, run_once
from recqueue.simulate.streams import Streams, arrival_times_s, query_items, spawn
from recqueue.workload import (
    POISSON,
    QuerySizes,
    fixed_sizes,
    lognormal_sizes,
    mlperf_sizes,
    production_sizes,
    sizes_from_pmf,
)
from studies.record import RESULTS, command_line, save_record

REFERENCE = RESULTS / "accuracy_reference.csv"
REFERENCE_GPU = RESULTS / "accuracy_reference_gpu.csv"
"""The same scenarios by another simulator, with narrower intervals; where a scenario is here, this counts."""
PROFILES = RESULTS / "accuracy_profiles.json"
"""Measured service times as they were when the scenarios were simulated."""
HELD_OUT = RESULTS / "accuracy_reference_held_out.csv"
"""As many scenarios again, the next that the generator draws, simulated after the formula and its guards were settled:
``python -m studies.accuracy_gpu --first 2000``."""
SCENARIOS = 2000
SEED = 2026
REPLICATIONS = 24
LEVELS = {"p95": 0.95, "p99": 0.99}
NARROW = 0.0017
"""Relative half-width that needs no more simulation: a third of the 0.5 % that the median error is held to."""
WIDE = 0.008
"""Relative half-width above which a scenario comes first: a third of the 3 % for 95 of 100, less some."""
ITEM_S = 1e-5
MOST_SUB_REQUESTS = 30_000_000
"""In one round of one scenario; bounds its memory and how long a round can outlast the budget."""

SIZES = ("mlperf", "production", "lognormal narrow", "lognormal heavy", "uniform", "fixed")
SERVICES = ("affine, small setup", "affine, large setup", "sublinear", "measured")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scenario: its place in the list, and what it is drawn to be."""

    index: int
    cores: int
    rho: float
    batch_size: int
    sizes: str
    service: str
    cv: float
    offload: bool


def draw(index: int) -> tuple[Case, Scenario]:
    """Scenario ``index`` of the study, with the rate at which its cores are busy a share ``rho`` of the time."""
    rng = np.random.default_rng([SEED, index])
    cores, rho = round(2 ** rng.uniform(0, 7)), float(rng.uniform(0.1, 0.95))
    batch = round(2 ** rng.uniform(3, 10))
    kind, sizes = _sizes(rng)
    service = SERVICES[rng.integers(4)]
    cv = float(rng.uniform(0.02, 0.3)) if rng.random() < 2 / 3 else 0.0
    curve = _curve(rng, service, cv)
    offload = bool(rng.random() < 0.5) and kind != "fixed"
    threshold, accelerator = None, None
    if offload:
        n = np.arange(len(sizes.pmf))
        items_below = np.cumsum(n * sizes.pmf) / sizes.mean
        occurring = np.flatnonzero(sizes.pmf)[1:]
        threshold = int(occurring[np.searchsorted(items_below[occurring[:-1]], rng.uniform(0.1, 0.9))])
        accelerator = _accelerator(rng, sizes, threshold)
    system = System(name="drawn", cores=cores, service=curve, accelerator=accelerator)
    policy = Policy(batch, threshold)
    scenario = Scenario(
        name=str(index), model=service, system=system, sizes=sizes, sla=Sla(latency_s=1.0), policy=policy
    )
    qps = rho / offered_load(scenario, policy, 1.0)[0]
    if accelerator is not None:  # as busy as was drawn: the rate follows the cores, so its speed is scaled
        busy = float(rng.uniform(0.1, 0.95)) / offered_load(scenario, policy, qps)[1]
        service_s = tuple(s * busy for s in accelerator.service.seconds)
        curve = LatencyCurve(items=accelerator.service.items, seconds=service_s, cv=accelerator.service.cv)
        accelerator = Accelerator(name=accelerator.name, service=curve, count=accelerator.count)
        system = System(name="drawn", cores=cores, service=system.service, accelerator=accelerator)
    case = Case(
        index=index,
        cores=cores,
        rho=rho,
        batch_size=batch,
        sizes=kind,
        service=service,
        cv=cv,
        offload=offload,
    )
    return case, Scenario(
        name=str(index),
        model=service,
        system=system,
        sizes=sizes,
        sla=Sla(latency_s=1.0),
        policy=policy,
        qps=qps,
    )


def _sizes(rng: np.random.Generator) -> tuple[str, QuerySizes]:
    kind = SIZES[rng.integers(len(SIZES))]
    match kind:
        case "mlperf":
            return kind, mlperf_sizes()
        case "production":
            return kind, production_sizes()
        case "lognormal narrow":
            return kind, lognormal_sizes(float(rng.uniform(4.5, 6)), float(rng.uniform(0.1, 0.4)), 1000)
        case "lognormal heavy":
            largest = int(rng.choice([1000, 2048, 4096]))
            return kind, lognormal_sizes(float(rng.uniform(3.5, 5)), float(rng.uniform(0.8, 1.4)), largest)
        case "uniform":
            n = int(rng.integers(50, 1001))
            return kind, sizes_from_pmf(range(1, n + 1), np.ones(n).tolist(), name="uniform")
        case _:
            return kind, fixed_sizes(int(rng.integers(10, 1001)))


@cache
def _profiles() -> dict[str, list[dict[str, list[float]]]]:
    profiles: dict[str, list[dict[str, list[float]]]] = json.loads(PROFILES.read_text())
    return profiles


def freeze_profiles() -> None:
    """Keep the packaged profiles of today for the study: fitted again later, they would be other scenarios."""
    found: dict[str, list[dict[str, object]]] = {"cpu": [], "accelerator": []}
    for model, device, _ in available():
        curve = load(model, device).service
        kind = hardware(device).kind
        found[kind].append({"of": f"{model} on {device}", "items": curve.items, "seconds": curve.seconds})
    PROFILES.write_text(json.dumps(found, indent=1) + "\n")


def _measured(kind: str, rng: np.random.Generator, cv: float) -> LatencyCurve:
    curves = _profiles()[kind]
    curve = curves[rng.integers(len(curves))]
    return LatencyCurve(items=tuple(int(b) for b in curve["items"]), seconds=tuple(curve["seconds"]), cv=cv)


def _curve(rng: np.random.Generator, service: str, cv: float) -> LatencyCurve:
    if service == "measured":
        return _measured("cpu", rng, cv)
    b = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096])
    setup = {"affine, small setup": (1, 20), "affine, large setup": (50, 500), "sublinear": (1, 20)}[service]
    power = float(rng.uniform(0.5, 0.9)) if service == "sublinear" else 1.0
    seconds = ITEM_S * (float(np.exp(rng.uniform(*np.log(setup)))) + b**power)
    return LatencyCurve(items=tuple(b.tolist()), seconds=tuple(seconds.tolist()), cv=cv)


def _accelerator(rng: np.random.Generator, sizes: QuerySizes, threshold: int) -> Accelerator:
    """Its speed is set later; its shape is a measured one or a setup of some hundred items and so much an item."""
    cv, count = float(rng.choice([0.0, 0.1, 0.2])), int(rng.choice([1, 1, 1, 2]))
    if rng.random() < 0.5:
        curve = _measured("accelerator", rng, cv)
    else:
        setup = float(rng.uniform(30, 300))
        curve = LatencyCurve(items=(1, 4096), seconds=(ITEM_S * (setup + 1), ITEM_S * (setup + 4096)), cv=cv)
    return Accelerator(name="drawn", service=curve, count=count)


def fluid_queues(scenario: Scenario) -> list[tuple[NDArray[np.bool_], NDArray[np.float64]]]:
    """For each pool that is used: which sizes it serves, and their work over its servers, by items."""
    policy, system = scenario.policy, scenario.system
    assert policy is not None
    n = np.arange(len(scenario.sizes.pmf))
    batch = min(policy.batch_size, len(n) - 1)
    seconds = np.concatenate(([0.0], system.service.seconds_at(n[1:])))
    far = n >= (policy.offload_threshold or len(n))
    queues = [(~far, (n // batch * seconds[batch] + seconds[n % batch]) / system.cores)]
    if far.any() and system.accelerator:
        device = system.accelerator
        queues.append((far, np.concatenate(([0.0], device.service.seconds_at(n[1:]))) / device.count))
    return [(serves, work) for serves, work in queues if scenario.sizes.pmf[serves].sum() > 0]


def controls(scenario: Scenario, queries: int, streams: Streams) -> list[float]:
    r"""Quantities of one replication whose expectation is known exactly, less that expectation.

    Each pool is followed as one fast server without noise, fed by the *same* arrivals and sizes: an M/G/1 queue whose
    waits obey Lindley's recursion and have :math:`E W = \lambda E V^2 / 2 (1 - \rho)` and a Pollaczek-Khinchine
    transform. Its waits and those of the simulated pool rise and fall together, so subtracting what is
    known to be chance narrows the interval without moving what it is centred on.
    """
    total = queries + round(queries * WARM_UP_SHARE / (1 - WARM_UP_SHARE))
    assert scenario.qps is not None
    arrival = arrival_times_s(POISSON, scenario.qps, total, streams.arrivals)
    items = query_items(scenario.sizes, total, streams.sizes)
    found = []
    for serves, work in fluid_queues(scenario):
        p = np.where(serves, scenario.sizes.pmf, 0.0)
        if queries * p.sum() < 300:
            continue
        here = serves[items]
        when, v = arrival[here], work[items[here]]
        rate = scenario.qps * p.sum()
        p = p / p.sum()
        rho, second = rate * float(p @ work), float(p @ work**2)
        steps = np.cumsum(v[:-1] - np.diff(when))
        waits = np.concatenate(([0.0], steps - np.minimum(np.minimum.accumulate(steps), 0.0)))
        waits = waits[int(np.sum(here[: total - queries])) :]
        mean = rate * second / 2 / (1 - rho)
        s = 0.7 / (mean / rho)  # half of the waits that are not 0 are on either side
        transform = (1 - rho) * s / (s - rate * (1 - float(p @ np.exp(-s * work))))
        found += [float(waits.mean()) / mean - 1, float(np.exp(-s * waits).mean()) - transform]
    return found


def simulate_round(index: int, queries: int, number: int) -> dict[str, float | int]:
    """One round: estimates and half-widths (s) of the quantiles from ``queries`` queries in each replication."""
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, scenario = draw(index)
        assert scenario.policy is not None
        assert scenario.qps is not None
        seed = (SEED * 100_000 + index) * 100 + number
        latencies, known = [], []
        for own, again in zip(spawn(seed, REPLICATIONS), spawn(seed, REPLICATIONS), strict=True):
            run = run_once(scenario, scenario.policy, scenario.qps, queries, own)
            latencies.append(run.latency_s)
            known.append(controls(scenario, queries, again))
        x, c = np.array(latencies), np.array(known)
        everything = np.sort(x, axis=None)
        row: dict[str, float | int] = {"index": index, "qps": scenario.qps, "round": number, "queries": x.size}
        for name, level in LEVELS.items():
            at = float(np.interp(level, np.linspace(0, 1, x.size), everything))
            below = (x <= at).mean(axis=1)
            centred = c - c.mean(axis=0)
            slope = np.linalg.lstsq(centred, below - below.mean(), rcond=None)[0] if c.size else np.zeros(0)
            left = below - below.mean() - (centred @ slope if c.size else 0.0)
            free = REPLICATIONS - 1 - c.shape[1]
            # Variance of the mean of the controls adds to that of the residuals (they are estimated together).
            spread = c.mean(axis=0) @ np.linalg.pinv(centred.T @ centred) @ c.mean(axis=0) if c.size else 0.0
            half = stdtrit(free, 0.975) * np.sqrt(left @ left / free * (1 / REPLICATIONS + spread))
            moved = level + (float(slope @ c.mean(axis=0)) if c.size else 0.0)
            low, centre, high = np.interp(
                np.clip([moved - half, moved, moved + half], 0, 1), np.linspace(0, 1, x.size), everything
            )
            row[f"{name}_s"], row[f"{name}_half_s"] = float(centre), float(high - low) / 2
        row["mean_s"] = float(x.mean())
        row["mean_half_s"] = float(stdtrit(REPLICATIONS - 1, 0.975) * x.mean(axis=1).std(ddof=1) / REPLICATIONS**0.5)
        row["seconds"] = time.perf_counter() - started
        return row


COLUMNS = (
    *("index", "qps", "round", "queries", "p95_s", "p95_half_s", "p99_s", "p99_half_s", "mean_s", "mean_half_s"),
    "seconds",
)


def read_rounds(file: Path = REFERENCE) -> dict[int, list[dict[str, float]]]:
    """Rounds of each scenario that are in the file, oldest first."""
    rounds: dict[int, list[dict[str, float]]] = defaultdict(list)
    if file.exists():
        with file.open(newline="") as text:
            for row in csv.DictReader(text):
                if None not in row.values():  # the last line of a run that was stopped
                    rounds[int(row["index"])].append({k: float(v) for k, v in row.items()})
    return rounds


def combined(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Estimates of all rounds of one scenario together, weighted by their queries, with their half-widths."""
    weight = np.array([r["queries"] for r in rounds])
    weight = weight / weight.sum()
    found = {"qps": rounds[0]["qps"], "queries": float(sum(r["queries"] for r in rounds))}
    for name in (*LEVELS, "mean"):
        found[f"{name}_s"] = float(weight @ [r[f"{name}_s"] for r in rounds])
        found[f"{name}_half_s"] = float(np.sqrt(weight**2 @ np.square([r[f"{name}_half_s"] for r in rounds])))
    return found


def first_queries(index: int) -> int:
    """Queries of each replication in the first round: enough for the start to be forgotten, within the memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, scenario = draw(index)
        assert scenario.policy is not None
        busiest = max(offered_load(scenario, scenario.policy, scenario.qps or 0.0))
    memory = 2 * (1 + scenario.sizes.scv) / (1 - busiest) ** 2
    return int(np.clip(15 * memory, 4_000, _most_queries(index)))


@cache
def _most_queries(index: int) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, scenario = draw(index)
    assert scenario.policy is not None
    n = np.arange(len(scenario.sizes.pmf))
    local = n < (scenario.policy.offload_threshold or len(n))
    parts = np.where(local, -(-n // scenario.policy.batch_size), 1)
    return int(MOST_SUB_REQUESTS / REPLICATIONS / (parts @ scenario.sizes.pmf))


def width(rounds: Sequence[Mapping[str, float]]) -> float:
    """The wider of the relative half-widths of p95 and p99; p99 may be twice as wide."""
    found = combined(rounds)
    return max(found["p95_half_s"] / found["p95_s"], found["p99_half_s"] / found["p99_s"] / 2)


@dataclass(frozen=True)
class Progress:
    """How far the simulation of a scenario is: relative half-width, queries and core-seconds so far, rounds."""

    width: float
    queries: float
    seconds: float
    rounds: int

    @staticmethod
    def of(rounds: Sequence[Mapping[str, float]]) -> Progress:
        """From all rounds of a scenario."""
        return Progress(
            width(rounds), sum(r["queries"] for r in rounds), sum(r["seconds"] for r in rounds), len(rounds)
        )


def simulate_all(count: int, *, seconds: float, workers: int, file: Path = REFERENCE, shard: str = "0/1") -> None:
    """Run rounds until every interval is narrow or the time is over; each is appended to ``file`` as it ends."""
    ends = time.perf_counter() + seconds
    mine, shards = (int(s) for s in shard.split("/"))
    indices = range(mine, count, shards)
    rounds = read_rounds(file)
    progress = {i: Progress.of(rounds[i]) for i in indices if i in rounds}
    new = not file.exists()
    with file.open("a", newline="") as text, ProcessPoolExecutor(workers) as pool:
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        todo = [i for i in indices if i not in progress]
        lengths = pool.map(first_queries, todo, chunksize=16)
        jobs: Iterator[tuple[int, int, int]] = ((i, n, 0) for i, n in zip(todo, lengths, strict=True))
        running: set[Future[dict[str, float | int]]] = set()
        busy: set[int] = set()
        while (left := ends - time.perf_counter()) > 0:
            while len(running) < workers + 2:
                job = next(jobs, None) or _next(progress, busy, left)
                if job is None:
                    break
                busy.add(job[0])
                running.add(pool.submit(simulate_round, *job))
            if not running:
                break
            done, running = wait(running, timeout=left, return_when=FIRST_COMPLETED)
            for result in done:
                row = result.result()
                index = int(row["index"])
                rounds[index].append({k: float(v) for k, v in row.items()})
                progress[index] = Progress.of(rounds[index])
                busy.discard(index)
                writer.writerow({k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()})
            text.flush()
        for rest in running:
            rest.cancel()


def _next(progress: Mapping[int, Progress], busy: set[int], left_s: float) -> tuple[int, int, int] | None:
    """The next round: first whatever is wider than ``WIDE``, the widest first; then whatever is soonest narrow."""
    best: tuple[float, int, float] | None = None
    for index, p in progress.items():
        if index in busy or p.width <= NARROW:
            continue
        goal = WIDE if p.width > WIDE else NARROW
        wanted = p.queries * min(1.1 * (p.width / goal) ** 2 - 1, 4.0)
        speed = p.queries / p.seconds
        rank = -p.width if p.width > WIDE else wanted / speed
        queries = min(wanted, speed * (left_s - 1)) / REPLICATIONS
        if queries >= 2_000 and (best is None or rank < best[0]):
            best = rank, index, queries
    if best is None:
        return None
    _, index, queries = best
    return index, min(int(queries), _most_queries(index)), progress[index].rounds


def compare(index: int, reference: Mapping[str, float]) -> dict[str, object]:
    """One row: formula and simulation (ms), the error of the formula and the half-width of the simulated interval."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        case, scenario = draw(index)
        assert scenario.policy is not None
        assert scenario.qps is not None
        parts = mixture(scenario, scenario.policy, scenario.qps, Costs.of(scenario))
        loads = offered_load(scenario, scenario.policy, scenario.qps)
    read_at = features(scenario, parts, max(loads))
    if abs(scenario.qps / reference["qps"] - 1) > 1e-5:
        raise SystemExit(f"scenario {index} is no longer the one that was simulated; simulate again into a new file")
    row: dict[str, object] = {**vars(case), "offload_from": scenario.policy.offload_threshold, "qps": scenario.qps}
    row |= {name: read_at[name] for name in ("utilization", "sub_requests", "max_items", "accelerators")}
    row |= {"queries": int(reference["queries"]), "flagged": ""}
    answers = {name: forkjoin.quantile(parts, level) for name, level in LEVELS.items()}
    for name, answer in (answers | {"mean": forkjoin.mean(parts)}).items():
        truth = reference[f"{name}_s"]
        row[f"{name}_formula_ms"], row[f"{name}_simulated_ms"] = answer * 1e3, truth * 1e3
        row[f"{name}_error"] = answer / truth - 1
        row[f"{name}_half_width"] = reference[f"{name}_half_s"] / truth
    jumps = [name for name, level in LEVELS.items() if on_jump(parts, level, answers[name])]
    row["flagged"] = " ".join(jumps + ["in step"] * in_step(parts, max(loads)))
    return {k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()}


def references(file: Path = REFERENCE) -> dict[int, list[dict[str, float]]]:
    """Rounds of each scenario that count: those of the GPU where it was simulated there, else those of ``file``."""
    return dict(sorted((read_rounds(file) | read_rounds(REFERENCE_GPU)).items()))


def compare_all(count: int, *, workers: int, file: Path = REFERENCE) -> list[dict[str, object]]:
    """Rows of all scenarios that were simulated."""
    rounds = {i: r for i, r in references(file).items() if i < count}
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(compare, rounds, [combined(r) for r in rounds.values()], chunksize=16))


def _write(rows: Sequence[dict[str, object]], name: str) -> None:
    with (RESULTS / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Simulate or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    step = parser.add_mutually_exclusive_group(required=True)
    step.add_argument("--simulate", action="store_true", help="append rounds of simulation to --reference")
    step.add_argument("--freeze-profiles", action="store_true", help="take the packaged profiles of today")
    step.add_argument("--formula-only", action="store_true", help="compare the formula with --reference")
    parser.add_argument("--seconds", type=float, default=180.0, help="budget of --simulate")
    parser.add_argument("--count", type=int, default=SCENARIOS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shard", default="0/1", help="i/n: scenarios i, i + n, ... of a run spread over machines")
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    options = parser.parse_args()
    if options.freeze_profiles:
        freeze_profiles()
        return
    if options.simulate:
        simulate_all(
            options.count,
            seconds=options.seconds,
            workers=options.workers,
            file=options.reference,
            shard=options.shard,
        )
        return
    rows = compare_all(options.count, workers=options.workers, file=options.reference)
    _write(rows, "accuracy.csv")
    if HELD_OUT.exists():
        with ProcessPoolExecutor(options.workers) as pool:
            known = read_rounds(HELD_OUT)
            _write(list(pool.map(compare, known, map(combined, known.values()), chunksize=16)), "accuracy_held_out.csv")
    rounds = [r for some in references(options.reference).values() for r in some]
    save_record(
        RESULTS / "accuracy.json",
        command_line("studies.accuracy"),
        seed=SEED,
        replications_in_a_round=REPLICATIONS,
        scenarios=len(rows),
        rounds=len(rounds),
        simulated_queries=int(sum(r["queries"] for r in rounds)),
        scenarios_simulated_on_a_gpu=len(read_rounds(REFERENCE_GPU)),
    )
    from studies.accuracy_table import write

    write()


if __name__ == "__main__":
    main()
