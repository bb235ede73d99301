"""Two moments are not enough: service laws of one mean and SCV whose exact waits differ by a large factor.

Claim: on 8 servers at utilization 0.8, hyperexponential services with mean 1 s and SCV 9 have mean waits and 99th
percentiles that differ by factors of 2 and of 1.4 or more, depending on the third moment alone; on one server the mean
wait is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recqueue.queueing.phase_service import mphk
from recqueue.queueing.steady_state import SteadyState
from studies.approximations import hyperexponential

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCV = 9.0
SHARES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95)
"""Shares of the work that short jobs bring; more of it makes the long jobs rarer and longer."""


@dataclass(frozen=True, eq=False)
class Study:
    """For each share: the queue solved exactly, and the third moment of its service."""

    servers: int
    utilization: float
    third_moments: tuple[float, ...]
    states: tuple[SteadyState, ...]
    one_server: tuple[SteadyState, ...]


def run(servers: int = 8, utilization: float = 0.8, shares: Sequence[float] = SHARES) -> Study:
    """Solve M/H2/k for each share, exactly."""
    laws = [hyperexponential(SCV, share) for share in shares]
    third = tuple(6 * float(alpha @ (-1 / np.diag(matrix)) ** 3) for alpha, matrix in laws)
    for alpha, matrix in laws:
        means = -1 / np.diag(matrix)
        np.testing.assert_allclose([alpha @ means, 2 * alpha @ means**2], [1.0, SCV + 1], rtol=1e-9)
    return Study(
        servers,
        utilization,
        third,
        tuple(mphk(utilization * servers, law, servers) for law in laws),
        tuple(mphk(utilization, law, 1) for law in laws),
    )


def check(study: Study) -> None:
    """Raise when the claim does not hold."""
    means = np.array([s.wait.mean for s in study.states])
    p99 = np.array([s.wait.quantile(0.99) for s in study.states])
    one = np.array([s.wait.mean for s in study.one_server])
    assert means.max() / means.min() >= 2, means
    assert p99.max() / p99.min() >= 1.4, p99
    assert np.ptp(one) < 1e-6 * one.mean(), one  # Pollaczek-Khinchine knows two moments only


def draw(study: Study, left: Axes, right: Axes) -> None:
    """Mean waits against the third moment; tails of the two extreme laws."""
    means, one = (np.array([s.wait.mean for s in states]) for states in (study.states, study.one_server))
    many = f"{study.servers} servers, exact; 1 is {means[0]:.2f} s"
    left.semilogx(study.third_moments, means / means[0], "o-", label=many)
    left.semilogx(study.third_moments, one / one[0], "s--", label=f"1 server, exact; 1 is {one[0]:.2f} s")
    left.set(xlabel="third moment of the service (s³)", ylabel="mean wait over that of the first law", ylim=(0, 1.1))
    left.legend()
    t = np.linspace(0, 26, 200)
    for i in (0, len(means) // 2, len(means) - 1):
        right.semilogy(t, study.states[i].wait.sf(t), label=f"third moment {study.third_moments[i]:.0f} s³")
    right.set(xlabel="t (s)", ylabel="P(wait > t)", ylim=(1e-3, 1))
    right.legend()
