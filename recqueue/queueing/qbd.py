"""Quasi-birth-death chains: the matrices G and R, and level reduction of the boundary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import OutOfValidityError

Array = NDArray[np.float64]


def rate_matrix(up: Array, local: Array, down: Array) -> Array:
    r"""R of a quasi-birth-death chain with blocks ``up``, ``local``, ``down``: :math:`\pi_{n+1} = \pi_n R`.

    G, the phases at the first visit one level down, by logarithmic reduction; then
    :math:`R = A_0 (-(A_1 + A_0 G))^{-1}`. Quadratic convergence; checked by the residual of
    :math:`A_0 + R A_1 + R^2 A_2 = 0`.

    Parameters
    ----------
    up, local, down : numpy.ndarray
        Rates per second, shape (phases, phases).

    Returns
    -------
    numpy.ndarray
        R, spectral radius below 1 for a stable chain.

    Raises
    ------
    OutOfValidityError
        When the residual is not small, which means that the chain is too close to instability.

    References
    ----------
    :cite:t:`latouche1999introduction`, chapter 8.
    """
    n = len(local)
    inverse = np.linalg.inv(-local)
    high, low = inverse @ up, inverse @ down
    g, reach = low.copy(), high.copy()
    for _ in range(60):
        through = high @ low + low @ high
        solve = np.linalg.inv(np.eye(n) - through)
        high, low = solve @ (high @ high), solve @ (low @ low)
        step = reach @ low
        g += step
        reach = reach @ high
        if np.max(np.abs(step)) < 1e-15:
            break
    r = np.asarray(up @ np.linalg.inv(-(local + up @ g)), dtype=float)
    residual = np.max(np.abs(up + r @ local + r @ r @ down)) / np.max(np.abs(local))
    if not residual < 1e-10:
        raise OutOfValidityError(f"quasi-birth-death chain: residual {residual:.1e} of R; the load is too close to 1")
    return r


def boundary(ups: Sequence[Array], locals_: Sequence[Array], downs: Sequence[Array], r: Array) -> list[Array]:
    r"""Stationary vectors of levels 0..k, where levels beyond follow :math:`\pi_{n+1} = \pi_n R`; total mass 1.

    ``ups[n]`` leads from level n to n + 1, ``downs[n]`` from n + 1 to n, ``locals_[n]`` stays, n = 0..k-1 and for
    ``locals_`` also k; ``downs[k]`` is the block of the levels beyond. Levels are eliminated from the top; every
    inverse is of an M-matrix, so nothing cancels.
    """
    k = len(ups)
    rates: list[Array] = []
    above, down = r, downs[k]
    for n in range(k, 0, -1):
        above = np.asarray(ups[n - 1] @ np.linalg.inv(-(locals_[n] + above @ down)), dtype=float)
        rates.append(above)
        down = downs[n - 1]
    rates.reverse()
    first = locals_[0] + rates[0] @ downs[0] if k else locals_[0] + r @ downs[0]
    system = np.vstack((first.T, np.ones(len(first))))
    vector = np.linalg.lstsq(system, np.append(np.zeros(len(first)), 1.0), rcond=None)[0]
    levels = [np.asarray(vector, dtype=float)]
    for n in range(k):
        levels.append(levels[-1] @ rates[n])
        top = levels[-1].max()
        if top > 1e100:
            levels = [v / top for v in levels]
    tail = np.linalg.solve((np.eye(len(r)) - r).T, levels[-1])
    total = sum(float(v.sum()) for v in levels[:-1]) + float(tail.sum())
    return [v / total for v in levels]
