"""M/G/k: the distribution of the wait, exact for one server, approximate for more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import OutOfValidityError, UnstableQueueError
from recqueue.queueing.service import ServiceMixture

_LARGEST_TRANSFORM = 1 << 19


def erlang_b(servers: int, offered_load: float) -> float:
    """Share of arrivals lost in M/G/k/k by the recursion B_j = a B_{j-1} / (j + a B_{j-1}); stable for any k.

    References
    ----------
    Erlang (1917); the recursion is exact and cannot overflow.
    """
    blocked = 1.0
    for j in range(1, servers + 1):
        blocked = offered_load * blocked / (j + offered_load * blocked)
    return blocked


def erlang_c(servers: int, offered_load: float) -> float:
    """Probability of waiting in M/M/k, C = B / (1 - rho (1 - B)); needs ``offered_load < servers``.

    Raises
    ------
    UnstableQueueError
        When the offered load is not below the number of servers.

    References
    ----------
    Erlang (1917).
    """
    if offered_load >= servers:
        raise UnstableQueueError(f"Erlang C: offered load {offered_load:.4g} on {servers} servers; it must stay below")
    blocked = erlang_b(servers, offered_load)
    return blocked / (1 - offered_load / servers * (1 - blocked))


@dataclass(frozen=True, eq=False)
class Wait:
    """A waiting time: 0 with probability ``1 - delayed``, else distributed on a grid.

    Attributes
    ----------
    step_s : float
        Grid step in seconds.
    tail : numpy.ndarray
        ``tail[i] = P(wait > i step_s)``; linear in between, 0 beyond the end. ``tail[0]`` is the delay probability.
    """

    step_s: float
    tail: NDArray[np.float64]

    def cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(wait <= t), in the shape of ``t``; 0 for negative t."""
        t = np.asarray(t, dtype=float)
        above = np.interp(t / self.step_s, np.arange(len(self.tail)), self.tail, right=0.0)
        return np.asarray(np.where(t < 0, 0.0, 1 - above))

    @property
    def mean(self) -> float:
        """Seconds."""
        return float(np.trapezoid(self.tail) * self.step_s)


def wait(rate: float, service: ServiceMixture, servers: int, *, resolution: int = 8) -> Wait:
    r"""Wait in M/G/k under FCFS.

    While all k servers are busy the queue drains like a single server k times as fast, and at the moment they all
    became busy the other k - 1 services had equilibrium ages. Then

    .. math:: W \mid W > 0 \;\sim\; \min(R_1, \dots, R_k) + W_{M/G/1}(S/k), \qquad P(R > t) = 1 - G_e(t)

    with R independent residuals of the equilibrium law :math:`G_e` of the service, and the probability of waiting that
    of M/M/k (Erlang C). For k = 1 this is the Pollaczek-Khinchine distribution and exact; for exponential service it is
    exact for every k.

    Parameters
    ----------
    rate : float
        Arrivals per second, above 0.
    service : ServiceMixture
        Service time.
    servers : int
        k, 1 or more.
    resolution : int
        Grid points in one mean service time over k; the error of the distribution function falls with its square.

    Returns
    -------
    Wait
        The distribution; mass beyond the grid is below 1e-9.

    Raises
    ------
    UnstableQueueError
        When the offered load is not below ``servers``.
    OutOfValidityError
        When the grid would exceed 2^19 points.

    References
    ----------
    Tijms, van Hoorn and Federgruen (1981), in the form of a delayed M/G/1 busy period; Tijms (2003), section 9.6.
    """
    load = rate * service.mean
    rho = load / servers
    if rho >= 1:
        raise UnstableQueueError(
            f"M/G/k: utilization {rho:.4g} ({rate:.4g} per s x {service.mean:.4g} s on {servers} servers); "
            "it must be below 1"
        )
    parts = service.merged(32 if service.cv > 0 else 4096)
    longest = float(parts.mean_s.max()) * np.exp(6.5 * np.sqrt(np.log1p(parts.cv**2)))
    step = service.mean / servers / resolution
    mean_wait = service.second_moment / service.mean / servers / 2 / (1 - rho)
    decay_s = max(mean_wait, longest / servers / 4)
    reach = 22 * decay_s + longest / servers + min(longest, 40 * service.mean / servers)
    size = 1 << int(np.ceil(np.log2(reach / step)))
    if size > _LARGEST_TRANSFORM:
        step *= size / _LARGEST_TRANSFORM
        size = _LARGEST_TRANSFORM
        if step > service.mean / servers:
            raise OutOfValidityError(
                f"M/G/k: utilization {rho:.6f} with service SCV {service.scv:.3g} needs more than {size} grid points; "
                "lower the rate"
            )
    t = np.linspace(0.0, size * step, size + 1)
    residual_fast = _on_grid(parts.equilibrium_cdf(t * servers))
    first = _on_grid(1 - (1 - parts.equilibrium_cdf(t)) ** servers)
    transform = np.fft.rfft(residual_fast, 2 * size)
    compound = (1 - rho) / (1 - rho * transform) * np.fft.rfft(first, 2 * size)
    delayed = np.cumsum(np.maximum(np.fft.irfft(compound, 2 * size)[:size], 0.0))
    chance = erlang_c(servers, load)
    tail = chance * np.clip(1 - delayed, 0.0, 1.0)
    # A mass at point i stands for the cells beside it, so at i itself half of it has been passed.
    return Wait(step, np.concatenate(([chance], (tail[:-1] + tail[1:]) / 2)))


def _on_grid(cdf: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability masses on grid points: the mass of each cell shared by its two ends."""
    half = np.diff(cdf, append=1.0) / 2
    return np.asarray(half + np.concatenate(([0.0], half[:-1])))
