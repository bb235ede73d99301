"""The forms in which a service law (or a law of gaps) may be given, and their one common form."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import IntegrationWarning
from scipy.special import ndtr

from recqueue.errors import InputError
from recqueue.queueing.laws import Discrete, Law, PhaseType
from recqueue.queueing.service import ServiceMixture

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LogNormals(Law):
    """Mixture of log-normal laws of one coefficient of variation."""

    mixture: ServiceMixture

    def tail(self, t: Array) -> Array:
        """One minus the distribution function."""
        return np.asarray(1 - self.mixture.cdf(np.asarray(t, dtype=float)))

    @property
    def scale_s(self) -> float:
        """The mean."""
        return self.mixture.mean

    def moment(self, n: int) -> float:
        """Closed form."""
        factor = (1 + self.mixture.cv**2) ** (n * (n - 1) / 2)
        return float(factor * (self.mixture.probability @ self.mixture.mean_s**n))

    def limited_mean(self, t: Array) -> Array:
        """Closed form."""
        return np.asarray(self.mixture.mean * self.mixture.equilibrium_cdf(np.asarray(t, dtype=float)))

    def limited_square(self, t: Array) -> Array:
        """Closed form."""
        t = np.asarray(t, dtype=float)
        sd_log = np.sqrt(np.log1p(self.mixture.cv**2))
        with np.errstate(divide="ignore"):
            z = np.log(t[..., None] / self.mixture.mean_s) / sd_log
        square = self.mixture.mean_s**2 * (1 + self.mixture.cv**2) * ndtr(z - 1.5 * sd_log)
        return np.asarray((square + t[..., None] ** 2 * ndtr(-z - sd_log / 2)) @ self.mixture.probability)


@dataclass(frozen=True, eq=False)
class ScipyLaw(Law):
    """A frozen continuous law of scipy.stats on non-negative values."""

    frozen: Any

    def tail(self, t: Array) -> Array:
        """Survival function."""
        return np.asarray(self.frozen.sf(np.asarray(t, dtype=float)))

    @property
    def scale_s(self) -> float:
        """The mean."""
        return float(self.frozen.mean())

    @property
    def breaks_s(self) -> Array:
        """Ends of the support that are finite."""
        ends = np.array(self.frozen.support(), dtype=float)
        return np.asarray(ends[np.isfinite(ends)])

    def moment(self, n: int) -> float:
        """Closed form of scipy where it has one, else its quadrature; inf where that diverges."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", IntegrationWarning)
            try:
                return float(self.frozen.moment(n))
            except IntegrationWarning:
                return float("inf")


def service_law(service: object) -> Law:
    """The law of a service time (or of a gap) given in any of the accepted forms.

    Parameters
    ----------
    service : object
        A frozen law of scipy.stats; a pmf ``(values_s, probabilities)``; a phase-type ``(alpha, T)`` with T a square
        matrix; a :class:`recqueue.queueing.service.ServiceMixture`; a number (constant); or a law itself.

    Returns
    -------
    Law
        The same law with mean, moments, tail, limited mean and Laplace transform.

    Raises
    ------
    InputError
        When it is none of these, has negative values, or its probabilities do not add up to 1.

    References
    ----------
    :cite:t:`neuts1981matrix` for phase-type laws.
    """
    if isinstance(service, Law):
        return service
    if isinstance(service, ServiceMixture):
        if service.cv > 0:
            return LogNormals(service)
        return _discrete(service.mean_s, service.probability)
    if isinstance(service, (int, float, np.floating, np.integer)):
        return _discrete(np.array([float(service)]), np.ones(1))
    if hasattr(service, "sf") and hasattr(service, "support"):
        if not hasattr(service, "pdf"):
            raise InputError("service: a discrete law of scipy.stats; give it as (values_s, probabilities)")
        low = float(service.support()[0])
        if low < 0:
            raise InputError(f"service: the law reaches down to {low:.4g} s; times must not be negative")
        return ScipyLaw(service)
    if isinstance(service, tuple) and len(service) == 2:
        first, second = (np.asarray(part, dtype=float) for part in service)
        if first.ndim == 1 and second.shape == (len(first), len(first)):
            return _phase_type(first, second)
        if first.ndim == 1 and first.shape == second.shape:
            return _discrete(first, second)
    law = getattr(service, "law", None)
    if isinstance(law, Law):
        return law
    raise InputError(
        f"service: {type(service).__name__} is not understood; give a frozen scipy.stats law, (values_s, "
        "probabilities), (alpha, T), a ServiceMixture or a number of seconds"
    )


def _discrete(values: Array, probability: Array) -> Discrete:
    if len(values) == 0 or np.any(values < 0) or np.any(probability < 0) or not np.all(np.isfinite(values)):
        raise InputError("service: a pmf needs finite values of 0 or more and probabilities of 0 or more")
    if abs(probability.sum() - 1) > 1e-9:
        raise InputError(f"service: probabilities add up to {probability.sum():.9g}; they must add up to 1")
    unique, where = np.unique(values, return_inverse=True)
    merged = np.asarray(np.bincount(where, probability), dtype=float)
    return Discrete(unique[merged > 0], merged[merged > 0] / merged.sum())


def _phase_type(alpha: Array, matrix: Array) -> PhaseType:
    off = matrix - np.diag(np.diag(matrix))
    if np.any(alpha < 0) or alpha.sum() > 1 + 1e-9 or np.any(off < 0) or np.any(np.diag(matrix) >= 0):
        raise InputError("phase-type: alpha must be probabilities; T needs a negative diagonal and no other negatives")
    if np.any(matrix.sum(axis=1) > 1e-9 * np.abs(np.diag(matrix)).max()):
        raise InputError("phase-type: a row of T adds up to more than 0; what is missing to 0 is the rate of the end")
    return PhaseType(alpha, matrix)
