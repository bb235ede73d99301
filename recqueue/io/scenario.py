"""Scenario files (schema 1) to Scenario values."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recqueue.errors import InputError
from recqueue.io import schema
from recqueue.io.blocks import arrivals_of, sizes_of, sla_of, system_of
from recqueue.io.messages import explain
from recqueue.io.source import at, packaged, read_source
from recqueue.serving import Policy, Scenario


def packaged_scenarios() -> tuple[str, ...]:
    """Names of the packaged scenarios."""
    return packaged("scenario")


def template() -> str:
    """Text of a commented scenario that loads and runs as it is."""
    return (files("recqueue") / "data" / "template.yaml").read_text(encoding="utf-8")


def load_scenario(
    source: str | Path, *, overrides: Mapping[str, Any] | None = None, ignore_policy: bool = False
) -> Scenario:
    """Read a scenario from a YAML file, or a packaged one by name.

    Parameters
    ----------
    source : str or path
        A packaged name (which comes first) or a file. Files named inside it are relative to its folder.
    overrides : mapping or None
        Dotted key -> value, replacing what the file says: ``{"accelerator": None, "sla.latency_ms": 50}``.
    ignore_policy : bool
        Leave the policy out, as one does to look for the best one.

    Returns
    -------
    Scenario

    Raises
    ------
    InputError
        One line with file, key, value, what is allowed and the likely fix.

    Examples
    --------
    >>> import recqueue
    >>> recqueue.load_scenario("dlrm-rmc1").sla
    Sla(percentile=95.0, latency_s=0.1)
    """
    found = read_source(source, overrides, kinds=("scenario",))
    return scenario_from_mapping(
        found.document, name=found.name, where=found.where, folder=found.folder, ignore_policy=ignore_policy
    )


def scenario_from_mapping(
    document: Mapping[str, Any],
    *,
    name: str = "scenario",
    where: str = "scenario",
    folder: Path | None = None,
    ignore_policy: bool = False,
) -> Scenario:
    """Build a scenario from the content of a scenario file; ``where`` starts its error lines."""
    with at(where):
        try:
            d = schema.Document.model_validate(dict(document))
        except ValidationError as error:
            raise InputError(explain(error)) from None
        policy = None
        if d.policy is not None and not ignore_policy:
            policy = Policy(**d.policy.model_dump())
        return Scenario(
            name=name,
            model=d.model or "custom",
            system=system_of(d),
            sizes=sizes_of(d.workload.sizes, folder or Path()),
            arrivals=arrivals_of(d.workload.arrivals, folder or Path()),
            policy=policy,
            sla=sla_of(d),
            qps=d.qps,
        )
