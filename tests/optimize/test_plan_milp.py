"""The mixed-integer program against enumeration, and the promises by their definitions."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from recqueue.optimize.plan_baselines import greedy, proportional
from recqueue.optimize.plan_instance import Instance, keep_tables, objective, survives
from recqueue.optimize.plan_milp import solve_program
from recqueue.optimize.plan_solve import solve


def instance(rng, *, hours=2, **changes):
    """Two types of machine, two models, five columns (one pair has two policies)."""
    made = Instance(
        qps=rng.uniform(1, 6, 5),
        machine=np.array([0, 0, 1, 1, 1]),
        model=np.array([0, 1, 0, 1, 1]),
        weight=rng.uniform(1, 3, 5),
        own_weight=np.zeros(2),
        stock=np.array([3, 3]),
        demand_qps=rng.uniform(1, 6, (2, hours)),
        margin=np.array([0.1, 0.0]),
        spare=False,
        domains=None,
    )
    return replace(made, **changes)


def choices(of):
    """Every choice of one hour that keeps the promises within the stock, shape ``(choices, columns)``."""
    all_ = np.array(list(itertools.product(range(4), repeat=len(of.qps))))
    on = np.stack([all_[:, of.machine == t].sum(axis=1) for t in range(len(of.stock))], axis=1)
    return all_[np.all(on <= of.stock, axis=1)]


def feasible(of):
    """Those of each hour that keep the promises."""
    return [[c for c in choices(of) if survives(of.hour(h), c[:, None]).all()] for h in range(of.demand_qps.shape[1])]


def least(of):
    """Least objective by enumeration, infinite when there is none; limits on switching do not count."""
    by_hour = feasible(of)
    if not np.any(of.own_weight):
        return sum(min((of.weight @ c for c in some), default=np.inf) for some in by_hour)
    return min((objective(of, np.column_stack(pair)) for pair in itertools.product(*by_hour)), default=np.inf)


RULES = {
    "demand": {},
    "spare machine": {"spare": True},
    "two domains": {"domains": 2},
    "three domains and a wide margin": {"domains": 3, "margin": np.array([0.9, 0.2])},
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_is_as_good_as_the_best_of_all_choices(rules):
    rng = np.random.default_rng(1)
    infeasible = 0
    for _ in range(6):
        asked = instance(rng, **rules)
        best = least(asked)
        for found in (solve_program(asked, gap=0, time_limit_s=20), solve(asked, gap=0, time_limit_s=20)):
            if np.isinf(best):
                infeasible += 1
                assert (found.status, found.counts) == ("infeasible", None)
                continue
            # 1e-6: feasibility tolerance of the solver
            assert found.value == pytest.approx(best, rel=1e-6)
            assert found.bound == pytest.approx(best, rel=1e-6)
            assert objective(asked, found.counts) == pytest.approx(best, rel=1e-6)
            assert survives(asked, found.counts).all()
            assert np.all(asked.on_of_type(found.counts) <= asked.stock[:, None])
    assert infeasible < 12  # something was compared


def test_machines_that_are_owned_are_paid_for_their_busiest_hour():
    rng = np.random.default_rng(5)
    asked = instance(rng, own_weight=np.array([2.0, 5.0]), demand_qps=rng.uniform(1, 4, (2, 2)), stock=np.array([3, 2]))
    found = solve(asked, gap=0, time_limit_s=20)
    assert found.value == pytest.approx(least(asked), rel=1e-6)


def survives_by_hand(asked, counts, h):
    """The promises, machine by machine."""
    for m in range(len(asked.demand_qps)):
        machines = [q for c, q in enumerate(asked.qps) if asked.model[c] == m for _ in range(counts[c, h])]
        demand = asked.demand_qps[m, h]
        if sum(machines) < demand * (1 + asked.margin[m]) - 1e-6:
            return False
        if asked.spare and any(sum(machines) - q < demand - 1e-6 for q in machines):
            return False
        if asked.domains:  # machines of each column are dealt to the domains in turn, each beginning anywhere
            mine = [(asked.qps[c], counts[c, h]) for c in range(len(asked.qps)) if asked.model[c] == m and counts[c, h]]
            for starts in itertools.product(range(asked.domains), repeat=len(mine)):
                lost = np.zeros(asked.domains)
                for (q, n), start in zip(mine, starts, strict=True):
                    for k in range(n):
                        lost[(start + k) % asked.domains] += q
                if sum(machines) - lost.max() < demand - 1e-6:
                    return False
    return True


@pytest.mark.parametrize("rules", [{"spare": True}, {"domains": 3}, {"domains": 2, "spare": True}], ids=str)
def test_any_machine_or_domain_may_be_lost(rules):
    rng = np.random.default_rng(3)
    bound = 0
    for _ in range(4):
        asked = instance(rng, stock=np.array([9, 9]), **rules)
        found = solve(asked, gap=0, time_limit_s=20)
        assert found.counts is not None
        assert all(survives_by_hand(asked, found.counts, h) for h in range(2))
        without = solve(replace(asked, spare=False, domains=None), gap=0, time_limit_s=20)
        bound += found.value > without.value + 1e-6
    assert bound > 0  # the promise cost something, so it was not kept by chance


def test_a_reserve_wider_than_any_machine_needs_no_spare_one():
    rng = np.random.default_rng(8)
    asked = instance(
        rng, spare=True, margin=np.array([9.0, 9.0]), demand_qps=np.full((2, 1), 1.0), stock=np.array([9, 9])
    )
    assert solve(asked, gap=0, time_limit_s=20).value == pytest.approx(
        solve(replace(asked, spare=False), gap=0, time_limit_s=20).value
    )


def least_switches(asked, counts):
    """Fewest machines given another model, by trying every way to hold the tables; one type, two models."""
    stock, hours = int(asked.stock[0]), counts.shape[1]
    ways = itertools.product(range(stock + 1), repeat=hours)  # machines that hold the first model; the rest the second
    best = np.inf
    for first in ways:
        held = np.array([first, [stock - n for n in first]])
        if np.all(held >= counts):
            best = min(best, np.abs(np.diff(np.append(first, first[0]))).sum())
    return best


def test_switching_limit_and_cost_hold_over_the_whole_day():
    asked = Instance(
        qps=np.array([1.0, 1.0]),
        machine=np.array([0, 0]),
        model=np.array([0, 1]),
        weight=np.ones(2),
        own_weight=np.zeros(1),
        stock=np.array([5]),
        demand_qps=np.array([[4.0, 1.0, 1.0], [1.0, 4.0, 1.0]]),
        margin=np.zeros(2),
        spare=False,
        domains=None,
    )
    free = solve(asked, gap=0, time_limit_s=20)
    assert free.value == 12
    # three machines change in the second hour, and back again later
    assert free.switched(asked).sum() == least_switches(asked, free.counts) == 6
    three = solve(replace(asked, most_switched=3), gap=0, time_limit_s=20)
    assert three.switched(asked).max() <= 3
    assert three.value == 12
    assert solve(replace(asked, most_switched=2), gap=0, time_limit_s=20).status == "infeasible"
    larger = solve(replace(asked, most_switched=2, stock=np.array([6])), gap=0, time_limit_s=20)
    assert larger.switched(replace(asked, stock=np.array([6]))).max() <= 2
    priced = solve(replace(asked, switch_weight=0.5), gap=0, time_limit_s=20)
    assert priced.value == pytest.approx(12 + 0.5 * 6)


def test_tables_are_kept_where_they_can_be():
    rng = np.random.default_rng(2)
    asked = instance(rng, hours=6, stock=np.array([9, 9]))
    counts = solve(asked, gap=0, time_limit_s=20).counts
    held = keep_tables(asked, counts)
    on = np.zeros_like(held)
    np.add.at(on, (asked.machine, asked.model), counts)
    assert np.all(held >= on)
    assert np.all(np.ptp(held.sum(axis=1), axis=1) == 0)
    assert np.all(held.sum(axis=1)[:, 0] == asked.on_of_type(counts).max(axis=1))


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_baselines_keep_the_promises_and_are_never_better(rules):
    rng = np.random.default_rng(11)
    compared = 0
    for _ in range(12):
        asked = instance(rng, stock=np.array([12, 12]), **rules)
        best = solve(asked, gap=0, time_limit_s=20)
        for rule in (greedy, proportional):
            counts, reason = rule(asked)
            if counts is None:
                assert reason
                continue
            compared += 1
            assert survives(asked, counts).all()
            assert np.all(asked.on_of_type(counts) <= asked.stock[:, None])
            assert objective(asked, counts) >= best.value * (1 - 1e-6)
    assert compared >= 12


def test_greedy_says_where_it_runs_out():
    asked = instance(np.random.default_rng(0), stock=np.array([1, 0]))
    counts, where = greedy(asked)
    assert counts is None
    assert where.partition(":")[0] in ("0", "1")


def test_cvxpy_finds_the_same_value():
    """The same program written down in another language, solved through another interface."""
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(4)
    asked = instance(rng, spare=True, stock=np.array([6, 6]), own_weight=np.array([1.5, 0.5]))
    x, own = cp.Variable((5, 2), integer=True), cp.Variable(2, integer=True)
    rules = [x >= 0, own <= asked.stock]
    for m, h in itertools.product(range(2), range(2)):
        mine = asked.model == m
        carried = asked.qps[mine] @ x[mine, h]
        rules += [carried >= asked.demand_qps[m, h] * (1 + asked.margin[m])]
        for c in np.flatnonzero(mine):
            used = cp.Variable(boolean=True)
            rules += [x[c, h] <= 20 * used, carried - asked.qps[c] * used >= asked.demand_qps[m, h]]
    for t in range(2):
        rules += [cp.sum(x[asked.machine == t], axis=0) <= own[t]]
    problem = cp.Problem(cp.Minimize(cp.sum(asked.weight @ x) + asked.own_weight @ own), rules)
    problem.solve(solver="HIGHS")
    assert solve(asked, gap=0, time_limit_s=20).value == pytest.approx(problem.value, rel=1e-5)
