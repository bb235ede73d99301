"""The five architectures of the eight models, as functions of their sizes."""

from __future__ import annotations

from collections.abc import Sequence

from recqueue.models.builder import Builder
from recqueue.models.operators import Kind, Operator

Operators = tuple[Operator, ...]


def dlrm(*, bottom: Sequence[int], top: Sequence[int], rows: Sequence[int], dim: int, lookups: int) -> Operators:
    """DLRM: a bottom MLP beside pooled embeddings, concatenated into a top MLP with a sigmoid.

    The first width of ``bottom`` is that of the dense features.
    """
    m = Builder()
    dense = m.mlp("bottom", m.dense(bottom[0]), bottom[1:], part="bottom")
    features = m.concat("interaction", [dense, *m.bags(rows, dim=dim, lookups=lookups)], part="interaction")
    m.mlp("top", features, top, part="top", last=Kind.SIGMOID)
    return m.operators


def ncf(
    *, mlp: Sequence[int], final: Sequence[int], rows: Sequence[int], dim: int, issue_twice: bool = False
) -> Operators:
    """NCF: a matrix-factorization pair that is added and an MLP over a second pair, joined by ``final`` layers.

    ``issue_twice`` gathers each table of the first pair twice, the second time over the first result.
    """
    m = Builder()
    pair = m.bags(rows[:2], dim=dim, lookups=1, stem="mf")
    if issue_twice:
        pair = [
            m.bag(f"{x}_again", table=i, rows=rows[i], dim=dim, lookups=1, after=[x], role="mf_again")
            for i, x in enumerate(pair)
        ]
    factors = m.total("mf_sum", pair, part="interaction")
    joined = m.concat("mlp_concat", m.bags(rows[2:], dim=dim, lookups=1, stem="mlp", first=2), part="interaction")
    hidden = m.mlp("deep", joined, mlp, part="deep")
    m.mlp("final", m.concat("join", [factors, hidden], part="interaction"), final, part="final")
    return m.operators


def wide_and_deep(
    *, dense: int, shared: Sequence[int], task: Sequence[int], rows: Sequence[int], dim: int, lookups: int = 1
) -> Operators:
    """Wide & Deep with one task: dense features and embeddings side by side into one MLP with a sigmoid.

    ``shared`` layers end with ReLU; ``task`` layers follow as a part of their own (multi-task models). ``dense`` 0
    leaves the dense features out.
    """
    m = Builder()
    inputs = ([m.dense(dense)] if dense else []) + m.bags(rows, dim=dim, lookups=lookups)
    x = m.concat("features", inputs, part="interaction")
    if task:
        x = m.mlp("shared", x, shared, part="shared")
        m.mlp("task", x, task, part="task", last=Kind.SIGMOID)
    else:
        m.mlp("top", x, shared, part="top", last=Kind.SIGMOID)
    return m.operators


def _roles(m: Builder, rows: Sequence[int], *, dim: int, lookups: int) -> tuple[str, list[str], str, str]:
    """User profile, user behaviours, candidate ad and context: the first, the middle, and the last two tables."""
    n = len(rows)
    profile = m.bag("profile", table=0, rows=rows[0], dim=dim, lookups=lookups)
    behaviours = m.bags(rows[1:-2], dim=dim, lookups=lookups, stem="behaviour", first=1)
    ad = m.bag("ad", table=n - 2, rows=rows[-2], dim=dim, lookups=lookups)
    context = m.bag("context", table=n - 1, rows=rows[-1], dim=dim, lookups=lookups)
    return profile, behaviours, ad, context


def din(*, unit: Sequence[int], top: Sequence[int], rows: Sequence[int], dim: int, lookups: int) -> Operators:
    """DIN: one attention unit for each behaviour, added up, beside profile, ad and context into an MLP of ReLUs.

    A unit adds behaviour and ad, concatenates behaviour, ad and sum, and sends them through its own small MLP back to
    the embedding dimension; as in the authors' code, the weight is not multiplied onto the behaviour.
    """
    m = Builder()
    profile, behaviours, ad, context = _roles(m, rows, dim=dim, lookups=lookups)
    attended = []
    for i, behaviour in enumerate(behaviours, start=1):
        stem, part = f"attention_{i}", "attention"
        both = m.total(f"{stem}_sum", [behaviour, ad], part=part, role="attention_sum")
        x = m.concat(f"{stem}_concat", [behaviour, ad, both], part=part, role="attention_concat")
        attended.append(m.mlp(stem, x, [*unit, dim], part=part, role="attention"))
    pooled = m.total("pooling", attended, part="interaction")
    m.mlp("top", m.concat("features", [profile, pooled, ad, context], part="interaction"), top, part="top")
    return m.operators


def _cell(m: Builder, name: str, x: str, *, hidden: int, steps: int) -> str:
    """Project the whole sequence at once, then run the recurrent cell over its steps."""
    projected = m.fc(f"{name}_input", x, hidden, part=name)
    return m.add(name, Kind.RECURRENT, {"steps": steps, "hidden": hidden}, [projected], part=name)


def dien(*, hidden: int, top: Sequence[int], rows: Sequence[int], dim: int, lookups: int = 1) -> Operators:
    """DIEN: two recurrent cells over the behaviours, the last state beside profile, ad and context into an MLP.

    As in the authors' code, the attention between the cells (FC, softmax) is computed and then written over by a copy
    of the first cell's output, so it costs time but does not reach the answer.
    """
    m = Builder()
    profile, behaviours, ad, context = _roles(m, rows, dim=dim, lookups=lookups)
    joined = m.concat("behaviours", behaviours, part="interaction")
    steps = len(behaviours)
    x = m.add("sequence", Kind.TO_SEQUENCE, {"steps": steps, "width": dim}, [joined], part="interaction")
    first = _cell(m, "rnn_1", x, hidden=hidden, steps=steps)
    scores = m.fc("attention_fc", first, hidden, part="attention")
    weights = m.elementwise("attention_softmax", Kind.SOFTMAX, scores, part="attention")
    copied = m.total("attention_sum", [first], part="attention", after=[weights])
    second = _cell(m, "rnn_2", copied, hidden=hidden, steps=steps)
    last = m.add("last_state", Kind.LAST_STEP, {"steps": steps, "width": hidden}, [second], part="interaction")
    m.mlp("top", m.concat("features", [last, profile, ad, context], part="interaction"), top, part="top")
    return m.operators
