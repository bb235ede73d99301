"""Files in and out: scenarios, fleets and pipelines with exact errors, tables of sizes and timestamps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recqueue.io.fleet import fleet_from_source, load_fleet
from recqueue.io.pipeline import load_pipeline, pipeline_from_source
from recqueue.io.planning import load_plan, plan_template
from recqueue.io.scenario import load_scenario, packaged_scenarios, scenario_from_mapping, template
from recqueue.io.sharing import load_sharing
from recqueue.io.source import read_source

if TYPE_CHECKING:
    from recqueue.serving import Fleet, Pipeline, Scenario

__all__ = [
    "load",
    "load_fleet",
    "load_pipeline",
    "load_plan",
    "load_scenario",
    "load_sharing",
    "packaged_scenarios",
    "plan_template",
    "scenario_from_mapping",
    "template",
]


def load(source: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Scenario | Fleet | Pipeline:
    """Read whatever a file or a packaged name describes: its ``kind`` is scenario (the default), fleet or pipeline.

    Parameters
    ----------
    source : str or path
        A packaged name (which comes first) or a file.
    overrides : mapping or None
        Dotted key -> value, replacing what the file says.

    Returns
    -------
    Scenario, Fleet or Pipeline

    Raises
    ------
    InputError
        One line with file, key, value, what is allowed and the likely fix.
    """
    found = read_source(source, overrides, kinds=("scenario", "fleet", "pipeline"))
    if found.kind == "fleet":
        return fleet_from_source(found)
    if found.kind == "pipeline":
        return pipeline_from_source(found)
    return scenario_from_mapping(found.document, name=found.name, where=found.where, folder=found.folder)
