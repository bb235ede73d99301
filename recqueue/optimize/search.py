"""Best policy over all integer policies, by branch and bound on the formulas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis.in_time import far_without_wait, near_without_wait
from recqueue.analysis.pools import Costs
from recqueue.optimize.aims import Aim, LeastLatency, MostPerWatt, aim_of
from recqueue.optimize.certificate import Certificate, Check
from recqueue.optimize.climb import climb
from recqueue.optimize.lateness import Lateness
from recqueue.optimize.lattice import Lattice, Place, lattice
from recqueue.optimize.problem import Objective, Problem
from recqueue.serving import Policy, Scenario

__all__ = ["GAIN", "TESTS", "Found", "Lattice", "lattice", "search"]

GAIN = 2e-4
"""A policy counts as better when its score is higher by this share: twice the tolerance of a rate."""
TESTS = 400
"""Evaluations after the climb at which the search stops where it is not asked to be exact: about a second."""
_SLACK = 1e-6
"""Share of queries by which a bound must fail: the distribution functions are rounded to about 1e-7."""
_FUSED_COLUMNS = 8
"""Thresholds at which each fusion limit is evaluated beforehand."""
_WIDEST = 64
"""Most batch sizes that are refuted together."""
_CHECKS = 8
"""Policies for which each of two claims is checked in the end."""
_SAFETY = 1.1
"""A test is tried where the lateness expected is this many times what would be enough."""
CLAIMS = {
    "offload": "a higher threshold leaves fewer late queries on the accelerators",
    "less work": "fewer queries or shorter services leave fewer late queries on the cores",
    "rate": "a policy that breaks the promise at one rate breaks it at a higher one",
}

Array = NDArray[np.float64]
Columns = NDArray[np.int64]
Rows = tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Outcome of the search: the best policy and what is known of the others.

    Attributes
    ----------
    policy : Policy or None
        None when none keeps the promise.
    score : float
        Its largest rate, or whatever was sought (more is better); 0 when there is none.
    qps : float
        The rate at which it is that good.
    evaluations : int
        Evaluations of the formulas.
    certificate : Certificate
        What is known of the others.
    """

    policy: Policy | None
    score: float
    qps: float
    evaluations: int
    certificate: Certificate

    @property
    def lattice(self) -> int:
        """Integer policies in all."""
        return self.certificate.lattice

    @property
    def excluded(self) -> int:
        """Policies that a bound excludes or that are the same as another."""
        return self.certificate.identical + sum(self.certificate.excluded.values())

    @property
    def upper_bound_qps(self) -> float:
        """No policy at all could be recommended above this rate."""
        return self.certificate.high


def search(
    scenario: Scenario,
    costs: Costs,
    *,
    exact: bool = False,
    tests: int = TESTS,
    objective: Objective = "qps",
    qps: float | None = None,
) -> Found:
    r"""Best policy of the lattice by formula, and a proof.

    A climb (``recqueue.optimize.climb``) gives a first rate :math:`\lambda^*`. Every policy that differs and could
    be recommended above it is then refuted at :math:`\lambda = (1 + 2 \cdot 10^{-4}) \lambda^*`, or found to be
    better, when :math:`\lambda^*` rises. With :math:`\ell_n` and :math:`\ell_f` the shares of all queries that are
    late on the cores and on the accelerators, (B, T, F) is refuted by :math:`\ell_n(B, T) + \ell_f(T, F) > 1 - p`.
    Bounds from below spare most of the evaluations:

    - without any wait, from the services alone (``recqueue.analysis.in_time.near_without_wait``);
    - :math:`\ell_f(T, F)` is the same for all B;
    - :math:`\ell_n` of less work: with a lower threshold, and for neighbouring batch sizes at once with no more
      sub-requests than the largest gives and none longer than with the smallest.

    The last one, and that a policy that breaks the promise at one rate does so at every higher one, hold for queues but
    are not proved for the formulas; they are checked where the search comes by, and the certificate says with what
    result.

    Parameters
    ----------
    scenario : Scenario
        Its own policy and rate are not used.
    costs : Costs
        Its service times.
    exact : bool
        Go on until nothing is left open, however long it takes.
    tests : int
        Otherwise stop after as many evaluations (after the climb); one of a fused launch counts fifty.
    objective, qps
        What is sought, as in :class:`recqueue.optimize.problem.Problem`; scores are queries per second (for headroom
        too), queries per joule, or one over the seconds of the latency.

    Returns
    -------
    Found
    """
    grid = lattice(scenario, costs)
    aim = aim_of(Problem(scenario=scenario, objective=objective, qps=qps), costs, grid)
    return _Search(scenario, costs, grid, aim, np.inf if exact else tests).run()


class _Search:
    """The state of one search: the best so far, what is known of lateness, and what was checked."""

    def __init__(self, scenario: Scenario, costs: Costs, grid: Lattice, aim: Aim, tests: float) -> None:
        self.grid, self.aim = grid, aim
        self.late = Lateness(scenario, costs, grid, np.inf, every_rate=not isinstance(aim, LeastLatency))
        self.tests = tests
        self.open: NDArray[np.bool_] = np.zeros(grid.cpu_qps.shape, dtype=bool)
        self.by_service, self.kept = (
            self.open.copy(),
            self.open.copy(),
        )  # kept: within the SLA and all the same no better
        self.allowed = 1 - self.late.goal + _SLACK
        self.best: Place | None = None
        self.score, self.qps = 0.0, 0.0
        self.tested = np.zeros(grid.cpu_qps.shape, dtype=bool)
        # At least so many queries are late on the cores and on the accelerators, at the rate asked for or a lower one.
        self.near_late, self.far_late = np.zeros(grid.cpu_qps.shape), np.zeros(grid.accelerator_qps.shape)
        self.checks = {name: [0, 0] for name in CLAIMS}
        self.seen: dict[int, tuple[Columns, Array]] = {}  # lateness on the cores, by last row

    @property
    def better(self) -> float:
        """Score from which on a policy is better than the best."""
        return self.score * (1 + GAIN)

    def try_policy(self, place: Place) -> bool:
        """Take a policy that is better than the best so far."""
        if self.aim.bounds[place[:2]] <= self.better or not self.grid.allowed[place[1]]:
            return False
        known = 0.0
        if self.best is not None:
            known, latency_s = self.aim.asked(self.only(place), self.better)
            if self.grid.bound_of(place) <= known or not self.late.keeps(place, known, latency_s):
                return False
        return self.take(place, known)

    def take(self, place: Place, known_qps: float = 0.0) -> bool:
        """Make a policy the best if its score is higher."""
        score = self.aim.score(place, known_qps)
        if score.value <= self.score:
            return False
        self.best, (self.score, self.qps) = place, score
        return True

    def only(self, place: tuple[int, ...]) -> NDArray[np.bool_]:
        """One row and column."""
        which = np.zeros(self.open.shape, dtype=bool)
        which[place[:2]] = True
        return which

    def run(self) -> Found:
        """Climb, exclude what the bounds exclude, refute the rest in blocks of batch sizes, best bound first."""
        climb(self.grid, self.aim.order, self.try_policy)
        self.late.left = self.tests if self.best is not None else np.inf  # that there is none must be proved
        self.open = (self.grid.distinct > 0) & self.grid.allowed & (self.aim.bounds > self.better)
        self.service()
        self.far_ahead()
        width, order = 8, np.where(self.open, self.aim.order, 0.0).max(axis=1)
        while self.late.left > 0:
            i = int(order.argmax())
            if order[i] <= 0:
                break
            rows = self.block(i, width, order)
            margin = self.refute(rows)
            if margin >= 1:
                self.open[rows[0] : rows[1] + 1] = False
                order[rows[0] : rows[1] + 1] = 0.0
                wider = margin > 1 + 0.2 * _SAFETY ** np.log2(width)
                width = min(2 * width, _WIDEST) if wider else width
            else:
                width = max(width // 2, 1)
        return self.found()

    def block(self, i: int, width: int, order: Array) -> Rows:
        """At most ``width`` neighbours of row i that are open too."""
        first, last = i - i % width, min(i - i % width + width, len(order)) - 1
        closed = np.flatnonzero(order[first : last + 1] <= 0) + first
        return (
            int(closed[closed < i].max(initial=first - 1)) + 1,
            int(closed[closed > i].min(initial=last + 1)) - 1,
        )

    def service(self) -> None:
        """Lateness without any wait."""
        late, grid, p = self.late, self.grid, self.late.scenario.sizes.pmf
        rows = np.flatnonzero(self.open.any(axis=1))
        if len(rows) == 0:
            return
        _, latency_s = self.aim.asked(self.open, self.better)
        near = (1 - near_without_wait(late.scenario, late.costs, grid.batch_sizes[rows], latency_s)) * p[p > 0]
        far = (1 - far_without_wait(late.scenario, late.costs, latency_s)) * p[p > 0]
        if grid.thresholds == (None,):
            self.near_late[rows] = near.sum(axis=1, keepdims=True)
        else:
            self.near_late[rows, 1:] = np.cumsum(near, axis=1)
            self.far_late[:-1] = np.cumsum(far[::-1])[::-1, None]
        self.by_service = self.open & (self.near_late + self.far_late.min(axis=1) > self.allowed)
        self.open = self.open & ~self.by_service

    def far_ahead(self) -> None:
        """Lateness on the accelerators at all thresholds that matter, or, where they fuse, at some of them."""
        columns = np.flatnonzero(self.open[:, :-1].any(axis=0))
        fusing = len(self.grid.fusions) > 1
        if len(columns) == 0 or (fusing and np.isfinite(self.late.left)):
            return
        qps, latency_s = self.aim.asked(self.open, self.better)
        for f in range(len(self.grid.fusions)):
            some = columns[self.grid.accelerator_qps[columns, f] > qps]
            if fusing and len(some) > _FUSED_COLUMNS:
                some = some[np.unique(np.linspace(0, len(some) - 1, _FUSED_COLUMNS).round().astype(int))]
            above = 0.0
            for j in some[::-1].tolist():
                late = self.late.far(j, f, qps, latency_s)
                self.look("offload", late >= above - _SLACK)
                above = max(above, late)
                self.far_late[: j + 1, f] = np.maximum(self.far_late[: j + 1, f], late)
                if late > self.allowed:
                    break

    def refute(self, rows: Rows) -> float:
        """Refute every policy with these batch sizes, or find a better one.

        Returns the least lateness seen over what is allowed, below 1 when something is left: of one row only when the
        evaluations are used up.
        """
        grid, mine, columns = self.grid, slice(rows[0], rows[1] + 1), np.arange(len(self.grid.thresholds))
        single, margin = rows[0] == rows[1], np.inf
        found: dict[int, float] = {}
        while True:
            asked = np.zeros_like(self.open)
            asked[mine] = self.open[mine] & (self.aim.bounds[mine] > self.better)
            self.aim.refine(asked, self.better)
            left = np.logical_and(asked[mine], self.aim.bounds[mine] > self.better)
            if not left.any():
                break
            asked[mine] = left
            qps, latency_s = self.aim.asked(asked, self.better)
            far = np.where(grid.accelerator_qps > qps, self.far_late, np.inf).min(axis=1)
            left &= (self.near_late[mine] + far <= self.allowed) & (grid.cpu_qps[mine] > qps)
            open_ = columns[left.any(axis=0)]
            if len(open_) == 0:
                break
            if self.late.left <= 0:
                return 0.0
            j = self.choose(rows[1], open_, found, self.allowed - far)
            late = self.late.near(rows, j, qps, latency_s)
            if single:
                self.look("less work", late >= self.near_late[rows[0], j] - _SLACK)
                self.tested[rows[0], j], self.open[rows[0], j] = True, False
            found[j] = late
            self.near_late[mine, j:] = np.maximum(self.near_late[mine, j:], late)
            if single:
                self.resolve((rows[0], j), late, qps, latency_s)
            elif late + far[j] <= self.allowed:
                return 0.0
            margin = min(margin, (late + far[j]) / self.allowed)
        if len(found) > 1:
            at = sorted(found)
            self.seen[rows[1]] = np.array(at), np.array([found[j] for j in at])
        return max(margin, 1.0)

    def resolve(self, at: tuple[int, int], near: float, qps: float, latency_s: float) -> None:
        """Ask the accelerators, layer by layer, where the cores alone do not refute a policy."""
        i, j = at
        layers = 1 if self.grid.thresholds[j] is None else len(self.grid.fusions)
        for f in np.argsort(self.far_late[j, :layers], kind="stable").tolist():
            place = i, j, f
            if near + self.far_late[j, f] > self.allowed or self.grid.bound_of(place) <= qps:
                continue
            late = self.late.far(j, f, qps, latency_s)
            if np.isfinite(late):
                self.far_late[j, f] = max(self.far_late[j, f], late)
            known, bound_s = self.aim.asked(self.only(place), self.better)
            if near + late > self.allowed or self.grid.bound_of(place) <= known:
                continue
            if self.late.keeps(place, known, bound_s):
                self.kept[i, j] = not self.take(place, known)

    def choose(self, row: int, open_: Columns, found: dict[int, float], enough: Array) -> int:
        """Threshold to test next: the lowest whose lateness is expected to refute all open ones above it."""
        last = int(open_[-1])
        below = [j for j in found if j < last]
        if below:  # it was not enough there
            between = open_[open_ > max(below)]
            return int(between[len(between) // 2])
        if not self.seen:
            return int(open_[len(open_) // 2])
        at, late = self.seen[min(self.seen, key=lambda other: abs(other - row))]
        expected = np.interp(open_, at, np.minimum(late, 1.0))
        will = np.flatnonzero(expected >= _SAFETY * enough[last])
        return int(open_[will[0]]) if len(will) else last

    def look(self, claim: str, holds: bool | np.bool_) -> None:
        """Note that a claim was looked at."""
        self.checks[claim][0] += 1
        self.checks[claim][1] += not holds

    def check(self, refuted: NDArray[np.bool_]) -> None:
        """Look at some policies that were refuted: by less work, at the rate; and at some higher rate."""
        rng = np.random.default_rng(0)
        for i, j in rng.permutation(np.argwhere(refuted & ~self.tested))[:_CHECKS].tolist():
            qps, latency_s = self.aim.asked(self.only((i, j)), self.better)
            self.look("less work", self.late.near((i, i), j, qps, latency_s) >= self.near_late[i, j] - _SLACK)
        if isinstance(self.aim, LeastLatency):
            return  # at one rate
        for i, j in rng.permutation(np.argwhere(refuted & ~self.kept))[:_CHECKS].tolist():
            place = i, j, int(self.grid.accelerator_qps[j].argmax())
            least, latency_s = self.aim.asked(self.only(place), self.better)
            qps = float(rng.uniform(least, max(self.grid.bound_of(place), least)))
            self.look("rate", not self.late.keeps(place, qps, latency_s))

    def open_bound(self, open_: NDArray[np.bool_]) -> float:
        """No open policy has a higher score; for a latency the services alone say so, by bisection to a thousandth."""
        if not (isinstance(self.aim, LeastLatency) and open_.any()):
            return float(self.aim.bounds[open_].max(initial=0.0))
        late, p, rows = self.late, self.late.scenario.sizes.pmf, np.flatnonzero(open_.any(axis=1))
        low, high = 0.0, 1 / self.score
        while high - low > 1e-3 * high:
            bound_s = (low + high) / 2
            near = near_without_wait(late.scenario, late.costs, self.grid.batch_sizes[rows], bound_s) * p[p > 0]
            far = far_without_wait(late.scenario, late.costs, bound_s) * p[p > 0]
            in_time = np.concatenate((np.zeros((len(rows), 1)), np.cumsum(near, axis=1)), axis=1)
            in_time += np.append(np.cumsum(far[::-1])[::-1], 0.0)
            best = float(in_time[:, -open_.shape[1] :][open_[rows]].max())
            low, high = (low, bound_s) if best >= late.goal - _SLACK else (bound_s, high)
        return 1 / low if low > 0 else np.inf

    def found(self) -> Found:
        """The best, and what became of each of the others."""
        grid, bounds = self.grid, self.aim.bounds
        qps, _ = self.aim.asked(grid.distinct > 0, self.better)
        usable = (grid.accelerator_qps > qps) & (np.arange(len(grid.fusions)) < grid.layers[:, None])
        able = (grid.distinct > 0) & grid.allowed & (grid.cpu_qps > qps) & (bounds > self.better)
        count = np.where(able, usable.sum(axis=1), 0)
        open_ = self.open & (count > 0)
        tested = self.tested & (count > 0) & ~open_
        service = self.by_service & (count > 0)
        rest = (count > 0) & ~tested & ~service & ~open_
        far = np.where(usable, self.far_late, np.inf).min(axis=1)
        offload = rest & (far > self.allowed)
        refuted = (tested | rest) & ~offload
        if self.best is not None:
            refuted[self.best[:2]] = False
            self.check(refuted)
        high = max(self.better, self.open_bound(open_))
        parts = {"service": service, "offload": offload, "less work": rest & ~offload}
        counted = {name: int(count[where].sum()) for name, where in parts.items()}
        distinct, left = int(grid.distinct.sum()), int(count[open_].sum())
        memory = int(grid.distinct[:, ~grid.allowed].sum())
        known = int(count[tested].sum())
        if self.best is not None and not tested[self.best[:2]]:  # itself among those that are not better
            known += 1
            for name, where in parts.items():
                counted[name] -= bool(where[self.best[:2]])
        if isinstance(self.aim, MostPerWatt):
            counted["power"] = int(
                np.where(grid.allowed & (grid.cpu_qps > qps) & (bounds <= self.better), usable.sum(axis=1), 0)[
                    grid.distinct > 0
                ].sum()
            )
        saturated = distinct - memory - known - left - sum(counted.values())
        return Found(
            policy=None if self.best is None else grid.policy(self.best),
            score=self.score,
            qps=self.qps,
            evaluations=self.late.done,
            certificate=Certificate(
                lattice=grid.size,
                identical=grid.size - distinct,
                excluded={"memory": memory, "saturation": saturated, **counted},
                tested=known,
                open=left,
                low=self.score,
                high=high,
                exact=left == 0 and not any(violated for _, violated in self.checks.values()),
                checks={n: Check(claim=CLAIMS[n], done=d, violated=v) for n, (d, v) in self.checks.items()},
            ),
        )
