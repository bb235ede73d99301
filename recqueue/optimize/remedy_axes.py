"""What of a scenario could be changed so that a promise is kept, how far, and in steps of what size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recqueue.optimize import changes
from recqueue.serving import Scenario

PRECISION = 1e-3
"""Relative, of the nearest value along a continuous axis; it is rounded to the side where the promise is kept."""
FARTHEST = 64.0
"""Most that a machine or a bound is changed by."""


@dataclass(frozen=True)
class Axis:
    """One quantity that may be changed: the scenario at each value, and in which direction it helps."""

    name: str
    current: float
    farthest: float
    whole: bool
    at: Callable[[float], Scenario]
    text: Callable[[float], str]
    beyond: str


def axes_of(scenario: Scenario) -> list[Axis]:
    """Quantities that can be changed, but for the percentile and the demand, which need no search."""
    system, sla, device = scenario.system, scenario.sla, scenario.system.accelerator
    percentile = f"p{sla.percentile:g}"
    axes = [
        Axis(
            "sla_latency_s",
            sla.latency_s,
            sla.latency_s * FARTHEST,
            False,
            lambda x: changes.sla_latency(scenario, x),
            lambda x: f"promise {percentile} <= {x * 1e3:.5g} ms instead of {sla.latency_s * 1e3:.5g} ms",
            f"no latency bound up to {sla.latency_s * FARTHEST:.4g} s would do",
        ),
        Axis(
            "cores",
            system.cores,
            int(system.cores * FARTHEST),
            True,
            lambda x: changes.cores(scenario, int(x)),
            lambda x: f"{x:.0f} cores instead of {system.cores}",
            f"not even {system.cores * FARTHEST:.0f} cores would do",
        ),
        Axis(
            "cpu_speed",
            1.0,
            FARTHEST,
            False,
            lambda x: changes.cpu_speed(scenario, x),
            lambda x: f"cores {x:.4g} times as fast",
            f"not even cores {FARTHEST:.0f} times as fast would do",
        ),
    ]
    if device is not None:
        axes += [
            Axis(
                "accelerators",
                device.count,
                int(device.count * FARTHEST),
                True,
                lambda x: changes.accelerators(scenario, int(x)),
                lambda x: f"{x:.0f} accelerators instead of {device.count}",
                f"not even {device.count * FARTHEST:.0f} accelerators would do",
            ),
            Axis(
                "accelerator_speed",
                1.0,
                FARTHEST,
                False,
                lambda x: changes.accelerator_speed(scenario, x),
                lambda x: f"an accelerator {x:.4g} times as fast",
                f"not even an accelerator {FARTHEST:.0f} times as fast would do",
            ),
        ]
    largest = scenario.sizes.max_items
    axes.append(
        Axis(
            "largest_query_items",
            largest,
            1,
            True,
            lambda x: changes.largest_query(scenario, int(x)),
            lambda x: f"queries of at most {x:.0f} items instead of {largest} (larger ones cut to that)",
            "not even queries of 1 item would do",
        )
    )
    return axes


def step(axis: Axis, value: float) -> float | None:
    """The next value towards the current one; None where that is the current one."""
    up = axis.farthest > axis.current
    if axis.whole:
        value = value - 1 if up else value + 1
    else:
        value = value * (1 - PRECISION) if up else value * (1 + PRECISION)
    return value if (value > axis.current if up else value < axis.current) else None


def rounded(axis: Axis, value: float) -> float:
    """The value with four digits, rounded away from the current one, so that what is printed will do."""
    if axis.whole:
        return value
    unit = 10.0 ** (np.floor(np.log10(value)) - 3)
    return float(np.round(np.ceil(value / unit * (1 - 1e-12)) * unit, 12))
