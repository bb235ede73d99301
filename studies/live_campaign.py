"""What a campaign on a drifting machine can find: the whole path on a made-up server whose truth is known.

``python -m studies.live_campaign`` lets ``calibration.campaign`` measure servers with the parameters of one live model
and drifts of different sizes (a minute of computing for each), fits them, predicts the held-out half, and writes the
table of ``docs/studies/live-server.rst`` and ``studies/results/live_campaign.json``.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from calibration.judge import error, half_width, in_range
from calibration.livefit import fit
from calibration.livetext import scenario_text
from calibration.madeup import MadeUp, campaign_on, drift_path
from calibration.plan import LOADS, Campaign
from calibration.predict import endless, measured_runs, predict, still, unknown_of
from recqueue import load_scenario
from recqueue.profiles import Drift
from recqueue.serving import Scenario
from studies.accuracy_table import listing
from studies.live_server import FOLDER
from studies.record import DOCS, RESULTS, save_record

RAW = Path(__file__).parents[1] / "calibration" / "raw" / "xeon-16c" / "live"
RECORD = RESULTS / "live_campaign.json"
MODEL, SECONDS, LASTING_S = "wide-and-deep", 285.0, 1.0
DRIFTS = (0.0, 0.02, 0.04, 0.08)


def truth(sd: float) -> Scenario:
    """The made-up server as a scenario: the parameters of the live one, with this drift."""
    base = still(load_scenario(FOLDER / f"{MODEL}.yaml"))
    if sd == 0:
        return base
    levels = np.clip(norm.ppf((np.arange(31) + 0.5) / 31), -2.5, 2.5)
    factors = 1 + sd * (levels - levels.mean())
    drift = Drift(factor=tuple((factors / factors.mean()).tolist()), lasting_s=LASTING_S)
    return replace(base, system=replace(base.system, drift=drift))


def campaign(sd: float, folder: Path, *, seconds: float = SECONDS, seed: int = 1) -> dict[str, Any]:
    """Measure, fit and predict; medians over the held-out measurements of each load."""
    known = fit(RAW, MODEL)
    path = drift_path(seconds + 60, sd, [(1.0, LASTING_S)], seed)
    campaign_on(MadeUp(known, path, seed), folder, Campaign(names=[MODEL], seconds=seconds))
    fitted = fit(folder, MODEL)
    file, true, weather = folder / f"{MODEL}.yaml", truth(sd), fitted.weather
    file.write_text(scenario_text(fitted, "python -m studies.live_campaign"), encoding="utf-8")
    found = load_scenario(file)
    loads: dict[str, dict[str, float]] = {}
    rows = []
    predicted = [(m, predict(found, fitted, m)) for m in measured_runs(folder, MODEL)]
    unknown = unknown_of([p for _, p in predicted])
    for m, p in predicted:
        if m.row["split"] == "held-out":
            row = p.within(unknown)
            truly = endless(replace(true, policy=m.policy), float(row["qps"]))
            rows.append({**row, "true_p95_s": truly.latency_s["p95"]})
    for load in LOADS["held-out"]:
        mine = [r for r in rows if float(r["load"]) == load]
        loads[f"{load:g}"] = {
            "half_width": float(np.median([half_width(r) for r in mine])),
            "measured_to_true": float(np.median([abs(r["p95_s"] / r["true_p95_s"] - 1) for r in mine])),
            "formula_to_true": float(np.median([abs(r["formula_p95_s"] / r["true_p95_s"] - 1) for r in mine])),
            "still_to_true": float(np.median([abs(r["still_p95_s"] / r["true_p95_s"] - 1) for r in mine])),
            "formula_to_measured": float(np.median([abs(error(r, "formula", "p95")) for r in mine])),
            "own_speed_to_measured": float(np.median([abs(error(r, "own_speed", "p95")) for r in mine])),
            "in_range": float(np.mean([in_range(r) for r in mine])),
        }
    return {"sd": sd, "lasting_s": LASTING_S, "fitted_sd": weather.sd, "fitted_lasting_s": weather.lasting_s,
            "loads": loads}  # fmt: skip


def table(found: list[dict[str, Any]]) -> str:
    """Errors by drift and load."""
    lines = []
    for case in found:
        for load, v in case["loads"].items():
            lines.append([
                f"{100 * case['sd']:g} %", f"{100 * case['fitted_sd']:.1f} %, {case['fitted_lasting_s']:.2g} s", load,
                *(f"{100 * v[k]:.1f} %" for k in ("half_width", "measured_to_true", "still_to_true", "formula_to_true",
                                                  "formula_to_measured", "own_speed_to_measured")),
                f"{100 * v['in_range']:.0f} %",
            ])  # fmt: skip
    head = ["drift for 1 s", "fitted", "load", "half-width of the interval", "measured to true",
            "formula without drift to true", "formula to true", "formula to measured",
            "at the measured speed to measured", "measured in the predicted range"]  # fmt: skip
    return listing("p95 in a campaign on a made-up server: median absolute errors over four held-out policies", head,
                   lines)  # fmt: skip


def main() -> None:
    """Write the table and the record."""
    found = []
    for sd in DRIFTS:
        with tempfile.TemporaryDirectory() as folder:
            found.append(campaign(sd, Path(folder)))
        print(found[-1], flush=True)
    (DOCS / "studies" / "live_campaign.inc").write_text(table(found), encoding="utf-8")
    save_record(RECORD, "python -m studies.live_campaign", model=MODEL, seconds=SECONDS, cases=found)


if __name__ == "__main__":
    main()
