"""Headroom and gains against the exact question asked anew, on random small systems."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from test_search import random_scenario

from recqueue.analysis import evaluate
from recqueue.analysis.pools import Costs, loads
from recqueue.analysis.rates import CLOSEST_TO_SATURATION, largest_rate
from recqueue.errors import InputError
from recqueue.optimize import changes, optimize, sensitivity_of
from recqueue.optimize.nearby import TOLERANCE, best_near, rate_near
from recqueue.optimize.search import search
from recqueue.serving import Policy, Sla

pytestmark = pytest.mark.filterwarnings("ignore::recqueue.errors.OutsideMeasuredRangeWarning")  # fusion asks for more
FEASIBLE = [0, 3, 21]
"""Seeds of scenarios with a policy that keeps the promise; with and without accelerator, noise and contention."""


@cache
def feasible(seed):
    s = random_scenario(seed)
    found = search(s, Costs.of(s))
    assert found.policy is not None
    return s, found


@cache
def studied(seed):
    """The sensitivity of the best policy at 0.7 of what it carries."""
    s, found = feasible(seed)
    asked = replace(s, policy=found.policy, qps=0.7 * found.qps)
    return asked, sensitivity_of(asked, best=(found.policy, found.qps))


@pytest.mark.parametrize("seed", FEASIBLE)
def test_a_rate_found_from_a_guess_is_the_largest_rate(seed):
    s, found = feasible(seed)
    costs = Costs.of(s)
    rng = np.random.default_rng(seed)
    for batch in rng.integers(1, s.sizes.max_items + 1, 3):
        policy = Policy(int(batch), found.policy.offload_threshold)
        exact = largest_rate(s, policy, costs)
        for guess in (0.0, 0.3 * found.qps, found.qps, 3 * found.qps):
            # both end within TOLERANCE of the crossing, and step back by it
            assert rate_near(s, policy, costs, guess) == pytest.approx(exact, rel=3 * TOLERANCE)


@pytest.mark.parametrize("seed", FEASIBLE)
def test_the_search_around_a_policy_is_between_that_policy_and_the_best(seed):
    s, found = feasible(seed)
    costs = Costs.of(s)
    start = Policy(1, found.policy.offload_threshold)
    qps = largest_rate(s, start, costs)
    policy, more = best_near(s, costs, start, qps, most=50)
    assert qps <= more <= found.qps * (1 + 5e-3)  # the search itself may end this much below the best
    assert more == pytest.approx(largest_rate(s, policy, costs), rel=3 * TOLERANCE)


@pytest.mark.parametrize("seed", FEASIBLE)
def test_the_promise_breaks_where_it_says_and_gains_are_differences(seed):
    s, found = feasible(seed)
    asked, room = studied(seed)
    own = f"p{s.sla.percentile:g}"
    assert room.breaks_qps == pytest.approx(found.qps, rel=3 * TOLERANCE)
    assert room.headroom == pytest.approx(1 / 0.7 - 1, rel=1e-2)
    at = evaluate(asked, qps=room.breaks_qps).latency_s[own]
    if room.breaks_by == "latency":
        # 1e-4 below the crossing, where the percentile rises steeply, or jumps
        assert at <= s.sla.latency_s * (1 + 1e-6)
        assert evaluate(asked, qps=room.breaks_qps * (1 + 4e-4)).latency_s[own] > s.sla.latency_s
    else:
        assert room.breaks_qps == pytest.approx(CLOSEST_TO_SATURATION * room.saturates_qps, rel=1e-6)
        assert at <= s.sla.latency_s
    limits = loads(s, found.policy, Costs.of(s)).saturation_qps(s)
    assert room.saturates_qps == min(limits)
    assert room.saturates == ("cpu" if limits[0] <= limits[1] else "accelerator")
    assert sum(room.late_share.values()) == pytest.approx(1.0)
    by_name = {g.name: g for g in room.gains}
    for change in changes.improvements(asked):
        g = by_name.pop(change.name)
        exact = largest_rate(change.scenario, found.policy, Costs.of(change.scenario))
        rough = 5e-3 if "fused" in change.name else 3 * TOLERANCE
        assert g.kept_qps == pytest.approx(exact, rel=rough)
        assert g.kept_gain_qps == pytest.approx(exact - room.breaks_qps, abs=2 * rough * exact)
        assert g.best_qps >= g.kept_qps
        assert g.best_qps == pytest.approx(
            largest_rate(change.scenario, g.policy, Costs.of(change.scenario)), rel=rough
        )
    assert not by_name
    gains = [g.best_gain_qps for g in room.gains]
    assert gains == sorted(gains, reverse=True)
    monotone = {"cpu_speed*1.1", "sla_latency*1.1", "contention/2", "accelerators+1", "accelerator_speed*1.1"}
    assert all(g.best_gain_qps >= 0 for g in room.gains if g.name in monotone)


@pytest.mark.parametrize("seed", FEASIBLE)
def test_circumstances_are_what_the_formulas_say_of_them(seed):
    s, room = studied(seed)
    asked, rate = s, room.qps
    assert room.asked
    own = f"p{s.sla.percentile:g}"
    seen = {(c.name, c.kept): c for c in room.circumstances}
    for factor in (1.0, 1.1, 1.25):
        c = seen[f"load*{factor:g}", True]
        assert c.qps == pytest.approx(factor * rate)
        assert c.latency_s == evaluate(asked, qps=c.qps).latency_s[own]
    for loss in changes.losses(asked):
        c = seen[loss.name, True]
        assert c.policy == loss.scenario.policy
        assert c.latency_s == evaluate(loss.scenario, qps=rate).latency_s[own]
        assert c.carries_qps == pytest.approx(
            largest_rate(loss.scenario, c.policy, Costs.of(loss.scenario)), rel=3 * TOLERANCE
        )
        if (loss.name, False) in seen:
            assert seen[loss.name, False].carries_qps > c.carries_qps
    for c in room.circumstances:
        assert c.meets_sla == (c.latency_s <= s.sla.latency_s)


def test_one_more_core_without_contention_gains_and_one_core_less_loses():
    s = random_scenario(4)
    s = replace(s, system=replace(s.system, contention=replace(s.system.contention, busy=(1,), factor=(1.0,))))
    found = search(s, Costs.of(s))
    room = sensitivity_of(replace(s, policy=found.policy), best=(found.policy, found.qps), thorough=True)
    assert room.thorough
    gain = next(g for g in room.gains if g.name == "cores+1")
    assert gain.kept_gain_qps >= 0
    assert gain.best_gain_qps >= gain.kept_gain_qps - 2 * TOLERANCE * found.qps
    loss = next(c for c in room.circumstances if c.name == "cores-1")
    assert loss.carries_qps <= found.qps


def test_what_binds_is_named_and_explained():
    s = random_scenario(4)
    found = search(s, Costs.of(s))
    costs = Costs.of(s)

    def at(latency_s, policy=found.policy):
        asked = replace(s, sla=Sla(latency_s=latency_s), policy=policy)
        return sensitivity_of(asked, qps=1.0, best=(policy, largest_rate(asked, policy, costs)))

    idle = at(1.0).idle_s
    assert at(1.0).binds in ("cpu", "accelerator")  # a bound of a second never stops this server
    assert at(idle * 1.02).binds == "work"
    none = at(idle * 0.9)
    assert (none.binds, none.breaks_qps, none.headroom, none.late_share) == ("work", 0.0, -1.0, {})
    assert "the work alone" in none.reason


def test_a_policy_that_is_not_the_best_is_compared_with_it():
    s, found = feasible(4)
    poor = Policy(1, found.policy.offload_threshold)
    room = sensitivity_of(replace(s, policy=poor))
    assert room.best_policy == found.policy
    assert room.best_qps == found.qps
    assert room.breaks_qps < room.best_qps
    for g in room.gains:
        assert g.best_gain_qps == pytest.approx(g.best_qps - found.qps, abs=5e-3 * found.qps)
        assert g.kept_gain_qps == pytest.approx(g.kept_qps - room.breaks_qps, abs=5e-3 * found.qps)


def test_sensitivity_needs_a_policy_and_a_rate():
    s, found = feasible(4)
    with pytest.raises(InputError, match="no policy"):
        sensitivity_of(s)
    hopeless = replace(s, policy=found.policy, sla=Sla(latency_s=1e-6))
    with pytest.raises(InputError, match="no rate keeps the promise"):
        sensitivity_of(hopeless)


def test_optimize_answers_with_headroom_at_the_demand():
    s, found = feasible(4)
    answer = optimize(replace(s, qps=0.5 * found.qps), verify=False)
    assert answer.demand_qps == 0.5 * found.qps
    assert answer.sensitivity.asked
    assert answer.sensitivity.qps == answer.demand_qps
    assert answer.sensitivity.policy == answer.policy
    free = optimize(s, verify=False)
    assert (free.demand_qps, free.sensitivity.asked, free.sensitivity.qps) == (None, False, free.qps)
    assert optimize(s, verify=False, sensitivity="none").sensitivity is None
