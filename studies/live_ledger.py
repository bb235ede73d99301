"""What reports quote of the live servers: ``python -m studies.live_ledger`` writes ``recqueue/data/live.json``.

For each model the campaign in rounds on the 16 cores with an H200, where it was measured so, else the one in one piece.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibration.judge import Choice, sizes, summary
from studies import live_rounds
from studies import live_server as study

DATA = Path(__file__).parents[1] / "recqueue" / "data" / "live.json"
BANDS = (study.MODERATE, 0.9)
"""Loads up to which errors are quoted apart: near saturation every error of a speed is a large one of p95."""


QUOTED = ("still", "formula", "own_speed")


def measurements() -> list[study.Row]:
    """Held-out measurements, those in rounds before those in one piece."""
    rounds = study.held_out(live_rounds.MACHINES["h200"].rows)
    known = {r["model"] for r in rounds}
    return rounds + [r for r in study.held_out(study.rows()) if r["model"] not in known]


def questions() -> list[Choice]:
    """What the formula picked, from the records of both studies, in the same way."""
    rounds, one = (json.loads(x.RECORD.read_text(encoding="utf-8")) for x in (live_rounds, study))
    found = study.kept_choices(rounds["machines"]["h200"]["choices"])
    known = {c.model for c in found}
    return found + [c for c in study.kept_choices(one["choices"]) if c.model not in known]


def of(mine: Sequence[study.Row]) -> dict[str, Any]:
    """Errors of p95 of these, None where more than the share of them that a quantile leaves is infinite."""
    s = summary(mine)
    return {"runs": len(mine)} | {way: {k: _finite(s[way]["p95"][k]) for k in ("median", "p90")} for way in QUOTED}


def _finite(x: float) -> float | None:
    return round(x, 4) if np.isfinite(x) else None


def of_rates(mine: Sequence[Choice]) -> dict[str, float]:
    """Errors of the largest rate within a bound."""
    errors = [e for c in mine for e in c.errors]
    return {"crossings": len(errors)} | {k: round(v, 4) for k, v in sizes(errors).items()}


def ledger() -> dict[str, Any]:
    """Errors by band of load, of all models and of each; and of the largest rates."""
    every, found, bands, low = measurements(), questions(), [], 0.0
    for high in BANDS:
        mine = [r for r in every if low < float(r["load"]) <= high]
        names = dict.fromkeys(r["model"] for r in mine)
        bands.append({"load": [min(float(r["load"]) for r in mine), high], "all": of(mine),
                      "models": {m: of([r for r in mine if r["model"] == m]) for m in names}})  # fmt: skip
        low = high
    return {
        "measured_on": "a live server of 14 workers on 16 Xeon cores with an H200, at policies not fitted",
        "command": "python -m studies.live_ledger",
        "bands": bands,
        "largest_rate": {
            "all": of_rates(found),
            "models": {m: of_rates([c for c in found if c.model == m]) for m in dict.fromkeys(c.model for c in found)},
        },
    }


def main() -> None:
    """Write it."""
    DATA.write_text(json.dumps(ledger(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
