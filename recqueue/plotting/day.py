"""A fleet's day: the tail latency of each hour, and the machines that were on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recqueue.errors import InputError
from recqueue.serving import FleetPerformance, Sla

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def latency_by_hour(
    ax: Axes,
    day: FleetPerformance,
    sla: Sla,
    *,
    label: str = "",
    colour: str = "tab:blue",
    show_sla: bool = True,
) -> None:
    """Draw the SLA's percentile of each hour as a step with its 95 % interval as a band.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; call again with ``show_sla=False`` for another fleet or router.
    day : FleetPerformance
        Hours without answered queries are left out.
    sla : Sla
        The percentile drawn and the bound, a dashed line.
    label : str
        Which fleet or router, for the legend.
    colour : str
        Of this fleet.
    show_sla : bool
        Whether to draw the bound.

    Raises
    ------
    InputError
        When the hours do not hold the percentile of the SLA.
    """
    key = f"p{sla.percentile:g}"
    known = [h for h in day.hours if h.latency_s]
    if any(key not in h.latency_s for h in known):
        raise InputError(f"day figure: the hours have no {key}; they have {', '.join(known[0].latency_s)}")
    nothing = (np.nan, np.nan)
    middle = np.array([h.latency_s.get(key, np.nan) for h in day.hours]) * 1e3
    low, high = np.array([h.interval_s.get(key, nothing) for h in day.hours]).T * 1e3
    edges = np.arange(len(middle) + 1)
    ax.stairs(middle, edges, color=colour, lw=1.6, baseline=None, label=f"{label or key}, 95 % interval")
    twice = np.repeat(edges, 2)[1:-1]
    ax.fill_between(twice, np.repeat(low, 2), np.repeat(high, 2), color=colour, alpha=0.25, lw=0)
    if show_sla:
        ax.axhline(
            sla.latency_s * 1e3, color="tab:red", ls="--", lw=1.2, label=f"SLA: {key} <= {sla.latency_s * 1e3:g} ms"
        )
    ax.set_xlim(0, len(middle))
    ax.set_ylim(0, max(1.1 * sla.latency_s * 1e3, ax.get_ylim()[1]))
    ax.set_xlabel("hour of the day")
    ax.set_ylabel(f"{key} latency of the whole query (ms)")
    ax.legend(fontsize="small")


def machines_by_hour(ax: Axes, day: FleetPerformance) -> None:
    """Draw the machines of each group that are on, stacked, and the offered rate on an axis of its own.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    day : FleetPerformance
        The groups and rates are those of its hours.
    """
    edges, below = np.arange(len(day.hours) + 1), np.zeros(len(day.hours))
    for i, name in enumerate(day.hours[0].machines_on):
        top = below + np.array([h.machines_on[name] for h in day.hours])
        ax.stairs(top, edges, baseline=below, fill=True, color=f"C{i + 2}", alpha=0.45, label=f"{name}: machines on")
        below = top
    ax.set_xlim(0, len(day.hours))
    ax.set_ylim(0, 1.35 * below.max())
    ax.set_xlabel("hour of the day")
    ax.set_ylabel("machines on")
    rates = ax.twinx()
    middle = edges[:-1] + 0.5
    rates.plot(middle, [h.qps / 1e3 for h in day.hours], "k.-", lw=1, label="offered rate")
    rates.set_ylim(bottom=0)
    rates.set_ylabel("offered rate (1000 queries/s)")
    handles = [*ax.get_legend_handles_labels()[0], *rates.get_legend_handles_labels()[0]]
    ax.legend(handles=handles, fontsize="small", loc="upper left", ncols=3)
