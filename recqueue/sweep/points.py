"""One piece of a grid to rows: what a worker does. Knows scenarios only, no files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recqueue.analysis import evaluate, max_rate
from recqueue.analysis.pools import Costs
from recqueue.errors import InputError, OutOfValidityError, OutsideMeasuredRangeWarning, RecqueueError
from recqueue.serving import Performance, Policy, Scenario, Sla

Method = Literal["evaluate", "max-rate", "simulate", "optimize"]
METHODS: tuple[str, ...] = get_args(Method)
KNOBS = tuple(knob.name for knob in fields(Policy))
FAST = (*(f"policy.{knob}" for knob in KNOBS[1:]), "qps", "policy.batch_size", "sla.percentile", "sla.latency_ms")
"""Keys that leave the machine and the workload alone, in the order in which points are computed: the offload threshold
and the rate decide all that happens on accelerators."""
FIGURES = (
    "qps", "batch_size", "offload_threshold", "max_fused_queries",
    "mean_s", "p50_s", "p95_s", "p99_s", "utilization_cpu", "utilization_accelerator", "power_w", "meets_sla",
)  # fmt: skip
"""Numbers of every row; NaN where there is none (``offload_threshold``: never)."""
WORDS = ("status", "reason", "limit", "verdict")
"""Texts of every row: what became of the point, that as a sentence where it is not ok, what binds, what a simulation
says."""
_OF_METHOD = {"simulate": ("p95_low_s", "p95_high_s", "queries", "seed")}
_WORDS_OF = {"evaluate": WORDS[:2], "max-rate": WORDS[:3], "simulate": WORDS[:2], "optimize": WORDS}


def figures_of(method: str) -> tuple[str, ...]:
    """Columns of numbers that a method fills."""
    return (*FIGURES, *_OF_METHOD.get(method, ()))


def words_of(method: str) -> tuple[str, ...]:
    """Columns of texts that a method fills."""
    return _WORDS_OF[method]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What simulations need to know.

    Attributes
    ----------
    queries : int
        Queries of each simulated point.
    seed : int
        The same for every point, so that designs are compared on the same random numbers.
    verify : bool
        Whether ``optimize`` confirms each point by simulation.
    """

    queries: int = 200_000
    seed: int = 0
    verify: bool = False


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Values of the keys of ``FAST``, in their order and in SI units; None where a key is as each scenario has it."""

    values: tuple[tuple[Any, ...] | None, ...] = (None,) * len(FAST)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values of each key."""
        return tuple(1 if v is None else len(v) for v in self.values)

    def pick(self, key: int, i: int, otherwise: Any) -> Any:
        """Value ``i`` of the key at that place of ``FAST``, or what a scenario has."""
        values = self.values[key]
        return otherwise if values is None else values[i]


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A machine with its workload, or why there is none.

    Attributes
    ----------
    scenario : Scenario or None
        Without a policy.
    policy : mapping
        The knobs of its own policy; empty where it has none.
    error : str
        Why it cannot be built.
    """

    scenario: Scenario | None = None
    policy: Mapping[str, int | None] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Consecutive points: of each structure the inner ones from ``start`` up to ``stop``.

    ``compiled`` asks for compiled loops.
    """

    method: Method
    compiled: bool
    inner: Inner
    options: Options
    pieces: tuple[tuple[Structure, int, int], ...]

    @property
    def points(self) -> int:
        """Rows that it gives."""
        return sum(stop - start for _, start, stop in self.pieces)


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Rows of consecutive points.

    Attributes
    ----------
    figures : numpy.ndarray
        Shape (points, columns of numbers).
    words : dict
        Column -> one text or None for each point.
    """

    figures: NDArray[np.float64]
    words: dict[str, list[str | None]] = field(default_factory=dict)


class _Rows:
    """Rows being gathered."""

    def __init__(self, method: Method, points: int) -> None:
        self.method, self.names = method, figures_of(method)
        self.figures = np.full((points, len(self.names)), np.nan)
        self.words: dict[str, list[str | None]] = {name: [None] * points for name in words_of(method)}

    def put(self, row: int, values: dict[str, float | None], **words: str | None) -> None:
        for i, name in enumerate(self.names):
            value = values.get(name)
            if value is not None:
                self.figures[row, i] = value
        for name, word in words.items():
            self.words[name][row] = word


def compute(task: Task) -> Block:
    """Rows of a task. A point that cannot be answered is a row that says why; it ends nothing."""
    rows, at = _Rows(task.method, task.points), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideMeasuredRangeWarning)
        for structure, start, stop in task.pieces:
            _piece(rows, at, task, structure, start, stop)
            at += stop - start
    return Block(figures=rows.figures, words=rows.words)


def _piece(rows: _Rows, at: int, task: Task, structure: Structure, start: int, stop: int) -> None:
    if structure.scenario is None:
        for row in range(at, at + stop - start):
            rows.put(row, {}, status="invalid", reason=structure.error)
        return
    costs: Costs | None = None
    places = zip(*np.unravel_index(np.arange(start, stop), task.inner.shape), strict=True)
    numbered = enumerate((tuple(int(i) for i in place) for place in places), start=at)
    # All bounds on the latency of one machine, policy, rate and percentile are answered together.
    for place, group in groupby(numbered, key=lambda item: item[1][:-1]):
        members = [(row, whole[-1]) for row, whole in group]
        try:
            asked = _scenario(structure, task.inner, (*place, members[0][1]))
            if task.method == "evaluate":
                costs = costs or Costs.of(asked)
                _evaluated(rows, members, asked, task, costs)
                continue
        except Exception as error:
            for row, _ in members:
                _failed(rows, row, error, structure, task.inner, place)
            continue
        for row, bound in members:
            try:
                _answered(rows, row, _scenario(structure, task.inner, (*place, bound)), task)
            except Exception as error:
                _failed(rows, row, error, structure, task.inner, place)


_KNOBS = tuple(FAST.index(f"policy.{knob}") for knob in KNOBS)
_QPS, _PERCENTILE, _LATENCY = (FAST.index(key) for key in ("qps", "sla.percentile", "sla.latency_ms"))


def _knobs(structure: Structure, inner: Inner, place: Sequence[int]) -> dict[str, int | None]:
    knobs = {knob: inner.pick(i, place[i], structure.policy.get(knob)) for knob, i in zip(KNOBS, _KNOBS, strict=True)}
    return {} if knobs["batch_size"] is None else knobs


def _scenario(structure: Structure, inner: Inner, place: Sequence[int]) -> Scenario:
    """The scenario of a point, checked by the values that it is made of."""
    base = structure.scenario
    if base is None:
        raise InputError(structure.error)
    knobs: dict[str, Any] = _knobs(structure, inner, place)
    return replace(
        base,
        policy=Policy(**knobs) if knobs else None,
        qps=inner.pick(_QPS, place[_QPS], base.qps),
        sla=Sla(
            percentile=inner.pick(_PERCENTILE, place[_PERCENTILE], base.sla.percentile),
            latency_s=inner.pick(_LATENCY, place[_LATENCY], base.sla.latency_s),
        ),
    )


def _failed(rows: _Rows, row: int, error: Exception, structure: Structure, inner: Inner, place: Sequence[int]) -> None:
    """A row that says what was asked and why there is no answer."""
    known: dict[str, float | None] = {}
    if rows.method != "optimize":
        known.update(_knobs(structure, inner, place))
    if rows.method in ("evaluate", "simulate"):
        known["qps"] = inner.pick(_QPS, place[_QPS], structure.scenario.qps if structure.scenario else None)
    if isinstance(error, OutOfValidityError):
        status = "near-saturation"
    else:
        status = "invalid" if isinstance(error, RecqueueError) else "failed"
    text = str(error) if isinstance(error, RecqueueError) else f"{type(error).__name__}: {error}"
    rows.put(row, known, status=status, reason=" ".join(text.split()))


def _asked(scenario: Scenario, policy: Policy | None) -> dict[str, float | None]:
    """Columns that say which policy an answer is about."""
    device = policy.accelerator_of(scenario.system) if policy else scenario.system.accelerator
    return {
        "batch_size": policy.batch_size if policy else None,
        "offload_threshold": policy.offload_threshold if policy else None,
        "max_fused_queries": device.max_fused_queries if device else None,
    }


def _figures(scenario: Scenario, p: Performance, policy: Policy | None) -> dict[str, float | None]:
    return {
        "qps": p.qps,
        **_asked(scenario, policy),
        **{f"{name}_s": p.latency_s[name] for name in ("mean", "p50", "p95", "p99")},
        "utilization_cpu": p.utilization["cpu"],
        "utilization_accelerator": p.utilization["accelerator"],
        "power_w": p.power_w,
        "meets_sla": None if p.meets_sla is None else float(p.meets_sla),
    }


def _told(p: Performance) -> dict[str, str | None]:
    """Status and reason."""
    if p.status == "ok":
        return {"status": "ok", "reason": None}
    return {"status": "ok" if p.stable else "unstable", "reason": p.status}


def _feasible(feasible: bool, reason: str) -> dict[str, str | None]:
    return {"status": "ok", "reason": None} if feasible else {"status": "infeasible", "reason": reason}


def _evaluated(rows: _Rows, members: Sequence[tuple[int, int]], scenario: Scenario, task: Task, costs: Costs) -> None:
    p = evaluate(scenario, costs=costs, brief=True, compiled=task.compiled)
    figures, told = _figures(scenario, p, scenario.policy), _told(p)
    late = p.latency_s[f"p{scenario.sla.percentile:g}"]
    for row, bound in members:
        figures["meets_sla"] = float(late <= task.inner.pick(_LATENCY, bound, scenario.sla.latency_s))
        rows.put(row, figures, **told)


def _answered(rows: _Rows, row: int, scenario: Scenario, task: Task) -> None:
    match task.method:
        case "max-rate":
            most = max_rate(scenario)
            blank = _blank(scenario, scenario.policy)
            figures = _figures(scenario, most.performance, scenario.policy) if most.performance else blank
            told = (
                {"status": "ok", "reason": None} if most.feasible else {"status": "infeasible", "reason": most.reason}
            )
            rows.put(row, figures, limit=most.limit, **told)
        case "optimize":
            from recqueue.optimize import optimize

            best = optimize(scenario, verify=task.options.verify, seed=task.options.seed, sensitivity="none")
            blank = _blank(scenario, None)
            figures = _figures(scenario, best.performance, best.policy) if best.performance else blank
            verdict = best.verification.verdict if best.verification else None
            told = _feasible(best.policy is not None, best.reason)
            rows.put(row, figures, limit=best.limit, verdict=verdict, **told)
        case _:
            from recqueue.simulate import simulate

            seen = simulate(scenario, queries=task.options.queries, seed=task.options.seed, workers=1)
            low, high = seen.interval_s.get("p95", (np.nan, np.nan))
            more = {"p95_low_s": low, "p95_high_s": high, "queries": seen.queries, "seed": seen.seed}
            rows.put(row, {**_figures(scenario, seen, scenario.policy), **more}, **_told(seen))


def _blank(scenario: Scenario, policy: Policy | None) -> dict[str, float | None]:
    """What is known of a point that no rate or no policy answers: nothing can be carried."""
    return {"qps": 0.0, **_asked(scenario, policy), "meets_sla": 0.0}


def pieces(start: int, stop: int, inner: int) -> Iterator[tuple[int, int, int]]:
    """Structure, first and end of its inner points, of the points from ``start`` up to ``stop``."""
    while start < stop:
        structure, first = divmod(start, inner)
        end = min(inner, first + stop - start)
        yield structure, first, end
        start += end - first
