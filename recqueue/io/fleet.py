"""Fleet files (``kind: fleet``, schema 1) to Fleet values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, ValidationError

from recqueue.errors import InputError
from recqueue.io import schema
from recqueue.io.blocks import sizes_of, sla_of, system_of
from recqueue.io.messages import explain
from recqueue.io.source import Source, at, read_source
from recqueue.serving import Day, Fleet, MachineGroup, Policy, Router


class Machines(schema.Block):
    """Identical machines; ``server``, ``accelerator``, ``service`` and ``policy`` as in a scenario."""

    name: str
    count: schema.Count = 1
    active: list[Annotated[int, Field(ge=0)]] | None = None
    model: str | None = None
    service: schema.Service = schema.Service()
    server: schema.Server
    accelerator: schema.Accelerator | None = None
    policy: schema.Policy


class RouterBlock(schema.Block):
    """Who takes the next query."""

    choice: Literal["random", "weighted", "round_robin", "jsq", "least_work"]
    sampled: schema.Count | None = None


class DayBlock(schema.Block):
    """The rate over the day."""

    time_h: list[schema.NotNegative]
    qps: list[schema.NotNegative]
    hours: schema.Count = 24


class Document(schema.Block):
    """A whole fleet file."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    kind: Literal["fleet"]
    model: str | None = None
    machines: list[Machines]
    router: RouterBlock
    day: DayBlock
    workload: schema.Workload
    sla: schema.Promise


def load_fleet(source: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Fleet:
    """Read a fleet from a YAML file with ``kind: fleet``, or a packaged one by name.

    Parameters
    ----------
    source : str or path
        A packaged name (which comes first) or a file. Files named inside it are relative to its folder.
    overrides : mapping or None
        Dotted key -> value, replacing what the file says: ``{"router.choice": "random"}``.

    Returns
    -------
    Fleet

    Raises
    ------
    InputError
        One line with file, key, value, what is allowed and the likely fix.
    """
    return fleet_from_source(read_source(source, overrides, kinds=("fleet",)))


def fleet_from_source(source: Source) -> Fleet:
    """Build a fleet from the content of a fleet file."""
    with at(source.where):
        try:
            d = Document.model_validate(dict(source.document))
        except ValidationError as error:
            raise InputError(explain(error)) from None
        if "arrivals" in d.workload.model_fields_set:
            raise InputError(
                "workload.arrivals: the queries of a fleet are Poisson with the rate of 'day'; leave this key out"
            )
        return Fleet(
            name=source.name,
            model=d.model or "custom",
            groups=tuple(_group(m, d.model) for m in d.machines),
            router=Router(choice=d.router.choice, sampled=d.router.sampled),
            day=Day(time_h=tuple(d.day.time_h), qps=tuple(d.day.qps), hours=d.day.hours),
            sizes=sizes_of(d.workload.sizes, source.folder),
            sla=sla_of(cast(schema.Document, d)),
        )


def _group(m: Machines, model: str | None) -> MachineGroup:
    with at(f"machines {m.name}"):
        # it has the keys of a scenario that describe a machine
        system = system_of(cast(schema.Document, m.model_copy(update={"model": m.model or model})))
    return MachineGroup(
        name=m.name,
        system=system,
        policy=Policy(**m.policy.model_dump()),
        count=m.count,
        active=None if m.active is None else tuple(m.active),
    )
