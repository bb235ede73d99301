"""When queries arrive, apart from the rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.errors import InputError

Process = Literal["poisson", "renewal", "mmpp", "diurnal", "trace", "legacy_deeprecsys"]
Law = Literal["gamma", "hyperexponential"]

DAY_S = 86_400.0
"""Seconds of a day, the default period of ``diurnal`` arrivals."""
_MOST_STATES = 64
_EMPTY = np.empty(0)


def _table(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """A read-only array of numbers, or one line that says what was given."""
    try:
        table = np.array(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{what} {str(values)[:60]}; give numbers, with rows of equal length") from None
    table.setflags(write=False)
    return table


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrivals:
    """An arrival process up to its rate.

    Parameters
    ----------
    process : {"poisson", "renewal", "mmpp", "diurnal", "trace", "legacy_deeprecsys"}
        ``poisson`` has exponential gaps. ``renewal`` has independent gaps of the given SCV and law. ``mmpp`` is a
        Poisson process whose rate follows a Markov chain, ``diurnal`` one whose rate follows the time of day. ``trace``
        replays recorded gaps, in a circle and scaled to the offered rate. ``legacy_deeprecsys`` sleeps a
        Poisson-distributed whole number of milliseconds, as the published research code does: it is *not* Poisson.
    gap_scv : float
        Squared coefficient of variation of the gaps (``renewal`` only; 1 elsewhere).
    law : {"gamma", "hyperexponential"}
        Law of the gaps (``renewal`` only): gamma, for any SCV, or two exponential phases with balanced means, for an
        SCV of 1 or more.
    gaps_s : numpy.ndarray
        Recorded gaps in seconds (``trace`` only).
    relative_rate : numpy.ndarray
        Rate in each state of the chain (``mmpp``) or at each time of day (``diurnal``), in any unit: scaled so that its
        mean over time is 1, the offered rate.
    switch_per_s : numpy.ndarray
        ``switch_per_s[i, j]``: rate (1/s) at which the chain leaves state i for state j; the diagonal is 0 (``mmpp``
        only).
    time_s : numpy.ndarray
        Times of day (s), strictly increasing in [0, ``period_s``); the rate is linear in between and around the end of
        the period (``diurnal`` only).
    period_s : float
        Length of the day (``diurnal`` only).

    Raises
    ------
    InputError
        When a parameter is out of range, or missing for the process.
    """

    process: Process = "poisson"
    gap_scv: float = 1.0
    law: Law = "gamma"
    gaps_s: NDArray[np.float64] = field(default_factory=lambda: _EMPTY)
    relative_rate: NDArray[np.float64] = field(default_factory=lambda: _EMPTY)
    switch_per_s: NDArray[np.float64] = field(default_factory=lambda: _EMPTY)
    time_s: NDArray[np.float64] = field(default_factory=lambda: _EMPTY)
    period_s: float = DAY_S

    def __post_init__(self) -> None:
        if not (np.isfinite(self.gap_scv) and self.gap_scv >= 0):
            raise InputError(f"arrivals.scv {self.gap_scv}; it must be a finite number of 0 or more")
        if self.law not in ("gamma", "hyperexponential"):
            raise InputError(f"arrivals.law {self.law!r}; allowed: gamma, hyperexponential")
        if self.law == "hyperexponential" and self.gap_scv < 1:
            raise InputError(
                f"arrivals.law hyperexponential with scv {self.gap_scv:g}; it needs an SCV of 1 or more (law gamma "
                "takes any)"
            )
        for name in ("gaps_s", "relative_rate", "switch_per_s", "time_s"):
            object.__setattr__(self, name, _table(getattr(self, name), f"arrivals.{name}"))
        match self.process:
            case "trace":
                self._check_trace()
            case "mmpp":
                self._check_mmpp()
            case "diurnal":
                self._check_diurnal()

    def _check_trace(self) -> None:
        gaps = self.gaps_s
        if len(gaps) < 2 or not np.all(np.isfinite(gaps)) or gaps.min() < 0:
            raise InputError("arrivals.trace: at least three timestamps in increasing order are needed")

    def _check_rates(self) -> None:
        rates = self.relative_rate
        if rates.ndim != 1 or not np.all(np.isfinite(rates)) or rates.min() < 0 or rates.max() <= 0:
            raise InputError(
                f"arrivals.{self.process}: rates {_short(rates)}; give finite numbers of 0 or more, not all of them 0"
            )

    def _check_mmpp(self) -> None:
        rates, switch = self.relative_rate, self.switch_per_s
        if not (rates.ndim == 1 and 2 <= len(rates) <= _MOST_STATES):
            raise InputError(f"arrivals.mmpp: {rates.size} rates; give 2..{_MOST_STATES}, one for each state")
        self._check_rates()
        if switch.shape != (len(rates), len(rates)):
            raise InputError(
                f"arrivals.mmpp: switch_per_s of shape {switch.shape} for {len(rates)} rates; give a row for each "
                "state with the rate of leaving it for each other one, as in [[0, 0.1], [0.5, 0]]"
            )
        if not np.all(np.isfinite(switch)) or switch.min() < 0 or np.any(np.diag(switch) != 0):
            raise InputError(
                "arrivals.mmpp: switch_per_s must hold finite rates of 0 or more (1/s), and 0 on its diagonal"
            )
        reach = np.linalg.matrix_power((switch > 0) + np.eye(len(rates)), len(rates)) > 0
        if not reach.all():
            i, j = np.argwhere(~reach)[0]
            raise InputError(
                f"arrivals.mmpp: state {j} is never reached from state {i}; every state must be reached from every "
                "other (switch_per_s above 0 along some path)"
            )
        mean = float(stationary(switch) @ rates)
        if mean <= 0:
            raise InputError(f"arrivals.mmpp: rates {_short(rates)} have mean 0; give a larger rate to a visited state")
        object.__setattr__(self, "relative_rate", _table(rates / mean, "arrivals.rates"))

    def _check_diurnal(self) -> None:
        time, rates = self.time_s, self.relative_rate
        if not (np.isfinite(self.period_s) and self.period_s > 0):
            raise InputError(f"arrivals.diurnal: period {self.period_s} s; it must be a finite number above 0")
        if time.ndim != 1 or len(time) < 2 or len(time) != len(rates):
            raise InputError(
                f"arrivals.diurnal: {time.size} times and {rates.size} rates; give two or more, one rate for each time"
            )
        self._check_rates()
        if not (np.all(np.isfinite(time)) and time[0] >= 0 and time[-1] < self.period_s and np.all(np.diff(time) > 0)):
            raise InputError(
                f"arrivals.diurnal: times {_short(time / 3600)} h; give strictly increasing times in 0.."
                f"{self.period_s / 3600:g} h, the end left out (the last rate leads on to the first)"
            )
        width = np.diff(np.append(time, time[0] + self.period_s))
        mean = float(width @ (rates + np.roll(rates, -1))) / 2 / self.period_s
        object.__setattr__(self, "relative_rate", _table(rates / mean, "arrivals.relative_rate"))


def _short(values: NDArray[np.float64]) -> str:
    text = ", ".join(f"{v:g}" for v in values[:6])
    return f"[{text}{', ...' if len(values) > 6 else ''}]"


POISSON = Arrivals()
"""Exponential gaps."""


def renewal_arrivals(gap_scv: float, law: Law = "gamma") -> Arrivals:
    """Independent gaps of that SCV, gamma (any SCV) or hyperexponential (balanced means, SCV of 1 or more)."""
    return Arrivals(process="renewal", gap_scv=gap_scv, law=law)


def mmpp_arrivals(rates: ArrayLike, switch_per_s: ArrayLike) -> Arrivals:
    """Markov-modulated Poisson arrivals: relative ``rates`` of the states and an (m, m) matrix of switching rates."""
    return Arrivals(
        process="mmpp",
        relative_rate=_table(rates, "arrivals.mmpp.rates"),
        switch_per_s=_table(switch_per_s, "arrivals.mmpp.switch_per_s"),
    )


def diurnal_arrivals(time_s: ArrayLike, relative_rate: ArrayLike, period_s: float = DAY_S) -> Arrivals:
    """Poisson arrivals whose rate is piecewise linear in the time of day and periodic."""
    return Arrivals(
        process="diurnal",
        time_s=_table(time_s, "arrivals.diurnal.time"),
        relative_rate=_table(relative_rate, "arrivals.diurnal.relative_rate"),
        period_s=period_s,
    )


def trace_arrivals(timestamps_s: NDArray[np.float64]) -> Arrivals:
    """Arrivals that replay recorded timestamps (s, not decreasing, at least three), scaled to the rate asked for."""
    times = np.asarray(timestamps_s, dtype=float)
    if times.ndim != 1 or len(times) < 3 or not np.all(np.isfinite(times)):
        raise InputError(f"arrivals.trace: {times.size} timestamps; at least three finite ones (seconds) are needed")
    gaps = np.diff(times)
    if gaps.min() < 0:
        i = int(np.argmin(gaps))
        raise InputError(f"arrivals.trace: timestamp {times[i + 1]:g} s follows {times[i]:g} s; sort the timestamps")
    if gaps.sum() <= 0:
        raise InputError("arrivals.trace: all timestamps are equal; they must span some time")
    return Arrivals(process="trace", gaps_s=gaps)


def generator(switch_per_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Generator of the chain with these switching rates: the same with minus the row sums on the diagonal."""
    return switch_per_s - np.diag(switch_per_s.sum(axis=1))


def stationary(switch_per_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stationary probabilities of an irreducible chain: the solution of pi Q = 0, pi 1 = 1."""
    q = generator(switch_per_s) / switch_per_s.max()
    m = len(q)
    pi = np.linalg.lstsq(np.vstack((q.T, np.ones(m))), np.append(np.zeros(m), 1.0), rcond=None)[0]
    return np.asarray(np.maximum(pi, 0.0))


def gap_scv(arrivals: Arrivals, qps: float) -> float:
    r"""Squared coefficient of variation of the gaps between queries at a rate.

    .. math:: c_a^2 = \frac{\operatorname{Var} A}{(\operatorname{E} A)^2}, \qquad
              c_a^2 = \frac{1}{m} \text{ for Poisson-distributed gaps of mean } m \text{ ms}

    1 for ``poisson``, the given value for ``renewal``, the recorded one for ``trace`` (its order is not seen), and
    ``qps / 1000`` for ``legacy_deeprecsys``, which sleeps a Poisson number of whole milliseconds: more regular
    than Poisson arrivals below 1000 queries/s, burstier above. For ``mmpp`` it is :math:`2 \lambda^2 \pi R
    (\lambda R - Q)^{-2} 1 - 1`, R the diagonal of relative rates: that of one gap, blind to the correlation between
    gaps (see :func:`index_of_dispersion`).

    Parameters
    ----------
    arrivals : Arrivals
        The process.
    qps : float
        Queries per second; matters to ``legacy_deeprecsys`` and ``mmpp``.

    Returns
    -------
    float
        Dimensionless, 0 or more.

    Raises
    ------
    InputError
        For ``diurnal``, whose gaps have no stationary law.
    """
    match arrivals.process:
        case "trace":
            return float(np.var(arrivals.gaps_s) / np.mean(arrivals.gaps_s) ** 2)
        case "legacy_deeprecsys":
            return qps / 1000.0
        case "mmpp":
            rates = qps * arrivals.relative_rate
            pi, silent = stationary(arrivals.switch_per_s), np.diag(rates) - generator(arrivals.switch_per_s)
            # moments of a gap that starts at an arrival, whose state has probability pi r / lambda
            once = np.linalg.solve(silent, np.ones(len(rates)))
            return float(2 * qps * (pi * rates) @ np.linalg.solve(silent, once) - 1)
        case "diurnal":
            raise InputError(NOT_STATIONARY)
    return arrivals.gap_scv


NOT_STATIONARY = (
    "workload.arrivals.process diurnal: the rate changes over the day, so there is no steady state for a formula; use "
    "recqueue simulate, or evaluate one hour at a time with process poisson and --qps set to the rate of that hour"
)
"""What a formula that needs a steady state says to arrivals that have none."""


def index_of_dispersion(arrivals: Arrivals, qps: float) -> float:
    r"""Limit of the variance over the mean of the number of arrivals in a long interval.

    .. math:: I = \lim_{t \to \infty} \frac{\operatorname{Var} N(t)}{\operatorname{E} N(t)}
              = 1 + 2 \lambda\, \pi R D R 1, \qquad D = (1 \pi - Q)^{-1} - 1 \pi

    for ``mmpp`` with generator Q, stationary law :math:`\pi`, relative rates R and mean rate :math:`\lambda`; for
    independent gaps it is their SCV. It is the variability that a heavily loaded queue sees: one number in place of
    the SCV in two-moment formulas, right when the chain switches much faster than the queue drains, too large
    otherwise.

    Parameters
    ----------
    arrivals : Arrivals
        The process.
    qps : float
        Mean rate, queries per second.

    Returns
    -------
    float
        Dimensionless, 0 or more.

    Raises
    ------
    InputError
        For ``diurnal``, which has no stationary law.

    References
    ----------
    :cite:t:`fischer1993mmpp`.
    """
    if arrivals.process != "mmpp":
        return gap_scv(arrivals, qps)
    q, pi, rates = generator(arrivals.switch_per_s), stationary(arrivals.switch_per_s), arrivals.relative_rate
    always = np.broadcast_to(pi, q.shape)
    unit = arrivals.switch_per_s.max()  # of the chain, so that no entry dwarfs another
    drift = np.linalg.solve(always - q / unit, rates) - pi @ rates
    return float(1 + 2 * qps / unit * (pi * rates) @ drift)


def arrivals_label(arrivals: Arrivals, qps: float) -> str:
    """Name the process for a report, as in "Poisson arrivals"."""
    if arrivals.process == "diurnal":
        rates = arrivals.relative_rate
        return (
            f"Poisson arrivals over a day of {arrivals.period_s / 3600:g} h, from {rates.min():.3g} to "
            f"{rates.max():.3g} times the mean rate"
        )
    scv = f"{gap_scv(arrivals, qps):.3g}"
    law = "" if arrivals.law == "gamma" else f"{arrivals.law} "
    return {
        "poisson": "Poisson arrivals",
        "renewal": f"renewal arrivals, {law}gap SCV {scv}",
        "mmpp": f"Markov-modulated Poisson arrivals of {len(arrivals.relative_rate)} states, gap SCV {scv}, index of "
        f"dispersion {index_of_dispersion(arrivals, qps):.3g}",
        "trace": f"arrivals from a trace of {len(arrivals.gaps_s) + 1} queries, gap SCV {scv}",
        "legacy_deeprecsys": f"legacy_deeprecsys arrivals (whole-millisecond gaps, SCV {scv} here; not Poisson)",
    }[arrivals.process]
