"""Pipeline files (``kind: pipeline``, schema 1) to Pipeline values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, FiniteFloat, ValidationError

from recqueue.errors import InputError
from recqueue.io import schema
from recqueue.io.blocks import accelerator_of, arrivals_of, sizes_of, sla_of, system_of
from recqueue.io.messages import explain
from recqueue.io.source import Source, at, read_source
from recqueue.serving import Pipeline, Stage


class StageBlock(schema.Block):
    """One pool: ``server`` or ``accelerator`` (with ``model`` and ``service``) as in a scenario."""

    name: str
    after: list[str] = Field(default_factory=list)
    model: str | None = None
    service: schema.Service = schema.Service()
    server: schema.Server | None = None
    accelerator: schema.Accelerator | None = None
    batch_size: schema.Count
    keep: Annotated[FiniteFloat, Field(gt=0, le=1)] = 1.0
    most: schema.Count | None = None
    merge: Literal["same", "sum"] = "same"


class Document(schema.Block):
    """A whole pipeline file."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    kind: Literal["pipeline"]
    model: str | None = None
    stages: list[StageBlock]
    workload: schema.Workload
    sla: schema.Promise
    qps: schema.Positive | None = None


def load_pipeline(source: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Pipeline:
    """Read a pipeline from a YAML file with ``kind: pipeline``, or a packaged one by name.

    Parameters
    ----------
    source : str or path
        A packaged name (which comes first) or a file. Files named inside it are relative to its folder.
    overrides : mapping or None
        Dotted key -> value, replacing what the file says: ``{"qps": 500}``.

    Returns
    -------
    Pipeline

    Raises
    ------
    InputError
        One line with file, key, value, what is allowed and the likely fix.
    """
    return pipeline_from_source(read_source(source, overrides, kinds=("pipeline",)))


def pipeline_from_source(source: Source) -> Pipeline:
    """Build a pipeline from the content of a pipeline file."""
    with at(source.where):
        try:
            d = Document.model_validate(dict(source.document))
        except ValidationError as error:
            raise InputError(explain(error)) from None
        return Pipeline(
            name=source.name,
            stages=tuple(_stage(s, d.model) for s in d.stages),
            edges=tuple((before, s.name) for s in d.stages for before in s.after),
            sizes=sizes_of(d.workload.sizes, source.folder),
            arrivals=arrivals_of(d.workload.arrivals, source.folder),
            sla=sla_of(cast(schema.Document, d)),
            qps=d.qps,
        )


def _stage(s: StageBlock, model: str | None) -> Stage:
    # it has the keys of a scenario that describe a machine
    block = cast(schema.Document, s.model_copy(update={"model": s.model or model}))
    with at(f"stage {s.name}"):
        if (s.server is None) == (s.accelerator is None):
            raise InputError("give one of 'server: {cpu: ..., cores: ...}' and 'accelerator: {device: ...}'")
        own: dict[str, Any]
        for known, given in (("server", s.server), ("accelerator", s.accelerator)):
            for key in ("wakeup_us", "host_slowdown"):
                if getattr(given, key, None):
                    raise InputError(f"{known}.{key} {getattr(given, key)}: not known in a pipeline; leave it out")
        if s.server is not None:
            system = system_of(block)
            own = {
                "servers": system.cores,
                "service": system.service,
                "contention": system.contention,
                "dispatch_overhead_s": system.dispatch_overhead_s,
            }
        else:
            device = accelerator_of(block)
            assert device is not None  # asked for
            own = {"servers": device.count, "service": device.service}
    return Stage(name=s.name, batch_size=s.batch_size, keep=s.keep, most=s.most, merge=s.merge, **own)
