"""Errors of predictions against measured runs: each, by load, and where they come from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recqueue.errors import InputError
from recqueue.profiles import load
from recqueue.serving import Performance
from recqueue.serving.performance import Verdict
from recqueue.validation.measured import Measured

BINS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
"""Edges of the bins of load, the utilization of the busier pool; overloaded predictions go into the last."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A measured run beside its prediction.

    Attributes
    ----------
    measured : Measured
        The run.
    predicted : Performance
        What the model says of it.
    load : float
        Predicted utilization of the busier pool.
    error : mapping
        Of each latency that both have: predicted / measured - 1; infinite when the prediction is unstable.
    outside : mapping
        Of each latency with an interval: whether the prediction lies outside of what was measured.
    """

    measured: Measured
    predicted: Performance
    load: float
    error: Mapping[str, float]
    outside: Mapping[str, bool]

    def error_range(self, name: str) -> tuple[float, float]:
        """Smallest and largest absolute error that the measured interval allows."""
        value = self.predicted.latency_s[name]
        low, high = self.measured.interval_s.get(name, (self.measured.latency_s[name],) * 2)
        if low <= 0 or math.isinf(value):
            return (0.0 if low <= value <= high else abs(value / high - 1)), math.inf
        ends = sorted(abs(value / end - 1) for end in (low, high))
        return (0.0 if low <= value <= high else ends[0]), max(ends[1], abs(self.error[name]))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Errors of one latency over some runs.

    Attributes
    ----------
    runs : int
        How many.
    median, p90, worst : float
        Of the absolute errors.
    bias : float
        Median of the errors with their sign; above 0 where the model says more than was measured.
    outside, with_interval : int
        Runs whose prediction lies outside the measured interval, of those that have one.
    """

    runs: int
    median: float
    p90: float
    worst: float
    bias: float
    outside: int
    with_interval: int


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Where an error may come from, in three parts.

    Attributes
    ----------
    profile_fit : mapping
        Device -> median error of the profile at each batch size that is left out and interpolated; None where
        unknown (numbers of your own).
    formula : mapping
        ``p95``, ``p99``: error of the formula against simulation, median over the runs. By simulation of these runs
        where ``formula_runs`` is above 0, else what 95 of 100 like scenarios stayed within (:doc:`/accuracy`).
    formula_runs : int
        Runs that were both computed and simulated.
    model : mapping
        Median absolute error of the prediction against what was measured.
    noise : mapping
        Median half-width of the measured intervals, relative to the value: what no model could do better than.
    """

    profile_fit: Mapping[str, float | None] = field(default_factory=dict)
    formula: Mapping[str, float] = field(default_factory=dict)
    formula_runs: int = 0
    model: Mapping[str, float] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Measured runs against predictions.

    Attributes
    ----------
    runs : tuple of Compared
        By load.
    unmatched : tuple of Measured
        Runs without a prediction.
    by : str
        Who predicted.
    spread : mapping
        Latency -> errors over all runs.
    bins : tuple of (low, high, mapping)
        The same for runs whose load is above ``low`` and at most ``high``; bins without runs are left out.
    ledger : Ledger
        Where the error may come from.
    """

    runs: tuple[Compared, ...]
    unmatched: tuple[Measured, ...]
    by: str
    spread: Mapping[str, Spread]
    bins: tuple[tuple[float, float, Mapping[str, Spread]], ...]
    ledger: Ledger

    def verdict(self, bound: float, name: str, statistic: str = "p90") -> tuple[Verdict, float]:
        """Whether the errors of a latency keep a bound, and the figure that is held to it.

        ``pass`` when the statistic keeps the bound even with every measured value at the end of its interval that is
        farthest from the prediction, ``fail`` when it breaks it with every value at the nearest, else ``undecided``.

        Parameters
        ----------
        bound : float
            Largest relative error.
        name : str
            ``mean``, ``p50``, ``p95`` or ``p99``.
        statistic : {"median", "p90", "worst"}
            Over the runs.
        """
        if name not in self.spread:
            raise InputError(f"compare: no {name} in both; there are {', '.join(self.spread)}")
        rank = {"median": 50, "p90": 90, "worst": 100}[statistic]
        ranges = np.array([r.error_range(name) for r in self.runs if name in r.error])
        least, most = (_percentile(ends, rank) for ends in ranges.T)
        verdict: Verdict = "pass" if most <= bound else "fail" if least > bound else "undecided"
        return verdict, getattr(self.spread[name], statistic)


def _percentile(x: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]], rank: float) -> float:
    """Linear interpolation that takes infinities."""
    values = np.sort(np.asarray(x, dtype=float))
    place = rank / 100 * (len(values) - 1)
    low, share = int(place), place - int(place)
    if share == 0 or values[low] == values[low + 1]:
        return float(values[low])
    return float(values[low] * (1 - share) + values[low + 1] * share)


def _spread(name: str, runs: Sequence[Compared]) -> Spread:
    errors = [r.error[name] for r in runs if name in r.error]
    size = [abs(e) for e in errors]
    outside = [r.outside[name] for r in runs if name in r.outside]
    return Spread(
        runs=len(errors),
        median=_percentile(size, 50),
        p90=_percentile(size, 90),
        worst=max(size),
        bias=_percentile(errors, 50),
        outside=sum(outside),
        with_interval=len(outside),
    )


def _spreads(runs: Sequence[Compared]) -> dict[str, Spread]:
    names = [n for n in ("mean", "p50", "p95", "p99") if any(n in r.error for r in runs)]
    return {name: _spread(name, runs) for name in names}


def _compared(measured: Measured, predicted: Performance) -> Compared:
    shared = [n for n in measured.latency_s if n in predicted.latency_s]
    loads = [u for u in predicted.utilization.values() if u is not None]
    return Compared(
        measured=measured,
        predicted=predicted,
        load=max(loads, default=math.nan),
        error={n: predicted.latency_s[n] / measured.latency_s[n] - 1 for n in shared},
        outside={
            n: not measured.interval_s[n][0] <= predicted.latency_s[n] <= measured.interval_s[n][1]
            for n in shared
            if n in measured.interval_s
        },
    )


def compare(
    measured: Sequence[Measured],
    predicted: Sequence[Performance | None],
    *,
    by: str,
    simulated: Sequence[Performance | None] = (),
    profiles: tuple[str, Sequence[str]] | None = None,
) -> Comparison:
    """Put each measured run beside its prediction.

    Parameters
    ----------
    measured : sequence of Measured
        The runs.
    predicted : sequence of Performance or None
        One for each run; None where there is none.
    by : str
        Who predicted, for reports.
    simulated : sequence of Performance or None
        The same runs by simulation, where the ledger should compare them with the formulas; one for each or none.
    profiles : (str, sequence of str) or None
        Model and devices whose profiles the ledger looks up.

    Raises
    ------
    InputError
        When no run has a prediction.
    """
    pairs = [(m, p) for m, p in zip(measured, predicted, strict=True) if p is not None]
    if not pairs:
        raise InputError(
            f"compare: none of {len(measured)} measured runs has a prediction: the policy or the rate (to 2 %) of none "
            "is among the saved answers; give the scenario instead, and each run is computed"
        )
    runs = tuple(sorted((_compared(m, p) for m, p in pairs), key=lambda r: r.load))
    spread = _spreads(runs)
    if not spread:
        raise InputError("compare: the measured runs and the predictions have no latency in common")
    bins = []
    for low, high in itertools.pairwise(BINS):
        here = [r for r in runs if low < r.load <= high or (high == BINS[-1] and r.load > high)]
        if found := _spreads(here):
            bins.append((low, high, found))
    return Comparison(
        runs=runs,
        unmatched=tuple(m for m, p in zip(measured, predicted, strict=True) if p is None),
        by=by,
        spread=spread,
        bins=tuple(bins),
        ledger=_ledger(runs, spread, predicted, simulated, profiles),
    )


def _ledger(
    runs: Sequence[Compared],
    spread: Mapping[str, Spread],
    predicted: Sequence[Performance | None],
    simulated: Sequence[Performance | None],
    profiles: tuple[str, Sequence[str]] | None,
) -> Ledger:
    both = [(p, s) for p, s in zip(predicted, simulated, strict=True) if p and s and p.stable] if simulated else []
    formula = {}
    for name in ("p95", "p99"):
        if both:
            sizes = [abs(p.latency_s[name] / s.latency_s[name] - 1) for p, s in both]
        else:
            sizes = [r.predicted.error[name] for r in runs if name in r.predicted.error]
        if sizes:
            formula[name] = _percentile(sizes, 50)
    noise = {}
    for name in spread:
        ends = [(r.measured.interval_s[name], r.measured.latency_s[name]) for r in runs if name in r.outside]
        if ends:
            noise[name] = _percentile([(high - low) / 2 / value for (low, high), value in ends], 50)
    return Ledger(
        profile_fit=_profile_fit(*profiles) if profiles else {},
        formula=formula,
        formula_runs=len(both),
        model={name: s.median for name, s in spread.items()},
        noise=noise,
    )


def _profile_fit(model: str, devices: Sequence[str]) -> dict[str, float | None]:
    """Leave-one-out error of the profile of each device; None where there is no packaged profile."""
    found = {}
    for device in devices:
        try:
            found[device] = load(model, device).leave_one_out
        except InputError:
            found[device] = None
    return found
