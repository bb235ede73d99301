"""What all figures have in common: size, colours that colour-blind readers tell apart, and where legends go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from recqueue.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#7F7F7F", "#D55E00")
"""The palette of Okabe and Ito, its yellow (unreadable on white) replaced by grey; vermilion, which marks the SLA and
the optimum, comes last."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)))
SLA_COLOUR, OPTIMUM_COLOUR = "#D55E00", "#D55E00"
WIDTH_IN, HEIGHT_IN = 7.2, 4.4
"""Size of a figure, which fills the text of the documentation at 100 dots per inch."""
RC: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": "medium",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": "small",
    "svg.hashsalt": "recqueue",
    "svg.fonttype": "none",
}


def new_figure(rows: int = 1, columns: int = 1, *, height_in: float = HEIGHT_IN, **options: Any) -> tuple[Figure, Any]:
    """A figure as wide as a page of the documentation, and its axes."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        return figure, figure.subplots(rows, columns, **options)


def legend_above(ax: Axes, *, columns: int = 3, **options: Any) -> None:
    """Legend in rows above the axes, where it covers no data."""
    handles, _ = ax.get_legend_handles_labels()
    if handles or options.get("handles"):
        ax.legend(
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=min(columns, len(options.get("handles", handles))),
            columnspacing=1.4,
            handlelength=2.2,
            borderaxespad=0.3,
            **options,
        )


def plain_log(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter("")


def save(figure: Figure, file: str) -> None:
    """Write a figure; the ending of the file names the format. The same figure gives the same bytes.

    Raises
    ------
    InputError
        When the file cannot be written in that format.
    """
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(file.rpartition(".")[2].lower(), {})
    try:
        with mpl.rc_context(RC):
            figure.savefig(file, dpi=100 if file.lower().endswith("png") else None, metadata=metadata)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: the picture cannot be written ({error})") from None
