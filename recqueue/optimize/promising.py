"""Which policies to test first when one is sought that keeps the promise at a rate: a rough estimate of lateness."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from recqueue.analysis.pools import Costs, loads
from recqueue.analysis.rates import CLOSEST_TO_SATURATION, on_time_up_to
from recqueue.optimize.memory import memory_of
from recqueue.serving import Policy, Scenario

Array = NDArray[np.float64]
TESTED = 12
"""Policies that are tested before it is said that none keeps the promise."""
_RATIO = 1.1
_LIGHT = 1e-3
"""Share of saturation that counts as almost no load, as in ``analysis.rates.largest_rate``."""
_SORTED = 64
"""Policies that are put in order at first; the others only when these are used up."""


class Prospects:
    r"""Rough shares of late queries of many policies at any rate.

    A query on idle servers is late by the log-normal noise of its slowest sub-request. To that is added the wait of a
    queue that all servers of a pool work off together,

    .. math:: P(W > t) \approx \rho\, e^{-2 (1 - \rho) t E D / E D^2},

    D the work of a query over the number of servers, t the slack that a mean query leaves. Used only to choose what
    is tested by the formulas. Batch sizes are a geometric spread and those that cut the largest query evenly;
    thresholds are all sizes that occur, and never.

    Parameters
    ----------
    scenario : Scenario
        The question.
    costs : Costs
        Its service times.

    Attributes
    ----------
    bound_qps : numpy.ndarray
        About the rate from which a policy is never recommended, shape (batch sizes, thresholds).
    """

    def __init__(self, scenario: Scenario, costs: Costs) -> None:
        system, self.bound_s = scenario.system, scenario.sla.latency_s
        self.allowed = 1 - scenario.sla.percentile / 100
        n = np.flatnonzero(scenario.sizes.pmf)
        p, k, device = scenario.sizes.pmf[n], system.cores, system.accelerator
        largest = int(n[-1])
        spread = np.round(_RATIO ** np.arange(np.log(largest) / np.log(_RATIO))).astype(int)
        parts = -(-largest // np.arange(1, 2 * k + 1))
        self.batch_sizes = np.unique(np.clip(np.concatenate((spread, parts, [largest])), 1, largest))
        batch = self.batch_sizes[:, None]
        full = (n - 1) // batch
        whole, last = costs.core_s[batch], costs.core_s[n - full * batch]
        own = np.maximum((full // k) * whole + last, -(-full // k) * whole)
        own = own * system.contention.factor_at(np.minimum(full + 1, k))
        work = (full * whole + last) * float(system.contention.factor_at(k)) / k
        late = 1 - _in_time(self.bound_s / own, system.service.cv) ** np.minimum(full + 1, k)
        self.near = _Pool(late, own, work, p)
        if device is None:
            self.thresholds, self.far = np.array([0]), None
            self.near.only_last()
            self.largest_local = n[-1:]
            self.bound_qps = self.near.bound_qps
        else:
            launch = costs.accelerator_s[n]
            each = launch / (device.count * device.max_fused_queries)
            late = 1 - _in_time(self.bound_s / launch, device.service.cv)
            self.far = _Pool(late[None, ::-1], launch[None, ::-1], each[None, ::-1], p[::-1])
            self.near.start_with_none()
            self.far.start_with_none()
            self.far.turn()
            self.thresholds = np.append(n, 0)  # 0: never
            self.largest_local = np.concatenate(([1], n))
            self.bound_qps = np.minimum(self.near.bound_qps, self.far.bound_qps)
        # Batch sizes beyond the largest query that stays on the cores are all the same.
        previous = np.concatenate(([0], self.batch_sizes[:-1]))[:, None]
        self.distinct = (previous < self.largest_local) & fitting(scenario, self.thresholds, int(n[0]))

    def late_share(self, qps: float) -> Array:
        """Rough share of late queries at a rate, shape (batch sizes, thresholds); 1 when saturated."""
        total = self.near.late_share(qps, self.bound_s)
        if self.far is not None:
            total = total + self.far.late_share(qps, self.bound_s)
        return np.where((self.bound_qps > qps) & self.distinct, np.minimum(total, 1.0), 1.0)

    def policy(self, i: int, j: int) -> Policy:
        """The policy of a row and column."""
        threshold = int(self.thresholds[j])
        return Policy(int(min(self.batch_sizes[i], self.largest_local[j])), threshold or None)

    def likeliest(self, qps: float | None, start: Policy | None = None) -> Iterator[Policy]:
        """Policies that may keep the promise at a rate (None: almost no load), the likeliest first.

        ``start`` comes before all; policies that saturate are left out.
        """
        if start is not None:
            yield start
        late = self.late_share(qps or 0.0).reshape(-1)
        bound, able = self.bound_qps.reshape(-1), np.flatnonzero(late < 1)
        if len(able) > _SORTED:
            able = able[np.argpartition(late[able], _SORTED)]
        for group in (able[:_SORTED], able[_SORTED:]):
            for at in group[np.lexsort((group, -bound[group], late[group].round(6)))].tolist():
                policy = self.policy(*divmod(at, len(self.thresholds)))
                if policy != start:
                    yield policy

    def expected_qps(self, at_least: float) -> float:
        """Largest rate at which some policy is expected to keep the promise; ``at_least`` when there is none."""
        low, high = np.log(at_least), np.log(max(float(self.bound_qps.max()), at_least))
        while high - low > 1e-2:
            middle = (low + high) / 2
            kept = self.late_share(float(np.exp(middle))).min() <= self.allowed
            low, high = (middle, high) if kept else (low, middle)
        return float(np.exp(low))

    def of_each_threshold(self, most: int) -> list[Policy]:
        """For at most so many thresholds the policy that is expected to carry most."""
        columns = np.unique(np.linspace(0, len(self.thresholds) - 1, most).round().astype(int))
        chosen: dict[int, Policy] = {}
        for share in np.geomspace(1.0, 0.05, 40):
            late = self.late_share(share * float(self.bound_qps.max()))
            for j in columns.tolist():
                if j not in chosen and late[:, j].min() <= self.allowed:
                    chosen[j] = self.policy(int(late[:, j].argmin()), j)
        return list(dict.fromkeys(chosen.values()))


class _Pool:
    """Sums over the queries that one pool serves, for the first one, two, ... sizes; shape (batch sizes, sizes)."""

    def __init__(self, late: Array, own: Array, work: Array, p: Array) -> None:
        self.late, self.own, self.work, self.square = (np.cumsum(x * p, axis=1) for x in (late, own, work, work**2))
        self.share = np.cumsum(np.broadcast_to(p, self.late.shape), axis=1)

    def _each(self) -> list[str]:
        return ["late", "own", "work", "square", "share"]

    def only_last(self) -> None:
        """All queries."""
        for name in self._each():
            setattr(self, name, getattr(self, name)[:, -1:])

    def start_with_none(self) -> None:
        """A column without queries before the others."""
        for name in self._each():
            x = getattr(self, name)
            setattr(self, name, np.concatenate((np.zeros((len(x), 1)), x), axis=1))

    def turn(self) -> None:
        """The column with all queries first."""
        for name in self._each():
            setattr(self, name, getattr(self, name)[:, ::-1])

    @property
    def bound_qps(self) -> Array:
        """Saturation rate less the margin; infinite without queries."""
        with np.errstate(divide="ignore"):
            return np.asarray(CLOSEST_TO_SATURATION / self.work)

    def late_share(self, qps: float, bound_s: float) -> Array:
        """Share of all queries that are late here."""
        rho, share, work = qps * self.work, np.maximum(self.share, 1e-300), self.work
        slack = np.maximum(bound_s - self.own / share, 0.0)
        ratio = work / np.maximum(self.square, 1e-300)
        waits = np.minimum(rho * np.exp(-2 * np.maximum(1 - rho, 0.0) * slack * ratio), 1.0)
        return np.where(rho < 1, self.late + (self.share - self.late) * waits, 1.0)


def _in_time(ratio: Array, cv: float) -> Array:
    """Probability that a log-normal service takes at most ``ratio`` times its mean."""
    if cv == 0:
        return np.asarray((ratio >= 1).astype(float))
    sigma = np.sqrt(np.log1p(cv**2))
    return np.asarray(ndtr(np.log(ratio) / sigma + sigma / 2))


def fitting(scenario: Scenario, thresholds: NDArray[np.int64], smallest: int) -> NDArray[np.bool_]:
    """Whether the tables of the model fit where a threshold (0: never) sends queries of ``smallest`` items and more."""
    memory = memory_of(scenario)
    all_far, all_near = (thresholds > 0) & (thresholds <= smallest), thresholds == 0
    return np.asarray((memory.server_fits | all_far) & (memory.accelerator_fits | all_near))


def fits(scenario: Scenario, policy: Policy) -> bool:
    """Whether the tables of the model fit where a policy sends queries, for all that is known."""
    smallest = int(np.flatnonzero(scenario.sizes.pmf)[0])
    return bool(fitting(scenario, np.array([policy.offload_threshold or 0]), smallest)[0])


def light_qps(scenario: Scenario, policy: Policy, costs: Costs) -> float:
    """A rate that is almost no load for a policy."""
    return _LIGHT * float(min(loads(scenario, policy, costs).saturation_qps(scenario)))


def best_share(
    scenario: Scenario, costs: Costs, qps: float | None, start: Policy | None = None, *, enough: float = 1.0
) -> tuple[Policy | None, float]:
    """Policy with the largest share of queries in time at a rate among those tested, and that share.

    Stops at the first with a share of at least ``enough``.
    """
    best: tuple[Policy | None, float] = (None, 0.0)
    for tested, policy in enumerate(Prospects(scenario, costs).likeliest(qps, start)):
        if tested >= TESTED:
            break
        rate = light_qps(scenario, policy, costs) if qps is None else qps
        share = on_time_up_to(scenario, policy, rate, costs)
        if share > best[1] or best[0] is None:
            best = policy, share
        if share >= enough:
            break
    return best
