"""How the speed of a machine changes while it serves: other guests of the host, frequency, memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recqueue.errors import InputError

MOST = 64
"""Most factors: the formulas solve a queue for each."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A factor on all service times of the cores that stays for a while, then is drawn anew.

    The times that it stays are exponential, and draws are independent: its autocorrelation is ``exp(-t / lasting_s)``.

    Parameters
    ----------
    factor : tuple of float
        Equally likely factors of mean 1, ascending, above 0; above 1 is slower.
    lasting_s : float
        Mean seconds that a factor stays.

    Raises
    ------
    InputError
        When the factors or the time are not of that form.
    """

    factor: tuple[float, ...]
    lasting_s: float

    def __post_init__(self) -> None:
        factors = np.asarray(self.factor, dtype=float)
        if not 1 <= len(factors) <= MOST:
            raise InputError(f"drift: {len(factors)} factors; give 1 to {MOST} equally likely ones")
        if not (np.all(np.isfinite(factors)) and factors.min() > 0 and np.all(np.diff(factors) >= 0)):
            raise InputError(f"drift: factors {list(self.factor)}; they must be finite, above 0 and ascending")
        if abs(factors.mean() - 1) > 1e-3:
            raise InputError(f"drift: factors of mean {factors.mean():.6g}; divide them by it")
        object.__setattr__(self, "factor", tuple((factors / factors.mean()).tolist()))
        if not (np.isfinite(self.lasting_s) and self.lasting_s > 0):
            raise InputError(f"drift: a factor lasts {self.lasting_s} s; it must be a finite time above 0")

    @property
    def variance(self) -> float:
        """Variance of the factor, whose mean is 1."""
        return float(np.var(self.factor))
