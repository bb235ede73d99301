"""Latency against the offered rate, of any number of policies or percentiles, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.plotting.style import COLOURS, DASHES, MARKERS, SLA_COLOUR, legend_above, plain_log
from recqueue.serving import Sla

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOGARITHMIC_FROM = 12.0
"""Ratio of the largest latency shown to the smallest from which the axis is logarithmic."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Latencies by rate.

    Attributes
    ----------
    kind : {"formula", "simulation", "measured"}
        Lines with the formula's own error as a band; open points with their intervals and a band; filled points.
    qps : array_like
        Increasing rates, queries/s.
    latency_s : mapping
        ``mean``, ``p50``, ... -> seconds at each rate, infinite where there is no steady state.
    low_s, high_s : mapping
        Ends of their intervals, where there are some.
    label : str
        Which policy, for the legend.
    """

    kind: Literal["formula", "simulation", "measured"]
    qps: ArrayLike
    latency_s: Mapping[str, ArrayLike]
    low_s: Mapping[str, ArrayLike] = field(default_factory=dict)
    high_s: Mapping[str, ArrayLike] = field(default_factory=dict)
    label: str = ""


def latency_curves(ax: Axes, curves: Sequence[Curve], *, names: Sequence[str], sla: Sla | None = None) -> None:
    """Draw latencies against the rate.

    Colours tell policies apart where there are several, else the latencies in ``names``.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    curves : sequence of Curve
        What to draw; those with the same label share a colour.
    names : sequence of str
        Which latencies, such as ``("p50", "p95", "p99")``.
    sla : Sla or None
        A dashed line.
    """
    labels = list(dict.fromkeys(c.label for c in curves))
    computed = {c.label for c in curves if c.kind != "measured"} if len(labels) > 1 else set()
    shown: list[NDArray[np.float64]] = []
    for c in curves:
        for i, name in enumerate(names):
            if name in c.latency_s:
                place = labels.index(c.label) if len(labels) > 1 else i
                alone = c.kind == "measured" and (len(names) == 1 or len(labels) > 1) and c.label not in computed
                shown.append(_curve(ax, c, name, place, several=len(labels) > 1, names=names, alone=alone))
    _unstable(ax, curves, names)
    if sla is not None:
        text = f"SLA: p{sla.percentile:g} <= {sla.latency_s * 1e3:g} ms"
        ax.axhline(sla.latency_s * 1e3, color=SLA_COLOUR, ls="--", lw=1.3, label=text, zorder=1.5)
    _latency_axis(ax, np.concatenate(shown) if shown else np.empty(0), sla)
    ax.set_xlabel("offered rate (queries/s)")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.set_ylabel(f"{names[0] + ' ' if len(names) == 1 else ''}latency of the whole query (ms)")
    legend_above(ax, columns=3 if len(labels) < 2 else 2)


def _curve(
    ax: Axes, c: Curve, name: str, place: int, *, several: bool, names: Sequence[str], alone: bool
) -> NDArray[np.float64]:
    """One latency of one curve; what was drawn, in ms."""
    qps, ms = np.asarray(c.qps, dtype=float), np.asarray(c.latency_s[name], dtype=float) * 1e3
    ms = np.where(np.isfinite(ms), ms, np.nan)
    colour = COLOURS[place % len(COLOURS)]
    if alone:
        colour = "black"
    parts = [part for part in ((c.label if several else name if len(names) > 1 else ""), c.kind) if part]
    band = ""
    low, high = (np.asarray(ends.get(name, ms / 1e3), dtype=float) * 1e3 for ends in (c.low_s, c.high_s))
    has_band = bool(np.any(np.isfinite(low) & np.isfinite(high) & (high > low)))
    if has_band:
        band = " and its error" if c.kind == "formula" else ", 95 % interval"
    label = ": ".join(parts) + band
    if c.kind == "formula":
        marker = "_" if np.isfinite(ms).sum() == 1 else None
        ax.plot(qps, ms, marker=marker, ms=14, mew=2, ls=DASHES[place % len(DASHES)], color=colour, lw=1.7, label=label)
        if has_band:
            ax.fill_between(qps, low, high, color=colour, alpha=0.18, lw=0)
        return ms
    marker = MARKERS[place % len(MARKERS)]
    if has_band:
        yerr = np.nan_to_num(np.maximum([ms - low, high - ms], 0.0))
        ax.errorbar(qps, ms, yerr=yerr, fmt=marker, ms=4.5, capsize=2.5, lw=1.1, color=colour, label=label,
                    mfc="white" if c.kind == "simulation" else colour, zorder=3)  # fmt: skip
        if c.kind == "simulation" and len(qps) > 2:
            ax.fill_between(qps, low, high, color=colour, alpha=0.12, lw=0)
    else:
        face = "white" if c.kind == "simulation" else colour
        ax.plot(qps, ms, marker, ms=4.5, color=colour, mfc=face, label=label, zorder=3)
    return ms


def _unstable(ax: Axes, curves: Sequence[Curve], names: Sequence[str]) -> None:
    """Shade the rates at which no curve has a steady state."""
    stable, unstable = [], []
    for c in curves:
        finite = np.isfinite(np.asarray(next(iter(c.latency_s.values())), dtype=float))
        qps = np.asarray(c.qps, dtype=float)
        stable += qps[finite].tolist()
        unstable += qps[~finite].tolist()
    beyond = [q for q in unstable if q > max(stable, default=0.0)]
    if beyond:
        right = 1.03 * max(beyond)
        ax.axvspan(min(beyond), right, color="0.88", lw=0, zorder=0, label="no steady state")
        ax.set_xlim(right=right)


def _latency_axis(ax: Axes, ms: NDArray[np.float64], sla: Sla | None) -> None:
    """From 0 on, or logarithmic where the latencies span more than that shows."""
    ms = ms[np.isfinite(ms) & (ms > 0)]
    ends = [*ms.tolist(), *([sla.latency_s * 1e3] if sla else [])]
    if not ends:
        return
    if max(ends) / min(ends) < LOGARITHMIC_FROM:
        top = (
            1.15 * max(ends)
            if sla is None
            else max(1.15 * sla.latency_s * 1e3, min(1.1 * max(ends), 2e3 * sla.latency_s))
        )
        ax.set_ylim(0, top)
    else:
        ax.set_yscale("log")
        ax.set_ylim(0.8 * min(ends), 1.4 * (max(ends) if sla is None else min(max(ends), 1e4 * sla.latency_s)))
        plain_log(ax.yaxis)
