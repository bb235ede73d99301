"""What the mean latency consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recqueue.errors import InputError
from recqueue.plotting.style import COLOURS, legend_above
from recqueue.serving import Performance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = {
    "wait": ("mean wait until the last sub-request starts", COLOURS[0], ""),
    "service": ("mean service of that one", COLOURS[4], "//"),
    "straggler": ("mean of the stragglers after it", COLOURS[2], ".."),
}


def latency_breakdown(ax: Axes, results: Sequence[Performance], labels: Sequence[str] = ()) -> None:
    """Draw the three parts of the mean latency as stacked bars, one for each result, and its p95 as a dash.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    results : sequence of Performance
        Simulated ones, from left to right.
    labels : sequence of str
        Further line below each bar.

    Raises
    ------
    InputError
        When a result has no breakdown.
    """
    for p in results:
        if not set(PARTS) <= set(p.breakdown_s):
            raise InputError(
                f"breakdown: the result at {p.qps:g} queries/s ({p.kind}) has no parts of the latency; those of "
                "'recqueue simulate' have"
            )
    x, below = np.arange(len(results)), np.zeros(len(results))
    for name, (label, colour, hatch) in PARTS.items():
        ms = np.array([1e3 * p.breakdown_s[name] for p in results])
        ax.bar(x, ms, 0.68, bottom=below, color=colour, hatch=hatch, edgecolor="white", lw=0.6, label=label)
        below = below + ms
    p95 = [1e3 * p.latency_s["p95"] for p in results]
    ax.plot(x, p95, "_", ms=22, mew=2, color="black", label="p95")
    names = []
    for i, p in enumerate(results):
        loads = [u for u in p.utilization.values() if u is not None]
        lines = [f"{p.qps:,.0f}", f"{100 * max(loads):.0f} %" if loads else ""]
        names.append("\n".join([*lines, *([labels[i]] if labels else [])]))
    ax.set_xticks(x, names)
    ax.grid(visible=False, axis="x")
    ax.set_xlabel("offered rate (queries/s), and utilization of the busier pool")
    ax.set_ylabel("latency of the whole query (ms)")
    ax.set_ylim(0, 1.08 * max(*p95, *below))
    legend_above(ax, columns=2)
