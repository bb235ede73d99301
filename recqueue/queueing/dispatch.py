"""Sub-requests dealt on arrival to k private FIFO queues, at random or in turn: response of the whole query."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr, ndtri

from recqueue.errors import InputError, OutOfValidityError
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.registry import Validity, register, require_stable
from recqueue.queueing.service import ServiceMixture, lognormal_cdf
from recqueue.queueing.split_queries import SplitQueries
from recqueue.queueing.turns import Visits, Wait, Walk, on_grid

Array = NDArray[np.float64]
DOCS = "theory/dispatch"
VALID = Validity({"servers": (1, 128), "sub_requests": (1, 512), "utilization": (0, 0.98), "service_cv": (0, 0.5)})

_LARGEST_GRID = 1 << 17
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(12)
_NODE_WEIGHTS = _NODE_WEIGHTS / _NODE_WEIGHTS.sum()
_SHARED_AT_MOST = 0.9999
"""A correlation of 1 is a step function; this is a step of a hundredth of a standard deviation."""
_REMAINDERS = 8
"""Lengths of a last sub-request that are followed through; others are interpolated."""


def _levels(cv: float) -> tuple[Array, Array]:
    """Levels of the common factor and their weights, denser towards 1; many where no service smooths the steps."""
    n = 4 if cv == 0 else 1
    parts = [np.linspace(a, b, m * n + 1)[1:] for a, b, m in ((0, 0.9, 27), (0.9, 0.99, 9), (0.99, 1, 5))]
    edges = np.concatenate(([0.0], *parts))
    return ndtri((edges[1:] + edges[:-1]) / 2), np.diff(edges)


def _given_factor(cdf: Array, shared: float, levels: Array) -> Array:
    """Distribution functions given each level of the common factor (levels in front): a one-factor Gaussian copula."""
    normal = ndtri(np.clip(cdf, 1e-300, 1 - 1e-15))
    z = levels.reshape(-1, *([1] * np.ndim(cdf)))
    return np.asarray(ndtr((normal - np.sqrt(shared) * z) / np.sqrt(1 - shared)))


def _finished(wait: Wait, t: Array, mean_s: float, cv: float, shared: float) -> Array:
    """P(W + S <= t | common factor), shape (levels, times): the factor moves the wait, the service is independent."""
    levels, _ = _levels(cv)
    if cv == 0:
        waited = _given_factor(wait.at(np.maximum(t - mean_s, 0.0)), shared, levels)
        return np.where(t < mean_s * (1 - 1e-12), 0.0, waited)
    sigma = np.sqrt(np.log1p(cv**2))
    left = t[:, None] - mean_s * np.exp(sigma * _NODES - sigma**2 / 2)
    atom = _given_factor(wait.cdf[0], shared, levels)
    beyond = np.maximum(_given_factor(wait.at(np.maximum(left, 0.0)), shared, levels) - atom[:, None, None], 0.0)
    waited = np.where(left < 0, 0.0, beyond) @ _NODE_WEIGHTS
    return np.asarray(atom[:, None] * lognormal_cdf(t, mean_s, cv) + waited)


def _sum_finished(q: SplitQueries, wait: Wait, t: Array, full: int, last_s: float, shared: float) -> Array:
    """As :func:`_finished`, for ``full`` full sub-requests and one of ``last_s`` (0: none) served in one queue."""
    mean = full * q.full_s + last_s
    cv = q.cv * np.sqrt(full * q.full_s**2 + last_s**2) / mean  # log-normal with the variance of the sum
    return _finished(wait, t, mean, cv, shared)


def _checked(rate: float, q: SplitQueries, servers: int, what: str) -> float:
    """Utilization, after the checks that both ways to deal share."""
    if rate <= 0 or servers < 1:
        raise InputError(f"{what}: rate {rate} per s to {servers} queues; both must be above 0")
    rho = rate * q.work_mean_s / servers
    require_stable(rho, what)
    VALID.check(what, servers=servers, sub_requests=int(q.full.max()) + 1, utilization=rho, service_cv=q.cv)
    return rho


def _grid(q: SplitQueries, decay_s: float, longest_s: float, what: str) -> tuple[float, int]:
    """Step and number of points: fine beside a service or beside the decay, long enough for a tail of 1e-10."""
    step = max(q.sub_request.mean / 24, decay_s / 600)
    step = q.full_s / np.ceil(q.full_s / step)  # a full service ends on a grid point
    size = 1 << int(np.ceil(np.log2((40 * decay_s + 6 * longest_s) / step)))
    if size > _LARGEST_GRID:
        raise OutOfValidityError(
            f"{what}: {size} grid points are needed, at most {_LARGEST_GRID} are used; the services of a query are too "
            "unequal at this utilization"
        )
    return step, size


def _tabulated(cdf: Callable[[Array], Array], wait: Wait, q: SplitQueries, hits: int) -> Distribution:
    """The response on times that follow its own quantiles, with the error that halving them shows."""
    longest = (hits * q.full_s + float(q.last_s.max())) * np.exp(6 * np.sqrt(np.log1p(q.cv**2)))
    end = longest + float(np.searchsorted(wait.cdf, 1 - 1e-7)) * wait.step_s
    shortest = float(np.where(q.full > 0, np.maximum(q.full_s, q.last_s), q.last_s).min())
    coarse = np.concatenate(([0.0], np.geomspace(shortest / 4, end, 90)))
    known = np.maximum.accumulate(np.clip(cdf(coarse), 0.0, 1.0))
    mark = known - 0.25 * np.log10(np.maximum(1 - known, 1e-7)) + np.linspace(0, 1e-6, len(coarse))
    base = np.interp(np.linspace(mark[0], mark[-1], 151), mark, coarse)
    if q.cv == 0:
        steps = np.unique(np.concatenate([n * q.full_s + np.append(q.last_s, 0.0) for n in range(1 + hits)]))
        if len(steps) <= 64:
            base = np.concatenate((base, steps * (1 - 1e-9), steps))
    base = np.unique(base)
    between = (base[1:] + base[:-1]) / 2
    times = np.unique(np.concatenate((base, between[np.diff(base) > 1e-7 * base[1:]])))
    values = np.maximum.accumulate(np.clip(cdf(times), 0.0, 1.0))
    values[0] = 0.0
    halved = np.interp(times, base, values[np.isin(times, base)])
    error = float(np.max(np.abs(halved - values))) / 4 + 1 - float(values[-1])
    return Distribution.on_grid(times, 1 - values, error=error)


@register(
    "private queues, random",
    exact=False,
    returns="distribution of the response of a query",
    valid=VALID,
    reference=("tijms2003first",),
    docs=DOCS,
    special_case="one queue: M^X/G/1; fixed queries of one sub-request: M/G/1 at a k-th of the rate",
)
def random_dispatch(arrival_rate: float, queries: SplitQueries, servers: int) -> Distribution:
    r"""Response of split queries whose sub-requests go each to one of k private FIFO queues at random.

    A queue sees Poisson arrivals of batches: a query leaves it the work B of those of its sub-requests that it drew,
    each with probability 1/k. The work V that an arriving query finds there is Pollaczek and Khinchine's, exactly:

    .. math:: E e^{-sV} = \frac{1 - \rho}{1 - \rho\, E e^{-s B_e}}, \qquad
              E e^{-sB} = E \left( 1 - \tfrac1k + \tfrac1k E e^{-sS} \right)^X

    with :math:`B_e` the equilibrium law of B. Given how many sub-requests each queue drew (multinomial), the query is
    done when the last queue is, :math:`P(R \le t) = E \prod_j P(V_j + S_{1} + \dots + S_{N_j} \le t)`: a coefficient
    of a power of a generating function. The queues hold work of the same queries, so their V are not independent: one
    common Gaussian factor couples them, its correlation a function of :math:`E[B_1 B_2] / E[B_1^2]` fitted to
    simulation.

    Exact for one queue and for queries of one sub-request. Otherwise approximate in the coupling alone; errors against
    simulation are in the documentation.

    Parameters
    ----------
    arrival_rate : float
        Queries per second.
    queries : SplitQueries
        What a query brings.
    servers : int
        Queues k, each with one server.

    Returns
    -------
    Distribution
        Of the response of a query.

    Raises
    ------
    UnstableQueueError, OutOfValidityError, InputError
        When the utilization is not below 1; outside the ranges; when the rate is not above 0.

    References
    ----------
    :cite:t:`tijms2003first` for batch arrivals at one server; the coupling is recqueue's own.

    Examples
    --------
    >>> import numpy as np
    >>> from recqueue.queueing.dispatch import random_dispatch
    >>> from recqueue.queueing.split_queries import SplitQueries
    >>> one = SplitQueries(np.ones(1), np.zeros(1, dtype=int), np.ones(1), 1.0)  # one sub-request of 1 s
    >>> round(random_dispatch(2.0, one, 4).mean, 2)  # four M/D/1 queues at utilization 0.5
    1.5
    """
    q, rate, what = queries, arrival_rate, "private queues, random"
    rho = _checked(rate, q, servers, what)
    k, noise = servers, 1 + q.cv**2
    own = q.full * q.full_s + q.last_s
    squares = q.full * q.full_s**2 + q.last_s**2
    second = float(q.probability @ (own**2 - squares)) / k**2 + noise * float(q.probability @ squares) / k
    cross = float(q.probability @ (own**2 - squares)) / k**2
    draws = int(q.full.max() / k + 9 * np.sqrt(q.full.max() / k) + 10)
    hits = min(draws, int(q.full.max()))
    longest = (hits * q.full_s + float(q.last_s.max())) * np.exp(6 * np.sqrt(np.log1p(q.cv**2)))
    step, size = _grid(q, rate * second / (2 * (1 - rho)) / rho, longest, what)

    sub = np.fft.rfft(on_grid(ServiceMixture(np.ones(1), np.array([q.full_s]), q.cv), step, size), 2 * size)
    transform = np.zeros(size + 1, dtype=complex)
    for full in np.unique(q.full):
        here = q.full == full
        p = float(q.probability[here].sum())
        last = np.fft.rfft(on_grid(ServiceMixture(q.probability[here] / p, q.last_s[here], q.cv), step, size), 2 * size)
        transform += p * (1 - 1 / k + sub / k) ** full * (1 - 1 / k + last / k)
    batch = np.maximum(np.fft.irfft(transform, 2 * size)[:size], 0.0)
    left = np.maximum(1 - np.cumsum(batch), 0.0)
    left /= left.sum()
    residual = np.fft.rfft((left + np.concatenate(([0.0], left[:-1]))) / 2, 2 * size)
    mass = np.maximum(np.fft.irfft((1 - rho) / (1 - rho * residual), 2 * size)[:size], 0.0)
    total = np.cumsum(mass)
    # A mass at point i stands for the cells beside it, so at i half of it has been passed; the atom at 0 is an atom.
    wait = Wait(step, np.minimum(np.concatenate(([1 - rho], (total[1:] + total[:-1]) / 2)), 1.0))

    shared = min(_coupling(cross / second, rho), _SHARED_AT_MOST)
    lengths = _lengths(q)
    weights = _levels(q.cv)[1]

    def cdf(t: Array) -> Array:
        done = [np.ones((len(weights), len(t)))]
        done += [_sum_finished(q, wait, t, n, 0.0, shared) for n in range(1, hits + 1)]
        closed = [[_sum_finished(q, wait, t, n, float(r), shared) for n in range(hits + 1)] for r in lengths]
        plain, ends = np.array(done), np.array(closed)  # (hits + 1, levels, times), with the lengths in front
        out = np.zeros(len(t))
        for full in np.unique(q.full):
            here = q.full == full
            share = _hat(q.last_s[here], lengths).T @ q.probability[here]
            joined = _all_done(plain, np.tensordot(share, ends, 1), int(full), k)
            out += weights @ joined
        return out

    return _tabulated(cdf, wait, q, hits)


def _hat(values: Array, nodes: Array) -> Array:
    """Weights of linear interpolation, shape (values, nodes)."""
    if len(nodes) == 1:
        return np.ones((len(values), 1))
    place = np.interp(values, nodes, np.arange(len(nodes)))
    return np.asarray(np.maximum(1 - np.abs(place[:, None] - np.arange(len(nodes))), 0.0))


def _all_done(done: Array, closed: Array, full: int, k: int) -> Array:
    """P(all queues done) for ``full`` sub-requests thrown at k queues and a last one that is in one of them.

    ``done[n]`` is the probability for a queue with n, ``closed[n]`` for the one that has the last one besides: the
    coefficient of u^full in (sum_n closed_n w_n u^n) (sum_n done_n w_n u^n)^(k-1) with Poisson weights w, by an
    FFT over the circle.
    """
    if full == 0:
        return np.asarray(closed[0])
    mean = full / k
    n = np.arange(min(len(done), full + 1))
    weight = np.exp(n * np.log(mean) - mean - gammaln(n + 1))
    points = int(9 * np.sqrt(full) + 32)
    circle = np.exp(2j * np.pi * np.outer(np.arange(points), n) / points) * weight
    others = np.tensordot(circle, done[: len(n)], 1)
    one = np.tensordot(circle, closed[: len(n)], 1)
    back = np.exp(-2j * np.pi * np.arange(points) * full / points) / points
    found = np.real(np.tensordot(back, one * others ** (k - 1), 1))
    return np.asarray(np.clip(found / np.exp(full * np.log(full) - full - gammaln(full + 1)), 0.0, 1.0))


@register(
    "private queues, in turn",
    exact=False,
    returns="distribution of the response of a query",
    valid=VALID,
    reference=("tijms2003first",),
    docs=DOCS,
    special_case="fixed queries of one sub-request: E_k/G/1; constant service: M^X/D/k",
)
def round_robin_dispatch(arrival_rate: float, queries: SplitQueries, servers: int) -> Distribution:
    r"""Response of split queries whose sub-requests are dealt in turn to k private FIFO queues.

    A queue sees every k-th sub-request. Between a query that visits it and the next that does lie M gaps between
    queries, as many as it takes to deal the d sub-requests until its next turn; a visit brings N sub-requests, more
    than one when the query is larger than k. With B the work of a visit and T the time of M gaps,

    .. math:: W' = (W + B - T)^+

    is the wait of the first of the next visit. (N, d, M) follow from the sizes, jointly; treated as independent from
    visit to visit they make W the maximum of a random walk, found by Wiener-Hopf factorization on a grid. Its times are
    stretched by the variance that the neglected correlation of visits adds in the long run. Of the d turns since the
    last visit i - 1 belong to the query itself when it comes in position i, so each position has its own last step.

    The waits share the arrivals: one common Gaussian factor couples them, as for :func:`random_dispatch`.

    Constant equal services make this queue the same as the central one, and queries of one sub-request make it
    :math:`E_k/G/1`, both exactly (up to the grid). Otherwise approximate; errors against simulation are in the
    documentation.

    Parameters
    ----------
    arrival_rate : float
        Queries per second.
    queries : SplitQueries
        What a query brings; the last sub-request is dealt last.
    servers : int
        Queues k, each with one server.

    Returns
    -------
    Distribution
        Of the response of a query.

    Raises
    ------
    UnstableQueueError, OutOfValidityError, InputError
        When the utilization is not below 1; outside the ranges; when the rate is not above 0.

    References
    ----------
    :cite:t:`tijms2003first` for the random walk of the wait; visits, positions and coupling are recqueue's own.

    Examples
    --------
    >>> import numpy as np
    >>> from recqueue.queueing.dispatch import random_dispatch, round_robin_dispatch
    >>> from recqueue.queueing.split_queries import SplitQueries
    >>> split = SplitQueries(np.ones(1), np.array([3]), np.ones(1), 1.0)  # four sub-requests of 1 s
    >>> at_random, in_turn = (f(0.8, split, 4).quantile(0.95) for f in (random_dispatch, round_robin_dispatch))
    >>> bool(in_turn < at_random)
    True
    """
    q, rate, what = queries, arrival_rate, "private queues, in turn"
    rho = _checked(rate, q, servers, what)
    if servers == 1:
        return random_dispatch(rate, queries, servers)  # one queue, however it is dealt, and exact there
    k = servers
    common = np.gcd.reduce(np.append(q.full + 1, k))
    if common > 1 and np.ptp(np.append(q.last_s, q.full_s)) > 1e-9 * q.full_s:
        raise OutOfValidityError(
            f"{what}: every query has a multiple of {common} sub-requests and there are {k} queues, so last "
            f"sub-requests fall on {k // common} of them only and loads are unequal; change the number of queues"
        )
    visits = Visits(q, k)
    sub = q.sub_request
    # Long-run variances per second of the work of one queue and of all, hence the covariance of two queues.
    variance = visits.work_variance(rate)
    between = (rate * q.work_second_moment - k * variance) / (k * (k - 1))
    together = min(max(between / variance, 0.0), 1.0)
    shared = min(_coupling(together, rho), _SHARED_AT_MOST)
    hits = visits.most
    longest = (hits * q.full_s + float(q.last_s.max())) * np.exp(6 * np.sqrt(np.log1p(q.cv**2)))
    decay = variance / (2 * (1 - rho)) + sub.mean / 4
    step, size = _grid(q, decay, longest, what)
    waits = Walk.of(visits, rate, step, size).waits(variance)
    to_position = _hat(np.arange(1.0, visits.reach + 1), visits.positions.astype(float))
    up_to = np.vstack((np.zeros((1, len(waits))), np.cumsum(to_position, axis=0)))
    lengths = _lengths(q)
    weights = _levels(q.cv)[1]

    def cdf(t: Array) -> Array:
        def log_done(n: int, last_s: float) -> Array:
            done = [_sum_finished(q, w, t, n, last_s, shared) for w in waits]
            return np.asarray(np.log(np.maximum(done, 1e-300)))

        plain = [np.zeros((len(waits), len(weights), len(t)))] + [log_done(n, 0.0) for n in range(1, hits + 1)]
        closed: dict[tuple[int, int], Array] = {}
        out = np.zeros(len(t))
        for p, full, r in zip(q.probability, q.full, _hat(q.last_s, lengths), strict=True):
            rounds, place = divmod(int(full), k)  # the last one is in position place + 1, after ``rounds`` of its own
            last = np.zeros((len(weights), len(t)))
            for j in (int(i) for i in np.flatnonzero(r)):
                if (rounds, j) not in closed:
                    closed[rounds, j] = log_done(rounds, float(lengths[j]))
                last += r[j] * np.exp(np.tensordot(to_position[place], closed[rounds, j], 1))
            before = np.tensordot(up_to[place], plain[min(rounds + 1, hits)], 1)
            if rounds:
                before += np.tensordot(up_to[-1] - up_to[place + 1], plain[rounds], 1)
            out += p * (weights @ (last * np.exp(before)))
        return out

    return _tabulated(cdf, waits[-1], q, hits)


def _coupling(together: float, utilization: float) -> float:
    """Correlation of the common factor of two waits whose inputs have correlation ``together``.

    Near saturation 0.7 r + 0.3 r^4, read off simulated pairs of queues (normal scores, within 0.03); r when idle.
    """
    saturated = 0.7 * together + 0.3 * together**4
    return (1 - utilization) * together + utilization * saturated


def _lengths(q: SplitQueries) -> Array:
    """Last services that are followed through: all if there are few, else spread over their range."""
    lengths = np.unique(q.last_s)
    return lengths if len(lengths) <= _REMAINDERS else np.linspace(lengths[0], lengths[-1], _REMAINDERS)
