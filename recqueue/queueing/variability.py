"""How variable an arrival stream is: index of dispersion, and the SCV that a queue feels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from recqueue.queueing.arrival_processes import MAP
from recqueue.queueing.registry import Validity, require_stable

VALID = Validity({"slack": (0, 0.4)})
"""Slack is (1 - utilization) times the root of the number of servers."""


def dispersion(arrivals: MAP, time_s: ArrayLike) -> NDArray[np.float64]:
    r"""Index of dispersion of counts, :math:`I(t) = \mathrm{Var}\,N(t) / E\,N(t)`, in the shape of ``time_s``.

    .. math:: I(t) = 1 + \frac{2}{\lambda} \pi D_1 \left( Z - \frac{(I - e^{Qt})\, Z^2}{t} \right) D_1 1,
              \qquad Z = (1 \pi - Q)^{-1} - 1 \pi, \quad Q = D_0 + D_1

    1 for a Poisson process at every t. ``inf`` gives the limit, which is what a queue in heavy traffic feels.

    Examples
    --------
    >>> from recqueue.queueing.arrival_processes import MAP
    >>> from recqueue.queueing.variability import dispersion
    >>> bursty = MAP.mmpp([0.5, 4.0], [[-0.1, 0.1], [0.2, -0.2]])
    >>> dispersion(bursty, [0.0, 1.0, 10.0, float("inf")]).round(2)
    array([ 1.  ,  2.48,  8.44, 11.89])
    """
    t = np.asarray(time_s, dtype=float)
    q, pi = arrivals.hidden + arrivals.marked, arrivals.phases
    always = np.outer(np.ones(len(q)), pi)
    fundamental = np.linalg.inv(always - q) - always
    left, right = pi @ arrivals.marked, arrivals.marked.sum(axis=1)
    scale = 2 / arrivals.rate
    limit = 1 + scale * float(left @ fundamental @ right)
    values, vectors = np.linalg.eig(q)
    values = np.minimum(values.real, 0.0) + 1j * values.imag  # the stationary one is 0, not a rounding error above
    inside = np.linalg.solve(vectors, (fundamental @ fundamental @ right).astype(complex))
    finite = np.where(np.isfinite(t) & (t > 0), t, 1.0)
    gone = -np.expm1(np.multiply.outer(finite, values)) / finite[..., None]
    transient = scale * np.real(gone @ ((left @ vectors) * inside))
    return np.asarray(np.where(t <= 0, 1.0, limit - np.where(np.isinf(t), 0.0, transient)))


def effective_scv(arrivals: MAP, mean_service_s: float, servers: int, *, service_scv: float) -> float:
    r"""Arrival SCV that a renewal formula should be given to stand for a correlated stream.

    A queue feels the dispersion of the arrivals over the time that it takes to relax: little at low load, all of
    :math:`I(\infty)` near saturation. Robust queueing puts the mean work of the pooled server
    (service :math:`\tau/k`) at

    .. math:: \frac{Z}{\tau/k} \approx \sup_{x \ge 0}
              \left\{ -\frac{1-\rho}{\rho} x + \sqrt{2 x\, (I(t) + c_s^2)} \right\}, \qquad t = x / \lambda,

    with x arrivals in t seconds; a renewal stream of SCV :math:`c_a^2` gives :math:`\rho (c_a^2 + c_s^2) / 2 (1 -
    \rho)`. Jobs arrive in the bursts and find more than the mean work: :math:`W_q = Z / \rho - E S^2 / 2 E S`
    (Brumelle), and the effective SCV is the :math:`c_a^2` that has this mean wait in heavy traffic. 1 for a Poisson
    stream; :math:`I(\infty)` as :math:`\rho \to 1`.

    Good where waits are made by fluctuations of many jobs, near saturation. Bursts that overload many servers for a
    while are not of that kind, so the function refuses :math:`(1 - \rho) \sqrt k > 0.4`; the documentation has the
    error against exact MAP/M/k (:func:`recqueue.queueing.phase_service.mapphk`), which is the better choice for small
    k.

    Parameters
    ----------
    arrivals : MAP
        The stream.
    mean_service_s : float
        Mean service time in seconds.
    servers : int
        k, 1 or more.
    service_scv : float
        Squared coefficient of variation of the service time.

    Returns
    -------
    float
        Squared coefficient of variation.

    Raises
    ------
    UnstableQueueError, OutOfValidityError
        When the utilization is not below 1; when it is too far below.

    References
    ----------
    :cite:t:`whitt2018robust` for one server and the index of dispersion for work; the pooling of the servers is a
    further approximation.

    Examples
    --------
    >>> from recqueue.queueing.arrival_processes import MAP
    >>> from recqueue.queueing.variability import effective_scv
    >>> bursty = MAP.mmpp([0.5, 4.0], [[-0.1, 0.1], [0.2, -0.2]])  # 1.67 jobs/s, in bursts; I = 11.9 in the limit
    >>> [round(effective_scv(bursty, tau, 1, service_scv=1.0), 1) for tau in (0.4, 0.5, 0.59)]
    [13.8, 13.6, 12.1]
    """
    rho = arrivals.rate * mean_service_s / servers
    require_stable(rho, "effective SCV")
    VALID.check("effective SCV", slack=(1 - rho) * np.sqrt(servers))
    drift = (1 - rho) / rho

    def minus_work(log_x: float) -> float:
        x = np.exp(log_x)
        return float(drift * x - np.sqrt(2 * x * (float(dispersion(arrivals, x / arrivals.rate)) + service_scv)))

    # The optimum for a constant dispersion I lies at (I + c) / 2 drift^2; look around between its ends.
    most = max(float(dispersion(arrivals, np.inf)), 1.0) + service_scv
    grid = np.linspace(np.log(1e-3 * min(1.0, 1 / drift**2)), np.log(4 * most / drift**2 + 1.0), 200)
    start = int(np.argmin([minus_work(g) for g in grid]))
    low, high = grid[max(start - 1, 0)], grid[min(start + 1, len(grid) - 1)]
    best = minimize_scalar(minus_work, bounds=(low, high), method="bounded", options={"xatol": 1e-8})
    work = -float(best.fun)  # in services of the pooled server; a constant dispersion c gives rho c / 2 (1 - rho)
    wait = work / rho - (1 + service_scv) / 2
    return 2 * drift * wait - service_scv
