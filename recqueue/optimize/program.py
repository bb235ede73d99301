r"""The geometric program of one offload threshold: what :mod:`recqueue.optimize.relaxation` solves.

Classes j of query sizes :math:`n_j` with probability :math:`p_j`; near ones are cut into :math:`X_j = n_j / b_j` pieces
of :math:`b_j` items, far ones go whole to the accelerators. Variables, all positive: the rate :math:`\lambda`, piece
sizes :math:`b_j`, for each pool its utilization :math:`\rho`, idle share h and time scale :math:`\tau` of the wait, for
each class the depth :math:`x_j` in the tail at which the bound lies and its late share :math:`l_j`. On k cores of speed
v and bandwidth u, with S a posynomial (:mod:`recqueue.optimize.posynomial`),

.. math::

   \lambda \sum_j p_j w_j f_k / k \le \rho, \quad \rho + h \le 1, \quad \rho \le 0.98, \quad w_j = X_j S(b_j; v, u)

   \lambda f_k^2 \sum_j p_j w_j^2 (1 + c^2 / X_j) / (2 k^2 \rho h) \le \tau

   S_j f X_j^g + \tfrac12 \rho (X_j - 1) S_j f_k / k + \sqrt{(x_j \tau)^2 + z(x_j)^2 (c f S_j)^2 X_j^{-1/2}} \le L

   \rho^\beta e^{-x_j} \le l_j, \quad \sum_j p_j l_j \le 1 - p, \qquad \beta = \sqrt{2 (\kappa + 1)} - 1

The second line is the wait of one server k times as fast in heavy traffic, the third the wait for all pieces to start
(half of a query's own are still ahead of its last) and their slowest noise, the fourth the exponential tail with the
probability of waiting of M/M/\ :math:`\kappa` after Sakasegawa (1977), :math:`\kappa = k E X / E X^2`. The accelerators
have the same lines with whole queries; wake-ups and a host that slows the accelerators add terms of the same form.

:math:`e^{-x}` and :math:`X - 1` are log-log *concave*. Each is replaced by the monomial that touches it at the last
solution and lies above it elsewhere, so that a solution of the program keeps the promise of the model; so is the
slow-down f among busy cores, which may bend either way. Solved again until nothing moves, its multipliers are those of
the model, but for :math:`\kappa`, which stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recqueue.optimize.gp import GeometricProgram, Monomial, Optimum
from recqueue.optimize.posynomial import ServiceFit
from recqueue.profiles import NO_CONTENTION, Contention

RESOURCES = ("sla", "cores", "cpu_speed", "bandwidth", "accelerator_speed", "accelerators", "late_share")
"""What has a price. Speeds and the bandwidth are multiples of what the machine has."""
_Array = NDArray[np.float64]
_ROUNDS = 12
_HOPELESS = (0.8, 0.97)
_STILL = 2e-5
_ONE_PIECE = 1.02
_SLOWEST_OF_4 = 1.03
"""Mean of the largest of four standard normal numbers, from which the growth of noise with pieces is taken."""
_NOISE_AT_3, _NOISE_POWER = 2.7, 1.7
r"""Square of the normal quantile with tail :math:`e^{-x}`: :math:`2.7 (x / 3)^{1.7}`, z within 6 % for 2 <= x <= 5."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """One pool of servers and the classes of queries that go to it.

    Attributes
    ----------
    items, probability : numpy.ndarray
        Of each class.
    servers : int
        Cores, or accelerators.
    cv : float
        Of a service about its mean.
    """

    items: _Array
    probability: _Array
    servers: int
    cv: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """Numbers of one geometric program.

    Attributes
    ----------
    near : Pool or None
        The cores; None where everything is offloaded.
    far : Pool or None
        The accelerators; None where nothing is.
    service : ServiceFit
        Of a core.
    far_service_s : numpy.ndarray
        Of each far class.
    latency_s, late_share : float
        The bound, and the share of queries that may miss it.
    given_up : bool
        The largest near class is late, always.
    saturation : float
        Largest utilization.
    contention : Contention
        Slow-down of a core among busy ones.
    gap_scv : float
        Squared coefficient of variation of the gaps of arrivals.
    wakeup_s : tuple of float
        Seconds to wake an idle core, an idle accelerator.
    host_slowdown : float
        Share by which busy cores slow the accelerators.
    """

    near: Pool | None
    far: Pool | None
    service: ServiceFit
    far_service_s: _Array
    latency_s: float
    late_share: float
    given_up: bool
    saturation: float
    contention: Contention = NO_CONTENTION
    gap_scv: float = 1.0
    wakeup_s: tuple[float, float] = (0.0, 0.0)
    host_slowdown: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Touch:
    """Where the monomials touch the functions that they stand for.

    Attributes
    ----------
    near_depth, far_depth : numpy.ndarray
        x of each class.
    pieces : numpy.ndarray
        Pieces of each near class.
    busy : float
        Cores busy.
    gaps : tuple of float
        Factor on the waits of either pool for arrivals that are not Poisson.
    """

    near_depth: _Array
    far_depth: _Array
    pieces: _Array
    busy: float
    gaps: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """Optimum of the model.

    Attributes
    ----------
    qps : float
        0 when no rate keeps the promise.
    piece_items : numpy.ndarray
        Of each near class.
    utilization : tuple of float
        Of the cores and of the accelerators.
    elasticity : mapping
        Resource -> per cent more rate for one per cent more of it.
    rounds : int
        Programs solved.
    """

    qps: float
    piece_items: _Array
    utilization: tuple[float, float]
    elasticity: Mapping[str, float]
    rounds: int


def program(question: Question, touch: Touch) -> GeometricProgram:
    """The program whose monomials touch at ``touch``; its objective is ``rate``."""
    gp = GeometricProgram()
    near, far = question.near, question.far
    most = {"sla": question.latency_s, "late_share": question.late_share, "cpu_speed": 1.0, "bandwidth": 1.0,
            "accelerator_speed": 1.0, "cores": near.servers if near else 1.0,
            "accelerators": far.servers if far else 1.0}  # fmt: skip
    for name in RESOURCES:
        gp.at_most_one([(1 / most[name], {name: 1})], name)
    late: list[Monomial] = []
    if near is not None:
        late += _cores(gp, question, near, touch)
    if far is not None:
        late += _accelerators(gp, question, far, touch)
    gp.at_most_one(late)
    return gp


def _cores(gp: GeometricProgram, q: Question, near: Pool, touch: Touch) -> list[Monomial]:
    """Constraints of the near classes; their part of the late share."""
    k, classes = near.servers, range(len(near.items))
    pieces = touch.pieces
    spent = near.probability * near.items
    contention = q.contention.of_batch(float(spent @ (near.items / pieces)) / float(spent.sum()))
    slow, slow_power = _among(contention, k, k)  # of all cores
    factor, power = _among(contention, touch.busy, k)
    kappa = max(k * float(near.probability @ pieces) / float(near.probability @ pieces**2), 1.0)
    grows = np.log1p(near.cv * _SLOWEST_OF_4) / np.log(4.0)
    work: list[tuple[Mapping[str, float], float, float]] = []
    for j in classes:
        b, s, n = f"b{j}", f"s{j}", float(near.items[j])
        gp.at_most_one([(1 / n, {b: 1})])
        gp.at_most_one(
            [(c, {b: a, s: -1, "cpu_speed": -1}) for c, a in q.service.clock.terms]
            + [(c, {b: a, s: -1, "bandwidth": -1}) for c, a in q.service.memory.terms]
        )
        work.append(({s: 1, b: -1}, n, 1 / n))
        if q.given_up and j == classes[-1]:
            continue
        alone = (factor * n**grows, {s: 1, b: -grows, "rho": power, "cores": power})
        parts: list[Monomial] = [alone, (n * q.wakeup_s[0], {"idle": 1, b: -1})]
        if pieces[j] > _ONE_PIECE:  # X - 1 <= (x - 1) (X / x) ** (x / (x - 1)), where x pieces are the last solution
            more = min(pieces[j] / (pieces[j] - 1), 4.0)
            ahead = (pieces[j] - 1) * pieces[j] ** -more * n**more
            parts.append((0.5 * slow * ahead, {s: 1, b: -more, "rho": 1, "cores": slow_power - 1}))
        noise = (near.cv * factor * n**-0.25, {s: 1, b: 0.25, "rho": power, "cores": power})
        _deadline(gp, f"{j}", parts, noise, "rho", np.sqrt(2 * (kappa + 1)) - 1, float(touch.near_depth[j]))
    load: list[Monomial] = [(p * n * slow, {**w, "rate": 1, "cores": slow_power - 1}) for (w, n, _), p in
            zip(work, near.probability.tolist(), strict=True)]  # fmt: skip
    if q.wakeup_s[0]:
        woken = [(p * n * q.wakeup_s[0], {w_: v for w_, v in w.items() if w_[0] == "b"}) for (w, n, _), p in
                 zip(work, near.probability.tolist(), strict=True)]  # fmt: skip
        load += [(c, {**w, "rate": 1, "cores": -1, "idle": 1}) for c, w in woken]
    square = [
        term
        for (w, n, items), p in zip(work, near.probability.tolist(), strict=True)
        for term in _squares(p * (n * slow) ** 2, w, near.cv, items)
    ]
    wait = {"rate": 1.0, "cores": 2 * slow_power - 2, "rho": -1.0, "idle": -1.0, "scale": -1.0}
    _pool(gp, "", load, [(touch.gaps[0] * c / 2, {**w, **wait}) for c, w in square], q.saturation)
    gone: list[Monomial] = [(float(near.probability[-1]), {"late_share": -1.0})] if q.given_up else []
    kept = classes[:-1] if q.given_up else classes
    return gone + [(float(near.probability[j]), {f"l{j}": 1, "late_share": -1}) for j in kept]


def _squares(factor: float, work: Mapping[str, float], cv: float, per_item: float) -> list[Monomial]:
    """Second moment of the work of a class: its square, and the noise of its pieces."""
    twice = {name: 2 * power for name, power in work.items()}
    piece = next(name for name in work if name.startswith("b"))
    noisy = {**twice, piece: twice[piece] + 1}
    return [(factor, twice), (factor * cv**2 * per_item, noisy)]


def _accelerators(gp: GeometricProgram, q: Question, far: Pool, touch: Touch) -> list[Monomial]:
    """Constraints of the far classes; their part of the late share."""
    probability, seconds = far.probability.tolist(), q.far_service_s.tolist()
    slowed: list[Monomial] = [(1.0, {"far_slow": -1, "accelerator_speed": -1})]
    if q.near is not None and q.host_slowdown:
        slowed.append((q.host_slowdown, {"rho": 1, "far_slow": -1, "accelerator_speed": -1}))
    gp.at_most_one(slowed)  # far_slow: launches beside busy cores over launches beside idle ones
    mean = sum(p * s for p, s in zip(probability, seconds, strict=True))
    square = sum(p * s**2 for p, s in zip(probability, seconds, strict=True)) * (1 + far.cv**2)
    load: list[Monomial] = [(mean, {"rate": 1.0, "accelerators": -1.0, "far_slow": 1.0})]
    if q.wakeup_s[1]:
        load.append((q.wakeup_s[1] * sum(probability), {"rate": 1.0, "accelerators": -1.0, "far_idle": 1.0}))
    wait = {"rate": 1, "accelerators": -2, "far_slow": 2, "far_rho": -1, "far_idle": -1, "far_scale": -1}
    _pool(gp, "far_", load, [(touch.gaps[1] * square / 2, wait)], q.saturation)
    waits = np.sqrt(2 * (far.servers + 1)) - 1
    for j, s in enumerate(seconds):
        parts: list[Monomial] = [(s, {"far_slow": 1}), (q.wakeup_s[1], {"far_idle": 1})]
        noise = (far.cv * s, {"far_slow": 1})
        _deadline(gp, f"f{j}", parts, noise, "far_rho", waits, float(touch.far_depth[j]), scale="far_scale")
    return [(p, {f"lf{j}": 1, "late_share": -1}) for j, p in enumerate(probability)]


def _pool(gp: GeometricProgram, name: str, load: list[Monomial], wait: list[Monomial], saturation: float) -> None:
    """Load, idle share and scale of the wait."""
    rho = f"{name}rho"
    gp.at_most_one([(c, {**powers, rho: -1}) for c, powers in load])
    gp.at_most_one([(1 / saturation, {rho: 1})])
    gp.at_most_one([(1.0, {rho: 1}), (1.0, {f"{name}idle": 1})])
    gp.at_most_one(wait)


def _deadline(
    gp: GeometricProgram,
    name: str,
    fixed: list[Monomial],
    noise: Monomial,
    rho: str,
    waits: float,
    depth: float,
    *,
    scale: str = "scale",
) -> None:
    """A class is in time at its depth, and late with the tail beyond it."""
    x, late, wait = f"x{name}", f"l{name}", f"y{name}"
    noisy = _NOISE_AT_3 * 3**-_NOISE_POWER * noise[0] ** 2
    powers = {key: 2 * power for key, power in noise[1].items()}
    gp.at_most_one([(1.0, {x: 2, scale: 2, wait: -2}), (noisy, {**powers, x: _NOISE_POWER, wait: -2})])
    gp.at_most_one([*((c, {**p, "sla": -1}) for c, p in fixed), (1.0, {wait: 1, "sla": -1})])
    gp.at_most_one([(float(np.exp(depth * np.log(depth) - depth)), {x: -depth, rho: float(waits), late: -1})])


def _among(contention: Contention, busy: float, cores: int) -> tuple[float, float]:
    """Monomial (factor, power) in the number of busy cores that touches their slow-down, up to one core more."""
    low, high = max(min(busy * 0.9, busy - 1), 1.0), min(max(busy * 1.1, busy + 1), cores + 1.0)
    ends = np.log(contention.factor_at(np.array([low, busy, high])))
    power = float((ends[2] - ends[0]) / np.log(high / low)) if high > low else 0.0
    return float(np.exp(ends[1])) * busy**-power, power


def start(question: Question) -> Touch:
    """Where the first program touches: every class as late as the promise allows, most cores busy, few pieces."""
    near, far, x = question.near, question.far, float(np.log(1 / question.late_share))
    return Touch(
        near_depth=np.full(len(near.items) if near else 0, x),
        far_depth=np.full(len(far.items) if far else 0, x),
        pieces=np.maximum(near.items / near.items[-1] * 2, 1.0) if near else np.empty(0),
        busy=max(0.8 * near.servers, 1.0) if near else 1.0,
    )


def solve(question: Question, *, worth: float = 0.0) -> Solution:
    """Solve programs, each touching at the solution of the last, until the rate moves by less than 2e-5.

    Parameters
    ----------
    question : Question
        What is asked.
    worth : float
        A rate that another question has already; this one is given up when it falls short of it by more than 20 % at
        first or 3 % later, which is more than moving the monomials brings.
    """
    touch, found, rounds = start(question), 0.0, 0
    optimum: Optimum | None = None
    while rounds < _ROUNDS:
        rounds += 1
        new = program(question, touch).maximize("rate")
        if new is None:
            break
        optimum, before, found = new, found, new.values["rate"]
        if before and abs(found / before - 1) < _STILL:
            break
        if found < worth * (_HOPELESS[0] if rounds == 1 else _HOPELESS[1]):
            break
        touch = _moved(question, touch, new.values)
    if optimum is None:
        return Solution(qps=0.0, piece_items=np.empty(0), utilization=(0.0, 0.0), elasticity={}, rounds=rounds)
    values, near = optimum.values, question.near
    return Solution(
        qps=found,
        piece_items=np.array([values[f"b{j}"] for j in range(len(near.items))]) if near else np.empty(0),
        utilization=(values.get("rho", 0.0), values.get("far_rho", 0.0)),
        elasticity=optimum.elasticity,
        rounds=rounds,
    )


def _moved(q: Question, touch: Touch, values: Mapping[str, float]) -> Touch:
    """The next touch."""

    def depths(name: str, number: int) -> _Array:
        return np.clip([values.get(f"x{name}{j}", 1.0) for j in range(number)], 0.05, 60.0)

    near, far = q.near, q.far
    gaps = [1.0, 1.0]
    if near is not None:
        pieces = np.array([near.items[j] / values[f"b{j}"] for j in range(len(near.items))])
        work = pieces * np.array([values[f"s{j}"] for j in range(len(near.items))])
        gaps[0] = _gaps(q.gap_scv, near.probability, work)
        touch = replace(touch, pieces=np.maximum(pieces, 1.0), busy=max(values["rho"] * near.servers, 1.0))
    if far is not None:
        gaps[1] = _gaps(q.gap_scv, far.probability, q.far_service_s)
    return replace(
        touch,
        near_depth=depths("", len(near.items) if near else 0),
        far_depth=depths("f", len(far.items) if far else 0),
        gaps=(gaps[0], gaps[1]),
    )


def _gaps(gap_scv: float, probability: _Array, work: _Array) -> float:
    """Variance of the work per gap over that of Poisson arrivals; a share of a stream picked at random moves to it."""
    share = float(probability.sum())
    scv = 1 + share * (gap_scv - 1)
    return max(1 + (scv - 1) * float(probability @ work) ** 2 / (share * float(probability @ work**2)), 0.05)
