"""What ``recqueue compare`` found: the JSON record, and one readable screen."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recqueue.validation import Comparison, Spread

MOST_ROWS = 40
"""Runs that the report lists one by one; with more of them, only the bins of load (``--rows`` lists all)."""


def _spread_record(spread: Mapping[str, Spread]) -> dict[str, Any]:
    return {name: dataclasses.asdict(s) for name, s in spread.items()}


def comparison_record(
    c: Comparison,
    measured: Sequence[str],
    result: str,
    bound: Mapping[str, Any] | None,
    verdict: str | None,
    value: float | None,
) -> dict[str, Any]:
    """Contract of compare."""
    return {
        "schema": 1,
        "kind": "compare",
        "measured": measured,
        "result": result,
        "by": c.by,
        "verdict": verdict,
        "bound": bound,
        "value": value,
        "error": _spread_record(c.spread),
        "bins": [{"load_above": low, "load_up_to": high, "error": _spread_record(s)} for low, high, s in c.bins],
        "ledger": dataclasses.asdict(c.ledger),
        "unmatched": [m.where for m in c.unmatched],
        "runs": [
            {
                "where": r.measured.where,
                "qps": r.measured.qps,
                "batch_size": r.measured.batch_size,
                "offload_threshold": r.measured.offload_threshold,
                "max_fused_queries": r.measured.max_fused_queries,
                "queries": r.measured.queries,
                "load": r.load,
                "measured_s": r.measured.latency_s,
                "interval_s": r.measured.interval_s,
                "predicted_s": r.predicted.latency_s,
                "error": r.error,
                "outside": r.outside,
            }
            for r in c.runs
        ],
    }


def percent(share: float | None, sign: str = "") -> str:
    """Share as a report shows it; ``sign`` "+" shows that of a positive one too."""
    if share is None or math.isnan(share):
        return "?"
    if math.isinf(share):
        return "inf"
    digits = 1 if abs(share) < 0.0995 else 0
    value = round(100 * share, digits) + 0.0  # no minus sign before a zero
    return f"{value:{sign}.{digits}f} %"


def comparison_report(c: Comparison, measured: Sequence[str], result: str, *, rows: bool) -> None:
    """Print the runs by load, the errors in each bin and over all, and where they may come from."""
    from rich.text import Text

    from recqueue.cli.report import _grid, _screen

    with _screen() as out:
        missing = f", {len(c.unmatched)} without a prediction" if c.unmatched else ""
        files = measured[0] if len(measured) == 1 else f"{len(measured)} files"
        out.print(Text(f"{files} ({len(c.runs)} runs{missing}) against {result}, by {c.by}", style="bold"))
        if rows or len(c.runs) <= MOST_ROWS:
            out.print(_runs(c))
            if any(any(r.outside.values()) for r in c.runs):
                out.print("* outside the measured 95 % interval, so more than chance in the measurement")
            out.print()
        out.print(_bins(c))
        out.print()
        out.print(_grid([(head, text) for head, text in _ledger(c)]))


def _columns(*names: str) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, justify="left" if name in ("policy", "load") else "right", no_wrap=True)
    return table


def _runs(c: Comparison) -> Any:
    """One line for each run."""
    from recqueue.cli.advice import rate
    from recqueue.cli.report import _ms

    key = "p95" if "p95" in c.spread else next(iter(c.spread))
    errors = [f"{n} (%)" for n in c.spread]
    table = _columns("load", "queries/s", "policy", f"{key} (ms)", "95 % interval", "model", *errors)
    for r in c.runs:
        ends = r.measured.interval_s.get(key)
        table.add_row(
            f"{r.load:.2f}",
            rate(r.measured.qps),
            r.measured.policy,
            _ms(r.measured.latency_s.get(key)) if key in r.error else "-",
            f"{_ms(ends[0])} .. {_ms(ends[1])}" if ends else "",
            _ms(r.predicted.latency_s.get(key)) if key in r.error else "-",
            *(percent(r.error.get(n), "+").removesuffix(" %") + ("*" if r.outside.get(n) else " ") for n in c.spread),
        )
    return table


def _bins(c: Comparison) -> Any:
    """Errors in each bin of load, and over all runs."""
    table = _columns("load", "runs", *(f"|{n} error|" for n in c.spread), "bias", "outside")
    table.add_row("", "", *("median, 90 %" for _ in c.spread), "of p95" if "p95" in c.spread else "", "interval")
    bins = [(f"{low:g} to {high:g}", spread) for low, high, spread in c.bins]
    for label, spread in [*bins, ("all", c.spread)]:
        own = spread.get("p95", next(iter(spread.values())))
        sizes = [f"{percent(s.median)}, {percent(s.p90)}" if s else "-" for s in map(spread.get, c.spread)]
        outside = f"{own.outside} of {own.with_interval}" if own.with_interval else "-"
        table.add_row(label, str(own.runs), *sizes, percent(own.bias, "+"), outside)
    return table


def _ledger(c: Comparison) -> list[tuple[str, str]]:
    """The three lines that say where an error may come from."""
    ledger = c.ledger
    fit = ", ".join(
        f"{device} {'not known' if error is None else percent(error)}" for device, error in ledger.profile_fit.items()
    )
    if ledger.formula_runs:
        formula = f"median over these {ledger.formula_runs} runs, simulated: "
    else:
        formula = "95 of 100 like scenarios stay within, median over the runs: "
    formula += ", ".join(f"{n} {percent(e)}" for n, e in ledger.formula.items())
    model = ", ".join(f"{n} {percent(e)}" for n, e in ledger.model.items())
    noise = ", ".join(f"{n} {percent(e)}" for n, e in ledger.noise.items())
    return [
        ("profile fit", f"left out and interpolated, median: {fit}" if fit else "not known for saved answers"),
        ("formula", formula if ledger.formula else "its error against simulation is not known here; --simulate tells"),
        ("model", f"against measured, median: {model}" + (f"; measured half-width: {noise}" if noise else "")),
    ]
