"""DeepRecSched's hill climb as its code does it, on a simulated server in place of the live one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recqueue.optimize.baselines.candidate import Candidate
from recqueue.serving import Policy, Scenario

if TYPE_CHECKING:
    from recqueue.simulate.server import LiveServer


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Settings of the published scheduler; the defaults are those of its scheduling experiments.

    The published range of gaps, 1 to 20 ms, was chosen by hand for one model on one machine. Here it has the same ratio
    and begins where the best configuration saturates, so that every rate worth trying is in it.

    Attributes
    ----------
    batch_sizes, thresholds : tuple of int
        Configurations of each phase, in the order in which they are tried.
    first_threshold : int
        Offload threshold while batch sizes are tried.
    window : int
        Queries whose percentile is one feedback.
    updates : int
        Feedbacks after which a configuration is decided by the next one.
    rates : int
        Arrival rates, equally spaced on a logarithmic scale.
    slowest : float
        Longest mean gap over the shortest.
    start : float
        Mean gap to begin with over the shortest.
    stable_region : float
        The rate is raised only below the bound divided by one more than this.
    pause_s : float
        Seconds for which nothing arrives after a decision.
    measures_first_threshold : bool
        Off as in the publication: the second phase never sets its first threshold, measures ``first_threshold`` in its
        stead, and credits the first with what it measures. On, the first threshold is set.

    References
    ----------
    :cite:t:`gupta2020deeprecsys`; ``scheduler.py``, ``loadGenerator.py`` and ``experiments/scheduling`` of its
    repository.
    """

    batch_sizes: tuple[int, ...] = (512, 384, 256, 192, 128, 96, 64, 48, 32)
    thresholds: tuple[int, ...] = (96, 128, 192, 256, 384, 512)
    first_threshold: int = 1024
    window: int = 64
    updates: int = 128
    rates: int = 50
    slowest: float = 20.0
    start: float = 10.0
    stable_region: float = 0.10
    pause_s: float = 3.0
    measures_first_threshold: bool = False

    def gaps_s(self, fastest_qps: float) -> NDArray[np.float64]:
        """Mean gaps in seconds, ascending."""
        return np.geomspace(1 / fastest_qps, self.slowest / fastest_qps, self.rates)


PUBLISHED = Schedule()
"""As in the publication."""
REPAIRED = Schedule(measures_first_threshold=True)
"""The same with the first threshold measured."""


class Phase:
    """One of the two climbs: feedback in, mean gap and configuration out.

    A percentile above the bound makes the mean gap one step longer, one clearly below it one step shorter. After so
    many feedbacks the configuration is credited with the median of the latest gaps, as many as there are rates. The
    climb ends at the first configuration that is credited with a longer gap than its predecessor and goes back to that
    one; when there are no more configurations, it takes the best.

    Parameters
    ----------
    schedule : Schedule
        Settings.
    configurations : int
        How many there are to try.
    gaps_s : numpy.ndarray
        Mean gaps, ascending.
    bound_s : float
        Latency bound.

    Attributes
    ----------
    gap_s : float
        Mean gap that the generator is to use now.
    configuration : int
        The one to use now; of a phase that is over, the choice.
    credited_s : list of float
        Mean gaps credited so far, by configuration.
    over : bool
        Whether the choice is made.
    """

    def __init__(self, schedule: Schedule, configurations: int, gaps_s: NDArray[np.float64], bound_s: float) -> None:
        self.schedule, self.configurations, self.gaps_s, self.bound_s = schedule, configurations, gaps_s, bound_s
        self.configuration, self.over = 0, False
        self.credited_s: list[float] = []
        self._begin()

    def _begin(self) -> None:
        self.gap_s = self.schedule.start * float(self.gaps_s[0])
        self._place = int(np.argmin(np.abs(self.gaps_s - self.gap_s)))
        self._tried: list[float] = []

    def update(self, tail_s: float) -> bool:
        """Take the percentile of one window; return whether a configuration was decided, so the server is drained."""
        if tail_s > self.bound_s:
            self._place = min(len(self.gaps_s) - 1, self._place + 1)
        elif tail_s < self.bound_s / (1 + self.schedule.stable_region):
            self._place = max(0, self._place - 1)
        self.gap_s = float(self.gaps_s[self._place])
        self._tried.append(self.gap_s)
        if len(self._tried) <= self.schedule.updates:
            return False
        credited = self.credited_s
        credited.append(float(np.median(self._tried[-len(self.gaps_s) :])))
        if len(credited) >= 2 and credited[-1] > credited[-2]:
            self.configuration, self.gap_s, self.over = len(credited) - 2, credited[-2], True
        elif len(credited) == self.configurations:
            self.configuration, self.gap_s, self.over = int(np.argmin(credited)), min(credited), True
        else:
            self.configuration = len(credited)
            self._begin()
        return True


def fastest_qps(scenario: Scenario, schedule: Schedule) -> float:
    """Rate at which the best of all configurations saturates."""
    from recqueue.simulate import offered_load  # loads numba

    thresholds = [None, *_reached(scenario, schedule.thresholds)]
    return max(1 / max(offered_load(scenario, Policy(b, t), 1.0)) for b in schedule.batch_sizes for t in thresholds)


def _reached(scenario: Scenario, thresholds: Sequence[int]) -> list[int]:
    return [t for t in thresholds if t <= scenario.sizes.max_items] if scenario.system.accelerator else []


def published_hill_climb(scenario: Scenario, *, seed: int, schedule: Schedule = REPAIRED) -> Candidate:
    """DeepRecSched's climb as published: on one server that is never reset, steered by windows of 64 queries.

    The server and its load generator are :class:`~recqueue.simulate.server.LiveServer`, with the bounded queues of the
    publication: the feedback is of queries that arrived some time ago, and a configuration inherits the queries in
    service from its predecessor. The believed rate is the last mean gap, credited from windows.

    Parameters
    ----------
    scenario : Scenario
        The question; its arrivals are used, where the publication draws gaps of whole milliseconds (process
        ``legacy_deeprecsys``).
    seed : int
        Of the server.
    schedule : Schedule
        Settings. By default the fault that leaves the first threshold unmeasured is repaired; :data:`PUBLISHED` has it.
    """
    from recqueue.simulate import spawn  # loads numba
    from recqueue.simulate.server import LiveServer

    gaps_s = schedule.gaps_s(fastest_qps(scenario, schedule))
    first = _reached(scenario, [schedule.first_threshold])
    batches = [Policy(b, first[0] if first else None) for b in schedule.batch_sizes]
    qps = 1 / (schedule.start * float(gaps_s[0]))
    server = LiveServer(scenario, batches[0], qps, spawn(seed, 1)[0], window=schedule.window)
    phase = _climb(scenario, schedule, server, batches, gaps_s)
    policy = batches[phase.configuration]
    if scenario.system.accelerator is not None:
        largest = scenario.sizes.max_items
        offloads = [Policy(policy.batch_size, t if t <= largest else None) for t in schedule.thresholds]
        measured = offloads if schedule.measures_first_threshold else [policy, *offloads[1:]]
        phase = _climb(scenario, schedule, server, measured, gaps_s, phase.gap_s)
        policy = offloads[phase.configuration]
    return Candidate("DeepRecSched's climb", policy, 1 / phase.gap_s, server.sub_requests)


def _climb(
    scenario: Scenario,
    schedule: Schedule,
    server: LiveServer,
    policies: Sequence[Policy],
    gaps_s: NDArray[np.float64],
    gap_s: float | None = None,
) -> Phase:
    """One phase; ``gap_s`` is the mean gap until the first feedback."""
    from recqueue.simulate.ordered import percentile

    phase = Phase(schedule, len(policies), gaps_s, scenario.sla.latency_s)
    server.set(policy=policies[0], qps=1 / (gap_s or phase.gap_s))
    while not phase.over:
        decided = phase.update(percentile(server.window(), scenario.sla.percentile))
        server.set(policy=policies[phase.configuration], qps=1 / phase.gap_s)
        if decided:
            server.drain(schedule.pause_s)
    return phase
