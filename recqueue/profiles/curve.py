"""S(b): how long a batch of b items takes, as a measured, published or modelled table."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError, OutsideMeasuredRangeWarning

Provenance = Literal["measured", "published", "roofline", "given"]
"""Where a number comes from: our own measurement, somebody's publication, a hardware model, or the user."""


@dataclass(frozen=True, kw_only=True)
class LatencyCurve:
    r"""Service time of one batch against its items, piecewise linear between the points of a table.

    .. math:: S(b) = s_i + (b - b_i) \frac{s_{i+1} - s_i}{b_{i+1} - b_i}, \qquad b_i \le b \le b_{i+1}

    Valid between the first and the last point. Outside, the nearest segment is continued (never below
    the smallest measured time) and an :class:`~recqueue.errors.OutsideMeasuredRangeWarning` says so. A table of one
    point is a constant.

    Parameters
    ----------
    items : tuple of int
        Batch sizes b_i, strictly increasing, at least 1.
    seconds : tuple of float
        Mean service times s_i in seconds, positive and finite, as many as ``items``.
    cv : float
        Coefficient of variation of the service time at a fixed batch size, 0 or more; that of ``noise`` where given.
    noise : tuple of float
        Law of the service time over its mean: factors of mean 1, equally likely, ascending. Empty for a log-normal one
        of ``cv``.
    provenance : {"measured", "published", "roofline", "given"}
        Where the table comes from.
    source : str
        One line that names the source.

    Raises
    ------
    InputError
        When the table is empty, unsorted, of unequal lengths, or holds a value that is not allowed.
    """

    items: tuple[int, ...]
    seconds: tuple[float, ...]
    cv: float = 0.0
    noise: tuple[float, ...] = ()
    provenance: Provenance = "given"
    source: str = ""

    def __post_init__(self) -> None:
        if not self.items:
            raise InputError("latency table: no points given; at least one (batch size, latency) pair is needed")
        if len(self.items) != len(self.seconds):
            raise InputError(
                f"latency table: {len(self.items)} batch sizes but {len(self.seconds)} latencies; "
                "give one latency for each batch size"
            )
        if any(int(b) != b or b < 1 for b in self.items):
            raise InputError(f"latency table: batch sizes {list(self.items)}; each must be a whole number of 1 or more")
        if any(b >= c for b, c in zip(self.items, self.items[1:], strict=False)):
            raise InputError(f"latency table: batch sizes {list(self.items)} are not strictly increasing; sort them")
        if not all(np.isfinite(s) and s > 0 for s in self.seconds):
            raise InputError(f"latency table: latencies {list(self.seconds)} s; each must be a finite number above 0")
        if not (np.isfinite(self.cv) and self.cv >= 0):
            raise InputError(f"latency table: cv {self.cv}; it must be a finite number of 0 or more")
        if self.noise:
            factors = np.asarray(self.noise)
            if not (np.all(np.isfinite(factors)) and factors.min() > 0 and np.all(np.diff(factors) >= 0)):
                raise InputError("latency table: noise factors must be finite, above 0 and ascending")
            if abs(factors.mean() - 1) > 1e-3:
                raise InputError(f"latency table: noise factors of mean {factors.mean():.6g}; divide them by it")
            factors = factors / factors.mean()  # of what rounding left
            object.__setattr__(self, "noise", tuple(factors.tolist()))
            object.__setattr__(self, "cv", float(factors.std()))

    @property
    def measured_range(self) -> tuple[int, int]:
        """Smallest and largest batch size of the table."""
        return self.items[0], self.items[-1]

    @property
    def leave_one_out(self) -> float | None:
        """Median relative error of the inner points when each is left out and interpolated; None without any."""
        if len(self.items) < 3:
            return None
        x, y = np.asarray(self.items, dtype=float), np.asarray(self.seconds)
        between = y[:-2] + (x[1:-1] - x[:-2]) * (y[2:] - y[:-2]) / (x[2:] - x[:-2])
        return float(np.median(np.abs(between / y[1:-1] - 1)))

    def seconds_at(self, items: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Mean service time in seconds at each of ``items`` (whole numbers of 1 or more), in the same shape."""
        b = np.asarray(items, dtype=float)
        low, high = self.measured_range
        if b.size and (b.min() < low or b.max() > high):
            warnings.warn(
                f"latency table asked at {b.min():.0f}..{b.max():.0f} items but it covers {low}..{high} "
                f"({self.source or self.provenance}); the nearest segment is continued",
                OutsideMeasuredRangeWarning,
                stacklevel=2,
            )
        x, y = np.asarray(self.items, dtype=float), np.asarray(self.seconds)
        if len(x) == 1:
            return np.full(b.shape, y[0])
        i = np.clip(np.searchsorted(x, b, side="right") - 1, 0, len(x) - 2)
        line = y[i] + (b - x[i]) * (y[i + 1] - y[i]) / (x[i + 1] - x[i])
        return np.asarray(np.maximum(line, min(self.seconds)))
