"""A recommendation model as a graph of operators, and what a batch of it costs in total."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recqueue.errors import InputError
from recqueue.models.operators import Kind, Operator

if TYPE_CHECKING:
    import networkx as nx

    from recqueue.models.costs import Cost

# networkx and sympy load on first use: a name or a list of operators should cost no import


@dataclass(frozen=True, kw_only=True)
class Model:
    """A recommendation model.

    Parameters
    ----------
    name : str
        Slug, such as ``dlrm-rmc1``.
    title : str
        As people write it.
    description : str
        One sentence.
    operators : tuple of Operator
        In an order in which they can run: each after the operators that it reads or follows.
    verified : bool
        Whether the sizes were read in a public source; False marks recalled or filled-in values.
    source : str
        Where the sizes come from.
    notes : tuple of str
        What a reader should know before using the numbers.

    Raises
    ------
    InputError
        When a name is used twice, an operator reads one that does not come before it, widths do not fit, two
        operators disagree about a table, or there is not exactly one output.
    """

    name: str
    title: str
    description: str
    operators: tuple[Operator, ...] = field(repr=False, hash=False)
    verified: bool = True
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[str, Operator] = {}
        tables: dict[int, Mapping[str, int]] = {}
        for op in self.operators:
            self._check(op, seen)
            if op.kind is Kind.EMBEDDING_BAG and tables.setdefault(op.sizes["table"], op.sizes) != op.sizes:
                raise InputError(f"model {self.name!r}: operator {op.name!r} disagrees about table {op.sizes['table']}")
            seen[op.name] = op
        used = {name for op in self.operators for name in (*op.inputs, *op.after)}
        outputs = [name for name in seen if name not in used]
        if len(outputs) != 1:
            raise InputError(f"model {self.name!r}: outputs {outputs}; exactly one is needed")

    def _check(self, op: Operator, seen: Mapping[str, Operator]) -> None:
        if op.name in seen:
            raise InputError(f"model {self.name!r}: operator name {op.name!r} is used twice")
        for name in (*op.inputs, *op.after):
            if name not in seen:
                raise InputError(
                    f"model {self.name!r}: operator {op.name!r} needs {name!r}, which does not come before it"
                )
        if not op.inputs:
            return
        steps, width = op.expects()
        given = [(seen[name].out_steps, seen[name].out_width) for name in op.inputs]
        if op.kind is Kind.CONCAT:
            given = [(max(s for s, _ in given), sum(w for _, w in given))]
        if any(shape != (steps, width) for shape in given):
            raise InputError(
                f"model {self.name!r}: operator {op.name!r} expects (steps, width) {(steps, width)} but reads {given}"
            )

    # -- the graph ----------------------------------------------------------------------------------------------

    @cached_property
    def graph(self) -> nx.DiGraph[str]:
        """Operator names as nodes (attribute ``operator``); edges carry ``data``: False where only order counts."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph(name=self.name)
        for op in self.operators:
            graph.add_node(op.name, operator=op)
            graph.add_edges_from(((i, op.name) for i in op.inputs), data=True)
            graph.add_edges_from(((i, op.name) for i in op.after if i not in op.inputs), data=False)
        return graph

    @cached_property
    def _by_name(self) -> Mapping[str, Operator]:
        return {op.name: op for op in self.operators}

    def __getitem__(self, name: str) -> Operator:
        """Return the operator of a name; KeyError when there is none."""
        return self._by_name[name]

    @property
    def output(self) -> Operator:
        """The operator that produces the answer."""
        return self.operators[-1]

    def critical_path(self, weight: Callable[[Operator], float]) -> tuple[tuple[str, ...], float]:
        """Heaviest chain of operators that must run one after the other, and its weight.

        With operator times as weights this is the shortest time in which the model can run, however many of its
        operators run at once.

        Parameters
        ----------
        weight : callable
            Maps an operator to a finite number of 0 or more, for example its seconds.

        Returns
        -------
        tuple of str, float
            The names along the path, and the sum of their weights. Of equal paths, the one met first.

        Raises
        ------
        InputError
            When a weight is negative or not finite.
        """
        finish: dict[str, float] = {}
        before: dict[str, str | None] = {}
        for op in self.operators:
            own = weight(op)
            if not (math.isfinite(own) and own >= 0):
                raise InputError(
                    f"critical path: weight {own} of operator {op.name!r}; it must be finite and 0 or more"
                )
            last = max((*op.inputs, *op.after), key=finish.__getitem__, default=None)
            finish[op.name] = own + (finish[last] if last is not None else 0)
            before[op.name] = last
        # weights of 0 or more, so the only output ends a heaviest path
        step: str | None = self.output.name
        path: list[str] = []
        while step is not None:
            path.append(step)
            step = before[step]
        return tuple(reversed(path)), finish[self.output.name]

    # -- totals, all from the expressions of recqueue.models.costs ---------------------------------------------------

    def total(self, part: str | None = None) -> Cost:
        """Sum of the costs of all operators (or of one part), each field an expression in the batch size.

        ``parameters`` counts a table again for each operator that reads it; ``table_storage_bytes`` does not.
        """
        from recqueue.models.costs import total_cost

        return total_cost(op for op in self.operators if part in (None, op.part))

    @cached_property
    def cost(self) -> Cost:
        """Total cost of a batch, each field an expression in the batch size; see ``total`` for one part of it."""
        return self.total()

    def _at(self, expression: Any, batch_size: int) -> int:
        from recqueue.models.costs import b

        if isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1:
            raise InputError(f"batch size {batch_size}; it must be a whole number of 1 or more")
        return int(expression.subs(b, int(batch_size)))

    def flops(self, batch_size: int) -> int:
        """Floating-point operations of a batch."""
        return self._at(self.cost.flops, batch_size)

    def bytes_read(self, batch_size: int) -> int:
        """Bytes that the operators of a batch read, without any cache."""
        return self._at(self.cost.bytes_read, batch_size)

    def bytes_written(self, batch_size: int) -> int:
        """Bytes that the operators of a batch write."""
        return self._at(self.cost.bytes_written, batch_size)

    @property
    def mac_per_item(self) -> int:
        """Multiply-accumulates of one item."""
        return self._at(self.cost.macs, 1)

    @property
    def mac_by_part(self) -> dict[str, int]:
        """Multiply-accumulates of one item by part of the model, parts without any left out."""
        parts = dict.fromkeys(op.part for op in self.operators)
        return {part: n for part in parts if (n := self._at(self.total(part).macs, 1))}

    @property
    def lookups_per_item(self) -> int:
        """Embedding rows gathered for one item."""
        return self._at(self.cost.lookups, 1)

    @property
    def embedding_bytes_read_per_item(self) -> int:
        """Bytes of embedding rows gathered for one item (ids not counted)."""
        return self._at(self.cost.table_bytes, 1)

    @cached_property
    def tables(self) -> Mapping[int, Operator]:
        """The embedding tables by number, each through the first operator that reads it."""
        tables: dict[int, Operator] = {}
        for op in self.operators:
            if op.kind is Kind.EMBEDDING_BAG:
                tables.setdefault(op.sizes["table"], op)
        return tables

    @property
    def mlp_parameters(self) -> int:
        """Weights and biases outside the embedding tables: fully connected layers and recurrent cells."""
        from recqueue.models.costs import cost_of

        return sum(int(cost_of(op).parameters) for op in self.operators if op.kind is not Kind.EMBEDDING_BAG)

    @property
    def table_storage_bytes(self) -> int:
        """Bytes of all embedding tables; a table read by two operators counts once."""
        from recqueue.models.costs import FLOAT_BYTES, cost_of

        return FLOAT_BYTES * sum(int(cost_of(op).parameters) for op in self.tables.values())

    @property
    def dense_inputs(self) -> int:
        """Width of the dense features of one item; 0 when there are none."""
        return sum(op.sizes["width"] for op in self.operators if op.kind is Kind.DENSE_INPUT)

    @property
    def feed_bytes_per_item(self) -> int:
        """Bytes of one item's input: int64 ids (once for each table, however often it is read) and fp32 features."""
        from recqueue.models.costs import FLOAT_BYTES, ID_BYTES

        ids = sum(op.sizes["lookups"] for op in self.tables.values())
        return ID_BYTES * ids + FLOAT_BYTES * self.dense_inputs

    def feed_bytes(self, batch_size: int) -> int:
        """Bytes that a batch brings with it, which are those to copy from host to device."""
        from recqueue.models.costs import b

        return self._at(self.feed_bytes_per_item * b, batch_size)

    @property
    def operator_counts(self) -> dict[Kind, int]:
        """How many operators of each kind, in the order of :class:`~recqueue.models.Kind`; absent kinds left out."""
        counts = Counter(op.kind for op in self.operators)
        return {kind: counts[kind] for kind in Kind if counts[kind]}
