"""Let the simulator confirm a rate, and step back until it does."""

from __future__ import annotations

from dataclasses import replace

from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import CLOSEST_TO_SATURATION, least_kept_below
from recqueue.optimize.result import Verification
from recqueue.serving import Performance, Policy, Scenario
from recqueue.simulate import offered_load, simulate, trusted_length

_FIRST_QUERIES = 200_000
_MOST_QUERIES, _LONGEST_QUERIES = 3_200_000, 25_600_000
"""Of a run; the latter where queues take so long to settle, as those of a machine whose speed drifts, that the former
are too few to trust."""
_REPLICATIONS = 8
_MOST_STEPS = 24
_FIRST_STEP = 0.0025
_LARGEST_STEP = 0.02
_GIVE_UP = 0.02
"""Chance of passing below which a run is ended: the rate would be lowered in all but so many cases."""


def at_rate(scenario: Scenario, policy: Policy, qps: float, *, seed: int) -> Verification:
    """What the simulator says of a policy at a given rate, from one run that goes on until it is decided."""
    result = simulate(
        replace(scenario, policy=policy),
        qps=qps,
        queries=_FIRST_QUERIES,
        replications=_REPLICATIONS,
        seed=seed * 1000 + 1,
        until_decided=True,
        max_queries=_most_queries(scenario, policy, qps),
    )
    return _verification(result, scenario, result.sub_requests or 0, 0)


def _most_queries(scenario: Scenario, policy: Policy, qps: float) -> int:
    return round(min(max(_REPLICATIONS * trusted_length(scenario, policy, qps), _MOST_QUERIES), _LONGEST_QUERIES))


def _verification(result: Performance, scenario: Scenario, simulated: int, steps_back: int) -> Verification:
    return Verification(
        verdict=result.verdict,
        interval_s=result.interval_s[f"p{scenario.sla.percentile:g}"],
        queries=result.queries or 0,
        replications=result.experiment.replications if result.experiment else _REPLICATIONS,
        sub_requests=simulated,
        steps_back=steps_back,
        performance=result,
    )


def verify(
    scenario: Scenario, policy: Policy, formula_qps: float, *, seed: int, effort: float = 1.0
) -> tuple[float, Verification]:
    """The largest rate, at or below the formula's, that the simulator confirms; and the run that confirms it.

    One run explores a rate and goes on until it is decided; when its interval lies within the bound, a second run with
    fresh random numbers decides, so that the verdict is not picked among several looks. Where either fails, stays
    undecided or can hardly pass any more, the rate is lowered, by 0.25 % at first, doubling up to 2 %. With less
    ``effort`` the runs are shorter by that factor; the verdict errs no more often for it, but is undecided more often,
    which steps back further.

    Where queries may be slower at a lower rate (:func:`recqueue.analysis.rates.slower_when_quiet`) and the formula sees
    more than half of the late queries that are allowed at one, that rate is simulated last; unless it passes too, its
    verdict is that of the whole.
    """
    asked = replace(scenario, policy=policy)
    most = CLOSEST_TO_SATURATION / max(offered_load(scenario, policy, 1.0))
    rate = min(formula_qps, most)
    step, steps_back, simulated, look = _FIRST_STEP, 0, 0, 0

    def run(qps: float) -> Performance:
        nonlocal look, simulated
        look += 1
        result = simulate(
            asked,
            qps=qps,
            queries=round(effort * _FIRST_QUERIES),
            replications=_REPLICATIONS,
            seed=seed * 1000 + look,
            until_decided=True,
            max_queries=round(effort * _most_queries(scenario, policy, qps)),
            give_up=_GIVE_UP if steps_back < _MOST_STEPS else 0.0,
        )
        simulated += result.sub_requests or 0
        return result

    while True:
        result = run(rate)
        if result.meets_sla:
            result = run(rate)
            if result.meets_sla:
                break
        if steps_back == _MOST_STEPS or (result.experiment and result.experiment.interrupted):
            break
        rate, step, steps_back = rate * (1 - step), min(2 * step, _LARGEST_STEP), steps_back + 1
    lower, share = least_kept_below(scenario, policy, rate, Costs.of(asked))
    if result.meets_sla and 1 - share > (1 - scenario.sla.percentile / 100) / 2:
        quiet = run(lower)
        result = result if quiet.meets_sla else quiet
    return rate, _verification(result, scenario, simulated, steps_back)
