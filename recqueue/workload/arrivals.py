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
