"""Promises held against answers: each check a verdict and the line that says why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recqueue.serving import Performance, Sla
from recqueue.serving.performance import Verdict
from recqueue.validation.measured import Measured


@dataclass(frozen=True, kw_only=True)
class Check:
    """One promise, and whether it is kept.

    Attributes
    ----------
    name : str
        ``sla``, ``utilization``, ``rate``, ``headroom``, ``against``, ``measured`` or ``error``.
    verdict : {"pass", "fail", "undecided"}
        ``undecided`` when chance or a formula's own error could turn it.
    value, bound : float
        What was found, and what it is held to.
    text : str
        The same as a sentence.
    """

    name: str
    verdict: Verdict
    value: float
    bound: float
    text: str


def overall(checks: Sequence[Check]) -> Verdict:
    """``fail`` when one fails, else ``undecided`` when one is, else ``pass``."""
    verdicts = {c.verdict for c in checks}
    return "fail" if "fail" in verdicts else "undecided" if "undecided" in verdicts else "pass"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g} ms" if math.isfinite(seconds) else "infinite"


def _between(low: float, high: float, bound: float) -> Verdict:
    return "pass" if high <= bound else "fail" if low > bound else "undecided"


def check_sla(p: Performance, sla: Sla, *, name: str = "sla", advice: str = "--simulate decides") -> Check:
    """Whether the SLA is kept with room for what the answer itself may be off by.

    A simulated answer passes when its whole interval lies within the bound and nothing else speaks against it. A
    formula whose relative error stays within e in 95 of 100 like scenarios passes when p / (1 - e) keeps the bound and
    fails when p / (1 + e) breaks it. Where its error is not known it can only fail.

    Parameters
    ----------
    p : Performance
        At some rate.
    sla : Sla
        The promise.
    name : str
        Of the check.
    advice : str
        What would decide an undecided one.
    """
    key = f"p{sla.percentile:g}"
    value, at = p.latency_s.get(key, math.nan), f"at {p.qps:,.5g} queries/s"
    head = f"{key} {_ms(value)}, bound {_ms(sla.latency_s)}, {at}"

    def check(verdict: Verdict, reason: str) -> Check:
        return Check(name=name, verdict=verdict, value=value, bound=sla.latency_s, text=f"{head} ({reason})")

    if not p.stable:
        return check("fail", p.status)
    if p.kind == "simulate":
        low, high = p.interval_s.get(key, (value, value))
        reason = f"simulation, 95 % interval {_ms(low)} to {_ms(high)}"
        if p.meets_sla is None and high <= sla.latency_s:
            reason += f"; {p.status if p.status != 'ok' else 'too short to settle'}"
        return check(p.verdict, reason)
    error = p.error.get(key)
    if error is None:
        if not value <= sla.latency_s:
            return check("fail", "formula")
        return check("undecided", f"formula, whose error is not known here; {advice}")
    verdict = _between(value / (1 + error), value / (1 - error), sla.latency_s)
    reason = f"formula, error up to {100 * error:.1f} %" + (f"; {advice}" if verdict == "undecided" else "")
    return check(verdict, reason)


def check_utilization(p: Performance, bound: float) -> Check:
    """Whether the busier pool is at most so busy."""
    loads = {name: u for name, u in p.utilization.items() if u is not None}
    pool = max(loads, key=lambda name: loads[name])
    value = loads[pool]
    return Check(
        name="utilization",
        verdict="pass" if value <= bound else "fail",
        value=value,
        bound=bound,
        text=f"{pool} {100 * value:.1f} % busy, at most {100 * bound:g} %, at {p.qps:,.5g} queries/s",
    )


def check_rate(qps: float, least: float, *, by: str, verdict: Verdict = "pass", name: str = "rate") -> Check:
    """Whether the largest rate within the SLA is at least ``least``.

    Parameters
    ----------
    qps : float
        Largest rate, queries/s.
    least : float
        What it is held to.
    by : str
        Who found it.
    verdict : {"pass", "fail", "undecided"}
        What is known of ``qps`` itself, such as the verdict of its verification.
    name : str
        Of the check.
    """
    text = f"carries {qps:,.5g} queries/s within the SLA, at least {least:,.5g} ({by})"
    return Check(name=name, verdict=verdict if qps >= least else "fail", value=qps, bound=least, text=text)


def check_headroom(p: Performance, sla: Sla, share: float, *, advice: str = "--simulate decides") -> Check:
    """Whether the SLA is kept at a rate that is higher by ``share``; ``p`` is the performance there."""
    found = check_sla(p, sla, name="headroom", advice=advice)
    return Check(
        name="headroom",
        verdict=found.verdict,
        value=found.value,
        bound=found.bound,
        text=f"with {100 * share:g} % more load: {found.text}",
    )


def check_against(
    what: str,
    now: tuple[float, float, float],
    before: tuple[float, float, float],
    share: float,
    *,
    unit: str = "ms",
) -> Check:
    """Whether a figure became worse than a baseline by more than ``share``.

    Parameters
    ----------
    what : str
        Name of the figure.
    now, before : tuple of float
        Value and the ends of its interval (equal to the value where there is none).
    share : float
        Largest relative rise of a latency (``unit`` "ms"), or drop of a rate ("queries/s").
    unit : {"ms", "queries/s"}
        Which of the two; latencies are in seconds.
    """
    change = now[0] / before[0] - 1
    if unit == "ms":
        verdict = _between(now[1] / before[2] - 1, now[2] / before[1] - 1, share)
        shown = [f"{1e3 * v:.4g}" for v in (before[0], now[0])]
        bound = f"may rise by {100 * share:g} %"
    else:
        verdict = _between(1 - now[2] / before[1], 1 - now[1] / before[2], share)
        shown = [f"{v:,.5g}" for v in (before[0], now[0])]
        bound = f"may drop by {100 * share:g} %"
    text = f"{what} {shown[0]} -> {shown[1]} {unit} ({100 * change:+.1f} %, {bound})"
    return Check(name="against", verdict=verdict, value=change, bound=share if unit == "ms" else -share, text=text)


def check_measured(run: Measured, sla: Sla) -> Check:
    """Whether a measured run keeps the SLA, by the interval of its percentile."""
    key = f"p{sla.percentile:g}"
    at = f"at {run.qps:,.5g} queries/s, policy {run.policy}"
    if key not in run.latency_s:
        text = f"no {key} measured {at}; there are {', '.join(run.latency_s)}"
        return Check(name="measured", verdict="undecided", value=math.nan, bound=sla.latency_s, text=text)
    value = run.latency_s[key]
    low, high = run.interval_s.get(key, (value, value))
    interval = f", 95 % interval {_ms(low)} to {_ms(high)}" if key in run.interval_s else ", no interval"
    return Check(
        name="measured",
        verdict=_between(low, high, sla.latency_s),
        value=value,
        bound=sla.latency_s,
        text=f"{key} {_ms(value)}, bound {_ms(sla.latency_s)}, {at} (measured{interval})",
    )
