"""Plan files (``kind: plan``, schema 1) to PlanQuestion values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, ValidationError

from recqueue import models, profiles
from recqueue.errors import InputError
from recqueue.io import schema
from recqueue.io.blocks import sizes_of, sla_of, system_of
from recqueue.io.fleet import DayBlock, RouterBlock
from recqueue.io.messages import explain
from recqueue.io.source import Source, at, read_source
from recqueue.serving import Day, Demand, MachineType, PlanQuestion, Router, Safety, Sla, Switching, System

GB = 1e9


class Machine(schema.Block):
    """A type of machine; ``server`` and ``accelerator`` as in a scenario."""

    name: str
    available: Annotated[int, Field(ge=0)]
    server: schema.Server
    accelerator: schema.Accelerator | None = None
    price_usd_per_h: schema.NotNegative | None = None
    price_source: str = ""
    capital_usd: schema.NotNegative = 0.0
    lifetime_years: schema.Positive = 4.0
    memory_gb: schema.Positive | None = None
    accelerator_memory_gb: schema.Positive | None = None


class ModelBlock(schema.Block):
    """A model with its demand; its own service times are given for each type of machine by name."""

    name: str | None = None
    model: str
    peak_qps: schema.Positive | None = None
    shift_h: schema.NotNegative = 0.0
    day: DayBlock | None = None
    workload: schema.Workload | None = None
    sla: schema.Promise
    memory_gb: schema.Positive | None = None
    service: dict[str, schema.Service] = {}  # noqa: RUF012 (a pydantic field; each model gets its own copy)


class Shape(schema.Block):
    """The course of the day that models with a ``peak_qps`` follow."""

    time_h: list[schema.NotNegative]
    relative_rate: list[schema.NotNegative]
    hours: schema.Count = 24


class SafetyBlock(schema.Block):
    """Reserves."""

    margin: schema.NotNegative = 0.05
    spare_machine: bool = True
    domains: Annotated[int, Field(ge=2)] | None = None


class SwitchingBlock(schema.Block):
    """What giving a machine another model takes."""

    most_per_hour: Annotated[int, Field(ge=0)] | None = None
    cost_usd: schema.NotNegative = 0.0


class Document(schema.Block):
    """A whole plan file."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    kind: Literal["plan"]
    machines: list[Machine]
    models: list[ModelBlock]
    day: Shape | None = None
    workload: schema.Workload | None = None
    objective: Literal["cost", "power", "machines"] = "cost"
    safety: SafetyBlock = SafetyBlock()
    switching: SwitchingBlock = SwitchingBlock()
    energy_usd_per_kwh: schema.NotNegative = 0.0
    router: RouterBlock = RouterBlock(choice="least_work", sampled=2)


def plan_template() -> str:
    """Text of the packaged plan, to start from."""
    return (files("recqueue") / "data" / "plans" / "eight-models-day.yaml").read_text(encoding="utf-8")


def load_plan(source: str | Path, *, overrides: Mapping[str, Any] | None = None) -> PlanQuestion:
    """Read what a fleet plan is asked from a YAML file with ``kind: plan``, or a packaged one by name.

    Parameters
    ----------
    source : str or path
        A packaged name (which comes first) or a file. Files named inside it are relative to its folder.
    overrides : mapping or None
        Dotted key -> value, replacing what the file says: ``{"objective": "power", "safety.margin": 0.1}``.

    Returns
    -------
    PlanQuestion
        Pairs of a machine and a model without a profile, or whose tables do not fit, are left out and say why.

    Raises
    ------
    InputError
        One line with file, key, value, what is allowed and the likely fix.
    """
    return plan_from_source(read_source(source, overrides, kinds=("plan",)))


def plan_from_source(source: Source) -> PlanQuestion:
    """Build the question from the content of a plan file."""
    with at(source.where):
        try:
            d = Document.model_validate(dict(source.document))
        except ValidationError as error:
            raise InputError(explain(error)) from None
        demands = tuple(_demand(m, d, source.folder) for m in d.models)
        machines = tuple(_machine(m, d.objective) for m in d.machines)
        unknown = sorted({name for m in d.models for name in m.service} - {m.name for m in machines})
        if unknown and len({m.name for m in machines}) == len(machines) > 0:
            raise InputError(
                f"models: service for machine {unknown[0]!r}, which is not there; machines: "
                f"{', '.join(m.name for m in machines)}"
            )
        systems, excluded = _systems(d.machines, d.models, demands)
        excluded |= _too_large(systems, machines, demands)
        return PlanQuestion(
            name=source.name,
            machines=machines,
            demands=demands,
            systems={pair: s for pair, s in systems.items() if pair not in excluded},
            no_offload=_no_offload(systems, machines, demands),
            excluded=excluded,
            objective=d.objective,
            safety=Safety(**d.safety.model_dump()),
            switching=Switching(**d.switching.model_dump()),
            energy_usd_per_kwh=d.energy_usd_per_kwh,
            router=Router(choice=d.router.choice, sampled=d.router.sampled),
        )


def _demand(m: ModelBlock, d: Document, folder: Path) -> Demand:
    name = m.name or m.model
    with at(f"models {name}"):
        workload = m.workload or d.workload
        if workload is None:
            raise InputError("workload: missing; give it here or for all models, as in 'workload: {sizes: ...}'")
        if "arrivals" in workload.model_fields_set:
            raise InputError("workload.arrivals: queries are Poisson with the rate of the day; leave this key out")
        sla: Sla = sla_of(cast(schema.Document, m))
        memory = m.memory_gb * GB if m.memory_gb is not None else None
        if memory is None and m.model in models.names(include_variants=True):
            memory = float(models.get(m.model).table_storage_bytes)
        return Demand(
            name=name,
            model=m.model,
            day=_day(m, d.day),
            sizes=sizes_of(workload.sizes, folder),
            sla=sla,
            memory_bytes=memory,
        )


def _day(m: ModelBlock, shape: Shape | None) -> Day:
    if (m.day is None) == (m.peak_qps is None):
        raise InputError(
            "give either 'peak_qps' (with 'day' of the whole plan) or a 'day' of its own with time_h and qps"
        )
    if m.day is not None:
        return Day(time_h=tuple(m.day.time_h), qps=tuple(m.day.qps), hours=m.day.hours)
    if shape is None:
        raise InputError(
            "peak_qps without 'day' of the whole plan; give its course, as in "
            "'day: {time_h: [4, 20], relative_rate: [0.4, 1]}'"
        )
    Day(time_h=tuple(shape.time_h), qps=tuple(shape.relative_rate), hours=shape.hours)  # checks
    top = max(shape.relative_rate)
    points = sorted(
        ((t + m.shift_h) % shape.hours, (m.peak_qps or 0.0) * r / top)
        for t, r in zip(shape.time_h, shape.relative_rate, strict=True)
    )
    return Day(time_h=tuple(t for t, _ in points), qps=tuple(r for _, r in points), hours=shape.hours)


def _machine(m: Machine, objective: str) -> MachineType:
    known = profiles.hardware_names()
    cpu = profiles.hardware(m.server.cpu) if m.server.cpu in known else None
    device = profiles.hardware(m.accelerator.device) if m.accelerator and m.accelerator.device in known else None
    sold = device or cpu  # the price of packaged accelerators is that of the whole machine
    price, source = m.price_usd_per_h, m.price_source
    if price is None and not m.capital_usd and sold is not None and sold.price_usd_per_h is not None:
        price, source = sold.price_usd_per_h, source or f"packaged price of {sold.name}"
    if price is None and not m.capital_usd and objective == "cost":
        raise InputError(
            f"machines {m.name}: price_usd_per_h: missing, and no packaged hardware has one; give it (or capital_usd), "
            "or plan for 'objective: power' or 'machines'"
        )
    memory = m.memory_gb * GB if m.memory_gb else cpu.memory_bytes if cpu else None
    held = m.accelerator_memory_gb * GB if m.accelerator_memory_gb else device.memory_bytes if device else None
    return MachineType(
        name=m.name,
        available=m.available,
        price_usd_per_h=price or 0.0,
        capital_usd=m.capital_usd,
        lifetime_years=m.lifetime_years,
        memory_bytes=memory,
        accelerator_memory_bytes=held,
        price_source=source,
    )


def _systems(
    machines: Sequence[Machine], blocks: Sequence[ModelBlock], demands: Sequence[Demand]
) -> tuple[dict[tuple[str, str], System], dict[tuple[str, str], str]]:
    """Every machine as every model finds it; where there are no service times, why."""
    systems: dict[tuple[str, str], System] = {}
    excluded: dict[tuple[str, str], str] = {}
    errors: dict[tuple[str, str], InputError] = {}
    for m in machines:
        for block, demand in zip(blocks, demands, strict=True):
            pair = m.name, demand.name
            described = m.model_copy(
                update={"model": demand.model, "service": block.service.get(m.name, schema.Service())}
            )
            try:
                # it has the keys of a scenario that describe a machine
                systems[pair] = system_of(cast(schema.Document, described))
            except InputError as error:
                errors[pair], excluded[pair] = error, "no profile of the model on it, and no service times given"
    for m in machines:
        mine = [error for (machine, _), error in errors.items() if machine == m.name]
        if mine and len(mine) == len(blocks):
            raise InputError(f"machines {m.name}: {mine[0]}")
    for demand in demands:
        mine = [error for (_, model), error in errors.items() if model == demand.name]
        if mine and len(mine) == len(machines):
            raise InputError(f"models {demand.name}: no machine can run it: {mine[0]}")
    return systems, excluded


def _too_large(
    systems: Mapping[tuple[str, str], System], machines: Sequence[MachineType], demands: Sequence[Demand]
) -> dict[tuple[str, str], str]:
    """Pairs whose tables do not fit the memory of the host."""
    found = {}
    for demand in demands:
        needed = demand.memory_bytes or 0.0
        for m in machines:
            if (m.name, demand.name) in systems and m.memory_bytes is not None and needed > m.memory_bytes:
                found[m.name, demand.name] = (
                    f"its tables take {needed / GB:.3g} GB and the host has {m.memory_bytes / GB:.3g} GB"
                )
        if machines and not any(
            (m.name, demand.name) in systems and (m.name, demand.name) not in found for m in machines
        ):
            raise InputError(
                f"models {demand.name}: its tables take {needed / GB:.3g} GB, which fit no machine that has a profile "
                f"of it ({', '.join(f'{n} {(m.memory_bytes or 0) / GB:.3g} GB' for m in machines for n in [m.name])})"
            )
    return found


def _no_offload(
    systems: Mapping[tuple[str, str], System], machines: Sequence[MachineType], demands: Sequence[Demand]
) -> frozenset[tuple[str, str]]:
    """Pairs whose tables do not fit the memory of an accelerator."""
    return frozenset(
        (m.name, d.name)
        for m in machines
        for d in demands
        if (m.name, d.name) in systems
        and systems[m.name, d.name].accelerator is not None
        and m.accelerator_memory_bytes is not None
        and (d.memory_bytes or 0.0) > m.accelerator_memory_bytes
    )
