"""Services and arrivals known by their first two moments: what all formulas of that kind take, and check."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.errors import InputError
from recqueue.queueing.registry import Validity, require_stable
from recqueue.queueing.service_law import service_law

Array = NDArray[np.float64]
DOCS = "theory/two-moments"
POISSON = Validity({"servers": (1, 1000), "service_scv": (0, 9), "utilization": (0, 0.999)})
SMOOTH = Validity({**POISSON.ranges, "service_scv": (0, 1), "arrival_scv": (0, 1)})
NOT_BURSTY = Validity({**POISSON.ranges, "arrival_scv": (0, 1)})
BURSTY = Validity({**POISSON.ranges, "arrival_scv": (0, 15)})


def two_moments(service: object, service_scv: float | None = None) -> tuple[float, float]:
    """Mean (s) and squared coefficient of variation of a service.

    Parameters
    ----------
    service : object
        A law (:func:`recqueue.queueing.service_law.service_law`; a bare number is a constant), or a mean in seconds
        beside ``service_scv``.
    service_scv : float, optional
        Squared coefficient of variation, where ``service`` is a mean.

    Returns
    -------
    tuple of float
        Mean and SCV.

    Raises
    ------
    InputError
        When both a law and an SCV are given, or a value is out of range.

    References
    ----------
    None: this is bookkeeping.
    """
    if service_scv is None:
        law = service_law(service)
        mean = law.moment(1)
        if not mean > 0:
            raise InputError(f"service: mean {mean:.4g} s; it must be above 0")
        return mean, max(law.moment(2) / mean**2 - 1, 0.0)
    if not isinstance(service, (int, float, np.floating, np.integer)):
        raise InputError("service: give a law, or a mean in seconds with service_scv, not a law with service_scv")
    if not (service > 0 and service_scv >= 0):
        raise InputError(f"service: mean {service} s, SCV {service_scv}; the mean must be above 0, the SCV at least 0")
    return float(service), float(service_scv)


def checked(
    what: str, arrival_rate: ArrayLike, mean_s: float, servers: int, valid: Validity, **scvs: float
) -> tuple[Array, Array]:
    """Rates and utilizations, one-dimensional or more, after the checks that all formulas share."""
    rates = np.atleast_1d(np.asarray(arrival_rate, dtype=float))
    if np.any(~(rates > 0)) or servers != int(servers):
        raise InputError(f"{what}: rates must be above 0 and servers a whole number, not {rates} and {servers}")
    rho = rates * mean_s / servers
    if np.ndim(arrival_rate) == 0:
        require_stable(float(rho[0]), what)
    stable = rho[rho < 1]
    valid.check(what, servers=servers, **scvs, **({"utilization": float(stable.max())} if len(stable) else {}))
    return rates, rho
