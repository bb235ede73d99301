"""How the best policy moves with the latency bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from recqueue.plotting.style import COLOURS, DASHES, MARKERS, plain_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {
    "qps": "queries/s within the SLA",
    "batch_size": "best batch size\n(items per sub-request)",
    "offload_threshold": "best offload threshold\n(items per query)",
}


def optimum_by_sla(
    figure: Figure, axes: Sequence[Axes], answers: Mapping[str, Mapping[str, ArrayLike]], *, percentile: float = 95
) -> None:
    """Draw rate, batch size and offload threshold of the optimum against the bound, a line for each model.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Gets the legend, below the panels.
    axes : sequence of Axes
        Three, one for each of ``qps``, ``batch_size`` and ``offload_threshold``.
    answers : mapping
        Model -> ``sla_ms`` (increasing), ``qps``, ``batch_size``, ``offload_threshold``; NaN where no policy keeps the
        bound, and a threshold of NaN beside a batch size means never, drawn on a line of its own at the top.
    percentile : float
        Of the bound.
    """
    thresholds = [np.asarray(a["offload_threshold"], dtype=float) for a in answers.values()]
    largest = max((float(np.nanmax(t)) for t in thresholds if np.isfinite(t).any()), default=1.0)
    never, some_never = 1.12 * largest, False
    for i, (model, a) in enumerate(answers.items()):
        sla = np.asarray(a["sla_ms"], dtype=float)
        for ax, name in zip(axes, PANELS, strict=True):
            y = np.asarray(a[name], dtype=float)
            if name == "qps":
                y = np.where(y > 0, y, np.nan)
            if name == "offload_threshold":
                without = np.isnan(y) & np.isfinite(np.asarray(a["batch_size"], dtype=float))
                some_never = some_never or bool(without.any())
                y = np.where(without, never, y)
            ax.plot(sla, y, marker=MARKERS[i % len(MARKERS)], ms=8.5 - 0.6 * i, lw=1.3, ls=DASHES[i % len(DASHES)],
                    color=COLOURS[i % len(COLOURS)], label=model)  # fmt: skip
    for ax, (name, label) in zip(axes, PANELS.items(), strict=True):
        ax.set_xscale("log")
        plain_log(ax.xaxis)
        ax.set_ylabel(label)
        if name == "qps":
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            ax.yaxis.set_minor_formatter("")
        elif name == "batch_size":
            ax.set_yscale("log", base=2)
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        else:
            ax.set_ylim(0, 1.06 * never)
            if some_never:
                ticks = [t for t in ax.get_yticks() if 0 <= t <= largest]
                ax.set_yticks([*ticks, never], [*(f"{t:g}" for t in ticks), "never"])
    axes[-1].set_xlabel(f"bound on p{percentile:g} (ms)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
