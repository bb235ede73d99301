r"""From what a live server did to the parameters of a model of it, each with a meaning of its own.

Services of the cores, over the records of single batch sizes and of the policies of the fitting half:

.. math:: S(b)\,(1 + \kappa(b)\,x) + c\,[\text{the worker was idle}], \qquad x = (\text{busy} - 1) / (k - 1)

with :math:`\kappa` linear in the logarithm of b. The wake-up of a worker is the time from release to start and what
its first service takes longer, c: its caches hold other things by then, the more the longer it was idle, so that both
are taken from the policies. Launches of n items in q queries:
:math:`L(n) + (q - 1) f`, times :math:`1 + h` while all cores of the host are busy; one that finds the accelerator idle
is longer, by what the process that launches has lost of its caches meanwhile. How the speed of the machine drifts
is told by the fitting half and the canaries (:mod:`calibration.weather`). Policies of the held-out half are not read
here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.runs import Segment, rows_of, segments_of
from calibration.weather import CALM, Stretch, Weather, weather
from calibration.windows import WINDOW_S, Services
from recqueue.errors import InputError

NOISE_POINTS = 256
"""Equally likely factors that stand for the law of a service."""
LEAST = 15
"""Services of a kind from which its mean counts."""
MOST_WEIGHT = 300
"""Services of a kind in a run beyond which more of them do not count: the machine itself drifts from run to run."""
KNOTS = (1, 4, 16, 64, 200, 700)
"""Batch sizes at which S is fitted, or the nearest measured ones, linear in between: so few that no single size follows
the drift of the machine."""
SMALL, LARGE = 16, 700
"""Batch sizes between which the strength of contention is interpolated."""
FOLLOWS_S = 6e-5
"""A launch that begins so soon after another found a query waiting."""
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
    launch_cv, fused_query_s, launch_woken_s, launch_cold_s, host_slowdown : float
        Spread of launches of one kind, f, from sending to start of a launch on an idle accelerator, what it takes
        longer, and h.
    error : float
        Median relative residual of the mean service of a kind.
    weather : Weather
        Drift of the machine.
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
    launch_cold_s: float = 0.0
    host_slowdown: float = 0.0
    error: float
    weather: Weather = CALM

    def expected_launches(self, items: NDArray[Any], queries: NDArray[Any], busy: float) -> NDArray[np.float64]:
        """Mean seconds of launches right after others, by their items and queries, beside this share of busy cores."""
        alone = np.interp(items, self.launch_items, self.launch_s) + (queries - 1) * self.fused_query_s
        return np.asarray(alone * (1 + self.host_slowdown * busy))

    def expected(self, items: NDArray[Any], busy: NDArray[Any], idle: NDArray[Any]) -> NDArray[np.float64]:
        """Mean seconds of services, by their items, the busy workers and whether theirs was idle."""
        knots, service = np.array(self.items), np.array(self.service_s)
        return _Expected(knots, service, np.array(self.strength), self.cold_s, self.workers)(items, busy, idle)


def _may_be_fitted(segment: Segment) -> bool:
    row = segment.row
    if "split" in row:
        return row["split"] == "fit"
    return row["kind"] in {"service", "wakeup", "dispatch"}


def _is_canary(segment: Segment) -> bool:
    return segment.row.get("kind") == "drift"


def fit(folder: Path, model: str) -> LiveFit:
    """Fit a model of the campaign in ``folder``: first as if the machine were always the same, then how it drifts."""
    segments = segments_of(folder, model)
    fitted = _fit_services(folder, model, [s for s in segments if _may_be_fitted(s)])
    policies = [s for s in segments if "split" in s.row and _may_be_fitted(s)]
    fitted = woken_among_others(fitted, policies)
    mean = _mean_speed(fitted, policies)
    fitted = replace(fitted, service_s=tuple(mean * s for s in fitted.service_s))
    fitted = launches_among_others(fitted, policies)
    found = weather(list(_stretches(fitted, [*policies, *filter(_is_canary, segments)])))
    return replace(fitted, weather=found, noise=_without_drift(fitted.noise, found, policies))


def _mean_speed(fitted: LiveFit, policies: Sequence[Segment]) -> float:
    """Speed of the machine under the policies, each policy and load counted once: S is to be its mean."""
    speeds: dict[str, list[float]] = {}
    for s in policies:
        if s.windows is not None:
            speeds.setdefault(s.kind, []).append(s.windows.speed(fitted.expected))
    return float(np.mean([np.mean(v) for v in speeds.values()])) if speeds else 1.0


def _stretches(fitted: LiveFit, segments: Iterable[Segment]) -> Iterator[Stretch]:
    for s in segments:
        if s.windows is not None:
            expected = s.windows.expected(fitted.expected)
            yield Stretch(s.began_s, s.kind, s.windows.seconds.astype(float), expected, s.windows.count.astype(float))


def _without_drift(noise: Sequence[float], found: Weather, policies: Sequence[Segment]) -> tuple[float, ...]:
    """The law of a service drawn together by what the drift within a run, on average, adds to it."""
    factors = np.array(noise)
    lengths = [len(s.windows.seconds) * WINDOW_S for s in policies if s.windows is not None]
    if not lengths or factors.var() == 0:
        return tuple(noise)
    left = max(factors.var() - np.mean([found.within_run(t) for t in lengths]), 0.1 * factors.var())
    return tuple((1 + (factors - 1) * np.sqrt(left / factors.var())).tolist())


def _fit_services(folder: Path, model: str, segments: Sequence[Segment]) -> LiveFit:
    """All but the drift."""
    runs = [s.services for s in segments if s.services is not None]
    if not runs:
        raise InputError(f"{folder}: no sub-requests of {model} that may be fitted")
    workers = segments[0].workers
    items, idle, busy, mean_s, count = _kinds(_alike(segments))
    sizes = np.unique(items)
    knots = np.unique([sizes[np.argmin(np.abs(np.log(sizes / b)))] for b in KNOTS])
    shares = np.stack([np.interp(items, knots, unit) for unit in np.eye(len(knots))], axis=1)
    x = (busy - 1) / (workers - 1) if workers > 1 else np.zeros(len(busy))
    weight = np.sqrt(count) / mean_s
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


def _alike(segments: Sequence[Segment]) -> list[list[Services]]:
    """Runs of single batch sizes one by one; segments of a policy at a load, each short, together."""
    groups: dict[str, list[Services]] = {}
    for s in segments:
        if s.services is not None:
            groups.setdefault(s.kind if "split" in s.row else f"run {s.row['number']}", []).append(s.services)
    return list(groups.values())


def _kinds(groups: Sequence[Sequence[Services]]) -> tuple[NDArray[Any], ...]:
    """Of each kind of service in each group (items, idle or not): items, idle, busy, mean seconds, how many count."""
    found = []
    for group in groups:
        each, none, busy, seconds = (
            np.concatenate([getattr(r, name) for r in group]) for name in ("items", "idle", "busy", "seconds")
        )
        for b in np.unique(each):
            for idle in (False, True):
                mine = (each == b) & (none == idle)
                if mine.sum() >= LEAST:
                    much = min(mine.sum(), MOST_WEIGHT * len(group))
                    found.append((b, idle, busy[mine].mean(), seconds[mine].mean(), much))
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
    ratios = [r.seconds / expected(r.items, r.busy, r.idle) for r in runs]
    parts = [ratio / ratio.mean() for ratio in ratios if len(ratio) >= 200]
    if sum(map(len, parts)) < 20 * NOISE_POINTS:  # short segments: a mean of fifty takes a fiftieth of the variance
        parts = [ratio / ratio.mean() for ratio in ratios if len(ratio) >= 50]
    every = np.sort(np.concatenate(parts)) if parts else np.ones(NOISE_POINTS)
    factors = np.array([part.mean() for part in np.array_split(every, min(NOISE_POINTS, len(every)))])
    return tuple((factors / factors.mean()).tolist())


def woken_among_others(fitted: LiveFit, policies: Sequence[Segment]) -> LiveFit:
    """Wake-ups after pauses as they are under the policies: longer than in runs of a single batch size.

    Each policy and load says how much longer services on idle workers took than the others of its runs make expect, and
    counts by the precision of that.
    """
    warm = replace(fitted, cold_s=0.0)
    longer, weight, waited = [], [], []
    for runs in _alike(policies):
        items, idle, busy, seconds, wait = (
            np.concatenate([getattr(r, name) for r in runs]) for name in ("items", "idle", "busy", "seconds", "wait_s")
        )
        if min(idle.sum(), (~idle).sum()) < LEAST:
            continue
        expected = warm.expected(items, busy, idle)
        speed = seconds[~idle].sum() / expected[~idle].sum()
        more = (seconds - speed * expected)[idle]
        longer.append(more.mean())
        weight.append(len(more) / more.var())
        waited.append(wait[idle])
    if not longer:
        return fitted
    return replace(fitted, cold_s=max(float(np.average(longer, weights=weight)), 0.0),
                   woken_s=_typical(np.concatenate(waited)))  # fmt: skip


def launches_among_others(fitted: LiveFit, policies: Sequence[Segment]) -> LiveFit:
    """Launches as they were under the policies: quicker than alone right after another, slower after a pause."""
    if not fitted.launch_items or not policies:
        return fitted
    seconds, expected, gap = (np.concatenate(c) for c in zip(*map(partial(_launched, fitted), policies), strict=True))
    follows = gap < FOLLOWS_S
    if follows.sum() < LEAST or (~follows).sum() < LEAST:
        return fitted
    warm = float(seconds[follows].sum() / expected[follows].sum())
    cold_s = max(float((seconds - warm * expected)[~follows].mean()), 0.0)
    return replace(
        fitted,
        launch_s=tuple(warm * s for s in fitted.launch_s),
        fused_query_s=warm * fitted.fused_query_s,
        launch_cold_s=cold_s,
    )


def _launched(fitted: LiveFit, segment: Segment) -> tuple[NDArray[np.float64], ...]:
    """Launches of a run but its first: seconds, seconds expected, and the pause before."""
    record = segment.record
    if not len(record.get("far_query", ())):
        return np.empty(0), np.empty(0), np.empty(0)
    _, first, queries = np.unique(record["far_launch"], return_index=True, return_counts=True)
    items = np.add.reduceat(record["query_items"][record["far_query"]].astype(np.int64), first)
    start, end = record["far_start_us"][first] / 1e6, record["far_end_us"][first] / 1e6
    expected = fitted.expected_launches(items, queries, float(segment.row["utilization_cpu"]))
    return (end - start)[1:], expected[1:], start[1:] - end[:-1]


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
