"""Fronts against brute force over every policy of small systems."""

from dataclasses import replace
from functools import cache

import pytest
from test_search import places, random_scenario

from recqueue.analysis import evaluate
from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import largest_rate
from recqueue.errors import InputError
from recqueue.optimize.changes import sla_latency
from recqueue.optimize.lattice import lattice
from recqueue.optimize.pareto import EQUAL, pareto_front
from recqueue.serving import Power

NEAR = 1e-3
"""A policy is refuted where it is less than EQUAL beyond the front, in rate or energy, and both are found to 1e-4."""
SHARES = (1.0, 0.98, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2)


def powered(seed, **kwargs):
    s = random_scenario(seed, **kwargs)
    device = s.system.accelerator
    if device is not None:
        device = replace(device, power=Power(idle_w=20.0, busy_w=120.0))
    return replace(s, system=replace(s.system, power=Power(idle_w=30.0, busy_w=150.0), accelerator=device))


@cache
def everything(seed, fusing=False):
    """The scenario, and (qps, queries per joule) of every policy at its largest rate and some lower ones."""
    s = powered(seed, fusing=fusing)
    costs = Costs.of(s)
    grid = lattice(s, costs)
    found = []
    for place in places(grid):
        policy = grid.policy(place)
        top = largest_rate(s, policy, costs)
        for share in SHARES if top else ():
            p = evaluate(replace(s, policy=policy), qps=share * top, costs=costs)
            found.append((p.qps, p.qps / p.power_w))
            if len(found) > 1 and found[-1][1] < found[-2][1] and share < 1:
                break
    return s, found


@pytest.mark.parametrize("seed", [3, 21, 27])
def test_no_policy_lies_beyond_the_front_of_energy(seed):
    s, every = everything(seed)
    front = pareto_front(s, exact=True)
    assert (front.exact, front.left_open) == (True, 0)
    assert front.points
    for qps, per_joule in every:
        assert any(p.qps >= qps * (1 - NEAR) and p.qps_per_w >= per_joule * (1 - NEAR) for p in front.points)
    for p in front.points:
        again = evaluate(replace(s, policy=p.policy), qps=p.qps)
        assert (p.power_w, p.latency_s["p95"]) == (again.power_w, again.latency_s["p95"])
        assert p.qps_per_w == p.qps / p.power_w
        assert p.latency_s["p95"] <= s.sla.latency_s * (1 + 1e-6)
    rates = [p.qps for p in front.points]
    assert rates == sorted(set(rates))
    energy = [p.qps_per_w for p in front.points]
    assert energy == sorted(set(energy), reverse=True)
    best = max(qps for qps, _ in every)
    assert rates[-1] == pytest.approx(best, rel=EQUAL)


@pytest.mark.parametrize("seed", [3])
def test_each_point_against_latency_is_the_largest_rate_within_its_bound(seed):
    s = powered(seed)
    costs = Costs.of(s)
    front = pareto_front(s, against="latency", points=3)
    assert front.exact
    assert len(front.points) >= 2
    grid = lattice(s, costs)
    for p in front.points:
        asked = sla_latency(s, p.bound_s)
        best = max(largest_rate(asked, grid.policy(place), costs) for place in places(grid))
        assert p.qps == pytest.approx(best, rel=EQUAL)
        assert p.latency_s["p95"] <= p.bound_s * (1 + 1e-6)
    latency = [p.latency_s["p95"] for p in front.points]
    assert latency == sorted(set(latency))
    assert front.points[-1].bound_s == s.sla.latency_s


def test_fused_launches_have_no_bound_of_energy_and_are_still_refuted():
    s, every = everything(3, fusing=True)
    front = pareto_front(s, exact=True)
    assert front.points
    for qps, per_joule in every:
        assert any(p.qps >= qps * (1 - NEAR) and p.qps_per_w >= per_joule * (1 - NEAR) for p in front.points)


def test_what_is_not_proved_says_so(monkeypatch):
    monkeypatch.setattr("recqueue.optimize.pareto.TESTS", 2)
    s, _ = everything(4)
    rough = pareto_front(s)
    assert not rough.exact
    assert rough.left_open > 0
    proved = pareto_front(s, exact=True)
    assert proved.points[-1].qps >= rough.points[-1].qps * (1 - EQUAL)


def test_a_promise_that_no_policy_keeps_has_no_front():
    s = sla_latency(powered(4), 1e-6)
    assert pareto_front(s).points == ()
    assert pareto_front(s, against="latency").points == ()


def test_what_cannot_be_asked_is_one_line():
    s = random_scenario(4)
    with pytest.raises(InputError, match="power of this machine is not known"):
        pareto_front(s)
    with pytest.raises(InputError, match="allowed: watts, latency"):
        pareto_front(s, against="money")
    with pytest.raises(InputError, match="give 2 or more"):
        pareto_front(s, against="latency", points=1)
