r"""Service times as posynomials, :math:`S(b) \approx \sum_j c_j b^{a_j}` with :math:`c_j > 0`.

A geometric program needs posynomials. They come from the operators where these were timed one by one: each takes

.. math:: t_r(b) \approx o_r + \theta_r \, \text{cost}_r(b)

with cost its FLOPs or its bytes, which ``recqueue.models.costs`` knows as expressions in b, and the sum over the
operators is scaled to the time as served. That also says which part of the time is memory traffic, so what more
bandwidth would bring. Without such operators general powers of b are fitted, and nothing is known of bandwidth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from recqueue import profiles
from recqueue.errors import InputError
from recqueue.profiles import LatencyCurve
from recqueue.serving import System

GENERAL_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Powers of b that are fitted where no operator is known."""
LOW_INTENSITY = 2.0
"""FLOPs per byte below which an operator counts as memory traffic; a core with wide vector units could do ten times as
many for each byte that memory brings it."""
_REFERENCE_ITEMS = 256
_GROWTH = (-0.25, 0.0, 0.25)
"""Powers of b by which a model as served may grow slower or faster (caches overflow) than its operators in a loop."""
_POINTS = 40


@dataclass(frozen=True)
class Posynomial:
    """Sum of ``coefficient * b ** power``, coefficients above 0.

    Attributes
    ----------
    terms : tuple of (float, float)
        Pairs of coefficient and power.

    Raises
    ------
    InputError
        When a coefficient is not finite and above 0.
    """

    terms: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not all(np.isfinite(c) and c > 0 for c, _ in self.terms):
            raise InputError(f"posynomial: terms {list(self.terms)}; each coefficient must be finite and above 0")

    def __call__(self, b: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Value at each of ``b`` (above 0), in the same shape; 0 without terms."""
        b = np.asarray(b, dtype=float)
        return np.asarray(sum((c * b**a for c, a in self.terms), np.zeros(b.shape)))

    def times_power(self, power: float) -> Posynomial:
        """The same times ``b ** power``."""
        return Posynomial(tuple((c, a + power) for c, a in self.terms))


@dataclass(frozen=True, kw_only=True)
class ServiceFit:
    """Service time of a batch as two posynomials in its items.

    Attributes
    ----------
    clock, memory : Posynomial
        Seconds that shrink with the speed of the device, and those that shrink with its memory bandwidth.
    largest_error, median_error : float
        Relative errors at the whole numbers of items up to the largest of the fit.
    by_operator : bool
        Whether the costs of operators tell the two parts apart; otherwise ``memory`` has no terms.
    """

    clock: Posynomial
    memory: Posynomial
    largest_error: float
    median_error: float
    by_operator: bool

    def __call__(self, b: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Seconds of a batch of ``b`` items."""
        return self.clock(b) + self.memory(b)

    def memory_share(self, b: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Share of the time of a batch that is memory traffic."""
        return np.asarray(self.memory(b) / self(b))


def fit(
    b: NDArray[np.float64], seconds: NDArray[np.float64], columns: Sequence[Posynomial]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of 0 or more with which ``columns`` add up to ``seconds`` at best, and the relative errors left."""
    matrix = np.stack([column(b) for column in columns], axis=1) / seconds[:, None]
    scale = matrix.max(axis=0)
    weights = nnls(matrix / scale, np.ones(len(b)))[0] / scale
    return weights, matrix @ weights - 1


def service_fit(system: System, model: str, largest: int) -> ServiceFit:
    """Posynomials of the time that a sub-request occupies a core of ``system``, for 1 to ``largest`` items.

    Parameters
    ----------
    system : System
        Its ``service`` and ``dispatch_overhead_s``.
    model : str
        Name of the model; operators are used when the service is that of its packaged profile.
    largest : int
        Most items of a sub-request.
    """
    shares = _operator_parts(model, system.name) if _is_packaged(system, model) else None
    if shares is None:
        return _general(system, largest)
    # What serving adds: a start, and growth below the operators' or above it; the latter in their own proportions.
    added = [Posynomial(((1.0, 0.0),)), Posynomial(((1.0, 0.5),))]
    together = Posynomial(shares[0].terms + shares[1].terms)
    b, seconds = _table(system.service, largest)
    weights, _ = fit(b, seconds, [*added, *(together.times_power(a) for a in _GROWTH)])
    clock, memory = ([(w * c, a + g) for w, g in zip(weights[2:].tolist(), _GROWTH, strict=True) for c, a in part.terms]
                     for part in shares)  # fmt: skip
    clock += [(float(weights[0]) + system.dispatch_overhead_s, 0.0), (float(weights[1]), 0.5)]
    return _checked(_merged(clock), _merged(memory), system, largest, by_operator=True)


def _merged(terms: Sequence[tuple[float, float]]) -> Posynomial:
    """Terms of equal power added up, those of no weight left out."""
    powers = sorted({a for _, a in terms})
    sums = [(sum(c for c, a in terms if a == power), power) for power in powers]
    return Posynomial(tuple((float(c), a) for c, a in sums if c > 0))


def _general(system: System, largest: int) -> ServiceFit:
    b, seconds = _table(system.service, largest)
    weights, _ = fit(b, seconds, [Posynomial(((1.0, a),)) for a in GENERAL_POWERS])
    clock = _merged([(system.dispatch_overhead_s, 0.0), *zip(weights.tolist(), GENERAL_POWERS, strict=True)])
    return _checked(clock, Posynomial(()), system, largest, by_operator=False)


def _checked(clock: Posynomial, memory: Posynomial, system: System, largest: int, *, by_operator: bool) -> ServiceFit:
    """With the errors against the table."""
    n = np.arange(1, largest + 1)
    b = n.astype(float)
    error = np.abs((clock(b) + memory(b)) / (system.service.seconds_at(n) + system.dispatch_overhead_s) - 1)
    return ServiceFit(
        clock=clock,
        memory=memory,
        largest_error=float(error.max()),
        median_error=float(np.median(error)),
        by_operator=by_operator,
    )


def _table(curve: LatencyCurve, largest: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points evenly spaced on a logarithmic scale, half of them in the upper half where the work is."""
    points = np.concatenate((np.geomspace(1, largest, _POINTS), np.linspace(max(largest / 8, 1), largest, _POINTS)))
    n = np.unique(np.round(points).astype(np.int64))
    return n.astype(float), curve.seconds_at(n)


def _is_packaged(system: System, model: str) -> bool:
    known = {(m, h) for m, h, _ in profiles.available()}
    return (model, system.name) in known and profiles.load(model, system.name).service == system.service


@cache
def _operator_parts(model: str, device: str) -> tuple[Posynomial, Posynomial] | None:
    """What grows with b in the time of all operators: computing, and moving; None where not known."""
    from recqueue import models  # loads sympy

    operators = profiles.load(model, device).operators
    if model not in models.names() or not operators:
        return None
    graph = models.get(model).operators
    clock: list[tuple[float, float]] = []
    memory: list[tuple[float, float]] = []
    for measured in operators:
        cost, moves = _cost(tuple(op for op in graph if op.role == measured.name))
        b = np.asarray(measured.curve.items, dtype=float)
        columns = [Posynomial(((1.0, 0.0),)), *([cost] if cost.terms else [])]
        weights, _ = fit(b, np.asarray(measured.curve.seconds), columns)
        clock.append((float(weights[0]), 0.0))
        if cost.terms:
            (memory if moves else clock).extend((float(weights[1]) * c, a) for c, a in cost.terms)
    grows = [Posynomial(tuple(t for t in _merged(part).terms if t[1] > 0)) for part in (clock, memory)]
    return grows[0], grows[1]


def _cost(operators: tuple[object, ...]) -> tuple[Posynomial, bool]:
    """FLOPs or bytes of some operators as a posynomial in b, and whether it is the bytes that count."""
    import sympy as sp

    from recqueue.models.costs import b, total_cost

    total = total_cost(operators)  # type: ignore[arg-type]
    traffic = total.bytes_read + total.bytes_written
    flops, size = (float(e.subs(b, _REFERENCE_ITEMS)) for e in (total.flops, traffic))
    moves = flops < LOW_INTENSITY * size
    found = sp.Poly(traffic if moves else total.flops, b).terms()
    return Posynomial(tuple((float(c), float(a)) for (a,), c in found if c > 0)), moves
