"""Operators of recommendation models: a closed set of kinds, each with the sizes that define it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from recqueue.errors import InputError


class Kind(StrEnum):
    """What an operator does to a batch of b items; every tensor is fp32, every id int64.

    Tensors are (b, width), or (steps, b, width) where an operator has ``steps`` above 1.
    """

    DENSE_INPUT = "dense input"  # features that arrive with the query, already dense
    EMBEDDING_BAG = "embedding bag"  # sum of `lookups` rows of a table per item (SparseLengthsSum)
    FC = "fully connected"  # x W^T + bias on each step, own weights
    RELU = "relu"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    SOFTMAX = "softmax"  # over the width
    CONCAT = "concat"  # inputs side by side, in the order given
    SUM = "sum"  # element by element; with one input it copies
    TO_SEQUENCE = "to sequence"  # (b, steps * width) -> (steps, b, width)
    RECURRENT = "recurrent cell"  # h <- tanh(x_t + h W^T + bias), x_t already projected; returns every h
    LAST_STEP = "last step"  # (steps, b, width) -> (b, width), the last one


SIZES: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        Kind.DENSE_INPUT: ("width",),
        Kind.EMBEDDING_BAG: ("table", "rows", "dim", "lookups"),
        Kind.FC: ("in_width", "out_width", "steps"),
        Kind.RELU: ("width", "steps"),
        Kind.SIGMOID: ("width", "steps"),
        Kind.TANH: ("width", "steps"),
        Kind.SOFTMAX: ("width", "steps"),
        Kind.CONCAT: ("inputs", "width"),
        Kind.SUM: ("inputs", "width", "steps"),
        Kind.TO_SEQUENCE: ("steps", "width"),
        Kind.RECURRENT: ("steps", "hidden"),
        Kind.LAST_STEP: ("steps", "width"),
    }
)
"""The sizes that each kind needs; together with the inputs they are enough to build and run the operator."""

SOURCES = frozenset({Kind.DENSE_INPUT, Kind.EMBEDDING_BAG})
"""Kinds that read the query (dense features, ids) and no other operator."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator of a model.

    Parameters
    ----------
    name : str
        Unique in its model.
    kind : Kind
        What it does.
    sizes : mapping of str to int
        Exactly the sizes that ``recqueue.models.SIZES`` lists for the kind. ``table`` is the number of an embedding
        table (0 or more; two operators of the same table share its memory and its ids); all others are 1 or more.
    inputs : tuple of str
        Names of the operators whose outputs it reads, in order.
    after : tuple of str
        Names of operators that it must follow without reading them (it writes over their output). They count for
        order and critical path, not for data.
    part : str
        The part of the model that it belongs to, such as "bottom" or "top".
    role : str
        Name that all repetitions of the operator share (the 251 attention units of DIN); by default ``name``.

    Raises
    ------
    InputError
        When the sizes or the number of inputs do not fit the kind.
    """

    name: str
    kind: Kind
    sizes: Mapping[str, int]
    inputs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    part: str = ""
    role: str = ""

    def __post_init__(self) -> None:
        if set(self.sizes) != set(SIZES[self.kind]):
            raise InputError(
                f"operator {self.name!r}: sizes {sorted(self.sizes)}; {self.kind} needs exactly "
                f"{list(SIZES[self.kind])}"
            )
        for key, value in self.sizes.items():
            least = 0 if key == "table" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"operator {self.name!r}: {key} {value}; it must be a whole number of {least} or more")
        needed = 0 if self.kind in SOURCES else self.sizes.get("inputs", 1)
        if len(self.inputs) != needed:
            raise InputError(f"operator {self.name!r}: {len(self.inputs)} inputs given; {self.kind} needs {needed}")
        object.__setattr__(self, "sizes", MappingProxyType(dict(self.sizes)))
        object.__setattr__(self, "role", self.role or self.name)

    def __hash__(self) -> int:
        return hash((self.name, self.kind))

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy cannot be pickled, and worker processes need models
        fields = (self.name, self.kind, dict(self.sizes), self.inputs, self.after, self.part, self.role)
        return _operator, fields

    @property
    def out_width(self) -> int:
        """Last dimension of its output."""
        key = {Kind.FC: "out_width", Kind.EMBEDDING_BAG: "dim", Kind.RECURRENT: "hidden"}.get(self.kind, "width")
        return self.sizes[key]

    @property
    def out_steps(self) -> int:
        """Steps of its output; 1 for a plain (b, width) tensor."""
        return 1 if self.kind is Kind.LAST_STEP else self.sizes.get("steps", 1)

    def expects(self) -> tuple[int, int]:
        """Return (steps, width) of what it reads; for concat, the widths of its inputs add up to the width."""
        s = self.sizes
        if self.kind is Kind.TO_SEQUENCE:
            return 1, s["steps"] * s["width"]
        width = s.get("in_width") or s.get("hidden") or s.get("width", 0)
        return s.get("steps", 1), width


def _operator(name: str, kind: Kind, sizes: dict[str, int], *rest: Any) -> Operator:
    inputs, after, part, role = rest
    return Operator(name=name, kind=kind, sizes=sizes, inputs=inputs, after=after, part=part, role=role)
