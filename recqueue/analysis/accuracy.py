"""How far the formulas are off, from the error map that the package ships: ``recqueue/data/accuracy.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from recqueue.queueing import forkjoin
from recqueue.queueing.forkjoin import Response
from recqueue.serving.scenario import Scenario

JUMP_WITHIN = 1.08
"""A percentile is on a jump when the distribution function hardly moves between it and this factor on either side,"""
JUMP_SHARE = 0.02
"""by less than this share of the tail beyond it. An exponential tail moves by so little when its scale is four times
the latency, and a share so small is less than the formula's own error."""


ONE_SIZE, QUIET, LIGHT = 0.9, 0.12, 0.5
"""Split queries march in step where one kind has this probability or more, at this service cv and utilization or
less;"""
SOME, STILL, CALM = 0.02, 0.03, 0.25
"""or where a kind of this probability or more needs one to one and a half times as many sub-requests as there are
cores, at this service cv and utilization or less."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Scenarios of the study that are alike, and the absolute relative error of the formula among them.

    Attributes
    ----------
    up_to : mapping
        Largest ``utilization``, ``sub_requests`` (mean of a query) and ``cv`` in the cell.
    scenarios : int
        Simulated scenarios in it that no guard flags.
    error : mapping
        ``p95`` and ``p99``: ``median``, ``95`` (95th percentile) and ``worst``.
    """

    up_to: Mapping[str, float]
    scenarios: int
    error: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class ErrorMap:
    """Error of the formulas by the features that decide it, and where it was measured.

    Attributes
    ----------
    limits : mapping
        Largest value of each feature that the study covers: ``cores``, ``utilization``, ``batch_size``, ``cv``,
        ``max_items``, ``accelerators``.
    cells : tuple of Cell
        In ascending order of their limits.
    contention : tuple of Cell
        The same where cores slow each other, by utilization alone.
    """

    limits: Mapping[str, float]
    cells: tuple[Cell, ...]
    contention: tuple[Cell, ...]

    def cell(self, features: Mapping[str, float], *, contention: bool) -> Cell:
        """The first cell that holds ``features``; the last of all when none does."""
        cells = self.contention if contention else self.cells
        for c in cells:
            if all(features[name] <= limit + 1e-9 for name, limit in c.up_to.items()):
                return c
        return cells[-1]


@cache
def error_map() -> ErrorMap:
    """The packaged map."""
    text = (files("recqueue") / "data" / "accuracy.json").read_text(encoding="utf-8")
    record: dict[str, Any] = json.loads(text)
    return ErrorMap(
        limits=record["limits"],
        cells=tuple(Cell(**c) for c in record["cells"]),
        contention=tuple(Cell(**c) for c in record["contention"]),
    )


def features(scenario: Scenario, mixture: Sequence[tuple[float, Response]], utilization: float) -> dict[str, float]:
    """What the map is read at: of the pool that splits most, at the utilization of the busier pool."""
    policy = scenario.policy
    return {
        "cores": scenario.system.cores,
        "utilization": utilization,
        "batch_size": min(policy.batch_size, scenario.sizes.max_items) if policy else 0,
        "sub_requests": max(r.queries.mean_sub_requests for _, r in mixture),
        "cv": max(r.queries.cv for _, r in mixture),
        "max_items": scenario.sizes.max_items,
        "accelerators": scenario.system.accelerator.count if scenario.system.accelerator else 0,
    }


def expected_error(
    scenario: Scenario, mixture: Sequence[tuple[float, Response]], utilization: float, dispersion: float
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Relative error that 95 of 100 like scenarios stay within, for p95 and p99, and notes where none is known.

    Outside the map the errors are empty, and a note says what is outside and how to check.
    """
    at, known = features(scenario, mixture, utilization), error_map()
    outside = [f"{name.replace('_', ' ')} {at[name]:.3g} (up to {limit:g})" for name, limit in known.limits.items()
               if at[name] > limit * (1 + 1e-9)]  # fmt: skip
    if abs(dispersion - 1) > 1e-9:
        what = f"arrivals with an index of dispersion of {dispersion:.3g}"
        outside.append(f"{what}, which enter by two moments only (Poisson arrivals)")
    if in_step(mixture, utilization):
        outside.append("split queries of one size or in two rounds, hardly any noise and a light load (in step)")
    if outside:
        return {}, (
            "outside what the formula was compared with simulation for: "
            + "; ".join(outside)
            + "; its error is not known here: check with recqueue simulate",
        )
    contention = len(scenario.system.contention.busy) > 1
    cell = known.cell(at, contention=contention)
    return {name: found["95"] for name, found in cell.error.items()}, ()


def in_step(mixture: Sequence[tuple[float, Response]], utilization: float) -> bool:
    """Whether sub-requests march in step: split queries, hardly noisy, that rarely wait for others.

    Where nearly all are alike, the few that do wait find a query just like themselves, and how long they wait hangs on
    its remainder, which the formula rounds to none or a whole sub-request: its percentiles were off by up to 28 % in
    the study. Where a size needs a few more sub-requests than there are cores, its last ones start in a second round,
    all at the same moment, which the formula spreads: 13 %.
    """
    alike, second = (any(test(r) for _, r in mixture) for test in (_alike, _second_round))
    return (alike and utilization <= LIGHT) or (second and utilization <= CALM)


def _alike(r: Response) -> bool:
    q = r.queries
    return bool(q.full.max() > 0 and q.probability.max() >= ONE_SIZE and q.cv <= QUIET)


def _second_round(r: Response) -> bool:
    q, k = r.queries, r.servers
    few_more = (q.full + 1 > k) & (q.full + 1 <= 1.5 * k) & (q.probability >= SOME)
    return bool(k > 1 and few_more.any() and q.cv <= STILL)


def on_jump(mixture: Sequence[tuple[float, Response]], p: float, latency_s: float) -> tuple[float, float] | None:
    """Range of latencies that are all p-quantiles but for a 50th of the tail, where p is on a jump; else None.

    With a few query sizes, hardly any wait and no noise the distribution function has steps. At the height of a step
    every latency along it is a percentile to within rounding, and neither a formula nor a simulation can say more.
    """
    little = JUMP_SHARE * (1 - p)
    before, after = forkjoin.distribution(mixture, latency_s * np.array([1 / JUMP_WITHIN, JUMP_WITHIN]))
    if min(after - p, p - before) > little:
        return None
    low, high = forkjoin.quantiles(mixture, [p - little, p + little])
    return low, high
