"""What a split query brings to the servers: its services, their number and their work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recqueue.queueing.pooled import Work
from recqueue.queueing.service import ServiceMixture


@dataclass(frozen=True, eq=False)
class SplitQueries:
    """What a query brings: with ``probability[i]``, ``full[i]`` services of ``full_s`` s and one of ``last_s[i]`` s.

    Attributes
    ----------
    probability, last_s : numpy.ndarray
        Shape (kinds,).
    full : numpy.ndarray
        Whole numbers of 0 or more, shape (kinds,); 0 is a query that is not split.
    full_s : float
        Mean seconds of a full sub-request.
    cv : float
        Coefficient of variation of each service time about its mean.
    noise : tuple of float
        Law of a service time over its mean: equally likely factors, ascending; empty for a log-normal one.
    """

    probability: NDArray[np.float64]
    full: NDArray[np.int64]
    last_s: NDArray[np.float64]
    full_s: float
    cv: float = 0.0
    noise: tuple[float, ...] = ()

    @property
    def work_mean_s(self) -> float:
        """Mean work V of a query in server-seconds."""
        return float(self.probability @ (self.full * self.full_s + self.last_s))

    @property
    def work_second_moment(self) -> float:
        """Second moment of the work of a query, noise included."""
        fixed = self.probability @ (self.full * self.full_s + self.last_s) ** 2
        return float(fixed + self.cv**2 * (self.probability @ (self.full * self.full_s**2 + self.last_s**2)))

    @property
    def mean_sub_requests(self) -> float:
        """Mean number of sub-requests in a query."""
        return float(self.probability @ (self.full + 1))

    @property
    def sub_request(self) -> ServiceMixture:
        """Service time of a sub-request picked at random."""
        each = np.append(self.probability, self.probability @ self.full) / self.mean_sub_requests
        return ServiceMixture(each, np.append(self.last_s, self.full_s), self.cv)

    @cached_property
    def quanta(self) -> NDArray[np.float64]:
        """Probability that a query is so many quanta of ``full_s``, its remainder rounded at random, mean kept."""
        ratio = self.last_s / self.full_s
        below = np.floor(ratio * (1 + 1e-12)).astype(np.int64)
        up = np.clip(ratio - below, 0.0, 1.0)
        low = self.full + below
        pmf = np.bincount(low, self.probability * (1 - up), int(low.max()) + 2)
        return np.asarray(pmf + np.bincount(low + 1, self.probability * up, len(pmf)))

    @cached_property
    def quanta_work(self) -> Work:
        """Work of the quanta of a query that has any."""
        some = self.quanta[1:]
        return Work(some / some.sum(), self.full_s * np.arange(1.0, len(some) + 1))

    @cached_property
    def work(self) -> Work:
        """Work of a query; the noise of its sum as three points of a log-normal, moments up to the second kept."""
        mean = self.full * self.full_s + self.last_s
        if self.cv == 0:
            return Work(self.probability, mean)
        cv2 = self.cv**2 * (self.full * self.full_s**2 + self.last_s**2) / mean**2
        points = np.exp(np.sqrt(np.log1p(cv2))[:, None] * np.sqrt(3.0) * np.array([-1.0, 0.0, 1.0]))
        weights = np.array([1, 4, 1]) / 6
        points /= (points @ weights)[:, None]
        return Work(np.outer(self.probability, weights).reshape(-1), (mean[:, None] * points).reshape(-1))

    def scaled(self, factor: float) -> SplitQueries:
        """The same with every service time multiplied by ``factor``."""
        return replace(self, last_s=self.last_s * factor, full_s=self.full_s * factor)
