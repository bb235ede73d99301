"""Service-time distributions: mixtures of log-normal laws of one coefficient of variation (or of constants)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr


def lognormal_cdf(
    t: NDArray[np.float64], mean: NDArray[np.float64] | float, cv: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """P(S <= t) for a log-normal S of that mean and cv, broadcast; a constant when cv is 0 (everywhere)."""
    if np.max(cv) == 0:
        return np.asarray(np.greater_equal(t, np.asarray(mean) * (1 - 1e-12)), dtype=float)
    variance_log = np.log1p(np.square(cv))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (np.log(np.maximum(t, 0.0) / mean) + variance_log / 2) / np.sqrt(variance_log)
    return np.asarray(ndtr(z))


@dataclass(frozen=True, eq=False)
class ServiceMixture:
    """A service time: with ``probability[i]`` log-normal with mean ``mean_s[i]`` and coefficient of variation ``cv``.

    Attributes
    ----------
    probability, mean_s : numpy.ndarray
        Shape (parts,); probabilities add up to 1.
    cv : float
        Coefficient of variation inside each part; 0 for constants.
    """

    probability: NDArray[np.float64]
    mean_s: NDArray[np.float64]
    cv: float = 0.0

    @property
    def mean(self) -> float:
        """Seconds."""
        return float(self.probability @ self.mean_s)

    @property
    def second_moment(self) -> float:
        """Seconds squared."""
        return float(self.probability @ self.mean_s**2) * (1 + self.cv**2)

    @property
    def scv(self) -> float:
        """Squared coefficient of variation."""
        return self.second_moment / self.mean**2 - 1

    def cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(S <= t), in the shape of ``t``."""
        if self.cv == 0:
            order = np.argsort(self.mean_s)
            below = np.concatenate(([0.0], np.cumsum(self.probability[order])))
            return np.asarray(below[np.searchsorted(self.mean_s[order], np.asarray(t) * (1 + 1e-12), side="right")])
        t = np.asarray(t)
        return np.asarray(lognormal_cdf(t[..., None], self.mean_s, self.cv) @ self.probability)

    def equilibrium_cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        r"""Distribution of the residual service that an outsider sees, :math:`E\min(S, t) / E S`."""
        t = np.asarray(t, dtype=float)
        if self.cv == 0:
            order = np.argsort(self.mean_s)
            s, p = self.mean_s[order], self.probability[order]
            i = np.searchsorted(s, t, side="right")
            done = np.concatenate(([0.0], np.cumsum(p * s)))[i]
            left = np.concatenate((np.cumsum(p[::-1])[::-1], [0.0]))[i]
            return np.asarray(np.minimum((done + t * left) / self.mean, 1.0))
        variance_log = np.log1p(self.cv**2)
        with np.errstate(divide="ignore"):
            z = (np.log(t[..., None] / self.mean_s) - variance_log / 2) / np.sqrt(variance_log)
        truncated = self.mean_s * ndtr(z) + t[..., None] * ndtr(-z - np.sqrt(variance_log))
        return np.asarray(np.minimum(truncated @ self.probability / self.mean, 1.0))

    def merged(self, parts: int) -> ServiceMixture:
        """At most ``parts`` parts: neighbours in ``mean_s`` joined, mean kept; the second moment shrinks slightly."""
        if len(self.mean_s) <= parts:
            return self
        order = np.argsort(self.mean_s)
        s, p = self.mean_s[order], self.probability[order]
        if s[-1] <= s[0] * (1 + 1e-12):
            return ServiceMixture(np.ones(1), s[:1], self.cv)
        group = np.minimum(((s - s[0]) / (s[-1] - s[0]) * parts).astype(int), parts - 1)
        weight = np.asarray(np.bincount(group, p, parts), dtype=float)
        work = np.asarray(np.bincount(group, p * s, parts), dtype=float)
        some = weight > 0
        return ServiceMixture(weight[some], work[some] / weight[some], self.cv)
