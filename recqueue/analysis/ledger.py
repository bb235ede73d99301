"""The error ledger of a report: how far each step from a measured profile to a served query may be off."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

from recqueue.serving.performance import Performance
from recqueue.serving.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Three lines: profile fit, formula against simulation, model against measured.

    Attributes
    ----------
    profile_fit : mapping
        ``cpu`` and ``accelerator``: median relative error of the service table at a batch size that is left out; None
        where a table is too short to tell, ``accelerator`` missing where there is none.
    formula : mapping
        Error of p95 and p99 against simulation that 95 of 100 scenarios like this stay within; empty where not known.
    live : mapping
        Absolute relative error of the formula's p95 against a live server: ``median`` and ``p90`` over its measurements
        (of the formula that knows the drift of the machine if the scenario has one, else of the one that does not; None
        where it found the server saturated), and ``known_speed_median`` and ``known_speed_p90`` when the speed of the
        machine at each moment is known; ``rate_median`` and ``rate_p90`` of the largest rate within a bound on p95.
    live_model : str or None
        The model that was served; None when they are of all models that were measured, as this one was not.
    live_load : tuple of float
        Loads of those measurements, as shares of capacity: those that this scenario's utilization is nearest to.
    live_on : str
        What was measured.
    """

    profile_fit: Mapping[str, float | None]
    formula: Mapping[str, float]
    live: Mapping[str, float | None]
    live_model: str | None
    live_load: tuple[float, float]
    live_on: str


@cache
def _live() -> dict[str, Any]:
    text = (files("recqueue") / "data" / "live.json").read_text(encoding="utf-8")
    record: dict[str, Any] = json.loads(text)
    return record


def error_ledger(scenario: Scenario, performance: Performance | None) -> Ledger:
    """Errors of each step for a scenario, as far as they are known.

    Parameters
    ----------
    scenario : Scenario
        Its service tables and its model are looked at.
    performance : Performance or None
        Result of a formula, which knows its own error.

    Returns
    -------
    Ledger
    """
    system, known = scenario.system, _live()
    fit = {"cpu": system.service.leave_one_out}
    if system.accelerator is not None:
        fit["accelerator"] = system.accelerator.service.leave_one_out
    band = _band(known["bands"], performance)
    measured = scenario.model in band["models"]
    of, rate = (x["models"][scenario.model] if measured else x["all"] for x in (band, known["largest_rate"]))
    ours = of["still" if system.drift is None else "formula"]
    return Ledger(
        profile_fit=fit,
        formula=dict(performance.error) if performance else {},
        live={
            "median": ours["median"],
            "p90": ours["p90"],
            "known_speed_median": of["own_speed"]["median"],
            "known_speed_p90": of["own_speed"]["p90"],
            "rate_median": rate["median"],
            "rate_p90": rate["p90"],
        },
        live_model=scenario.model if measured else None,
        live_load=(band["load"][0], band["load"][1]),
        live_on=known["measured_on"],
    )


def _band(bands: Sequence[Mapping[str, Any]], performance: Performance | None) -> Mapping[str, Any]:
    """The loads that the busiest resource is nearest to; the lower ones where no utilization is known."""
    busy = max((u for u in performance.utilization.values() if u is not None), default=0.0) if performance else 0.0
    for band, after in pairwise(bands):
        if busy <= (band["load"][1] + after["load"][0]) / 2:
            return band
    return bands[-1]
