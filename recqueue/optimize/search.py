"""Best policy over all integer policies, by branch and bound on the formulas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis.evaluate import on_time
from recqueue.analysis.in_time import far_in_time, far_without_wait, near_in_time, near_without_wait
from recqueue.analysis.pools import Costs, loads
from recqueue.optimize.aims import Aim, MostQueries, with_bound
from recqueue.optimize.certificate import Certificate, Check
from recqueue.optimize.climb import climb
from recqueue.optimize.lattice import MARGIN, Lattice, Place, lattice
from recqueue.serving import Policy, Scenario

__all__ = ["GAIN", "TESTS", "Found", "Lattice", "lattice", "search"]

GAIN = 2e-4
"""A policy counts as better when its score is higher by this share: twice the tolerance of a rate."""
TESTS = 400
"""Evaluations after the climb at which the search stops where it is not asked to be exact: about a second."""
_SLACK = 1e-6
"""Share of queries by which a bound must fail: the distribution functions are rounded to about 1e-7."""
_FUSED_TESTS = 50
"""Evaluations that one of accelerators that fuse counts for."""
_FUSED_COLUMNS = 8
"""Thresholds at which each fusion limit is evaluated beforehand."""
_CHECKS = 8
"""Policies for which it is checked that the share in time falls with the rate."""
_SAFETY = 1.05
"""A test is tried where the lateness expected is this many times what would be enough."""
CLAIMS = {
    "offload": "a higher threshold leaves fewer late queries on the accelerators",
    "threshold": "with the same batch size, a lower threshold leaves fewer late queries on the cores",
    "rate": "a policy that breaks the promise at one rate breaks it at a higher one",
}

Array = NDArray[np.float64]
Columns = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Outcome of the search: the best policy and what is known of the others.

    Attributes
    ----------
    policy : Policy or None
        None when none keeps the promise.
    score : float
        Its largest rate, or whatever was sought; 0 when there is none.
    evaluations : int
        Evaluations of the formulas.
    certificate : Certificate
        What is known of the others.
    """

    policy: Policy | None
    score: float
    evaluations: int
    certificate: Certificate

    @property
    def qps(self) -> float:
        """The score of a search for the largest rate."""
        return self.score

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
    scenario: Scenario, costs: Costs, *, exact: bool = False, tests: int = TESTS, aim: Aim | None = None
) -> Found:
    r"""Best policy of the lattice by formula, and a proof.

    A climb (:mod:`recqueue.optimize.climb`) gives a first rate :math:`\lambda^*`. Every policy that differs and could be
    recommended above it is then refuted at :math:`\lambda = (1 + 2 \cdot 10^{-4}) \lambda^*`, or found to be better,
    when :math:`\lambda^*` rises. With :math:`\ell_n` and :math:`\ell_f` the shares of all queries that are late on the
    cores and on the accelerators, (B, T, F) is refuted by :math:`\ell_n(B, T) + \ell_f(T, F) > 1 - p`. Bounds from below
    spare most of the evaluations:

    - without any wait, from the services alone (:func:`recqueue.analysis.in_time.near_without_wait`);
    - :math:`\ell_f(T, F)` is the same for all B;
    - :math:`\ell_n(B, T') \le \ell_n(B, T)` for T' < T: less work comes to the cores.

    The last one, and that a policy that breaks the promise at one rate does so at every higher one, hold for queues but
    are not proved for the formulas; they are checked where the search comes by, and the certificate says with what result.

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
    aim : Aim, optional
        What is sought; the largest rate by default.

    Returns
    -------
    Found
    """
    grid = lattice(scenario, costs)
    return _Search(scenario, costs, grid, aim or MostQueries(scenario, costs, grid), np.inf if exact else tests).run()


class _Search:
    """The state of one search: the best so far, what is known of lateness, and what was checked."""

    def __init__(self, scenario: Scenario, costs: Costs, grid: Lattice, aim: Aim, tests: float) -> None:
        self.scenario, self.costs, self.grid, self.aim, self.left = scenario, costs, grid, aim, tests
        self.goal = scenario.sla.percentile / 100
        self.allowed = 1 - self.goal + _SLACK
        self.best: Place | None = None
        self.score, self.evaluations = 0.0, 0
        self.tested = np.zeros(grid.cpu_qps.shape, dtype=bool)
        self.far_late = np.zeros(grid.accelerator_qps.shape)  # at least so many are late on the accelerators
        self.checks = {name: [0, 0] for name in CLAIMS}
        self.finished: set[int] = set()
        self.rows: dict[int, tuple[Columns, Array]] = {}  # lateness on the cores, of some rows that are finished

    # -- one policy

    @property
    def better(self) -> float:
        """Score from which on a policy is better than the best."""
        return self.score * (1 + GAIN)

    def keeps(self, place: Place, qps: float, latency_s: float) -> bool:
        """Whether the promise is kept."""
        self.evaluations += 1
        scenario = with_bound(self.scenario, latency_s)
        return on_time(scenario, self.grid.policy(place), qps, self.costs) >= self.goal

    def try_policy(self, place: Place) -> bool:
        """Take a policy that is better than the best so far."""
        if self.aim.bounds[place[:2]] <= self.better:
            return False
        known = 0.0
        if self.best is not None:
            known, latency_s = self.aim.asked_of(place, self.better)
            self.tested[place[:2]] |= len(self.grid.fusions) == 1
            if self.grid.bound_of(place) <= known or not self.keeps(place, known, latency_s):
                return False
        return self.take(place, known)

    def take(self, place: Place, known_qps: float = 0.0) -> bool:
        """Make a policy the best if its score is higher."""
        score = self.aim.score(place, known_qps)
        if score <= self.score:
            return False
        self.best, self.score = place, score
        return True

    # -- all policies

    def run(self) -> Found:
        """Climb, then refute what is left."""
        climb(self.grid, self.aim.bounds, self.try_policy)
        alive = self.alive()
        self.service(alive)
        self.far_ahead(alive)
        bounds = np.where(alive, self.aim.bounds, 0.0).max(axis=1)
        for i in np.argsort(-bounds, kind="stable"):
            if bounds[i] <= self.better:
                break
            if not self.refute_row(int(i)):
                break
            self.finished.add(int(i))
        return self.found()

    def alive(self) -> NDArray[np.bool_]:
        """Rows and columns with a policy that could be better, by its bound."""
        return (self.grid.distinct > 0) & (self.aim.bounds > self.better)

    def service(self, alive: NDArray[np.bool_]) -> None:
        """Lateness without any wait; leaves in ``alive`` what it does not exclude."""
        grid, p = self.grid, self.scenario.sizes.pmf
        rows = np.flatnonzero(alive.any(axis=1))
        _, latency_s = self.aim.asked(None, np.flatnonzero(alive.any(axis=0)), self.better)
        weight = p[p > 0]
        near = (1 - near_without_wait(self.scenario, self.costs, grid.batch_sizes[rows], latency_s)) * weight
        far = (1 - far_without_wait(self.scenario, self.costs, latency_s)) * weight
        self.near_late = np.zeros(alive.shape)
        if grid.thresholds == (None,):
            self.near_late[rows] = near.sum(axis=1, keepdims=True)
        else:
            self.near_late[rows, 1:] = np.cumsum(near, axis=1)
            self.far_late[:-1] = np.cumsum(far[::-1])[::-1, None]
        self.late_by_service = self.near_late + self.far_late.min(axis=1) > self.allowed
        alive &= ~self.late_by_service

    def far_ahead(self, alive: NDArray[np.bool_]) -> None:
        """Lateness on the accelerators at all thresholds that matter, or, where they fuse, at some of them."""
        columns = np.flatnonzero(alive.any(axis=0)[:-1])
        fusing = len(self.grid.fusions) > 1
        if len(columns) == 0 or (fusing and np.isfinite(self.left)):
            return
        qps, latency_s = self.aim.asked(None, columns, self.better)
        for f in range(len(self.grid.fusions)):
            some = columns[self.grid.accelerator_qps[columns, f] > qps]
            if fusing and len(some) > _FUSED_COLUMNS:
                some = some[np.unique(np.linspace(0, len(some) - 1, _FUSED_COLUMNS).round().astype(int))]
            above = -np.inf
            for j in some[::-1]:
                late = self.late_far(int(j), f, qps, latency_s)
                self.look("offload", late >= above - _SLACK)
                above = max(above, late)
                self.far_late[: j + 1, f] = np.maximum(self.far_late[: j + 1, f], late)
                if late > self.allowed:
                    break

    def late_far(self, j: int, f: int, qps: float, latency_s: float) -> float:
        """Share of all queries that are late on the accelerators; infinite where these saturate."""
        place = 0, j, f
        policy = self.grid.policy(place)
        if policy.offload_threshold is None:
            return 0.0
        if self.grid.accelerator_qps[j, f] <= qps:
            return np.inf
        fused = (policy.max_fused_queries or 1) > 1
        if fused and MARGIN * loads(self.scenario, policy, self.costs).saturation_qps(self.scenario)[1] <= qps:
            return np.inf  # the grid has only a bound
        self.evaluations += 1
        self.left -= _FUSED_TESTS if fused else 1
        in_time = far_in_time(self.scenario, policy, qps, self.costs, latency_s)
        return 1 - float(self.grid.local_share[j]) - in_time

    def late_near(self, i: int, j: int, qps: float, latency_s: float) -> float:
        """Share of all queries that are late on the cores; infinite where these saturate."""
        if self.grid.cpu_qps[i, j] <= qps:
            return np.inf
        if self.grid.local_share[j] == 0:
            return 0.0
        self.evaluations += 1
        self.left -= 1
        return float(self.grid.local_share[j]) - near_in_time(
            self.scenario, self.grid.policy((i, j)), qps, self.costs, latency_s
        )

    def refute_row(self, i: int) -> bool:
        """Refute every policy with this batch size, or find a better one; False when the evaluations are used up."""
        grid, columns = self.grid, np.arange(len(self.grid.thresholds))
        done = self.late_by_service[i] | (grid.distinct[i] == 0)
        near = self.near_late[i].copy()
        found: dict[int, float] = {}
        while True:
            open_ = columns[~done & (self.aim.bounds[i] > self.better)]
            if len(open_) == 0:
                break
            qps, latency_s = self.aim.asked(i, open_, self.better)
            far = np.where(grid.accelerator_qps > qps, self.far_late, np.inf).min(axis=1)
            open_ = open_[(near[open_] + far[open_] <= self.allowed) & (grid.cpu_qps[i, open_] > qps)]
            if len(open_) == 0:
                break
            if self.left <= 0:
                return False
            j = self.choose(i, open_, found, self.allowed - far)
            late = self.late_near(i, j, qps, latency_s)
            self.tested[i, j] = done[j] = True
            if found and grid.local_share[j] > 0:
                lower = [late_at for at, late_at in found.items() if at < j]
                self.look("threshold", late >= max(lower, default=0.0) - _SLACK)
            found[j] = late
            near[j:] = np.maximum(near[j:], late)
            self.resolve(i, j, late, qps, latency_s)
        if len(found) > 1:
            at = sorted(found)
            self.rows[i] = np.array(at), np.array([found[j] for j in at])
        return True

    def resolve(self, i: int, j: int, near: float, qps: float, latency_s: float) -> None:
        """Ask the accelerators, layer by layer, where the cores alone do not refute a policy."""
        layers = 1 if self.grid.thresholds[j] is None else len(self.grid.fusions)
        for f in np.argsort(self.far_late[j, :layers], kind="stable"):
            place = i, j, int(f)
            if near + self.far_late[j, f] > self.allowed or self.aim.bounds[i, j] <= self.better:
                continue
            late = self.late_far(j, int(f), qps, latency_s)
            if np.isfinite(late):
                self.far_late[j, f] = max(self.far_late[j, f], late)
            if near + late > self.allowed or self.grid.bound_of(place) <= qps:
                continue
            known, bound_s = self.aim.asked_of(place, self.better)
            if self.keeps(place, known, bound_s):
                self.take(place, known)

    def choose(self, i: int, open_: Columns, found: dict[int, float], enough: Array) -> int:
        """Threshold to test next: the lowest whose lateness is expected to refute all open ones above it."""
        last = int(open_[-1])
        below = [j for j in found if j < last]
        if below:  # it was not enough there
            between = open_[open_ > max(below)]
            return int(between[len(between) // 2])
        if not self.rows:
            return int(open_[len(open_) // 2])
        nearest = min(self.rows, key=lambda row: abs(row - i))
        at, late = self.rows[nearest]
        expected = np.interp(open_, at, np.minimum(late, 1.0))
        will = np.flatnonzero(expected >= _SAFETY * enough[last])
        return int(open_[will[0]]) if len(will) else last

    def look(self, claim: str, holds: bool | np.bool_) -> None:
        """Note that a claim was looked at."""
        self.checks[claim][0] += 1
        self.checks[claim][1] += not holds

    # -- what is known in the end

    def check_rates(self, open_: NDArray[np.bool_]) -> None:
        """Look at policies that were refuted at some higher rate."""
        if self.best is None or not isinstance(self.aim, MostQueries):
            return
        rng = np.random.default_rng(0)
        refuted = np.argwhere(self.tested & (self.aim.bounds > self.better) & (self.grid.distinct > 0) & ~open_)
        refuted = refuted[[tuple(place) != self.best[:2] for place in refuted.tolist()]] if len(refuted) else refuted
        for i, j in rng.permutation(refuted)[:_CHECKS]:
            f = int(np.argmax(self.grid.accelerator_qps[j]))
            place = int(i), int(j), f if self.grid.thresholds[j] is not None else 0
            top = self.grid.bound_of(place)
            qps = float(rng.uniform(self.better, max(top, self.better)))
            self.look("rate", not self.keeps(place, qps, self.scenario.sla.latency_s))

    def found(self) -> Found:
        """The best, and what became of each of the others."""
        grid, aim = self.grid, self.aim
        everything = np.arange(len(grid.thresholds))
        qps, _ = aim.asked(None, everything, self.better)
        layers = np.where([t is None for t in grid.thresholds], 1, len(grid.fusions))
        usable = (grid.accelerator_qps > qps) & (np.arange(len(grid.fusions)) < layers[:, None])
        count = np.where((grid.distinct > 0) & (grid.cpu_qps > qps) & (aim.bounds > self.better), usable.sum(axis=1), 0)
        alive = count > 0
        tested = alive & self.tested
        service = alive & ~tested & self.late_by_service
        far = np.where(usable, self.far_late, np.inf).min(axis=1)
        offload = alive & ~tested & ~service & (self.near_late + far > self.allowed)
        rest = alive & ~tested & ~service & ~offload
        done = np.zeros(len(grid.batch_sizes), dtype=bool)
        done[list(self.finished)] = True
        threshold = rest & done[:, None]
        open_ = rest & ~done[:, None]
        self.check_rates(open_)
        best_is_apart = self.best is not None and not tested[self.best[:2]]
        high = max(self.better, float(aim.bounds[open_].max(initial=0.0)))
        counted = {
            name: int(count[where].sum())
            for name, where in (("service", service), ("offload", offload), ("threshold", threshold))
        }
        distinct = int(grid.distinct.sum())
        left = int(count[open_].sum())
        known = int(count[tested].sum()) + best_is_apart
        certificate = Certificate(
            lattice=grid.size,
            identical=grid.size - distinct,
            excluded={"saturation": distinct - known - left - sum(counted.values()), **counted},
            tested=known,
            open=left,
            low=self.score,
            high=high,
            exact=left == 0 and not any(violated for _, violated in self.checks.values()),
            checks={n: Check(claim=CLAIMS[n], done=d, violated=v) for n, (d, v) in self.checks.items()},
        )
        return Found(
            policy=None if self.best is None else grid.policy(self.best),
            score=self.score,
            evaluations=self.evaluations,
            certificate=certificate,
        )
