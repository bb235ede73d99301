"""A model with its repetitions folded: one row or one node for operators that differ only in their table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recqueue.models.model import Model
from recqueue.models.operators import Kind, Operator

if TYPE_CHECKING:
    import networkx as nx

    from recqueue.models.costs import Cost

_LABELS = {
    Kind.DENSE_INPUT: "{width} features",
    Kind.EMBEDDING_BAG: "{rows:,} × {dim}, {lookups} {lookup}",
    Kind.FC: "{in_width} → {out_width}{at_steps}",
    Kind.CONCAT: "{inputs} inputs → {width}",
    Kind.SUM: "{inputs} × {width}{at_steps}",
    Kind.TO_SEQUENCE: "{steps} steps × {width}",
    Kind.RECURRENT: "{steps} steps, {hidden} hidden",
    Kind.LAST_STEP: "{steps} steps → {width}",
}


@dataclass(frozen=True)
class Role:
    """Operators of a model that are alike: same role, kind and sizes, the number of the table aside."""

    name: str
    operators: tuple[Operator, ...]

    @property
    def count(self) -> int:
        """How many operators."""
        return len(self.operators)

    @property
    def kind(self) -> Kind:
        """Their kind."""
        return self.operators[0].kind

    @property
    def cost(self) -> Cost:
        """Cost of all of them together, each field an expression in the batch size."""
        from recqueue.models.costs import total_cost

        return total_cost(self.operators)

    @property
    def shape(self) -> str:
        """Their sizes in words."""
        s = self.operators[0].sizes
        at_steps = f" at {s['steps']} steps" if s.get("steps", 1) > 1 else ""
        text = _LABELS.get(self.kind, "{width}{at_steps}")
        return text.format(**s, at_steps=at_steps, lookup="lookup" if s.get("lookups") == 1 else "lookups")


def _key(op: Operator) -> tuple[object, ...]:
    return op.role, op.kind, tuple((k, v) for k, v in op.sizes.items() if k != "table")


def _grouped(model: Model) -> dict[tuple[object, ...], Role]:
    groups: dict[tuple[object, ...], list[Operator]] = {}
    for op in model.operators:
        groups.setdefault(_key(op), []).append(op)
    used = [ops[0].role for ops in groups.values()]
    # a role with several sizes (tables of 500,000 and 5,000,000 rows) needs a name for each
    return {
        key: Role(
            ops[0].role if used.count(ops[0].role) == 1 else f"{ops[0].role} from {ops[0].name.rpartition('_')[2]}",
            tuple(ops),
        )
        for key, ops in groups.items()
    }


def roles(model: Model) -> tuple[Role, ...]:
    """Every role of a model, in the order in which the first of each runs; together they hold every operator once."""
    return tuple(_grouped(model).values())


def role_graph(model: Model) -> nx.DiGraph[str]:
    """Graph of the roles: nodes with attribute ``role``, edges with ``data`` as in ``Model.graph``."""
    import networkx as nx

    groups = _grouped(model)
    names = {op.name: role.name for role in groups.values() for op in role.operators}
    graph: nx.DiGraph[str] = nx.DiGraph(name=model.name)
    for role in groups.values():
        graph.add_node(role.name, role=role)
    for source, target in model.graph.edges:
        graph.add_edge(names[source], names[target], data=model.graph.edges[source, target]["data"])
    return graph
