"""A figure of merit over both knobs of the policy: where it is feasible, and where it is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from recqueue.errors import InputError
from recqueue.serving import Policy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

MARKERS = ("s", "^", "D", "v", "P")
RATE_LABEL = "largest rate within the SLA (queries/s)"


def qps_heatmap(
    ax: Axes,
    batch_sizes: Sequence[int],
    thresholds: Sequence[int | None],
    qps: ArrayLike,
    *,
    optimum: Policy | None = None,
    baselines: Mapping[str, Policy] | None = None,
) -> QuadMesh:
    """Draw the largest rate of each policy, the optimum and the baselines marked.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    batch_sizes : sequence of int
        Strictly increasing; logarithmic axis.
    thresholds : sequence of int or None
        Strictly increasing offload thresholds; None, "never", may only come last.
    qps : array_like
        Queries per second, shape ``(len(thresholds), len(batch_sizes))``. 0 and NaN (no rate keeps the SLA) stay grey.
    optimum : Policy or None
        Marked with a star.
    baselines : mapping or None
        Label -> policy, each with its own marker.

    Returns
    -------
    matplotlib.collections.QuadMesh
        The mesh, for a colour bar; one in queries/s is added already.

    Raises
    ------
    InputError
        When the shapes do not match or an axis is not sorted.
    """
    z = np.array(qps, dtype=float)
    return policy_heatmap(
        ax, batch_sizes, thresholds, np.where(z > 0, z, np.nan), label=RATE_LABEL, optimum=optimum, baselines=baselines
    )


def policy_heatmap(
    ax: Axes,
    batch_sizes: Sequence[int],
    thresholds: Sequence[int | None],
    values: ArrayLike,
    *,
    label: str,
    feasible: ArrayLike | None = None,
    near_optimum: ArrayLike | None = None,
    near_label: str = "within 5 % of the optimum",
    optimum: Policy | None = None,
    baselines: Mapping[str, Policy] | None = None,
    small_is_good: bool = False,
    largest: float | None = None,
    nothing: str = "",
) -> QuadMesh:
    """Draw a value of each policy as a colour; bright is good, grey is no value.

    Parameters
    ----------
    ax, batch_sizes, thresholds, optimum, baselines
        As in :func:`qps_heatmap`.
    values : array_like
        Shape ``(len(thresholds), len(batch_sizes))``; NaN and infinities stay grey.
    label : str
        Of the colour bar, with the unit.
    feasible : array_like of bool or None
        Same shape: a line is drawn around the policies that keep the SLA, along the edges of their cells.
    near_optimum : array_like of bool or None
        Same shape: a dashed line around these, called ``near_label``.
    small_is_good : bool
        Whether small values are the bright ones.
    largest : float or None
        Value from which all have the same colour.
    nothing : str
        What grey means, for the legend.

    Raises
    ------
    InputError
        When the shapes do not match or an axis is not sorted.
    """
    z = np.ma.masked_invalid(np.array(values, dtype=float))
    known = [t for t in thresholds if t is not None]
    shape = (len(thresholds), len(batch_sizes))
    if z.shape != shape:
        raise InputError(
            f"heat map: values of shape {z.shape}; one row for each of {len(thresholds)} thresholds and a column for "
            f"each of {len(batch_sizes)} batch sizes are needed"
        )
    if None in thresholds[:-1] or np.any(np.diff(known) <= 0) or np.any(np.diff(batch_sizes) <= 0):
        raise InputError("heat map: batch sizes and thresholds must increase, None (never) coming last")
    # "Never" gets a row of its own one step above the largest threshold.
    step = float(np.median(np.diff(known))) if len(known) > 1 else 1.0
    never = (known[-1] if known else 0) + max(step, 0.06 * (known[-1] if known else 1))
    y = np.array([never if t is None else float(t) for t in thresholds])
    x_edges, y_edges = 2.0 ** _edges(np.log2(np.array(batch_sizes, dtype=float))), _edges(y)

    ax.set_facecolor("0.85")
    ax.grid(visible=False)
    above = largest is not None and bool((z > largest).any())
    mesh = ax.pcolormesh(x_edges, y_edges, z, cmap="viridis_r" if small_is_good else "viridis", shading="flat",
                         vmax=largest if above else None)  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlabel("batch size (items per sub-request)")
    ax.set_ylabel("offload threshold (items per query)")
    if None in thresholds:
        ticks = [t for t in ax.get_yticks() if 0 <= t <= known[-1] and t < never - 0.5 * step] if known else []
        ax.set_yticks([*ticks, never], [*(f"{t:g}" for t in ticks), "never"])
    ax.set_xlim(x_edges[0], x_edges[-1])
    ax.set_ylim(y_edges[0], y_edges[-1])
    bar = ax.figure.colorbar(mesh, ax=ax, label=label, extend="max" if above else "neither")
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")

    if feasible is not None:
        _outline(ax, x_edges, y_edges, _mask(feasible, shape), "keeps the SLA", "-")
    if near_optimum is not None:
        _outline(ax, x_edges, y_edges, _mask(near_optimum, shape), near_label, (0, (3, 2)))

    def mark(policy: Policy, label: str, marker: str, size: float, colour: str) -> None:
        at = never if policy.offload_threshold is None else policy.offload_threshold
        ax.plot(
            policy.batch_size,
            at,
            marker,
            ms=size,
            mfc=colour,
            mec="black",
            ls="none",
            label=f"{label}: {policy}",
            clip_on=False,
        )

    for (name, policy), marker in zip((baselines or {}).items(), MARKERS, strict=False):
        mark(policy, name, marker, 9, "white")
    if optimum is not None:
        mark(optimum, "optimum", "*", 17, "tab:red")
    if nothing and z.mask.any():
        ax.add_patch(Rectangle((0, 0), 0, 0, color="0.85", label=nothing))
    handles = ax.get_legend_handles_labels()[0]
    if handles:
        columns = 1 if len(handles) < 3 else 2
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize="small", frameon=False, ncols=columns)
    return mesh


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of cells halfway between their centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate(([2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]))


def _mask(values: ArrayLike, shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.array(values, dtype=bool)
    if mask.shape != shape:
        raise InputError(f"heat map: a region of shape {mask.shape}; the values have {shape}")
    return mask


def _outline(
    ax: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    mask: NDArray[np.bool_],
    label: str,
    dashes: Any,
) -> None:
    """Lines along the edges between cells inside and outside of a region; none along the frame."""
    lines = []
    for i, j in np.argwhere(mask[:, 1:] != mask[:, :-1]):
        lines.append([(x[j + 1], y[i]), (x[j + 1], y[i + 1])])
    for i, j in np.argwhere(mask[1:] != mask[:-1]):
        lines.append([(x[j], y[i + 1]), (x[j + 1], y[i + 1])])
    if not lines:
        return
    ax.add_collection(LineCollection(lines, colors="white", linewidths=3.2, capstyle="projecting"), autolim=False)
    ax.add_collection(
        LineCollection(lines, colors="black", linewidths=1.4, linestyles=[dashes], label="_"), autolim=False
    )
    ax.add_line(Line2D([], [], color="black", lw=1.4, ls=dashes, label=label))
