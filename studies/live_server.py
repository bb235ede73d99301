"""Predicted against measured on a live server that the model had not seen, and what each miss is made of.

``python -m studies.live_server`` reads ``calibration/live_server`` (made by ``python -m calibration live-predict`` from
the committed records of a campaign in one piece) and writes the tables and the picture of the last part of
``docs/studies/live-server.rst`` and its record ``studies/results/live_server.json``.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from calibration.judge import (
    WHOLE,
    Choice,
    as_simulated,
    choices,
    crossing,
    error,
    half_width,
    in_interval,
    in_range,
    parts,
    quiet,
    sizes,
    summary,
)
from recqueue import load_scenario
from recqueue.plotting.style import COLOURS, new_figure, plain_log
from studies.accuracy_table import listing
from studies.record import DOCS, RESULTS, save_record

FOLDER = Path(__file__).parents[1] / "calibration" / "live_server"
RECORD = RESULTS / "live_server.json"
PICTURE = DOCS / "studies" / "live_server.png"
TARGETS = (("p95", "median", 0.05), ("p95", "p90", 0.12), ("mean", "median", 0.04))
"""Quantity, statistic of its absolute error, and what it should be at most."""
CAPACITY, CARRIED = 0.05, 0.95
INTERVAL, MODERATE = 0.03, 0.8
"""What a measured p95 should be known to, and up to which load."""
WORDS = {
    "still": "formula, speed always the same",
    "formula": "formula, speed drifts",
    "replayed": "simulated, these very arrivals, drifting by chance",
    "own_speed": "the same at the measured speed of each moment",
}
SATURATED = "saturated"
"""For what has no number because the model says that the server could not carry the rate."""
CHOSEN = 2.0
"""The bound for which the policies were chosen, as in ``calibration.judge.BOUNDS``."""
SHOWN = ("256", "64/300/4")
"""Held-out policies in the picture: without and with offload."""
Row = dict[str, str]


def rows(name: str = "predicted.csv", folder: Path = FOLDER) -> list[Row]:
    """All predicted runs."""
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def held_out(every: Sequence[Row]) -> list[Row]:
    """Those of the half that was not fitted."""
    return [r for r in every if r["split"] == "held-out"]


def all_choices(every: Sequence[Row], folder: Path = FOLDER) -> list[Choice]:
    """What the formula picks, for each model and bound."""
    names = dict.fromkeys(r["model"] for r in every)
    return [c for name in names for c in choices(every, load_scenario(folder / f"{name}.yaml"))]


def kept_choices(kept: Sequence[dict[str, Any]]) -> list[Choice]:
    """The same from the record of a study."""
    return [Choice(**{**c, "errors": tuple(c["errors"])}) for c in kept]


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %" if np.isfinite(x) else SATURATED


def _change(x: float) -> str:
    return f"{100 * x:+.0f} %" if np.isfinite(x) else SATURATED


def _ratio(a: str, b: str) -> float:
    """Of two times, infinite where the first is."""
    return float(a) / float(b) if np.isfinite(float(a)) else np.inf


def _ms(seconds: str) -> str:
    x = 1e3 * float(seconds)
    return f"{x:.3g}" if x < 1000 else f"{x:,.0f}"


def target_table(every: Sequence[Row], found: Sequence[Choice]) -> str:
    """Each target beside what was reached, by what is known of the machine."""
    held = held_out(every)
    moderate = [r for r in held if float(r["load"]) <= MODERATE]
    groups = {
        "all held-out": held,
        "quiet ones": [r for r in held if quiet(r)],
        f"{100 * WHOLE:g} % or more recorded": [r for r in held if float(r["covered"]) >= WHOLE],
        f"loads up to {MODERATE:g}": moderate,
    }
    of = {label: summary(mine) for label, mine in groups.items() if mine}
    lines = []
    for name, statistic, limit in TARGETS:
        for label, s in of.items():
            known = [s[way][name][statistic] for way in WORDS]
            what = f"{name}, {'median' if statistic == 'median' else '90th percentile'} of the absolute error"
            lines.append([what, label, f"<= {100 * limit:g} %", *map(_percent, known)])
    blank = [""] * (len(WORDS) - 2)
    sizes = np.abs([e for c in found for e in c.errors])
    lines.append(["largest rate within a bound, median of the absolute error", f"{len(sizes)} crossings",
                  f"<= {100 * CAPACITY:g} %", "", _percent(float(np.median(sizes))), *blank])  # fmt: skip
    kept = [c.carried for c in found]
    lines.append(["policy picked by the formula, least share of the best measured rate", f"{len(kept)} questions",
                  f">= {100 * CARRIED:g} %", "", _percent(min(kept)), *blank])  # fmt: skip
    halves = [half_width(r) for r in moderate]
    lines.append([f"half-width of the measured interval of p95, loads up to {MODERATE:g}, median",
                  f"{len(halves)} measurements", f"<= {100 * INTERVAL:g} %",
                  f"{_percent(float(np.median(halves)))} (measured)", "", *blank])  # fmt: skip
    lines.append(
        [
            f"p95 within the measured 95 % interval, loads up to {MODERATE:g}",
            f"{len(moderate)} measurements",
            "95 %",
            *(_percent(float(np.mean([in_interval(r, way) for r in moderate]))) for way in WORDS),
        ]
    )
    lines.append(
        [
            "formula's p95 within the 95 % interval of an endless simulation",
            f"{len(held)} measurements",
            "95 %",
            "",
            _percent(float(np.mean([as_simulated(r) for r in held]))),
            *blank,
        ]
    )
    inside = np.mean([in_range(r) for r in held])
    lines.append(["measured p95 within the range in which 95 % of such measurements lie by the model",
                  f"{len(held)} measurements", "95 %", "", "", _percent(float(inside)), ""])  # fmt: skip
    return listing("Targets on the held-out half, up to 0.9 of capacity", ["target", "of", "asked", *WORDS.values()],
                   lines)  # fmt: skip


def drifts(folder: Path = FOLDER) -> list[Row]:
    """What was found of the drift of each model's machine: the first of its rows in ``drift.csv``."""
    every = rows("drift.csv", folder)
    return [next(r for r in every if r["model"] == m) for m in dict.fromkeys(r["model"] for r in every)]


def drift_table(every: Sequence[Row], folder: Path = FOLDER) -> str:
    """The fitted drift of each model, and what it adds to the formula's p95."""
    lines = []
    for d in drifts(folder):
        held = [r for r in held_out(every) if r["model"] == d["model"]]
        added = [
            [_ratio(r["formula_p95_s"], r["still_p95_s"]) - 1 for r in held if float(r["load"]) == load]
            for load in (0.5, 0.8, 0.9)
        ]
        speeds = [float(r["speed"]) for r in held]
        lines.append([d["model"], _percent(float(d["sd"])), f"{float(d['lasting_s']):.2g} s",
                      _percent(float(d["within_run_sd"])), f"{min(speeds):.2f} .. {max(speeds):.2f}",
                      *(_change(float(np.median(x))) for x in added)])  # fmt: skip
    head = ["model", "standard deviation of the speed", "a speed lasts", "of it within a run",
            "mean speed of held-out measurements", "added to p95 by formula at 0.5", "at 0.8", "at 0.9"]  # fmt: skip
    return listing("Drift of the machine, fitted on the fitting half", head, lines)


def _sizes(errors: Sequence[float]) -> str:
    return " / ".join(map(_percent, sizes(errors).values()))


def groups_table(every: Sequence[Row]) -> str:
    """Error of p95 by model, by load and by policy."""
    held, lines = held_out(every), []
    by: tuple[tuple[str, Callable[[Row], str]], ...] = (
        ("model", lambda r: r["model"]), ("load", lambda r: r["load"]), ("policy", lambda r: r["configuration"]),
    )  # fmt: skip
    for kind, key in by:
        for value in dict.fromkeys(sorted(map(key, held))):
            mine = [r for r in held if key(r) == value]
            s = summary(mine)
            half = np.median([half_width(r) for r in mine])
            speeds = [float(r["speed"]) for r in mine]
            lines.append(
                [
                    f"{kind} {value}",
                    str(len(mine)),
                    f"± {_percent(float(half))}",
                    f"{min(speeds):.2f} .. {max(speeds):.2f}",
                    *(f"{_percent(s[w]['p95']['median'])} / {_percent(s[w]['p95']['p90'])}" for w in WORDS),
                ]
            )
    head = ["measurements with", "number", "measured interval", "speed", *WORDS.values()]
    return listing("Error of p95, median / 90th percentile of its absolute value", head, lines)


def parts_table(every: Sequence[Row]) -> str:
    """Size of each part of the misses."""
    held = held_out(every)
    words = {
        "formula": "formula against simulation, both endless",
        "arrivals": "these arrivals, in short runs, against endless ones",
        "drift": "speed of the machine at these moments against a usual one",
        "rest": "what is left: stalls, and everything the model does not know",
        "both": "first and last together: the miss without the chance of these runs",
    }
    found = [p | {"both": (1 + p["formula"]) * (1 + p["rest"]) - 1} for p in map(parts, held)]
    low = [p for p, r in zip(found, held, strict=True) if float(r["load"]) < 0.75]
    lines = [[text, *(_sizes([p[name] for p in mine]) for mine in (found, low))]
             for name, text in words.items()]  # fmt: skip
    return listing("Parts of the miss of p95, median / 90th percentile of the absolute value",
                   ["part", "all loads", "loads up to 0.7"], lines)  # fmt: skip


def choices_table(found: Sequence[Choice]) -> str:
    """What following the formula carries, by model."""
    lines = []
    for c in found:
        off = ", ".join(f"{100 * e:+.0f} %" for e in c.errors) or "none crossed"
        lines.append([c.model, f"{1e3 * c.bound_s:.3g} ms", c.picked, c.best, f"{c.picked_qps:,.0f}",
                      _percent(c.carried), off])  # fmt: skip
    head = ["model", "p95 within", "picked by formula", "best measured", "measured queries/s of the pick",
            "of the best", "error of the formula's largest rates"]  # fmt: skip
    return listing("Policies picked among the held-out ones", head, lines)


def confirmed_table(every: Sequence[Row], found: Sequence[Choice], confirmed: Sequence[Row]) -> str:
    """What the policy that ``optimize`` chose among all carried, beside the best of those that were measured."""
    lines = []
    for name in dict.fromkeys(r["model"] for r in confirmed):
        mine = [r for r in confirmed if r["model"] == name]
        choice = next(c for c in found if c.model == name and c.times == CHOSEN)
        rate, reached = crossing([float(r["qps"]) for r in mine], [float(r["p95_s"]) for r in mine], choice.bound_s)
        off = {w: np.abs([error(r, w, "p95") for r in mine]) for w in ("formula", "own_speed")}
        lines.append([
            name, f"{1e3 * choice.bound_s:.3g} ms", mine[0]["configuration"], f"{'' if reached else '>= '}{rate:,.0f}",
            choice.best, f"{choice.best_qps:,.0f}", f"{rate / choice.best_qps:.2f} x",
            *(f"{_percent(float(np.median(x)))} / {_percent(float(x.max())) if np.isfinite(x.max()) else 'unstable'}"
              for x in off.values()),
        ])  # fmt: skip
    head = ["model", "p95 within", "chosen by optimize", "measured queries/s", "best of the held-out", "its queries/s",
            "ratio", "error of p95, median / worst, formula", "at the measured speed"]  # fmt: skip
    return listing("Policies chosen by optimize among all, measured a quarter of an hour later", head, lines)


def worst(every: Sequence[Row]) -> list[Row]:
    """The two largest misses of the formula's p95, by ratio."""
    return sorted(held_out(every), key=lambda r: -abs(np.log(1 + error(r, "formula", "p95"))))[:2]


def worst_table(every: Sequence[Row]) -> str:
    """The two worst misses and their parts."""
    lines = []
    for r in worst(every):
        p = parts(r)
        seconds = float(r["queries"]) / float(r["qps"])
        lines.append([f"{r['model']} {r['configuration']} at {r['load']}",
                      f"{_ms(r['p95_s'])} ms ({_ms(r['p95_low_s'])} .. {_ms(r['p95_high_s'])})",
                      SATURATED if np.isinf(p["formula"]) else f"{_ms(r['formula_p95_s'])} ms",
                      *(_change(p[k]) for k in ("formula", "arrivals", "drift", "rest")),
                      f"{float(r['steal_s']):.2g} s of {seconds:.2g} s",
                      f"{1e6 * float(r['lateness_p99_s']):.0f} us"])  # fmt: skip
    head = ["run", "measured p95", "formula", "formula/simulation", "arrivals", "drift", "rest",
            "stolen by other guests", "generator late, p99"]  # fmt: skip
    return listing("The two worst misses", head, lines)


def picture(every: Sequence[Row], shown: Sequence[str] = SHOWN, height_in: float = 5.2) -> Figure:
    """Predicted and measured p95 over the rate, for each model."""
    names = list(dict.fromkeys(r["model"] for r in every))
    columns = 2 if len(names) in (2, 4) else 3
    figure, axes = new_figure(-(-len(names) // columns), columns, height_in=height_in)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, names, strict=False):
        for colour, policy in zip(COLOURS, shown, strict=False):
            mine = sorted((r for r in held_out(every) if r["model"] == name and r["configuration"] == policy),
                          key=lambda r: float(r["qps"]))  # fmt: skip
            qps = np.array([float(r["qps"]) for r in mine])
            p95, low, high = (1e3 * np.array([float(r[c]) for r in mine]) for c in ("p95_s", "p95_low_s", "p95_high_s"))
            ax.errorbar(qps, p95, [np.maximum(p95 - low, 0), np.maximum(high - p95, 0)], fmt="o", ms=4, capsize=2,
                        color=colour, label=f"measured, {policy}")  # fmt: skip
            for way, dash in (("formula", "-"), ("own_speed", ":")):
                ax.plot(qps, [1e3 * float(r[f"{way}_p95_s"]) for r in mine], dash, color=colour, lw=1.3,
                        label=f"{'formula' if way == 'formula' else 'at the measured speed'}, {policy}")  # fmt: skip
        ax.set_title(name)
        ax.set_yscale("log")
        plain_log(ax.yaxis)
        ax.set_xlim(left=0)
        ax.set_xlabel("queries/s")
        ax.set_ylabel("p95 (ms)")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    order = np.argsort([text.split(", ")[1] for text in labels], kind="stable")
    figure.legend([handles[i] for i in order], [labels[i] for i in order], loc="outside upper center", ncols=2)
    return figure


def tables(every: Sequence[Row], found: Sequence[Choice]) -> dict[str, str]:
    """All tables of the page, by name."""
    return {
        "targets": target_table(every, found),
        "drift": drift_table(every),
        "parts": parts_table(every),
        "worst": worst_table(every),
        "groups": groups_table(every),
        "choices": choices_table(found),
        "confirmed": confirmed_table(every, found, rows("predicted-live-confirm.csv")),
    }


def main() -> None:
    """Write tables, picture and record."""
    every = rows()
    found = all_choices(every)
    for name, text in tables(every, found).items():
        (DOCS / "studies" / f"live_server_{name}.inc").write_text(text, encoding="utf-8")
    picture(every).savefig(PICTURE, dpi=100)
    held = held_out(every)
    save_record(RECORD, "python -m studies.live_server", runs=len(every), held_out=summary(held),
                quiet=summary([r for r in held if quiet(r)]), quiet_runs=sum(map(quiet, held)),
                choices=[asdict(c) for c in found], worst=[r["configuration"] for r in worst(every)])  # fmt: skip


if __name__ == "__main__":
    main()
