"""Costs are lines in the batch size, and one formula serves numbers and symbols."""

import pytest
import sympy as sp

from recqueue.models import SIZES, Kind, get, names
from recqueue.models.costs import b, cost_of, kind_cost
from recqueue.models.roles import role_graph, roles

EVERY = names(include_variants=True)


@pytest.mark.parametrize("name", EVERY)
def test_costs_are_lines_in_the_batch_size(name):
    model = get(name)
    for op in model.operators:
        for field, expression in vars(cost_of(op)).items():
            assert sp.degree(expression, b) <= 1 if expression.has(b) else expression.is_Integer, (op.name, field)
            assert expression.subs(b, 1) >= 0
    cost = model.cost
    assert cost.parameters.is_Integer
    for expression in (cost.macs, cost.flops, cost.table_bytes, cost.lookups, cost.bytes_written):
        assert expression.subs(b, 0) == 0  # no items, no work; only weights are read without any
    assert cost.bytes_read.subs(b, 0) == 4 * sum(
        cost_of(op).parameters * (op.sizes["steps"] if op.kind is Kind.RECURRENT else 1)
        for op in model.operators
        if op.kind is not Kind.EMBEDDING_BAG
    )


@pytest.mark.parametrize("kind", Kind)
def test_formula_with_symbols_agrees_with_numbers(kind):
    symbols = {key: sp.Symbol(key, positive=True) for key in SIZES[kind]}
    numbers = {key: 3 + 2 * i for i, key in enumerate(SIZES[kind])}
    at = {symbols[key]: numbers[key] for key in symbols}
    general, exact = kind_cost(kind, symbols), kind_cost(kind, numbers)
    for field in vars(exact):
        assert sp.expand(sp.sympify(getattr(general, field)).subs(at) - getattr(exact, field)) == 0, field
    assert "b" in sp.latex(general.bytes_written) or kind is Kind.DENSE_INPUT


def test_textbook_counts_of_single_operators():
    fc = kind_cost(Kind.FC, {"in_width": 3, "out_width": 2, "steps": 1})
    assert (fc.macs, fc.parameters) == (6 * b, 8)
    assert sp.expand(fc.bytes_read - (12 * b + 32)) == 0
    bag = kind_cost(Kind.EMBEDDING_BAG, {"table": 0, "rows": 10, "dim": 4, "lookups": 5})
    assert (bag.flops, bag.lookups, bag.table_bytes, bag.bytes_read) == (16 * b, 5 * b, 80 * b, 120 * b)


@pytest.mark.parametrize("name", EVERY)
def test_parts_and_roles_add_up_to_the_whole(name):
    model = get(name)
    assert model.cost == model.total()
    for field in ("macs", "flops", "bytes_read", "bytes_written", "lookups", "parameters"):
        whole = getattr(model.cost, field)
        assert sum(getattr(model.total(part), field) for part in {op.part for op in model.operators}) == whole
        assert sum(getattr(role.cost, field) for role in roles(model)) == whole
    assert sum(role.count for role in roles(model)) == len(model.operators)


@pytest.mark.parametrize("name", EVERY)
def test_folding_keeps_one_name_for_each_box_and_every_edge(name):
    model, folded = get(name), role_graph(get(name))
    home = {op.name: role.name for role in roles(model) for op in role.operators}
    assert len(folded) == len(roles(model)) < 30  # readable
    assert {(home[s], home[t]) for s, t in model.graph.edges} == set(folded.edges)
    assert not any(s == t for s, t in folded.edges)
