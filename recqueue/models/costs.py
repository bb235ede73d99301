r"""What one operator costs, as sympy expressions in the batch size b.

Conventions, the same for every kind: fp32 values (4 bytes) and int64 ids (8 bytes); every operand is read once and
every result written once per kernel, so bytes are the traffic without any cache; a multiply-accumulate is two FLOPs,
and a bias, an addition, a comparison, a division or one evaluation of exp, tanh or the logistic function is one.
A recurrent cell is one kernel per step and reads its weights at each. Lengths of embedding bags are not counted:
each bag of a table has the same number of ids (the published Caffe2 code ships 4 to 8 bytes of length per bag).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import sympy as sp

from recqueue.models.operators import Kind, Operator

FLOAT_BYTES = 4
ID_BYTES = 8

b = sp.Symbol("b", integer=True, positive=True)
"""The batch size, the only symbol in the expressions of a model."""

Expr = Any  # sympy ships no type information


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Work and traffic of an operator or of a whole model; each field is a sympy expression.

    Attributes
    ----------
    macs : Expr
        Multiply-accumulates of matrix products.
    flops : Expr
        Floating-point operations, 2 per MAC and the element-wise ones.
    bytes_read, bytes_written : Expr
        Memory traffic in bytes, weights, table rows and ids included.
    table_bytes : Expr
        The part of ``bytes_read`` that gathers embedding rows.
    lookups : Expr
        Embedding rows gathered.
    parameters : Expr
        Weights and biases; rows times dim for an embedding bag. Independent of b.
    """

    macs: Expr = sp.S.Zero
    flops: Expr = sp.S.Zero
    bytes_read: Expr = sp.S.Zero
    bytes_written: Expr = sp.S.Zero
    table_bytes: Expr = sp.S.Zero
    lookups: Expr = sp.S.Zero
    parameters: Expr = sp.S.Zero


def kind_cost(kind: Kind, sizes: Mapping[str, Expr]) -> Cost:
    """Cost of an operator of a kind; the sizes may be numbers or symbols, so this is also the formula itself."""
    s = dict(sizes)
    steps, width = s.get("steps", 1), s.get("width", 0)
    elements = sp.sympify(b * steps * width)
    match kind:
        case Kind.DENSE_INPUT:
            return Cost()  # it arrives with the query: Model.feed_bytes
        case Kind.EMBEDDING_BAG:
            rows, dim, lookups = s["rows"], s["dim"], s["lookups"]
            gathered = FLOAT_BYTES * b * lookups * dim
            return Cost(
                flops=b * (lookups - 1) * dim,
                bytes_read=gathered + ID_BYTES * b * lookups,
                bytes_written=FLOAT_BYTES * b * dim,
                table_bytes=gathered,
                lookups=b * lookups,
                parameters=sp.sympify(rows * dim),
            )
        case Kind.FC:
            m, n = s["in_width"], s["out_width"]
            weights = sp.sympify(m * n + n)
            return Cost(
                macs=b * steps * m * n,
                flops=b * steps * (2 * m * n + n),
                bytes_read=FLOAT_BYTES * (b * steps * m + weights),
                bytes_written=FLOAT_BYTES * b * steps * n,
                parameters=weights,
            )
        case Kind.RECURRENT:
            h = s["hidden"]
            weights = sp.sympify(h * h + h)
            return Cost(
                macs=b * steps * h * h,
                flops=b * steps * (2 * h * h + 3 * h),  # bias, addition of x_t, tanh
                bytes_read=FLOAT_BYTES * steps * (2 * b * h + weights),
                bytes_written=FLOAT_BYTES * b * steps * h,
                parameters=weights,
            )
        case Kind.SUM:
            flops, reads = (s["inputs"] - 1) * elements, s["inputs"] * elements
        case Kind.SOFTMAX:
            flops, reads = b * steps * (5 * width - 2), elements  # max, subtract, exp, sum, divide
        case Kind.RELU | Kind.SIGMOID | Kind.TANH:
            flops, reads = elements, elements
        case Kind.CONCAT | Kind.TO_SEQUENCE:
            flops, reads = sp.S.Zero, elements
        case Kind.LAST_STEP:
            elements = sp.sympify(b * width)
            flops, reads = sp.S.Zero, elements
    return Cost(flops=flops, bytes_read=FLOAT_BYTES * reads, bytes_written=FLOAT_BYTES * elements)


@lru_cache(maxsize=4096)
def _cost(kind: Kind, sizes: tuple[tuple[str, int], ...]) -> Cost:
    cost = kind_cost(kind, dict(sizes))
    return Cost(**{name: sp.expand(value) for name, value in vars(cost).items()})


def cost_of(operator: Operator) -> Cost:
    """Cost of an operator, each field a polynomial in ``b``."""
    return _cost(operator.kind, tuple((k, v) for k, v in operator.sizes.items() if k != "table"))


def total_cost(operators: Iterable[Operator]) -> Cost:
    """Sum of the costs of some operators; each field is zero or a polynomial in ``b``."""
    counts = Counter(cost_of(op) for op in operators)
    return Cost(
        **{f.name: sum((n * getattr(cost, f.name) for cost, n in counts.items()), sp.S.Zero) for f in fields(Cost)}
    )
