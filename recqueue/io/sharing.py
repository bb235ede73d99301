"""Sharing files (``kind: sharing``, schema 1) to SharedMachine values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from recqueue.errors import InputError
from recqueue.io import schema
from recqueue.io.messages import explain
from recqueue.io.scenario import scenario_from_mapping
from recqueue.io.source import Source, at, read_source
from recqueue.serving import SharedMachine, Tenant


class ModelBlock(schema.Block):
    """A model with its demand; ``service`` and ``workload`` as in a scenario."""

    name: str | None = None
    model: str | None = None
    qps: schema.Positive
    weight: schema.NotNegative = 1.0
    sla: schema.Promise
    service: schema.Service = schema.Service()
    workload: schema.Workload | None = None


class Document(schema.Block):
    """A whole sharing file."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    kind: Literal["sharing"]
    server: schema.Server
    accelerator: schema.Accelerator | None = None
    models: list[ModelBlock]
    workload: schema.Workload | None = None
    goal: Literal["scale", "rate"] = "scale"
    shared_accelerators: bool = True


def load_sharing(source: str | Path, *, overrides: Mapping[str, Any] | None = None) -> SharedMachine:
    """Read which models share a machine from a YAML file with ``kind: sharing``, or a packaged one by name.

    Parameters
    ----------
    source : str or path
        A packaged name (which comes first) or a file. Files named inside it are relative to its folder.
    overrides : mapping or None
        Dotted key -> value, replacing what the file says: ``{"accelerator": None, "server.cores": 8}``.

    Returns
    -------
    SharedMachine

    Raises
    ------
    InputError
        One line with file, key, value, what is allowed and the likely fix.
    """
    return sharing_from_source(read_source(source, overrides, kinds=("sharing",)))


def sharing_from_source(source: Source) -> SharedMachine:
    """Build the value from the content of a sharing file."""
    with at(source.where):
        try:
            d = Document.model_validate(dict(source.document))
        except ValidationError as error:
            raise InputError(explain(error)) from None
        given = source.document
        tenants = tuple(
            _tenant(m, model, given, source.folder, i)
            for i, (m, model) in enumerate(zip(d.models, given["models"], strict=True))
        )
        return SharedMachine(name=source.name, tenants=tenants, goal=d.goal, shared_accelerators=d.shared_accelerators)


def _tenant(m: ModelBlock, given: Mapping[str, Any], machine: Mapping[str, Any], folder: Path, place: int) -> Tenant:
    """A model as a scenario on the whole machine."""
    name, where = m.name or m.model or f"model {place + 1}", f"models.{place + 1}"
    workload = given.get("workload", machine.get("workload"))
    if workload is None:
        raise InputError(f"{where} workload: missing; give one to {name!r}, or one for all beside 'models'")
    document = {
        "schema": 1,
        "server": machine["server"],
        "accelerator": machine.get("accelerator"),
        "workload": workload,
        **{key: given[key] for key in ("model", "service", "sla", "qps") if key in given},
    }
    scenario = scenario_from_mapping(document, name=name, where=where, folder=folder)
    with at(where):
        return Tenant(name=name, scenario=replace(scenario, policy=None), weight=m.weight)
