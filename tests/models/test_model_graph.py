"""The graphs: one output, an order that runs, critical paths, and the refusals of operators and models."""

import pickle
import random
import subprocess
import sys

import networkx as nx
import pytest

from recqueue.errors import InputError
from recqueue.models import SIZES, Kind, Model, Operator, get, names
from recqueue.models.operators import SOURCES

EVERY = names(include_variants=True)


@pytest.mark.parametrize("name", EVERY)
def test_registry_walk(name):
    model = get(name)
    assert model.name == name
    assert get(name) is model
    assert model.title
    assert model.description.endswith(".")
    assert model.source
    assert model.verified is not name.endswith("-table-i")
    assert model.verified or any("Filled in" in note for note in model.notes)
    for op in model.operators:
        assert set(op.sizes) == set(SIZES[op.kind])
        assert model[op.name] is op
        assert op.part
        assert op.role


def test_the_eight_names():
    assert names() == ("ncf", "wide-and-deep", "mt-wnd", "dlrm-rmc1", "dlrm-rmc2", "dlrm-rmc3", "din", "dien")
    assert set(names()) < set(EVERY)
    assert len(set(EVERY)) == len(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_graph_is_acyclic_with_one_output_and_runs_in_order(name):
    model = get(name)
    graph = model.graph
    assert nx.is_directed_acyclic_graph(graph)
    assert [n for n, d in graph.out_degree if d == 0] == [model.output.name]
    assert {n for n, d in graph.in_degree if d == 0} <= {op.name for op in model.operators if op.kind in SOURCES}
    position = {op.name: i for i, op in enumerate(model.operators)}
    assert all(position[s] < position[t] for s, t in graph.edges)
    assert nx.is_weakly_connected(graph)


def test_only_what_the_published_code_writes_over_is_kept_by_order_alone():
    order_only = {name: [(s, t) for s, t, kept in get(name).graph.edges(data="data") if not kept] for name in EVERY}
    assert {name: edges for name, edges in order_only.items() if edges} == {
        "ncf-published": [("mf_0", "mf_0_again"), ("mf_1", "mf_1_again")],
        "dien": [("attention_softmax", "attention_sum")],
        "dien-table-i": [("attention_softmax", "attention_sum")],
    }


def literal_longest(model, weight):
    """Weight of the heaviest path by trying every path from the output backwards."""

    def back(name):
        return weight(model[name]) + max((back(n) for n in model.graph.predecessors(name)), default=0)

    return back(model.output.name)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_critical_path_is_the_heaviest_of_all_paths(name, seed):
    model = get(name)
    rng = random.Random(seed)
    weights = {op.name: 1 if seed is None else rng.randrange(1000) for op in model.operators}
    path, length = model.critical_path(lambda op: weights[op.name])
    assert length == sum(weights[n] for n in path) == literal_longest(model, lambda op: weights[op.name])
    assert nx.is_path(model.graph, path)
    assert path[-1] == model.output.name


def test_critical_path_of_dlrm_is_the_slower_of_bottom_and_embeddings():
    model = get("dlrm-rmc1")
    slow_bags, _ = model.critical_path(lambda op: 100.0 if op.kind is Kind.EMBEDDING_BAG else 1.0)
    assert slow_bags[:2] == ("embedding_0", "interaction")
    slow_mlp, length = model.critical_path(lambda op: 1.0)
    assert slow_mlp[:2] == ("dense", "bottom_fc_1")
    assert length == 1 + 4 + 1 + 6


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_critical_path_refuses_weights_that_are_no_times(weight):
    with pytest.raises(InputError, match=r"weight .* of operator 'mf_0'"):
        get("ncf").critical_path(lambda op: weight)


@pytest.mark.parametrize(
    ("given", "near"),
    [("dlrm-rmc4", "dlrm-rmc"), ("DIEN", "'dien'"), ("wide_and_deep", "'wide-and-deep'"), ("mtwnd", "'mt-wnd'")],
)
def test_unknown_model_suggests_the_nearest(given, near):
    with pytest.raises(InputError, match=f"model '{given}' is not known; did you mean .*{near}.*allowed: ncf, "):
        get(given)


def test_unknown_model_without_anything_near():
    with pytest.raises(InputError, match="model 'resnet' is not known; allowed"):
        get("resnet")


@pytest.mark.parametrize("items", [0, -1, 1.5, True])
def test_totals_refuse_other_batch_sizes(items):
    with pytest.raises(InputError, match="batch size"):
        get("ncf").flops(items)


def test_models_survive_a_worker_process():
    for name in ("din", "dien"):
        assert pickle.loads(pickle.dumps(get(name))) == get(name)
    with pytest.raises(TypeError):
        get("ncf").operators[0].sizes["rows"] = 1


def dense(width=4, name="dense"):
    return Operator(name=name, kind=Kind.DENSE_INPUT, sizes={"width": width})


def relu(width, source="dense", name="relu"):
    return Operator(name=name, kind=Kind.RELU, sizes={"width": width, "steps": 1}, inputs=(source,))


def bag(name, dim=4, rows=10):
    sizes = {"table": 0, "rows": rows, "dim": dim, "lookups": 1}
    return Operator(name=name, kind=Kind.EMBEDDING_BAG, sizes=sizes)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"kind": Kind.RELU, "sizes": {"width": 3}, "inputs": ("x",)}, r"needs exactly \['width', 'steps'\]"),
        ({"kind": Kind.DENSE_INPUT, "sizes": {"width": 0}}, "width 0; it must be a whole number of 1 or more"),
        ({"kind": Kind.DENSE_INPUT, "sizes": {"width": 2.5}}, "width 2.5"),
        ({"kind": Kind.DENSE_INPUT, "sizes": {"width": 2}, "inputs": ("x",)}, "1 inputs given; dense input needs 0"),
        ({"kind": Kind.CONCAT, "sizes": {"inputs": 2, "width": 2}, "inputs": ("x",)}, "concat needs 2"),
    ],
)
def test_operator_refusals(arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        Operator(name="op", **arguments)


@pytest.mark.parametrize(
    ("operators", "complaint"),
    [
        ((dense(), dense()), "'dense' is used twice"),
        ((relu(4), dense()), "needs 'dense', which does not come before it"),
        ((dense(), relu(5)), r"expects \(steps, width\) \(1, 5\) but reads \[\(1, 4\)\]"),
        ((dense(), relu(4), relu(4, name="other")), r"outputs \['relu', 'other'\]; exactly one"),
        ((bag("one"), bag("two", rows=11)), "disagrees about table 0"),
        ((), r"outputs \[\]"),
    ],
)
def test_model_refusals(operators, complaint):
    with pytest.raises(InputError, match=complaint):
        Model(name="m", title="M", description="", operators=operators)


def test_all_models_build_without_heavy_imports():
    code = (
        "import sys; from recqueue import models\n"
        "[models.get(n) for n in models.names(True)]\n"
        "print(*{'sympy', 'networkx', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_graph_and_totals_of_din():
    model = pickle.loads(pickle.dumps(get("din")))  # nothing cached yet
    assert len(model.graph) == 1768
    assert model.flops(64) == 64 * model.flops(1)
