"""How far formulas and predictions are off: by features of the scenario, and by load."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.errors import InputError
from recqueue.plotting.style import COLOURS, MARKERS, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def error_map(ax: Axes, cells: Sequence[Mapping[str, Any]], name: str, *, statistic: str = "95") -> None:
    """Draw the error of the formulas in each cell of the map, and how many scenarios it rests on.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    cells : sequence of mapping
        As in ``recqueue/data/accuracy.json``: ``up_to`` (``utilization``, ``sub_requests``, ``cv``), ``scenarios`` and
        ``error``.
    name : {"p95", "p99"}
        Which latency.
    statistic : {"median", "95", "worst"}
        Of the absolute errors in a cell.

    Raises
    ------
    InputError
        When the cells have no such error.
    """
    if any(name not in c["error"] for c in cells):
        raise InputError(f"error map: no {name} in its cells; they have {', '.join(cells[0]['error'])}")
    edges = {key: sorted({float(c["up_to"][key]) for c in cells}) for key in ("utilization", "sub_requests", "cv")}
    sides = list(itertools.product(edges["sub_requests"], edges["cv"]))
    found = {(c["up_to"]["utilization"], c["up_to"]["sub_requests"], c["up_to"]["cv"]): c for c in cells}
    value = np.array([[100 * found[u, *s]["error"][name][statistic] for s in sides] for u in edges["utilization"]])
    ax.grid(visible=False)
    top = max(4.0, float(np.ceil(value.max())))
    ax.imshow(value, origin="lower", aspect="auto", cmap="Blues", vmin=0, vmax=top)
    for (i, j), v in np.ndenumerate(value):
        count = found[edges["utilization"][i], *sides[j]]["scenarios"]
        colour = "white" if v > 0.6 * top else "black"
        ax.text(j, i, f"{v:.1f} %\nof {count}", ha="center", va="center", color=colour, fontsize="small")
    columns = [f"{_range(edges['sub_requests'], x)}\n{'no noise' if cv == 0 else f'cv to {cv:g}'}" for x, cv in sides]
    ax.set_xticks(range(len(sides)), columns, fontsize="small")
    ax.set_yticks(range(len(edges["utilization"])), [_range(edges["utilization"], u) for u in edges["utilization"]])
    ax.set_xlabel("sub-requests in a query (mean), noise of a service")
    ax.set_ylabel("utilization of the\nbusier pool")
    of = {"median": "median", "95": "that 95 of 100 scenarios stay within", "worst": "in the worst scenario"}[statistic]
    ax.set_title(f"{name}: error of the formula {of}")


def _range(edges: Sequence[float], up_to: float) -> str:
    place = list(edges).index(up_to)
    if place == 0:
        return f"up to {up_to:g}"
    return (
        f"above {edges[place - 1]:g}" if place == len(edges) - 1 and up_to > 1 else f"{edges[place - 1]:g} to {up_to:g}"
    )


def error_cloud(
    ax: Axes, load: ArrayLike, error: ArrayLike, *, name: str, flagged: ArrayLike | None = None, bins: int = 10
) -> None:
    """Draw the error of each scenario against its load, and the median and the 95th percentile along the load.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    load, error : array_like
        Utilization, and relative error with its sign, of each scenario.
    name : str
        Which latency.
    flagged : array_like of bool or None
        Scenarios that the formula itself flags: drawn apart and left out of the lines.
    bins : int
        Parts of the load, with equally many scenarios each.
    """
    x, y = np.asarray(load, dtype=float), 100 * np.abs(np.asarray(error, dtype=float))
    bad = np.zeros(len(x), dtype=bool) if flagged is None else np.asarray(flagged, dtype=bool)
    floor = 1e-3
    ax.plot(x[~bad], np.maximum(y[~bad], floor), ".", ms=2.5, color="0.7", label="a scenario", rasterized=True)
    if bad.any():
        ax.plot(x[bad], np.maximum(y[bad], floor), "x", ms=4, color=COLOURS[1], label="flagged by the formula itself")
    edges = np.quantile(x[~bad], np.linspace(0, 1, bins + 1))
    for rank, colour, dash, label in ((50, COLOURS[0], "-", "median"), (95, "black", "--", "95 of 100 below")):
        level = [_percentile_between(x[~bad], y[~bad], a, b, rank) for a, b in itertools.pairwise(edges)]
        ax.stairs(level, edges, color=colour, ls=dash, lw=1.8, baseline=None, label=label)
    ax.set_yscale("log")
    ax.set_ylim(floor, 1.5 * max(float(y.max()), 1.0))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlabel("utilization of the busier pool")
    ax.set_ylabel(f"error of {name} (%)")
    legend_above(ax, columns=4)


def _percentile_between(x: NDArray[np.float64], y: NDArray[np.float64], low: float, high: float, rank: float) -> float:
    here = y[(x >= low) & (x <= high)]
    return float(np.percentile(here, rank)) if len(here) else np.nan


def error_by_load(
    ax: Axes, runs: Sequence[Mapping[str, Any]], names: Sequence[str], *, bound: float | None = None
) -> None:
    """Draw the error of each prediction against the load, with what the measured interval allows.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    runs : sequence of mapping
        The ``runs`` of a record of ``recqueue compare``.
    names : sequence of str
        Which latencies, at most three are readable.
    bound : float or None
        Largest relative error: dotted lines.
    """
    width = 0.004
    ax.axhline(0, color="0.4", lw=1)
    for i, name in enumerate(names):
        rows = [r for r in runs if r["error"].get(name) is not None]
        shift = (i - (len(names) - 1) / 2) * width
        x = np.array([r["load"] for r in rows], dtype=float) + shift
        y = 100 * np.array([r["error"][name] for r in rows], dtype=float)
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        ends = []
        for r, value in zip(rows, y, strict=True):
            low, high = r["interval_s"].get(name, (r["measured_s"][name],) * 2)
            predicted = r["predicted_s"][name]
            ends.append(
                (value - 100 * (predicted / high - 1), 100 * (predicted / low - 1) - value) if low > 0 else (0, 0)
            )
        known = any(name in r["interval_s"] for r in rows)
        label = f"{name}, with its measured 95 % interval" if known else f"{name}, measured without interval"
        ax.errorbar(x, y, yerr=np.maximum(np.array(ends).T, 0) if known else None, fmt=marker, ms=4.5, capsize=2.5,
                    lw=1.1, color=colour, mfc="white", label=label)  # fmt: skip
    if bound is not None:
        for sign in (-1, 1):
            ax.axhline(100 * sign * bound, color="0.3", ls=":", label=f"bound: {100 * bound:g} %" if sign > 0 else None)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, -5.0), max(high, 5.0))
    ax.set_xlabel("load: predicted utilization of the busier pool")
    ax.set_ylabel("predicted / measured - 1 (%)")
    legend_above(ax, columns=2)
