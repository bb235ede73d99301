"""When queries arrive, apart from the rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError

Process = Literal["poisson", "renewal", "trace", "legacy_deeprecsys"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrivals:
    """An arrival process up to its rate.

    Parameters
    ----------
    process : {"poisson", "renewal", "trace", "legacy_deeprecsys"}
        ``poisson`` has exponential gaps. ``renewal`` has independent gamma gaps with the given SCV. ``trace`` replays
        recorded gaps, in a circle and scaled to the offered rate. ``legacy_deeprecsys`` sleeps a
        Poisson-distributed whole number of milliseconds, as the published research code does: it is *not* Poisson.
    gap_scv : float
        Squared coefficient of variation of the gaps (``renewal`` only; 1 elsewhere).
    gaps_s : numpy.ndarray
        Recorded gaps in seconds (``trace`` only).
    """

    process: Process = "poisson"
    gap_scv: float = 1.0
    gaps_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if not (np.isfinite(self.gap_scv) and self.gap_scv >= 0):
            raise InputError(f"arrivals.scv {self.gap_scv}; it must be a finite number of 0 or more")
        gaps = np.array(self.gaps_s, dtype=float)
        if self.process == "trace" and (len(gaps) < 2 or not np.all(np.isfinite(gaps)) or gaps.min() < 0):
            raise InputError("arrivals.trace: at least three timestamps in increasing order are needed")
        gaps.setflags(write=False)
        object.__setattr__(self, "gaps_s", gaps)


POISSON = Arrivals()
"""Exponential gaps."""


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


def gap_scv(arrivals: Arrivals, qps: float) -> float:
    r"""Squared coefficient of variation of the gaps between queries at a rate.

    .. math:: c_a^2 = \frac{\operatorname{Var} A}{(\operatorname{E} A)^2}, \qquad
              c_a^2 = \frac{1}{m} \text{ for Poisson-distributed gaps of mean } m \text{ ms}

    1 for ``poisson``, the given value for ``renewal``, the recorded one for ``trace`` (its order is not seen), and
    ``qps / 1000`` for ``legacy_deeprecsys``, which sleeps a Poisson number of whole milliseconds: more regular
    than Poisson arrivals below 1000 queries/s, burstier above.

    Parameters
    ----------
    arrivals : Arrivals
        The process.
    qps : float
        Queries per second; matters to ``legacy_deeprecsys`` alone.

    Returns
    -------
    float
        Dimensionless, 0 or more.
    """
    if arrivals.process == "trace":
        return float(np.var(arrivals.gaps_s) / np.mean(arrivals.gaps_s) ** 2)
    if arrivals.process == "legacy_deeprecsys":
        return qps / 1000.0
    return arrivals.gap_scv


def arrivals_label(arrivals: Arrivals, qps: float) -> str:
    """Name the process for a report, as in "Poisson arrivals"."""
    scv = f"{gap_scv(arrivals, qps):.3g}"
    return {
        "poisson": "Poisson arrivals",
        "renewal": f"renewal arrivals, gap SCV {scv}",
        "trace": f"arrivals from a trace of {len(arrivals.gaps_s) + 1} queries, gap SCV {scv}",
        "legacy_deeprecsys": f"legacy_deeprecsys arrivals (whole-millisecond gaps, SCV {scv} here; not Poisson)",
    }[arrivals.process]
