r"""From what a live server did to the parameters of a model of it, each with a meaning of its own.

Services of the cores, over the records of single batch sizes and of the policies of the fitting half:

.. math:: S(b)\,(1 + \kappa(b)\,x) + c\,[\text{the worker was idle}], \qquad x = (\text{busy} - 1) / (k - 1)

with :math:`\kappa` linear in the logarithm of b. The wake-up of a worker is the time from release to start and what
its first service takes longer, c: its caches hold other things by then. Launches of n items in q queries:
:math:`L(n) + (q - 1) f`, times :math:`1 + h` while all cores of the host are busy. Policies of the held-out half are
not read here.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.seen import busy_during
from recqueue.errors import InputError

NOISE_POINTS = 256
"""Equally likely factors that stand for the law of a service."""
LEAST = 15
"""Services of a kind from which its mean counts."""
MOST_WEIGHT = 300
"""Services of a kind beyond which more of them do not count: the machine itself drifts from run to run."""
KNOTS = (1, 4, 16, 64, 200, 700)
"""Batch sizes at which S is fitted, or the nearest measured ones, linear in between: so few that no single size follows
the drift of the machine."""
SMALL, LARGE = 16, 700
"""Batch sizes between which the strength of contention is interpolated."""
LAUNCH_ITEMS = (100, 300, 700, 1400, 2800, 5600, 11200)
Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class LiveFit:
    r"""Parameters of a live server; times in seconds.

    Attributes
    ----------
    model : str
        Name of the model.
    workers : int
        Serving cores.
    items, service_s : tuple
        S(b), one core busy and awake.
    noise : tuple of float
        Equally likely factors of mean 1.
    strength : tuple of float
        :math:`\kappa` at the batch sizes ``SMALL`` and ``LARGE``: how much slower with all cores busy.
    dispatch_s : float
        From the end of a sub-request to the start of the next, where one was waiting.
    woken_s, cold_s : float
        From release to start on an idle worker, and c.
    launch_items, launch_s : tuple
        L(n); empty without an accelerator, and so the rest is 0.
    launch_cv, fused_query_s, launch_woken_s, host_slowdown : float
        Spread of launches of one kind, f, from sending to start of a launch on an idle accelerator, and h.
    error : float
        Median relative residual of the mean service of a kind.
    """

    model: str
    workers: int
    items: tuple[int, ...]
    service_s: tuple[float, ...]
    noise: tuple[float, ...]
    strength: tuple[float, float]
    dispatch_s: float
    woken_s: float
    cold_s: float
    launch_items: tuple[int, ...] = ()
    launch_s: tuple[float, ...] = ()
    launch_cv: float = 0.0
    fused_query_s: float = 0.0
    launch_woken_s: float = 0.0
    host_slowdown: float = 0.0
    error: float

    def expected(self, items: NDArray[Any], busy: NDArray[Any], idle: NDArray[Any]) -> NDArray[np.float64]:
        """Mean seconds of services, by their items, the busy workers and whether theirs was idle."""
        knots, service = np.array(self.items), np.array(self.service_s)
        return _Expected(knots, service, np.array(self.strength), self.cold_s, self.workers)(items, busy, idle)


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
class Services:
    """Sub-requests of a run: seconds, items, whether the worker was idle, busy workers meanwhile, wait and gap."""

    seconds: NDArray[np.float64]
    items: NDArray[np.int64]
    idle: NDArray[np.bool_]
    busy: NDArray[np.float64]
    wait_s: NDArray[np.float64]
    gap_s: NDArray[np.float64]

    @classmethod
    def of(cls, run: Mapping[str, NDArray[Any]]) -> Services:
        """From the records of a run; the first of each worker is left out, as nobody knows what it did before."""
        start, length = run["start_us"] / 1e6, run["service_us"] / 1e6
        end, before = start + length, np.full(len(start), np.nan)
        for worker in np.unique(run["worker"]):
            mine = np.flatnonzero(run["worker"] == worker)
            mine = mine[np.argsort(start[mine])]
            before[mine[1:]] = end[mine[:-1]]
        known = np.isfinite(before)
        wait = run["wait_us"] / 1e6
        return cls(
            seconds=length[known],
            items=run["items"][known].astype(np.int64),
            idle=(start - wait > before)[known],
            busy=busy_during(start, end, start, end)[known],
            wait_s=wait[known],
            gap_s=(start - before)[known],
        )


def fitting_runs(folder: Path, model: str) -> Iterator[Services]:
    """Services of all runs of a model that may be fitted: single batch sizes, and policies of the fitting half."""
    allowed = {r["number"] for r in rows_of(folder / "live.csv") if r["model"] == model and r["split"] == "fit"}
    kinds = {"service", "wakeup", "dispatch"}
    allowed |= {r["number"] for r in rows_of(folder / "services.csv") if r["model"] == model and r["kind"] in kinds}
    path = folder / f"records-{model}.npz"
    if not path.exists():
        raise InputError(f"{path}: no such file; run python -m calibration campaign --models {model}")
    with np.load(path) as archive:
        by_run: dict[str, dict[str, NDArray[Any]]] = defaultdict(dict)
        for name in archive.files:
            number, _, column = name.partition("_")
            if number in allowed and column in {"start_us", "service_us", "items", "worker", "wait_us"}:
                by_run[number][column] = archive[name]
    for number in sorted(by_run, key=int):
        if len(by_run[number]["start_us"]):
            yield Services.of(by_run[number])


def fit(folder: Path, model: str) -> LiveFit:
    """Fit a model of the campaign in ``folder``."""
    runs = list(fitting_runs(folder, model))
    workers = int(next(r["workers"] for r in rows_of(folder / "live.csv") if r["model"] == model))
    items, idle, busy, mean_s, count = _kinds(runs)
    sizes = np.unique(items)
    knots = np.unique([sizes[np.argmin(np.abs(np.log(sizes / b)))] for b in KNOTS])
    shares = np.stack([np.interp(items, knots, unit) for unit in np.eye(len(knots))], axis=1)
    x = (busy - 1) / max(workers - 1, 1)
    weight = np.sqrt(np.minimum(count, MOST_WEIGHT)) / mean_s
    strength, service, cold = np.zeros(2), np.zeros(len(knots)), 0.0
    for _ in range(30):
        slower = 1 + _kappa(strength, items) * x
        design = np.column_stack((shares * slower[:, None], idle))
        found = np.linalg.lstsq(design * weight[:, None], mean_s * weight, rcond=None)[0]
        service, cold = found[:-1], max(float(found[-1]), 0.0)
        alone = shares @ service
        part = np.stack([_kappa(unit, items) * x * alone for unit in np.eye(2)], axis=1)
        left = mean_s - alone - cold * idle
        new = np.maximum(np.linalg.lstsq(part * weight[:, None], left * weight, rcond=None)[0], 0.0)
        done, strength = bool(np.abs(new - strength).max() < 1e-5), new
        if done:
            break
    expected = _Expected(knots, service, strength, cold, workers)
    fitted = expected(items, busy, idle)
    waited = np.concatenate([r.wait_s[r.idle] for r in runs])
    gaps = np.concatenate([r.gap_s[~r.idle] for r in runs])
    return LiveFit(
        model=model,
        workers=workers,
        items=tuple(knots.tolist()),
        service_s=tuple(service.tolist()),
        noise=_noise(runs, expected),
        strength=(float(strength[0]), float(strength[1])),
        dispatch_s=_typical(gaps),
        woken_s=_typical(waited),
        cold_s=cold,
        error=float(np.median(np.abs(fitted / mean_s - 1))),
        **_launches([r for r in rows_of(folder / "services.csv") if r["model"] == model], workers),
    )


def _kappa(strength: NDArray[np.float64], items: NDArray[Any]) -> NDArray[np.float64]:
    """Contention of batches of these sizes: linear in their logarithm from ``SMALL`` to ``LARGE``."""
    return np.asarray(np.interp(np.log(np.maximum(items, 1)), np.log((SMALL, LARGE)), strength))


@dataclass(frozen=True, eq=False)
class _Expected:
    """Mean service of sub-requests, by items, busy workers and whether theirs was idle."""

    knots: NDArray[np.int64]
    service: NDArray[np.float64]
    strength: NDArray[np.float64]
    cold: float
    workers: int

    def __call__(self, items: NDArray[Any], busy: NDArray[Any], idle: NDArray[Any]) -> NDArray[np.float64]:
        x = (busy - 1) / max(self.workers - 1, 1)
        alone = np.interp(items, self.knots, self.service)
        return np.asarray(alone * (1 + _kappa(self.strength, items) * x) + self.cold * idle)


def _kinds(runs: Sequence[Services]) -> tuple[NDArray[Any], ...]:
    """Of each kind of service in each run (items, idle or not): items, idle, busy, mean seconds, how many."""
    found = []
    for r in runs:
        for b in np.unique(r.items):
            for idle in (False, True):
                mine = (r.items == b) & (r.idle == idle)
                if mine.sum() >= LEAST:
                    found.append((b, idle, r.busy[mine].mean(), r.seconds[mine].mean(), mine.sum()))
    if not found:
        raise InputError("live fit: no batch size has enough sub-requests; measure for longer")
    return tuple(np.array(column) for column in zip(*found, strict=True))


def _typical(times: NDArray[np.float64]) -> float:
    """Mean of all but the longest hundredth, in which the machine did something else."""
    return float(times[times <= np.quantile(times, 0.99)].mean()) if len(times) else 0.0


def _noise(runs: Sequence[Services], expected: _Expected) -> tuple[float, ...]:
    """Law of a service over what is expected of it, the mean of each run taken out.

    What a whole run was slower or quicker than others is drift of the machine, no noise of a service.
    """
    parts = []
    for r in runs:
        ratio = r.seconds / expected(r.items, r.busy, r.idle)
        if len(ratio) >= 200:
            parts.append(ratio / ratio.mean())
    every = np.sort(np.concatenate(parts)) if parts else np.ones(NOISE_POINTS)
    factors = np.array([part.mean() for part in np.array_split(every, NOISE_POINTS)])
    return tuple((factors / factors.mean()).tolist())


def _launches(rows: Rows, workers: int) -> dict[str, Any]:
    launches = [r for r in rows if r["kind"] == "launch"]
    if not launches:
        return {}
    items, queries, busy, mean_s, cv, count = (
        np.array([float(r[c]) for r in launches]) for c in ("items", "queries", "mean_busy", "mean_s", "cv", "n")
    )
    share = busy / workers
    alone = {(n, q): s for n, q, s, b in zip(items, queries, mean_s, busy, strict=True) if b == 0}
    ratios = [(m / alone[n, q] - 1) / s for n, q, m, s in zip(items, queries, mean_s, share, strict=True)
              if s > 0.2 and (n, q) in alone]  # fmt: skip
    slow = max(float(np.median(ratios)), 0.0) if ratios else 0.0
    nodes = np.array([n for n in LAUNCH_ITEMS if n <= 1.01 * items.max()], dtype=float)
    design = np.zeros((len(items), len(nodes) + 1))
    for i, n in enumerate(items):
        design[i, :-1] = [np.interp(n, nodes, unit) for unit in np.eye(len(nodes))]
    design[:, -1] = queries - 1
    weight = np.sqrt(np.minimum(count, MOST_WEIGHT)) / mean_s
    found = np.linalg.lstsq(design * ((1 + slow * share) * weight)[:, None], mean_s * weight, rcond=None)[0]
    woken = [float(r["median_s"]) for r in rows if r["kind"] == "launch-wakeup"]
    return {
        "launch_items": tuple(int(n) for n in nodes),
        "launch_s": tuple(np.maximum(found[:-1], 1e-6).tolist()),
        "launch_cv": float(np.median(cv)),
        "fused_query_s": max(float(found[-1]), 0.0),
        "launch_woken_s": float(np.median(woken)) if woken else 0.0,
        "host_slowdown": slow,
    }


def scenario_text(fitted: LiveFit, source: str) -> str:
    """A scenario file with these parameters in the words of the scenario format."""
    f = fitted
    strongest = max(f.strength)
    lines = [
        f"# {f.model} as a live server of {f.workers} workers served it. Measured; made by: {source}",
        f"# Median residual of the mean service of a kind: {100 * f.error:.1f} %.",
        "schema: 1",
        f"model: {f.model}",
        "service:",
        "  cpu:",
        f"    batch_size: {list(f.items)}",
        f"    latency_ms: {_list(1e3 * s for s in f.service_s)}",
        f"    noise: {_list(f.noise)}",
    ]
    if f.launch_items:
        lines += [
            "  accelerator:",
            f"    batch_size: {[1, *f.launch_items]}   # fewer items than measured take no less time",
            f"    latency_ms: {_list(1e3 * s for s in (f.launch_s[0], *f.launch_s))}",
            f"    cv: {f.launch_cv:.4g}",
        ]
    lines += [
        "server:",
        "  cpu: live",
        f"  cores: {f.workers}",
        "  contention: none"
        if strongest < 1e-3
        else f"  contention: {{busy: [1, {f.workers}], factor: [1.0, {1 + strongest:.5g}], "
        f"batch_size: [{SMALL}, {LARGE}], strength: {_list(s / strongest for s in f.strength)}}}",
        f"  dispatch_overhead_us: {1e6 * f.dispatch_s:.4g}",
        f"  wakeup_us: {1e6 * max(f.woken_s + f.cold_s - f.dispatch_s, 0):.4g}"
        f"   # {1e6 * f.woken_s:.4g} until it starts, {1e6 * f.cold_s:.4g} of cold caches, less the dispatch",
    ]
    if f.launch_items:
        lines += [
            f"accelerator: {{device: live-accelerator, count: 1, max_fused_queries: 16, "
            f"fused_query_us: {1e6 * f.fused_query_s:.4g}, wakeup_us: {1e6 * f.launch_woken_s:.4g}, "
            f"host_slowdown: {f.host_slowdown:.4g}}}",
        ]
    lines += ["workload:", "  sizes: {distribution: mlperf}", "sla: medium"]
    return "\n".join(lines) + "\n"


def _list(values: Any) -> str:
    return "[" + ", ".join(f"{v:.5g}" for v in values) + "]"
