"""Policies that no other beats in two figures at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.errors import InputError
from recqueue.plotting.style import COLOURS, OPTIMUM_COLOUR, SLA_COLOUR, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def front(x: ArrayLike, y: ArrayLike, *, up: bool) -> NDArray[np.int64]:
    """Places of the points that no other beats, by increasing x.

    Parameters
    ----------
    x : array_like
        More is better.
    y : array_like
        More is better where ``up``, else less.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float) * (1 if up else -1)
    order = np.lexsort((-y, -x))  # best x first, of equal ones the best y
    best, kept = -np.inf, []
    for i in order:
        if np.isfinite(x[i]) and np.isfinite(y[i]) and y[i] > best:
            best = y[i]
            kept.append(i)
    return np.array(kept[::-1], dtype=np.int64)


def pareto_front(
    ax: Axes,
    qps: ArrayLike,
    y: ArrayLike,
    labels: Sequence[str],
    *,
    quantity: Literal["qps_per_w", "latency"],
    y_label: str,
    bound: float | None = None,
    bound_label: str = "",
) -> NDArray[np.int64]:
    """Draw all policies, and the line of those that no other beats.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    qps, y : array_like
        Queries/s, and queries/s per W (more is better) or a latency in ms (less is better).
    labels : sequence of str
        Names of the policies; those at the ends of the front go into the legend.
    quantity : {"qps_per_w", "latency"}
        Which of the two y is.
    y_label : str
        With the unit.
    bound : float or None
        Of the latency, a dashed line called ``bound_label``.

    Returns
    -------
    numpy.ndarray
        Places of the points on the front, by increasing rate.

    Raises
    ------
    InputError
        When no point has both figures.
    """
    x, values = np.asarray(qps, dtype=float), np.asarray(y, dtype=float)
    best = front(x, values, up=quantity == "qps_per_w")
    if not len(best):
        raise InputError(f"pareto: none of {len(x)} points has both a rate and {y_label}")
    others = np.setdiff1d(np.flatnonzero(np.isfinite(x) & np.isfinite(values)), best)
    if len(others):
        ax.plot(x[others], values[others], "o", ms=3, color="0.7", mec="none", label="beaten by another policy")
    ax.plot(
        x[best], values[best], "o-", color=COLOURS[0], ms=4.5, lw=1.4,
        drawstyle="steps-pre" if quantity == "latency" else "steps-post", label="beaten by none",
    )  # fmt: skip
    if bound is not None:
        ax.axhline(bound, color=SLA_COLOUR, ls="--", lw=1.3, label=bound_label)
    ends = {"most queries/s": best[-1]}
    ends["most queries/s per W" if quantity == "qps_per_w" else "shortest latency"] = best[0]
    for (name, i), marker in zip(ends.items(), ("*", "D"), strict=True):
        ax.plot(x[i], values[i], marker, ms=14 if marker == "*" else 7, mfc=OPTIMUM_COLOUR, mec="black", ls="none",
                label=f"{name}: {labels[i]}", zorder=4)  # fmt: skip
    ax.margins(x=0.08, y=0.12)
    ax.set_xlabel("rate (queries/s)")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.set_ylabel(y_label)
    legend_above(ax, columns=2)
    return best
