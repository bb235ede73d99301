"""A fleet plan over the day: machines of each model and of each type, stacked, with the demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.plotting.style import COLOURS, DASHES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from recqueue.optimize.plan_result import Plan


def plan_by_model(ax: Axes, plan: Plan) -> None:
    """Draw the machines that run each model, stacked, and the demand of all as a share of each one's own peak.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    plan : Plan
        One that is possible.

    Raises
    ------
    InputError
        When there is no plan.
    """
    _needs(plan)
    demand = plan.question.demand_qps()
    hours = plan.question.hours
    stacks = {
        d.name: np.asarray(sum((n for _, n in plan.machines_of(d.name)), np.zeros(hours, np.int64)))
        for d in plan.question.demands
    }
    _stack(ax, stacks, "machines on, by model")
    share = np.mean(demand / demand.max(axis=1, keepdims=True), axis=0)
    line = ax.twinx()
    line.plot(np.arange(hours) + 0.5, 100 * share, "k.-", lw=1, label="demand, mean over models")
    line.set_ylim(0, 110)
    line.set_ylabel("demand (% of each model's peak)")
    handles = [*ax.get_legend_handles_labels()[0], *line.get_legend_handles_labels()[0]]
    ax.legend(handles=handles, fontsize="small", loc="lower center", ncols=5, bbox_to_anchor=(0.5, 1.0), frameon=False)


def plan_by_type(ax: Axes, plan: Plan) -> None:
    """Draw the machines of each type that are on, stacked.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    plan : Plan
        One that is possible.

    Raises
    ------
    InputError
        When there is no plan.
    """
    _needs(plan)
    _stack(ax, plan.on_of_type(), "machines on, by type")
    ax.legend(fontsize="small", loc="lower center", ncols=5, bbox_to_anchor=(0.5, 1.0), frameon=False)


def plan_power(ax: Axes, plan: Plan) -> None:
    """Draw the provisioned power of each hour, beside that of provisioning without an optimizer.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    plan : Plan
        One that is possible, whose machines have power figures.

    Raises
    ------
    InputError
        When there is no plan, or a power figure is unknown.
    """
    from recqueue.optimize.plan_terms import planned_watts

    counts = _needs(plan)
    watts = [planned_watts(plan.question, c) for c in plan.columns]
    if any(w is None for w in watts):
        raise InputError("plan figure: no power figures for some of the machines")
    each = np.array([w or 0.0 for w in watts]) / 1e3
    edges = np.arange(plan.question.hours + 1)
    ax.stairs(each @ counts, edges, color=COLOURS[0], lw=2, baseline=None, label="this plan")
    for i, (name, b) in enumerate(plan.baselines.items()):
        if b.counts is not None:
            ax.stairs(each @ b.counts, edges, color=COLOURS[i + 1], lw=1.2, ls=DASHES[i + 1], baseline=None, label=name)
    ax.set_xlim(0, plan.question.hours)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("hour")
    ax.set_ylabel("provisioned power (kW)")
    ax.legend(fontsize="small", ncols=2)


def _needs(plan: Plan) -> NDArray[np.int64]:
    if plan.counts is None:
        raise InputError("plan figure: there is no plan, the machines do not suffice")
    return plan.counts


def _stack(ax: Axes, stacks: Mapping[str, NDArray[np.int64]], label: str) -> None:
    hours = len(next(iter(stacks.values())))
    edges, below = np.arange(hours + 1), np.zeros(hours)
    shown = [name for name, on in stacks.items() if on.any()]
    for i, name in enumerate(shown):
        top = below + stacks[name]
        ax.stairs(
            top, edges, baseline=below, fill=True, color=COLOURS[i % len(COLOURS)], alpha=0.75, ec="white", lw=0.5,
            label=name,
        )  # fmt: skip
        below = top
    ax.set_xlim(0, hours)
    ax.set_ylim(0, 1.05 * below.max())
    ax.set_xlabel("hour")
    ax.set_ylabel(label)
