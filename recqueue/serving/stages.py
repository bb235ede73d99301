"""A query that passes through several pools: a graph of stages, and what each contributes to the response."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

import numpy as np

from recqueue.errors import InputError
from recqueue.profiles.contention import NO_CONTENTION, Contention
from recqueue.profiles.curve import LatencyCurve
from recqueue.serving.scenario import Sla
from recqueue.workload.arrivals import POISSON, Arrivals
from recqueue.workload.sizes import QuerySizes


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A pool of identical servers behind one FCFS queue of sub-requests, and what it passes on.

    A query enters when all stages before it are done with all its sub-requests. Its items are those that come in;
    ``ceil(keep * items)`` of them go on, at most ``most``.

    Parameters
    ----------
    name : str
        Unique in a pipeline.
    servers : int
        Cores or accelerators, 1 or more.
    service : LatencyCurve
        Time of one sub-request on one server against its items, with one server busy.
    batch_size : int
        Most items of a sub-request, 1 or more.
    contention : Contention
        Slow-down against the number of busy servers.
    dispatch_overhead_s : float
        Seconds that each sub-request occupies its server beyond ``service``.
    keep : float
        Share of the items that is passed on, in (0, 1]; the filter of a ranking stage.
    most : int or None
        Most items passed on; None for no such limit.
    merge : {"same", "sum"}
        With several stages before it: the branches handled the same items (the most that comes out of one of them), or
        each brings items of its own.

    Raises
    ------
    InputError
        When a number is out of range.
    """

    name: str
    servers: int
    service: LatencyCurve
    batch_size: int
    contention: Contention = NO_CONTENTION
    dispatch_overhead_s: float = 0.0
    keep: float = 1.0
    most: int | None = None
    merge: Literal["same", "sum"] = "same"

    def __post_init__(self) -> None:
        for key, value in (("servers", self.servers), ("batch_size", self.batch_size), ("most", self.most)):
            if value is not None and value < 1:
                raise InputError(f"stage {self.name}: {key} {value}; it must be a whole number of 1 or more")
        if not 0 < self.keep <= 1:
            raise InputError(
                f"stage {self.name}: keep {self.keep}; it must lie in (0, 1], the share of items passed on"
            )
        if not (np.isfinite(self.dispatch_overhead_s) and self.dispatch_overhead_s >= 0):
            raise InputError(f"stage {self.name}: dispatch_overhead {self.dispatch_overhead_s} s; 0 or more is needed")
        if self.merge not in ("same", "sum"):
            raise InputError(f"stage {self.name}: merge {self.merge!r}; allowed: same, sum")


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Stages and which of them wait for which, under a load, with a promise on the whole query.

    Stages without one before them start when the query arrives; it is answered when all stages are done with it.

    Parameters
    ----------
    name : str
        For reports.
    stages : tuple of Stage
        At least one.
    edges : tuple of (str, str)
        ``(before, after)``: the second waits for the first. They form no cycle.
    sizes : QuerySizes
        Items of a query on arrival.
    sla : Sla
        The promise on the whole query.
    arrivals : Arrivals
        The arrival process, without its rate.
    qps : float or None
        Offered queries per second.

    Raises
    ------
    InputError
        When names are repeated or unknown, or the edges form a cycle.
    """

    name: str
    stages: tuple[Stage, ...]
    edges: tuple[tuple[str, str], ...]
    sizes: QuerySizes
    sla: Sla
    arrivals: Arrivals = POISSON
    qps: float | None = None

    def __post_init__(self) -> None:
        names = [s.name for s in self.stages]
        if not names or len(set(names)) < len(names):
            raise InputError(f"stages {names}: give at least one stage, each with a name of its own")
        for edge in self.edges:
            for end in edge:
                if end not in names:
                    raise InputError(f"edge {list(edge)}: no stage {end!r}; stages: {', '.join(names)}")
        try:
            self.order()
        except CycleError as error:
            raise InputError(f"edges: {' -> '.join(error.args[1])} is a cycle; a query never comes back") from None
        if self.qps is not None and not (np.isfinite(self.qps) and self.qps > 0):
            raise InputError(f"qps {self.qps}; it must be a finite rate above 0 queries per second")

    def before(self, name: str) -> tuple[str, ...]:
        """Stages that a stage waits for."""
        return tuple(a for a, b in dict.fromkeys(self.edges) if b == name)

    def last(self) -> tuple[str, ...]:
        """Stages that no other waits for."""
        return tuple(s.name for s in self.stages if all(a != s.name for a, _ in self.edges))

    def order(self) -> tuple[Stage, ...]:
        """Stages so that each comes after those it waits for."""
        stage = {s.name: s for s in self.stages}
        return tuple(stage[name] for name in TopologicalSorter({n: self.before(n) for n in stage}).static_order())


def stages_from_graph(graph: Any) -> tuple[tuple[Stage, ...], tuple[tuple[str, str], ...]]:
    """Stages and edges of a directed graph such as a ``networkx.DiGraph``.

    Parameters
    ----------
    graph : graph
        Each node has the name of a stage and the other parameters of :class:`Stage` as its attributes; an edge leads
        from a stage to one that waits for it.

    Returns
    -------
    tuple
        ``stages`` and ``edges`` of a :class:`Pipeline`.

    Raises
    ------
    InputError
        When the attributes of a node are not those of a stage.
    """
    nodes: Iterable[tuple[Any, Mapping[str, Any]]] = graph.nodes(data=True)
    stages = []
    for name, attributes in nodes:
        try:
            stages.append(Stage(name=str(name), **attributes))
        except TypeError as error:
            raise InputError(f"node {name}: {str(error).removeprefix('Stage.__init__() ')}") from None
    return tuple(stages), tuple((str(a), str(b)) for a, b in graph.edges())


@dataclass(frozen=True, kw_only=True)
class StagePerformance:
    """What one stage does.

    Attributes
    ----------
    name : str
        Of the stage.
    mean_items : float
        Items of a query that enter it.
    offered_load : float
        Work offered over what its servers can do, all busy; stable below 1.
    utilization : float
        Busy share of its servers.
    wait_s : float
        Mean time from entering to the start of the first sub-request.
    response_s, response_interval_s : float, tuple of float
        Mean time from entering to the end of the last sub-request, and its 95 % confidence interval.
    critical_s : float
        Mean share of the response of the whole query: the time in this stage where it is the one that others wait for.
        The stages add up to the mean response.
    critical_late_s : float
        The same among the queries beyond the percentile of the SLA.
    """

    name: str
    mean_items: float
    offered_load: float
    utilization: float
    wait_s: float
    response_s: float
    response_interval_s: tuple[float, float]
    critical_s: float
    critical_late_s: float


@dataclass(frozen=True, kw_only=True)
class PipelinePerformance:
    """What a pipeline does at a rate.

    Attributes
    ----------
    method : str
        The simulator in words.
    qps : float
        Offered queries per second.
    latency_s, interval_s : mapping
        ``mean``, ``p50``, ``p95``, ``p99`` and the percentile of the SLA of the whole query, and their 95 % intervals.
    stages : tuple of StagePerformance
        In the order of the pipeline.
    meets_sla : bool or None
        Whether the promise is kept; None when the simulation cannot tell.
    stable : bool
        Whether every stage has a steady state.
    status : str
        "ok", or what is wrong, with numbers.
    queries, sub_requests : int
        Queries counted; sub-requests simulated, warm-up included.
    replications, seed : int
        Independent repetitions, and the seed.
    """

    method: str
    qps: float
    latency_s: Mapping[str, float]
    interval_s: Mapping[str, tuple[float, float]]
    stages: tuple[StagePerformance, ...]
    meets_sla: bool | None
    stable: bool
    status: str
    queries: int
    sub_requests: int
    replications: int
    seed: int
