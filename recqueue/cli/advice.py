"""Headroom and what would change it, as a screen and as JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from recqueue.serving import Policy, Scenario

if TYPE_CHECKING:
    from recqueue.optimize import Infeasibility, Sensitivity

_POOLS = {"cpu": "cores", "accelerator": "accelerator"}


def rate(value: float) -> str:
    """Rate with as many digits as one needs: 12.3, 1,234."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def knobs(policy: Policy | None) -> str:
    """Batch size and offload threshold, and how many queries a launch may fuse where the policy says."""
    if policy is None:
        return "-"
    t, f = policy.offload_threshold, policy.max_fused_queries
    return f"{policy.batch_size} / {'never' if t is None else t}" + ("" if f is None else f" x{f}")


def ms(seconds: float) -> str:
    """Milliseconds with three digits or one decimal; inf where there is no steady state."""
    return f"{seconds * 1e3:,.1f}" if seconds >= 0.01 else f"{seconds * 1e3:.3g}"


def sensitivity_record(s: Sensitivity | None) -> dict[str, Any] | None:
    """The record of schema 1 under ``sensitivity``; null where it was not asked for."""
    if s is None:
        return None
    record = {field.name: getattr(s, field.name) for field in dataclasses.fields(s)}
    return {
        **record,
        "policy": dataclasses.asdict(s.policy),
        "best_policy": None if s.best_policy is None else dataclasses.asdict(s.best_policy),
        "circumstances": [dataclasses.asdict(c) for c in s.circumstances],
        "gains": [dataclasses.asdict(g) for g in s.gains],
    }


def infeasibility_record(i: Infeasibility | None) -> dict[str, Any] | None:
    """The record of schema 1 under ``infeasibility``; null where the promise is kept or it was not asked for."""
    return None if i is None else dataclasses.asdict(i)


def infeasibility_rows(i: Infeasibility) -> list[tuple[str, str | Text]]:
    """Why the promise is not kept."""
    what = (
        Text("NO RATE KEEPS THE SLA", style="bold red")
        if i.demand_qps is None or i.carries_qps == 0
        else Text(f"THE DEMAND OF {rate(i.demand_qps)} QUERIES/S CANNOT BE CARRIED", style="bold red").append(
            f": {rate(i.demand_qps - i.carries_qps)} queries/s ({i.carries_qps / i.demand_qps - 1:.1%}) too many",
            style="not bold",
        )
    )
    closest = "with this policy" if i.kept else f"{i.policy} comes closest"
    return [("missed", what), ("because", f"{i.cause}: {i.reason}; {closest}")]


def remedies_table(i: Infeasibility) -> Table:
    """The nearest promise, machine or load that will do."""
    table = _table("any one of these would do, the smallest change first")
    table.add_column("batch / offload from", justify="right")
    for r in i.remedies:
        if r.needed is not None:
            table.add_row(r.text + (" (*)" if r.extrapolated else ""), knobs(r.policy))
    return table


def infeasibility_lines(i: Infeasibility) -> list[Table | str]:
    """What to print below a report."""
    cannot = "; ".join(r.text for r in i.remedies if r.needed is None)
    lines: list[Table | str] = [remedies_table(i)] if any(r.needed is not None for r in i.remedies) else []
    return [*lines, *([f"no help: {cannot}"] if cannot else [])]


def headroom_rows(s: Sensitivity) -> list[tuple[str, str | Text]]:
    """Where the promise and stability break, and what stops the rate."""
    where = "the demand" if s.asked else "the rate above"
    breaks = (
        "the SLA is kept at no rate"
        if s.breaks_qps == 0
        else f"the SLA breaks at {rate(s.breaks_qps)} queries/s ({s.headroom:+.1%})"
    )
    late = ", ".join(f"{share:.0%} of the {_POOLS[pool]}" for pool, share in s.late_share.items() if share >= 0.005)
    better: list[tuple[str, str | Text]] = []
    if s.best_policy is not None and s.best_policy != s.policy and s.best_qps > s.breaks_qps:
        more = f" ({s.best_qps / s.breaks_qps - 1:+.1%})" if s.breaks_qps else ""
        better = [("best policy", f"{s.best_policy}: {rate(s.best_qps)} queries/s{more}")]
    return [
        (
            "headroom",
            f"from {where} of {rate(s.qps)} queries/s: {breaks}, stability of the {_POOLS[s.saturates]} at "
            f"{rate(s.saturates_qps)} ({s.saturates_qps / s.qps - 1:+.1%})",
        ),
        ("stopped by", f"{s.binds}: {s.reason}" + (f"; late queries: {late}" if late else "")),
        *better,
    ]


def circumstances_table(s: Sensitivity, scenario: Scenario) -> Table:
    """More load, less hardware."""
    table = _table(f"what if, at {rate(s.qps)} queries/s")
    for name in (f"p{scenario.sla.percentile:g} (ms)", "keeps SLA", "carries up to", "batch / offload from"):
        table.add_column(name, justify="right")
    for c in s.circumstances:
        text = c.text if c.kept else f"{c.text}, best policy"
        keeps = Text("yes" if c.meets_sla else "NO", style="" if c.meets_sla else "bold red")
        table.add_row(text, ms(c.latency_s), keeps, rate(c.carries_qps), knobs(c.policy))
    return table


def gains_table(s: Sensitivity) -> Table:
    """What each change buys, the most first."""
    table = _table("what buys most (queries/s)")
    for name in ("best policy", "gain", "policy kept", "gain", "batch / offload from"):
        table.add_column(name, justify="right")
    for g in s.gains:
        table.add_row(
            g.text + (" (*)" if g.extrapolated else ""),
            rate(g.best_qps),
            _gain(g.best_gain_qps, s.best_qps),
            rate(g.kept_qps),
            _gain(g.kept_gain_qps, s.breaks_qps),
            knobs(g.policy),
        )
    return table


def sensitivity_lines(s: Sensitivity, scenario: Scenario) -> list[Table | str]:
    """What to print below a report."""
    depth = (
        "all policies searched"
        if s.thorough
        else "the most promising policies tried (--sensitivity thorough tries all)"
    )
    note = "by formula; " + depth
    if any(g.extrapolated for g in s.gains):
        note += "; (*) asks a latency table outside its measured range"
    return [circumstances_table(s, scenario), "", gains_table(s), note]


def _gain(qps: float, base_qps: float) -> str:
    if qps == 0:
        return "0"
    return f"{qps / base_qps:+.1%}" if base_qps > 0 else f"+{rate(qps)}"


def _table(title: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(title, no_wrap=True)
    return table
