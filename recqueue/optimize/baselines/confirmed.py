"""Every baseline's policy is put to the test that our own answer passed, and credited with the rate that passes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import largest_rate
from recqueue.optimize.baselines.candidate import Candidate, normal_form
from recqueue.optimize.baselines.clean_climb import hill_climb
from recqueue.optimize.baselines.published import published_hill_climb
from recqueue.optimize.baselines.random_search import random_search
from recqueue.optimize.baselines.static import static
from recqueue.optimize.result import Baseline, Verification
from recqueue.serving import Policy, Scenario

Test = tuple[float, Verification | None]
"""Rate, and the run that decided; None when the formula knows of no rate and nobody believed in one."""


EFFORT = 0.25
"""Length of the runs that confirm a baseline over that of the runs behind our own answer."""


@dataclass(frozen=True)
class Confirmed:
    """A baseline and the verification behind its rate."""

    baseline: Baseline
    verification: Verification | None


class Confirmer:
    """Tests policies as ``optimize`` tests its answer: from the formula's largest rate on, down to one that passes.

    A policy that does the same as one that was tested gets the same rate.

    Parameters
    ----------
    scenario, costs
        The question, and its service times.
    seed : int
        Of the simulations.
    effort : float
        Length of the runs over that of the runs behind our own answer; with less a rate is credited up to a step of the
        test lower.
    """

    def __init__(self, scenario: Scenario, costs: Costs, *, seed: int, effort: float = EFFORT) -> None:
        self.scenario, self.costs, self.seed, self.effort = scenario, costs, seed, effort
        self._known: dict[Policy, Test] = {}

    def know(self, policy: Policy, rate: float, verification: Verification) -> None:
        """Remember a test that was made elsewhere."""
        self._known[normal_form(self.scenario, policy)] = rate, verification

    def test(self, policy: Policy, believed_qps: float) -> Test:
        """Rate that passes; ``believed_qps`` is where to begin if the formula knows of no rate."""
        from recqueue.optimize.verify import verify  # loads numba

        same = normal_form(self.scenario, policy)
        if same not in self._known:
            begin = largest_rate(self.scenario, same, self.costs) or believed_qps
            rate = partial(verify, self.scenario, same, begin, seed=self.seed, effort=self.effort)
            self._known[same] = rate() if begin > 0 else (0.0, None)
        return self._known[same]

    def __call__(self, candidate: Candidate) -> Confirmed:
        """The baseline with its rate: 0 where nothing passed."""
        if candidate.policy is None:
            return Confirmed(
                Baseline(policy=None, qps=0.0, method=candidate.method, sub_requests=candidate.sub_requests), None
            )
        rate, seen = self.test(candidate.policy, candidate.believed_qps)
        passed = seen is not None and seen.verdict == "pass"
        lower = seen is not None and not passed and seen.performance is not None and seen.performance.qps < rate
        how = "not confirmed at a lower rate" if lower else "confirmed by simulation"
        return Confirmed(
            Baseline(
                policy=candidate.policy,
                qps=rate if passed else 0.0,
                method=f"{candidate.method}, {how}",
                sub_requests=candidate.sub_requests,
                believed_qps=candidate.believed_qps,
                verification_sub_requests=seen.sub_requests if seen else 0,
            ),
            seen if passed else None,
        )


def by_formula(candidate: Candidate) -> Baseline:
    """The baseline with the rate that its own formula gives."""
    return Baseline(policy=candidate.policy, qps=candidate.believed_qps, method=f"{candidate.method}, by formula")


def all_baselines(
    scenario: Scenario,
    costs: Costs,
    policy: Policy,
    rate: float,
    verification: Verification,
    *,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Confirmed]:
    """All baselines of ``optimize``, beside its own policy at its verified rate.

    ``static``, ``hill_climb`` (clean statistics), ``published_hill_climb`` and ``random_search``, which may simulate as
    many sub-requests as our own answer took, its verification included. They choose side by side.
    """
    confirm = Confirmer(scenario, costs, seed=seed)
    confirm.know(policy, rate, verification)
    choices: dict[str, Callable[[], Candidate]] = {
        "static": partial(static, scenario, costs),
        "hill_climb": partial(hill_climb, scenario, seed=seed),
        "published_hill_climb": partial(published_hill_climb, scenario, seed=seed),
        "random_search": partial(random_search, scenario, verification.sub_requests, seed=seed),
    }
    say("letting the baselines choose")
    with ThreadPoolExecutor() as pool:
        chosen = {name: pool.submit(choose) for name, choose in choices.items()}
        candidates = {name: choice.result() for name, choice in chosen.items()}
    say("putting the baselines to the same test")
    return {name: confirm(candidate) for name, candidate in candidates.items()}
