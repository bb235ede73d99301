"""Queries per second over both knobs of the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from recqueue.errors import InputError
from recqueue.serving import Policy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

MARKERS = ("s", "^", "D", "v", "P")


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
    known = [t for t in thresholds if t is not None]
    if z.shape != (len(thresholds), len(batch_sizes)):
        raise InputError(
            f"heat map: qps of shape {z.shape}; one row for each of {len(thresholds)} thresholds and a column for each "
            f"of {len(batch_sizes)} batch sizes are needed"
        )
    if None in thresholds[:-1] or np.any(np.diff(known) <= 0) or np.any(np.diff(batch_sizes) <= 0):
        raise InputError("heat map: batch sizes and thresholds must increase, None (never) coming last")
    # "Never" gets a row of its own one step above the largest threshold.
    step = float(np.median(np.diff(known))) if len(known) > 1 else 1.0
    never = (known[-1] if known else 0) + max(step, 0.06 * (known[-1] if known else 1))
    y = [never if t is None else float(t) for t in thresholds]

    ax.set_facecolor("0.85")
    mesh = ax.pcolormesh(
        batch_sizes, y, np.ma.masked_invalid(np.where(z > 0, z, np.nan)), cmap="viridis", shading="nearest"
    )
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlabel("batch size (items per sub-request)")
    ax.set_ylabel("offload threshold (items per query)")
    if None in thresholds:
        ticks = [t for t in ax.get_yticks() if 0 <= t <= known[-1] and t < never - 0.5 * step] if known else []
        ax.set_yticks([*ticks, never], [*(f"{t:g}" for t in ticks), "never"])
    ax.figure.colorbar(mesh, ax=ax, label="largest rate within the SLA (queries/s)")

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

    for (label, policy), marker in zip((baselines or {}).items(), MARKERS, strict=False):
        mark(policy, label, marker, 9, "white")
    if optimum is not None:
        mark(optimum, "optimum", "*", 17, "tab:red")
    if optimum is not None or baselines:
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize="small", frameon=False)
    return mesh
