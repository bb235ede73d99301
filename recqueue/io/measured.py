"""Measured latencies from a file: a row for each run, for each query, or for each sub-request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recqueue.errors import InputError
from recqueue.io.results import Saved, Table, read_result
from recqueue.validation import Measured, summarize
from recqueue.validation.measured import WARM_UP

RUNS = "qps,batch_size,offload_threshold,mean_s,p50_s,p95_s,p99_s"
QUERIES = "arrival_s,latency_s"
SUB_REQUESTS = "query,arrival_s,end_s"
POLICY = ("batch_size", "offload_threshold", "max_fused_queries")
LATENCIES = ("mean", "p50", "p95", "p99")


def read_measured(
    path: str | Path, *, where: Mapping[str, Any] | None = None, warm_up: float = WARM_UP
) -> tuple[Measured, ...]:
    """Read a measured file (``.csv`` or ``.parquet``) in one of three forms.

    - A row for each run: ``qps``, at least one of ``mean_s``, ``p50_s``, ``p95_s``, ``p99_s``, and optionally the
      policy (``batch_size``, ``offload_threshold``, empty for never, ``max_fused_queries``) and intervals such as
      ``p95_low_s`` and ``p95_high_s``.
    - A row for each query: ``arrival_s`` and ``latency_s``.
    - A row for each sub-request: ``query``, ``arrival_s`` and ``end_s``; a query ends with its last sub-request.

    The last two are summarized (:func:`recqueue.validation.summarize`), one run for each policy and ``run`` there.

    Parameters
    ----------
    path : path-like
        The file.
    where : mapping or None
        Column -> value: only rows with these values are used.
    warm_up : float
        Share of the queries of a run to leave out, where a row is a query or a sub-request.

    Raises
    ------
    InputError
        When the file is none of these, or a value makes no sense.
    """
    table = read_result(path)
    if isinstance(table, Saved):
        raise InputError(f"{path}: a JSON record; measured latencies are a table, .csv or .parquet")
    table = table.matching(where or {})
    if len(models := list(dict.fromkeys(table.columns.get("model", [])))) > 1:
        raise InputError(
            f"{path}: runs of {len(models)} models ({', '.join(map(str, models))}); choose with where model={models[0]}"
        )
    if table.has("arrival_s") and (table.has("latency_s") or table.has("query", "end_s")):
        return _from_records(table, warm_up)
    if table.has("qps") and any(table.has(f"{name}_s") for name in LATENCIES):
        return tuple(_run(table.where, number, row) for number, row in enumerate(table.rows(), start=1))
    raise InputError(
        f"{path}: not a file of measured latencies; it has {', '.join(table.columns)}. Needed is a row for each run "
        f"({RUNS}), for each query ({QUERIES}) or for each sub-request ({SUB_REQUESTS})"
    )


def _whole(where: str, name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, (str, bool)) or value != int(value) or value < 1:
        raise InputError(f"{where}: {name} {value!r}; it must be a whole number of 1 or more, or empty")
    return int(value)


def _positive(where: str, name: str, value: Any) -> float:
    if isinstance(value, (str, bool)) or value is None or not (np.isfinite(value) and value > 0):
        raise InputError(f"{where}: {name} {value!r}; it must be a number above 0")
    return float(value)


def _run(file: str, number: int, row: Mapping[str, Any]) -> Measured:
    where = f"{file}, row {number}"
    latency = {n: _positive(where, f"{n}_s", row[f"{n}_s"]) for n in LATENCIES if row.get(f"{n}_s") is not None}
    if not latency:
        raise InputError(f"{where}: no latency in it; give at least one of {', '.join(f'{n}_s' for n in LATENCIES)}")
    interval = {}
    for name, value in latency.items():
        low, high = row.get(f"{name}_low_s"), row.get(f"{name}_high_s")
        if low is None or high is None:
            continue
        if not low <= value <= high:
            raise InputError(f"{where}: {name}_s {value:g} lies outside its interval {low:g} .. {high:g}")
        interval[name] = (float(low), float(high))
    return Measured(
        qps=_positive(where, "qps", row["qps"]),
        latency_s=latency,
        interval_s=interval,
        where=where,
        queries=_whole(where, "queries", row.get("queries")),
        **{name: _whole(where, name, row.get(name)) for name in POLICY},
    )


def _from_records(table: Table, warm_up: float) -> tuple[Measured, ...]:
    by = [name for name in ("run", *POLICY) if table.has(name)]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, key in enumerate(zip(*(table.columns[name] for name in by), strict=True) if by else [()] * len(table)):
        groups.setdefault(key, []).append(i)
    found = []
    for key, rows in groups.items():
        known = dict(zip(by, key, strict=True))
        where = table.where if len(groups) == 1 else f"{table.where}, {', '.join(f'{k} {v}' for k, v in known.items())}"
        arrival, latency = _queries(table.where_rows(_mask(len(table), rows)))
        policy = {name: _whole(where, name, known.get(name)) for name in POLICY}
        found.append(summarize(arrival, latency, warm_up=warm_up, where=where, **policy))
    return tuple(found)


def _mask(length: int, rows: list[int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros(length, dtype=bool)
    mask[rows] = True
    return mask


def _queries(table: Table) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]]:
    """Arrival and latency of each query."""
    arrival = table.numbers("arrival_s")
    if table.has("latency_s"):
        return arrival, table.numbers("latency_s")
    _, first, inverse = np.unique(table.numbers("query"), return_index=True, return_inverse=True)
    end = np.full(len(first), -np.inf)
    np.maximum.at(end, inverse, table.numbers("end_s"))
    return arrival[first], end - arrival[first]
