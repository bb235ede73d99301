"""Tail latency against the offered rate: formula, simulation, promise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recqueue.errors import InputError
from recqueue.serving import Performance, Sla

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def latency_against_qps(
    ax: Axes,
    formula: Sequence[Performance],
    simulated: Sequence[Performance],
    sla: Sla,
    *,
    max_qps: float | None = None,
    label: str = "",
    colour: str = "tab:blue",
    show_sla: bool = True,
) -> None:
    """Draw the SLA's percentile against the rate: a line for the formula, points with 95 % intervals for the simulator.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; call again with ``show_sla=False`` for a second policy.
    formula : sequence of Performance
        By increasing rate; unstable ones (infinite latency) end the line.
    simulated : sequence of Performance
        Drawn with their ``interval_s``.
    sla : Sla
        The percentile drawn and the bound, a dashed line.
    max_qps : float or None
        Largest rate, marked by a dotted line.
    label : str
        Which policy, for the legend.
    colour : str
        Of this policy.
    show_sla : bool
        Whether to draw the bound.

    Raises
    ------
    InputError
        When a result does not hold the percentile of the SLA.
    """
    key = f"p{sla.percentile:g}"
    for p in (*formula, *simulated):
        if key not in p.latency_s:
            raise InputError(f"latency figure: a result has no {key}; it has {', '.join(p.latency_s)}")
    tag = f"{label}: " if label else ""
    seconds = np.array([p.latency_s[key] for p in formula])
    finite = np.where(np.isfinite(seconds), seconds * 1e3, np.nan)
    if formula:
        ax.plot([p.qps for p in formula], finite, "-", color=colour, label=f"{tag}formula")
    if simulated:
        middle = np.array([p.latency_s[key] for p in simulated]) * 1e3
        ends = np.array([p.interval_s.get(key, (p.latency_s[key],) * 2) for p in simulated]) * 1e3
        ax.errorbar(
            [p.qps for p in simulated],
            middle,
            yerr=np.abs(ends.T - middle),
            fmt="o",
            ms=4,
            capsize=3,
            color=colour,
            mfc="white",
            label=f"{tag}simulation, 95 % interval",
        )
    if show_sla:
        ax.axhline(
            sla.latency_s * 1e3, color="tab:red", ls="--", lw=1.2, label=f"SLA: {key} <= {sla.latency_s * 1e3:g} ms"
        )
        ax.set_ylim(0, 1.6 * sla.latency_s * 1e3)
    if max_qps is not None:
        ax.axvline(max_qps, color=colour, ls=":", lw=1.2, label=f"{tag}{max_qps:,.0f} queries/s")
    ax.set_xlabel("offered rate (queries/s)")
    ax.set_ylabel(f"{key} latency of the whole query (ms)")
    ax.legend(fontsize="small")
