"""How much co-located work slows each busy core."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Contention:
    """Service-time factor against the number of busy cores, linear between points, flat outside them.

    Parameters
    ----------
    busy : tuple of int
        Numbers of busy cores, strictly increasing, the first one 1.
    factor : tuple of float
        Service time with that many cores busy over the service time with one busy; the first is 1, none below 0.5.
    items : tuple of int
        Batch sizes at which ``strength`` is known, strictly increasing; none where all batch sizes are slowed alike.
    strength : tuple of float
        The slow-down beyond 1 at each of them over that of ``factor``: large batches stream from memory and slow each
        other, small ones hardly do. Linear in the logarithm of the batch size between them, flat outside.

    Raises
    ------
    InputError
        When the table is not of that form.
    """

    busy: tuple[int, ...] = (1,)
    factor: tuple[float, ...] = (1.0,)
    items: tuple[int, ...] = ()
    strength: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.busy) != len(self.factor) or not self.busy:
            raise InputError(
                f"contention: {len(self.busy)} busy counts but {len(self.factor)} factors; give one factor for each"
            )
        if self.busy[0] != 1 or any(b >= c for b, c in zip(self.busy, self.busy[1:], strict=False)):
            raise InputError(f"contention: busy counts {list(self.busy)}; they must start at 1 and increase")
        if self.factor[0] != 1.0 or not all(np.isfinite(f) and f >= 0.5 for f in self.factor):
            raise InputError(
                f"contention: factors {list(self.factor)}; the first must be 1 (one busy core is the unit) and each "
                "a finite number of 0.5 or more"
            )
        if len(self.items) != len(self.strength):
            raise InputError(
                f"contention: {len(self.items)} batch sizes but {len(self.strength)} strengths; give one for each"
            )
        if any(b >= c for b, c in zip((0, *self.items), self.items, strict=False)):
            raise InputError(f"contention: batch sizes {list(self.items)}; they must be 1 or more and increase")
        if not all(np.isfinite(s) and s >= 0 for s in self.strength):
            raise InputError(f"contention: strengths {list(self.strength)}; each must be a finite number of 0 or more")

    def of_batch(self, items: float) -> Contention:
        """The slow-down that work in batches of ``items`` sees: the same for all batch sizes."""
        if not self.items:
            return self
        strength = float(np.interp(np.log(max(items, 1.0)), np.log(self.items), self.strength))
        return Contention(busy=self.busy, factor=tuple(max(1 + strength * (f - 1), 0.5) for f in self.factor))

    def factor_at(self, busy: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Slow-down with ``busy`` cores busy (any real number; mean counts are welcome), in the same shape."""
        return np.asarray(np.interp(busy, self.busy, self.factor))


NO_CONTENTION = Contention()
"""Cores that never slow each other."""
