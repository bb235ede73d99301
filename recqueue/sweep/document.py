"""Scenario files with something to vary, to sweeps; and sweep files (``kind: sweep``, schema 1)."""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from recqueue.errors import InputError
from recqueue.io import scenario_from_mapping, schema
from recqueue.io.document import parse_yaml, with_overrides
from recqueue.io.messages import explain, near_miss, shown
from recqueue.io.source import Source, at, packaged, read_source
from recqueue.io.tables import read_text
from recqueue.sweep.grid import Axis, axis, size
from recqueue.sweep.points import FAST, KNOBS, METHODS, Inner, Method, Options, Structure
from recqueue.sweep.run import Sweep


class Document(schema.Block):
    """A whole sweep file."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    kind: Literal["sweep"]
    scenario: Any
    set: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    vary: dict[str, Any]
    method: Literal["evaluate", "max-rate", "simulate", "optimize"] = "evaluate"
    queries: Annotated[int, Field(ge=100)] = Options.queries
    seed: Annotated[int, Field(ge=0)] = Options.seed
    verify: bool = Options.verify


def sweep_of(
    source: str | Path,
    *,
    vary: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    method: str | None = None,
    queries: int | None = None,
    seed: int | None = None,
    verify: bool | None = None,
) -> Sweep:
    """Describe a sweep over a scenario.

    Parameters
    ----------
    source : str or path
        A packaged scenario by name, a scenario file, or a file with ``kind: sweep``, whose own entries the other
        arguments complete or replace.
    vary : mapping
        Dotted key of the scenario file -> values: one value or a list, with ranges such as ``"1..1024:log2"``. The last
        key varies fastest in the table.
    overrides : mapping
        Dotted key -> value, replacing what the scenario says.
    method : {"evaluate", "max-rate", "simulate", "optimize"}
        What is asked at each point; ``evaluate`` by default.
    queries, seed : int
        Of each simulation.
    verify : bool
        Whether ``optimize`` confirms each point by simulation.

    Raises
    ------
    InputError
        One line: an unknown key or a value that is never allowed, with the nearest that is.

    Examples
    --------
    >>> from recqueue.sweep import sweep_of
    >>> grid = sweep_of("dlrm-rmc1", vary={"policy.batch_size": "32..128:log2", "qps": [500, 1000]})
    >>> grid.points
    6
    """
    written, found = _read(source)
    given = written or Document.model_validate({"schema": 1, "kind": "sweep", "scenario": "", "vary": {}})
    with at(found.where):
        document = with_overrides(found.document, {**given.set, **(overrides or {})})
    axes = tuple(_axis(key, values) for key, values in {**given.vary, **(vary or {})}.items())
    if not axes:
        raise InputError("sweep: nothing varies; give --vary KEY=VALUES, for example --vary qps=500,1000,2000")
    size(axes)
    chosen = method or given.method
    if chosen not in METHODS:
        raise InputError(f"method {chosen!r}; allowed: {', '.join(METHODS)}{near_miss(chosen, METHODS)}")
    options = Options(
        queries=given.queries if queries is None else queries,
        seed=given.seed if seed is None else seed,
        verify=given.verify if verify is None else verify,
    )
    return _sweep(found, document, axes, cast(Method, chosen), options)


def _read(source: str | Path) -> tuple[Document | None, Source]:
    """A sweep file, or None, and the scenario that it or ``source`` itself is about."""
    path = Path(source)
    if str(source) not in packaged("scenario") and path.is_file():
        parsed = parse_yaml(read_text(path, "a sweep or a scenario, a YAML file"), str(source))
        if isinstance(parsed, dict) and parsed.get("kind") == "sweep":
            with at(str(source)):
                try:
                    written = Document.model_validate(parsed)
                except ValidationError as error:
                    raise InputError(explain(error)) from None
                return written, _scenario_of(written.scenario, path)
    return None, read_source(source, kinds=("scenario",))


def _scenario_of(scenario: Any, path: Path) -> Source:
    if isinstance(scenario, dict):
        return Source(
            kind="scenario", document=scenario, name=path.stem, where="scenario", folder=path.parent,
        )  # fmt: skip
    if not isinstance(scenario, str):
        raise InputError(f"scenario {shown(scenario)}; give the name of a packaged scenario, a file, or its keys")
    beside = path.parent / scenario
    return read_source(beside if scenario not in packaged("scenario") and beside.is_file() else scenario,
                       kinds=("scenario",))  # fmt: skip


@cache
def keys() -> dict[str, bool]:
    """Every dotted key of a scenario file, and whether it takes whole numbers."""
    return {key: whole for key, whole in _keys(schema.Document, "") if key not in ("schema", "kind")}


def _keys(block: type[BaseModel], prefix: str) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    for name, entry in block.model_fields.items():
        key = prefix + (entry.alias or name)
        kinds = _kinds(entry.annotation)
        found.append((key, int in kinds and float not in kinds))
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found.extend(_keys(kind, key + "."))
    return found


def _kinds(annotation: Any) -> set[Any]:
    """Plain types inside an annotation."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return set().union(*(_kinds(part) for part in get_args(annotation)))
    return {get_origin(annotation) or annotation}


def _axis(key: str, values: Any) -> Axis:
    if key not in keys():
        *way, last = key.split(".")
        beside = [k for k in keys() if k.rpartition(".")[0] == ".".join(way)]
        known = beside or [k for k in keys() if "." not in k]
        hint = near_miss(key, keys()) or near_miss(last, [k.rpartition(".")[2] for k in known])
        raise InputError(f"--vary {key}: unknown key; allowed: {', '.join(known)}{hint}")
    return axis(key, values, whole=keys()[key])


class Documents(Sequence[Structure]):
    """Machine and workload of every combination of axes, read from a scenario's content when they are asked for."""

    def __init__(self, source: Source, document: Mapping[str, Any], axes: Sequence[Axis]) -> None:
        self.source, self.document, self.axes = source, document, axes
        self.shape = tuple(len(a.values) for a in axes)
        self._last: tuple[int, Structure] | None = None

    def __len__(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, i: Any) -> Any:
        if self._last is None or self._last[0] != i:
            try:
                self._last = i, self.build([int(place) for place in np.unravel_index(i, self.shape)])
            except InputError as error:
                self._last = i, Structure(error=str(error))
        return self._last[1]

    def build(self, places: Sequence[int]) -> Structure:
        """Machine and workload with these values of the axes."""
        values = {a.key: a.values[place] for a, place in zip(self.axes, places, strict=True)}
        document = with_overrides(self.document, values)
        scenario = scenario_from_mapping(
            document, name=self.source.name, where=self.source.where, folder=self.source.folder, ignore_policy=True
        )
        policy = document.get("policy") or {}
        return Structure(scenario=scenario, policy={knob: policy.get(knob) for knob in KNOBS if policy})


def _sweep(
    source: Source, document: Mapping[str, Any], axes: tuple[Axis, ...], method: Method, options: Options
) -> Sweep:
    inner_axes = {a.key: a for a in axes if a.key in FAST}
    outer_axes = [a for a in axes if a.key not in FAST]
    # Keys that leave the machine alone take any of their values while it is read.
    base = with_overrides(document, {a.key: a.values[0] for a in inner_axes.values()})
    structures = Documents(source, base, outer_axes)
    _check(structures, document, inner_axes, method)
    first = next((s for s in (structures[i] for i in range(len(structures))) if s.scenario), Structure())
    inner = Inner(
        values=tuple(_si(key, inner_axes[key].values) if key in inner_axes else None for key in FAST),
    )
    config = {
        "scenario": _plain(document),
        "vary": {a.key: _plain(list(a.values)) for a in axes},
        "method": method,
        "options": _options(method, options),
        "data": _digest(source, document, axes),
    }
    return Sweep(
        axes=axes, structures=structures, inner=inner, method=method, options=options, config=config,
        profiles=_profiles(first),
    )  # fmt: skip


def _check(structures: Documents, document: Mapping[str, Any], inner: Mapping[str, Axis], method: Method) -> None:
    """Refuse values that no point can have, and questions that miss a key, in one line."""
    for a in structures.axes:
        for place in range(len(a.values)):
            _ever(structures, a, place)
    for key, a in inner.items():
        block, _, name = key.rpartition(".")
        kind, others = _BLOCKS[block]
        for value in a.values:
            try:
                kind.model_validate({**others, name: value})
            except ValidationError as error:
                raise InputError(f"--vary {block + '.' if block else ''}{explain(error)}") from None
    asked = {"policy": "policy.batch_size=1..1024:log2", "qps": "qps=500,1000,2000"}
    unused = {"max-rate": ("qps",), "optimize": ("qps", "policy")}.get(method, ())
    varied = [a.key for a in structures.axes] + list(inner)
    for key in varied:
        if key.split(".")[0] in unused:
            raise InputError(f"--vary {key}: {method} finds it; vary something else, or use another method")
    for key, example in asked.items():
        if key not in unused and document.get(key) is None and not any(v.split(".")[0] == key for v in varied):
            raise InputError(f"{structures.source.where}: {key}: missing; give it in the scenario, or --vary {example}")


class _Rate(schema.Block):
    """An offered rate on its own."""

    qps: schema.Positive


_BLOCKS: dict[str, tuple[type[schema.Block], dict[str, Any]]] = {
    "policy": (schema.Policy, {"batch_size": 1}),
    "sla": (schema.Sla, {"latency_ms": 1.0}),
    "": (_Rate, {}),
}
"""What checks the values of a key of ``FAST``, with what else it needs."""


def _ever(structures: Documents, a: Axis, place: int) -> None:
    """Refuse a value with which nothing can be built, whatever the others are."""
    j = structures.axes.index(a)
    trials = [[0] * len(structures.axes)]
    for k, other in enumerate(structures.axes):
        trials += [[i if m == k else 0 for m in range(len(structures.axes))] for i in range(1, len(other.values))]
    first: InputError | None = None
    for trial in trials:
        trial[j] = place
        try:
            structures.build(trial)
        except InputError as error:
            first = first or error
        else:
            return
    if first:
        raise InputError(f"--vary {a.key}={shown(a.values[place])}: {first}") from None


def _si(key: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(v / 1e3 for v in values) if key == "sla.latency_ms" else values


def _options(method: str, options: Options) -> dict[str, Any]:
    """Options that make a difference."""
    if method == "simulate":
        return {"queries": options.queries, "seed": options.seed}
    if method == "optimize":
        return {"verify": options.verify, **({"seed": options.seed} if options.verify else {})}
    return {}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _digest(source: Source, document: Mapping[str, Any], axes: Sequence[Axis]) -> str:
    """Of everything beside the scenario that decides the numbers: packaged profiles and hardware, files it names."""
    digest = hashlib.sha256()
    data = files("recqueue") / "data"
    for entry in sorted([*(data / "profiles").iterdir(), data / "hardware.json"], key=lambda e: e.name):
        digest.update(entry.name.encode() + entry.read_bytes())
    for name in sorted(set(_named([dict(document), *({a.key.rpartition(".")[2]: v} for a in axes for v in a.values)]))):
        path = source.folder / name
        if path.is_file():
            digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _named(value: Any) -> list[str]:
    """Names of files inside a scenario."""
    if isinstance(value, dict):
        own = [value["file"]] if isinstance(value.get("file"), str) else []
        return own + [name for part in value.values() for name in _named(part)]
    return [name for part in value for name in _named(part)] if isinstance(value, list) else []


def _profiles(structure: Structure) -> dict[str, Any]:
    """Devices and sources of the first machine."""
    if structure.scenario is None:
        return {}
    system = structure.scenario.system
    pools = {"cpu": (system.name, system.service)}
    if system.accelerator:
        pools["accelerator"] = system.accelerator.name, system.accelerator.service
    found = {
        pool: {"device": device, "provenance": curve.provenance, "source": curve.source, "range": curve.measured_range}
        for pool, (device, curve) in pools.items()
    }
    return {"model": structure.scenario.model, **found}
