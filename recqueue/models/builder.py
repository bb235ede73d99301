"""Writing a model down: adds operators one by one and takes the widths from what they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recqueue.models.operators import Kind, Operator


class Builder:
    """Collects operators in running order; each method adds some and returns the name of the last one."""

    def __init__(self) -> None:
        self._operators: dict[str, Operator] = {}

    @property
    def operators(self) -> tuple[Operator, ...]:
        """What was added so far."""
        return tuple(self._operators.values())

    def add(
        self,
        name: str,
        kind: Kind,
        sizes: Mapping[str, int],
        inputs: Sequence[str] = (),
        *,
        part: str,
        after: Sequence[str] = (),
        role: str = "",
    ) -> str:
        """Add one operator."""
        if name in self._operators:
            raise ValueError(f"operator {name!r} was added before")
        self._operators[name] = Operator(
            name=name, kind=kind, sizes=sizes, inputs=tuple(inputs), after=tuple(after), part=part, role=role
        )
        return name

    def dense(self, width: int) -> str:
        """Add dense features."""
        return self.add("dense", Kind.DENSE_INPUT, {"width": width}, part="input")

    def bag(
        self,
        name: str,
        *,
        table: int,
        rows: int,
        dim: int,
        lookups: int,
        after: Sequence[str] = (),
        role: str = "",
    ) -> str:
        """Add an embedding bag."""
        sizes = {"table": table, "rows": rows, "dim": dim, "lookups": lookups}
        return self.add(name, Kind.EMBEDDING_BAG, sizes, part="embedding", after=after, role=role)

    def bags(
        self, rows: Sequence[int], *, dim: int, lookups: int, stem: str = "embedding", first: int = 0
    ) -> list[str]:
        """Add one embedding bag for each table, numbered from ``first``."""
        return [
            self.bag(f"{stem}_{i}", table=i, rows=r, dim=dim, lookups=lookups, role=stem)
            for i, r in enumerate(rows, start=first)
        ]

    def elementwise(self, name: str, kind: Kind, source: str, *, part: str, role: str = "") -> str:
        """Add an activation or a softmax."""
        x = self._operators[source]
        return self.add(name, kind, {"width": x.out_width, "steps": x.out_steps}, [source], part=part, role=role)

    def fc(self, name: str, source: str, width: int, *, part: str, role: str = "") -> str:
        """Add a fully connected layer, applied at each step."""
        x = self._operators[source]
        sizes = {"in_width": x.out_width, "out_width": width, "steps": x.out_steps}
        return self.add(name, Kind.FC, sizes, [source], part=part, role=role)

    def concat(self, name: str, sources: Sequence[str], *, part: str, role: str = "") -> str:
        """Put outputs side by side."""
        width = sum(self._operators[x].out_width for x in sources)
        return self.add(name, Kind.CONCAT, {"inputs": len(sources), "width": width}, sources, part=part, role=role)

    def total(self, name: str, sources: Sequence[str], *, part: str, role: str = "", after: Sequence[str] = ()) -> str:
        """Add outputs up, element by element."""
        x = self._operators[sources[0]]
        sizes = {"inputs": len(sources), "width": x.out_width, "steps": x.out_steps}
        return self.add(name, Kind.SUM, sizes, sources, part=part, role=role, after=after)

    def mlp(
        self, stem: str, source: str, widths: Sequence[int], *, part: str, last: Kind = Kind.RELU, role: str = ""
    ) -> str:
        """Add fully connected layers, each with ReLU; ``last`` is the activation of the last one."""
        role = role or stem
        for i, width in enumerate(widths, start=1):
            kind = last if i == len(widths) else Kind.RELU
            source = self.fc(f"{stem}_fc_{i}", source, width, part=part, role=f"{role}_fc_{i}")
            source = self.elementwise(f"{stem}_{kind}_{i}", kind, source, part=part, role=f"{role}_{kind}_{i}")
        return source
