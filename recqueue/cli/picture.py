"""The picture of ``recqueue optimize --plot``: tail latency against the rate, for the answer and a baseline."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from recqueue.errors import InputError, OutOfValidityError

if TYPE_CHECKING:
    from recqueue.optimize import Optimization
    from recqueue.serving import Performance, Policy


def _by_formula(found: Optimization, policy: Policy, up_to_qps: float) -> list[Performance]:
    """Performance of a policy over rates up to the given one, closer together where latency rises."""
    from recqueue.analysis import evaluate

    scenario = dataclasses.replace(found.scenario, policy=policy)
    points = []
    for qps in up_to_qps * (1 - np.append(np.geomspace(0.9, 1e-3, 16), 0.0)):
        try:
            points.append(evaluate(scenario, qps=float(qps)))
        except OutOfValidityError:  # too close to saturation for the formulas: the line ends here
            break
    return points


def save(found: Optimization, file: str) -> None:
    """Draw what was found into ``file``; its ending names the format.

    Raises
    ------
    InputError
        When the file cannot be written in that format.
    """
    assert found.policy is not None  # the caller asks only when there is something to draw
    from matplotlib.figure import Figure

    from recqueue.plotting import latency_against_qps

    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    ax = figure.add_subplot()
    sla = found.scenario.sla
    checked = [found.verification.performance] if found.verification else []
    latency_against_qps(
        ax,
        _by_formula(found, found.policy, found.formula_qps or found.qps),
        checked,
        sla,
        max_qps=found.qps,
        label=str(found.policy),
    )
    static = found.baselines.get("static")
    if static is not None and static.policy is not None and static.qps > 0 and static.policy != found.policy:
        latency_against_qps(
            ax,
            _by_formula(found, static.policy, static.qps),
            [],
            sla,
            max_qps=static.qps,
            label=f"static ({static.policy})",
            colour="tab:orange",
            show_sla=False,
        )
    ax.set_title(
        f"{found.scenario.name}: {found.qps:,.0f} queries/s within p{sla.percentile:g} <= {sla.latency_s * 1e3:g} ms"
    )
    ax.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    ax.set_ylim(0, 1.3 * sla.latency_s * 1e3)
    try:
        figure.savefig(file, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"--plot {file}: {error}") from error
