"""Ready-made query size distributions, each a pmf on 1..n.

One rule turns a continuous size X into whole items, the one that the DeepRecSys load generator applies: clip to
1..max, then round down. So ``P(N = j) = F(j + 1) - F(j)`` inside, everything below 2 is a query of one item, and
everything from ``max`` up is a query of ``max`` items. Discrete sizes are only clipped. Sizes rarer than one query in
10^12 are left out, so that the largest query is one that occurs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.errors import InputError
from recqueue.workload.sizes import MAX_ITEMS, QuerySizes

RAREST = 1e-12
"""Sizes of a continuous distribution with less probability than this are left out."""


def mlperf_sizes() -> QuerySizes:
    """Sizes of the MLPerf Inference DLRM benchmark: 100..700 items, mean 270, SCV 0.331.

    Source: mlcommons/inference, ``recommendation/dlrm_v2/pytorch/tools/dist_quantile.txt`` (20 equal-probability
    steps).
    """
    return sizes_from_pmf([100, 200, 300, 400, 500, 600, 700], [2, 12, 2, 1, 1, 1, 1], name="mlperf")


def production_sizes() -> QuerySizes:
    """Heavy-tailed public stand-in for a production mix: 1..999 items, mean 239, SCV 0.57, p95 605, p99 921.

    8/99 uniform on 1..99, 22/99 on 200..599, 5/99 on 600..999; the other 64/99 lognormal(5.1, 0.2) between 100
    and 200, whatever falls outside that being uniform on 190..199. Source: boringlee24/hpdc23-kairos ``helper.py``,
    which calls it the DeepRecSys trace; the production distribution itself was never published.
    """
    from scipy.stats import lognorm

    pmf = np.zeros(1000)
    pmf[1:100] += 8 / 99 / 99
    pmf[200:600] += 22 / 99 / 400
    pmf[600:1000] += 5 / 99 / 400
    body = np.diff(lognorm(s=0.2, scale=np.exp(5.1)).cdf(np.arange(100, 201)))
    pmf[100:200] += 64 / 99 * body
    pmf[190:200] += 64 / 99 * (1 - body.sum()) / 10
    return QuerySizes(pmf, "production")


def lognormal_sizes(mean_log: float, sigma_log: float, max_items: int) -> QuerySizes:
    """Describe lognormal sizes, clipped to 1..max_items: log(items) has that mean and standard deviation."""
    from scipy.stats import lognorm

    _require(np.isfinite(mean_log), f"mean_log {mean_log}; it must be a finite number")
    _require(np.isfinite(sigma_log) and sigma_log > 0, f"sigma_log {sigma_log}; it must be a finite number above 0")
    return sizes_from_scipy(
        lognorm(s=sigma_log, scale=np.exp(mean_log)), max_items, name=f"lognormal({mean_log:g}, {sigma_log:g})"
    )


def normal_sizes(mean: float, sd: float, max_items: int) -> QuerySizes:
    """Describe normal sizes with standard deviation ``sd`` (items), clipped to 1..max_items."""
    from scipy.stats import norm

    _require(np.isfinite(mean), f"mean {mean}; it must be a finite number of items")
    _require(np.isfinite(sd) and sd > 0, f"sd {sd}; it must be a finite number of items above 0")
    return sizes_from_scipy(norm(mean, sd), max_items, name=f"normal({mean:g}, {sd:g})")


def fixed_sizes(items: int) -> QuerySizes:
    """Every query has ``items`` items."""
    return sizes_from_pmf([items], [1.0], name=f"fixed({items})")


def sizes_from_pmf(items: Sequence[int], weight: Sequence[float], *, name: str = "pmf") -> QuerySizes:
    """Sizes ``items`` (whole numbers, strictly increasing) with probabilities proportional to ``weight``."""
    _require(len(items) > 0, "no sizes given; at least one (items, weight) pair is needed")
    _require(
        len(items) == len(weight),
        f"{len(items)} sizes but {len(weight)} weights; give one weight for each size",
    )
    for n in items:
        _check_items(n)
    for before, after in itertools.pairwise(items):
        _require(before < after, f"items {before} is followed by {after}; sort them in increasing order, each once")
    w = np.asarray(weight, dtype=float)
    positive = bool(np.all(np.isfinite(w)) and w.min() >= 0 and w.sum() > 0)
    _require(positive, f"weights {weight}; they must be finite, 0 or more, and not all 0")
    pmf = np.zeros(items[-1] + 1)
    pmf[np.asarray(items)] = w / w.sum()
    return QuerySizes(pmf, name)


def sizes_from_values(values: ArrayLike, *, name: str = "observed") -> QuerySizes:
    """Observed sizes, each as likely as it was seen."""
    v = np.atleast_1d(np.asarray(values))
    _require(v.size > 0, "no sizes given; at least one is needed")
    for n in (v.min(), v.max()):
        _check_items(n)
    _require(bool(np.all(v == np.floor(v))), "a size is not a whole number of items")
    found, count = np.unique(v.astype(int), return_counts=True)
    return sizes_from_pmf(found.tolist(), count.tolist(), name=name)


def sizes_from_scipy(distribution: Any, max_items: int, *, name: str | None = None) -> QuerySizes:
    r"""Sizes from any frozen ``scipy.stats`` distribution, continuous or discrete.

    .. math:: P(N = j) = F(j + 1) - F(j) \quad (1 < j < n), \qquad P(N = 1) = F(2), \qquad P(N = n) = 1 - F(n)

    with F the distribution function of the continuous size and n = ``max_items``; a discrete size is clipped to 1..n.

    Parameters
    ----------
    distribution : frozen distribution
        Anything with a ``cdf``; a ``pmf`` beside it marks a discrete one.
    max_items : int
        Largest query; all probability above it goes there.
    name : str or None
        For reports; the distribution's own name by default.

    Raises
    ------
    InputError
        When it has no ``cdf``, or ``max_items`` is not a whole number in 1..4096.

    Examples
    --------
    >>> from scipy.stats import gamma
    >>> from recqueue.workload import sizes_from_scipy
    >>> round(sizes_from_scipy(gamma(4, scale=50), 1000).mean, 1)
    199.5
    """
    _require(
        callable(getattr(distribution, "cdf", None)),
        f"{distribution!r} has no cdf; give a frozen scipy.stats distribution such as scipy.stats.gamma(4, scale=50)",
    )
    _check_items(max_items, what="max")
    family = getattr(getattr(distribution, "dist", None), "name", None) or type(distribution).__name__
    edge = np.arange(1, max_items) + (0 if hasattr(distribution, "pmf") else 1)
    below: NDArray[np.float64] = np.asarray(distribution.cdf(edge), dtype=float)
    pmf = np.diff(below, prepend=0.0, append=1.0)
    pmf = np.concatenate([[0.0], np.where(pmf >= RAREST, pmf, 0.0)])
    return QuerySizes(pmf / pmf.sum(), name or str(family))


def _check_items(n: float, what: str = "items") -> None:
    whole = not isinstance(n, bool) and np.isfinite(n) and int(n) == n
    _require(bool(whole) and 1 <= n <= MAX_ITEMS, f"{what} {n}; it must be a whole number in 1..{MAX_ITEMS}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(f"sizes: {message}")
