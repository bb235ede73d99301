"""Numerical inversion of Laplace transforms: the second, independent route to a distribution."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.errors import InputError

Transform = Callable[[NDArray[np.complex128]], NDArray[np.complex128]]


def tail_from_laplace(
    transform: Transform, t: ArrayLike, *, terms: int = 60, averaged: int = 14, accuracy: float = 1e-10
) -> NDArray[np.float64]:
    r"""P(X > t) from :math:`\hat f(s) = E e^{-sX}` by the Euler method.

    The Bromwich integral of :math:`(1 - \hat f(s)) / s` by the trapezoid rule with step :math:`\pi / t`; the
    alternating series is summed by binomial averages of its last partial sums.

    Parameters
    ----------
    transform : callable
        Complex s (any shape) to :math:`E e^{-sX}`.
    t : array_like
        Times above 0 in seconds.
    terms, averaged : int
        Terms of the series before, and partial sums in, the average.
    accuracy : float
        Discretization error, bounded by it; where the tail is smooth the rest is of the same order. Beside a jump or a
        bend of the tail the series converges slowly and the result is only good to 1e-3 or so.

    Returns
    -------
    numpy.ndarray
        In the shape of ``t``.

    Raises
    ------
    InputError
        When a time is not above 0.

    References
    ----------
    :cite:t:`abate1995numerical`.
    """
    times = np.asarray(t, dtype=float)
    if np.any(~(times > 0)):
        raise InputError("inversion: times must be above 0")
    a = np.log(1 / accuracy)
    flat = times.reshape(-1, 1)
    k = np.arange(terms + averaged + 1)
    s = (a + 2j * np.pi * k) / (2 * flat)
    values = np.real((1 - transform(s)) / s) * np.where(k == 0, 0.5, (-1.0) ** k)
    partial = np.cumsum(values, axis=1)[:, terms:]
    binomial = np.array([comb(averaged, j) for j in range(averaged + 1)]) / 2.0**averaged
    return np.asarray(np.exp(a / 2) / flat[:, 0] * (partial @ binomial)).reshape(times.shape)
