"""Patterns and prices of machines against the mixed-integer program; the search for one model against enumeration."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from recqueue.optimize import plan_exact
from recqueue.optimize.plan_instance import Instance, survives
from recqueue.optimize.plan_kernel import one_model
from recqueue.optimize.plan_milp import solve_program
from recqueue.optimize.plan_patterns import solve_by_patterns
from recqueue.optimize.plan_pool import Columns

TOLERANCE = 1e-9


def cheapest(mu, price, demand, need, spare, domains):
    """By enumeration: the least price of machines that keep the promises of one model."""
    one = Instance(
        qps=mu, machine=np.arange(len(mu)), model=np.zeros(len(mu), np.int64), weight=price,
        own_weight=np.zeros(len(mu)), stock=np.full(len(mu), 99), demand_qps=np.array([[demand]]),
        margin=np.array([need / demand - 1]), spare=spare, domains=domains,
    )  # fmt: skip
    most = 14 if domains else 9
    all_ = itertools.product(range(most), repeat=len(mu))
    return min(float(price @ x) for x in map(np.array, all_) if survives(one, x[:, None])[0, 0])


@pytest.mark.parametrize(
    ("spare", "domains", "margin"), [(False, 0, 0.1), (True, 0, 0.1), (True, 0, 2.0), (False, 3, 0.1), (True, 2, 1.5)]
)
def test_one_model_takes_the_cheapest_machines(spare, domains, margin):
    rng = np.random.default_rng(7)
    for _ in range(6):
        mu = np.sort(rng.uniform(1, 5, 3))
        price = mu * rng.uniform(0.7, 1.3, 3)
        demand = rng.uniform(1.5, 4)
        need = demand * (1 + margin) if margin < 1 or domains else demand * 1.5
        counts = np.zeros(3, np.int64)
        value, bound = one_model(
            mu, price, np.arange(3), np.full(3, 99), demand, need, spare, domains, counts, TOLERANCE, 100_000
        )
        best = cheapest(mu, price, demand, need, spare, domains or None)
        assert value == pytest.approx(best, rel=1e-9)
        assert value == pytest.approx(price @ counts)
        assert bound <= best * (1 + 1e-12)
        assert bound >= best * (1 - 1e-6)


def test_a_search_that_is_cut_short_says_less_but_nothing_wrong():
    rng = np.random.default_rng(3)
    mu = np.sort(rng.uniform(1, 2, 8))
    price = mu * rng.uniform(0.99, 1.01, 8)
    short, full = np.zeros(8, np.int64), np.zeros(8, np.int64)
    arguments = (mu, price, np.arange(8), np.full(8, 99), 31.3, 32.0, False, 0)
    value, bound = one_model(*arguments, short, TOLERANCE, 20)
    best, _ = one_model(*arguments, full, TOLERANCE, 1_000_000)
    assert bound <= best <= value
    assert bound == pytest.approx(32.0 * (price / mu).min())


def test_what_is_left_of_a_type_is_a_limit_and_stays_as_it_was():
    left = np.array([1, 0, 5])
    counts = np.zeros(3, np.int64)
    mu, price = np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 9.0])
    value, _ = one_model(mu, price, np.arange(3), left, 6.5, 6.5, False, 0, counts, TOLERANCE, 1000)
    assert (value, counts.tolist(), left.tolist()) == (19.0, [1, 0, 2], [1, 0, 5])
    value, _ = one_model(mu, price, np.arange(3), np.zeros(3, np.int64), 6.5, 6.5, False, 0, counts, TOLERANCE, 1000)
    assert value == np.inf


def instance(rng, **changes):
    models, types = 12, 3
    model, machine = np.divmod(np.arange(models * types), types)
    speed = np.array([1.0, 2.5, 6.0])
    qps = 100 * speed[machine] * rng.lognormal(0, 0.3, models * types)
    made = Instance(
        qps=qps,
        machine=machine,
        model=model,
        weight=speed[machine] ** 0.9,
        own_weight=np.zeros(types),
        stock=np.array([60, 22, 6]),
        demand_qps=rng.uniform(300, 1500, (models, 2)),
        margin=np.full(models, 0.05),
        spare=True,
        domains=None,
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    "changes",
    [{}, {"domains": 4, "stock": np.array([70, 26, 6])}, {"spare": False}],
    ids=["spare", "domains", "demand"],
)
def test_agrees_with_the_mixed_integer_program(changes):
    rng = np.random.default_rng(1)
    asked = instance(rng, **changes)
    found = solve_by_patterns(asked, gap=2e-3, time_limit_s=20)
    exact = solve_program(asked, gap=1e-3, time_limit_s=20)
    assert survives(asked, found.counts).all()
    assert np.all(asked.on_of_type(found.counts) <= asked.stock[:, None])
    assert found.value == pytest.approx(asked.weight @ found.counts.sum(axis=1))
    # each is proven: neither bound may be above the other's value
    assert found.bound <= exact.value * (1 + 1e-9)
    assert exact.bound <= found.value * (1 + 1e-9)
    # a dozen models leave a gap that hundreds do not
    assert found.gap <= 0.02
    assert np.any(asked.on_of_type(exact.counts) == asked.stock[:, None])  # the stock matters


@pytest.mark.parametrize(
    "changes",
    [{}, {"domains": 3, "stock": np.array([26, 8, 3])}, {"spare": False}, {"stock": np.array([60, 20, 9])}],
    ids=["spare", "domains", "demand", "plenty"],
)
def test_few_models_are_solved_to_the_end_by_listing_what_could_be_better(changes):
    rng = np.random.default_rng(5)
    for _ in range(3):
        few = instance(rng)
        some = few.model < 5
        made = {"stock": np.array([18, 6, 2]), "margin": few.margin[:5], "demand_qps": few.demand_qps[:5]}
        cut = {name: getattr(few, name)[some] for name in ("qps", "machine", "model", "weight")}
        asked = replace(few, **{**made, **cut, **changes})
        found = solve_by_patterns(asked, gap=1e-9, time_limit_s=20, programs=True)
        exact = solve_program(asked, gap=1e-9, time_limit_s=20)
        assert found.status == exact.status
        if exact.counts is None:
            continue
        assert survives(asked, found.counts).all()
        assert np.all(asked.on_of_type(found.counts) <= asked.stock[:, None])
        assert found.value == pytest.approx(exact.value, rel=1e-9)
        assert found.gap <= 1e-9
        assert "0 by column generation, 0 as programs" in found.method


def test_the_patterns_of_a_budget_are_all_there_are():
    rng = np.random.default_rng(11)
    for spare, domains in ((False, 0), (True, 0), (True, 3)):
        mu = np.sort(rng.uniform(1, 5, 3))
        price, stock, demand, need = mu * rng.uniform(0.7, 1.3, 3), np.array([6, 5, 4]), 6.0, 6.6
        one = Instance(
            qps=mu, machine=np.arange(3), model=np.zeros(3, np.int64), weight=price, own_weight=np.zeros(3),
            stock=stock, demand_qps=np.array([[demand]]), margin=np.array([0.1]), spare=spare, domains=domains or None,
        )  # fmt: skip
        good = [x for x in map(np.array, np.ndindex(*(stock + 1))) if survives(one, x[:, None])[0, 0]]
        least = [x for x in good if not any(np.all(y <= x) and np.any(y < x) for y in good)]
        costs = sorted(float(price @ x) for x in least)
        limit = costs[len(costs) // 2] + 1e-9
        rows = np.zeros((100, 3), np.int64)
        count = plan_exact.patterns(mu, price, np.arange(3), stock, demand, need, spare, domains, limit, rows)
        assert {tuple(x) for x in rows[:count]} == {tuple(x) for x in least if price @ x <= limit}
        assert count == sum(c <= limit for c in costs) >= 2
        assert plan_exact.patterns(mu, price, np.arange(3), stock, demand, need, spare, domains, limit, rows[:1]) == -1


def test_too_many_to_list_is_said_and_left_to_the_program(monkeypatch):
    asked = instance(np.random.default_rng(1), stock=np.array([60, 22, 7]))
    columns = Columns.of(asked)
    given = columns.arguments(asked.demand_qps[:, 0], 1.05 * asked.demand_qps[:, 0])
    for name, what in (
        ("MOST_PATTERNS", "patterns of a model"),
        ("MOST_LABELS", "choices"),
        ("MOST_STATES", "numbers"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(plan_exact, name, 1)
            with pytest.raises(plan_exact.TooManyError, match=what):
                plan_exact.cheapest_within(given, np.zeros(3), asked.stock, 1e3, tolerance=1e-6, nodes=1000)
    monkeypatch.setattr(plan_exact, "MOST_PATTERNS", 1)
    found = solve_by_patterns(asked, gap=1e-3, time_limit_s=20, programs=True)
    assert found.gap <= 1e-3
    assert "0 by listing" in found.method


def test_too_few_machines_are_proven_to_be():
    asked = instance(np.random.default_rng(1), stock=np.array([3, 3, 3]))
    assert solve_program(asked, gap=1e-3, time_limit_s=20).status == "infeasible"
    found = solve_by_patterns(asked, gap=1e-3, time_limit_s=20)
    assert (found.status, found.counts) == ("infeasible", None)


def test_plenty_of_machines_are_chosen_model_by_model():
    asked = instance(np.random.default_rng(2), stock=np.full(3, 999))
    found = solve_by_patterns(asked, gap=1e-3, time_limit_s=20)
    assert found.status == "solved"
    assert np.all(found.worth == 0)
    assert found.value == pytest.approx(solve_program(asked, gap=1e-4, time_limit_s=20).value, rel=1e-3)
