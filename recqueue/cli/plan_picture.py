"""The picture of ``recqueue plan --plot``: the day by model, by type, and its power."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recqueue.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recqueue.optimize.plan_result import Plan


def draw(found: Plan) -> Figure:
    """Three panels above each other: machines by model with the demand, machines by type, provisioned power."""
    from recqueue.plotting.plan import plan_by_model, plan_by_type, plan_power
    from recqueue.plotting.style import new_figure

    known = found.totals is not None and found.totals.provisioned_kwh is not None
    figure, axes = new_figure(3 if known else 2, height_in=10 if known else 7)
    plan_by_model(axes[0], found)
    plan_by_type(axes[1], found)
    if known:
        plan_power(axes[2], found)
    return figure


def save(found: Plan, file: str) -> None:
    """Draw a plan into ``file``; its ending names the format.

    Raises
    ------
    InputError
        When the file cannot be written in that format.
    """
    try:
        draw(found).savefig(file, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"--plot {file}: {error}") from error
