"""Raw rows -> profiles with provenance ``measured``, and a report of errors and gaps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from calibration.profiles import factors, leave_one_out, rising, table, write_profile
from calibration.rows import read_rows
from recqueue.errors import InputError
from recqueue.profiles import NO_CONTENTION, Contention

Row = dict[str, Any]


def fit_all(
    raw: Path, hardware: str, out: Path, *, device: str = "cpu", clock: str = "wall", graphs: bool = False
) -> str:
    """Fit a profile for each model that has rows; returns the report, which is also written beside the rows.

    ``graphs`` takes the launches of an accelerator that were replayed as CUDA graphs instead of the eager ones.

    Raises
    ------
    InputError
        When a row was measured with shrunk tables, or there is nothing to fit.
    """
    rows = [r for r in read_rows(raw) if r["device"] == device]
    if any(r["table_scale"] != 1 for r in rows):
        raise InputError(f"{raw}: holds rows with table_scale other than 1; shrunk tables are never fitted")
    lines = [HEADER]
    for model in sorted({r["model"] for r in rows}):
        mine = [r for r in rows if r["model"] == model]
        if not any(r["way"] == "tight" and r["scope"] == "end_to_end" for r in mine):
            continue
        record = fit(mine, model, hardware, clock, f"{raw.parent.name}/{raw.name}", graphs=graphs)
        write_profile(out, record)
        lines.append(_line(record))
    if len(lines) == 1:
        raise InputError(f"{raw}: no tight-loop rows for device {device}")
    report = "\n".join([*lines, "", *LEGEND]) + "\n"
    (raw / f"fit-{hardware}.txt").write_text(report, encoding="utf-8")
    return report


def fit(rows: list[Row], model: str, hardware: str, clock: str, where: str, *, graphs: bool = False) -> dict[str, Any]:
    """Return the JSON record of one model on one device; see the module ``recqueue.profiles.profile`` for its parts."""
    prefix = "cpu_" if clock == "cpu" else ""
    median, mean, cv = f"{prefix}median_s", f"{prefix}mean_s", f"{prefix}cv"
    gpu = any(r["device"] != "cpu" for r in rows)
    end = [r for r in rows if r["scope"] == "end_to_end" and r["ids"] == "uniform" and bool(r["graph"]) == graphs]
    tight = [r for r in end if r["way"] == "tight" and (r["fused"] or 1) == 1]
    alone = _best([r for r in tight if (r["busy"] or 1) == 1 and not r["host_busy"]], median)
    items = sorted(alone)
    # A core never takes less time for more items; on a GPU it may, where the library picks another kernel.
    settle = list if gpu else rising
    tight_s = settle([alone[b][median] for b in items])
    tight_cv = float(np.median([alone[b][cv] for b in items]))
    tight_contention = _tight_contention(tight, median)
    notes = [f"times by the {'thread CPU' if clock == 'cpu' else 'wall'} clock"]
    served = [r for r in end if r["way"] == "served"]
    if served:  # circumstances of serving belong to a run, so the latest one counts
        latest = max(r["run"] for r in served)
        served = [r for r in served if r["run"] == latest]
    if gpu:  # as served is beside a busy host where that was measured
        busiest = max((r["host_busy"] or 0 for r in served), default=0)
        served = [r for r in served if (r["host_busy"] or 0) == busiest]
    gaps = _gaps(rows, alone, median)
    if served:
        if gpu:
            served_items, served_s = _served_launches(served, median, mean)
            contention = NO_CONTENTION
        else:
            served_items, served_s, contention = _served(served, mean)
            told = [
                served_s[served_items.index(int(r["batch"]))] * float(contention.factor_at(r["mean_busy"]))
                for r in served
            ]
            contention = _to_all_cores(contention, tight_contention, notes)
            gaps["served_fit"] = float(np.median([abs(t / r[mean] - 1) for t, r in zip(told, served, strict=True)]))
        served_cv = float(np.median([r[cv] for r in served]))
        both = sorted(set(items) & set(served_items))
        ratio = [served_s[served_items.index(b)] / tight_s[items.index(b)] for b in both]
        gaps["served_over_tight"] = float(np.median(ratio))
        if (loo := leave_one_out(served_items, served_s)) is not None:
            gaps["leave_one_out_served"] = loo
        if beyond := [b for b in items if b > served_items[-1]]:
            scale = served_s[-1] / tight_s[items.index(served_items[-1])]
            notes.append(f"beyond {served_items[-1]} items: tight loop, times {scale:.3g} as at {served_items[-1]}")
            served_s = [*served_s, *(scale * tight_s[items.index(b)] for b in beyond)]
            served_items = [*served_items, *beyond]
    else:
        served_items, served_s, served_cv, contention = items, tight_s, tight_cv, tight_contention
        notes.append("as-served times were not measured: the tight loop stands in for them")
    dispatch = [r["dispatch_s"] for r in served if r["dispatch_s"]]
    record = {
        "model": model,
        "hardware": hardware,
        "provenance": "measured",
        "source": f"{where}, runs {', '.join(sorted({r['run'] for r in rows}))}; python -m calibration fit",
        "service": table(served_items, served_s, served_cv),
        "tight": table(items, tight_s, tight_cv),
        "contention": factors(contention),
        "tight_contention": factors(tight_contention),
        "dispatch_overhead_s": float(f"{np.median(dispatch):.3g}") if dispatch else 0.0,
        "leave_one_out": leave_one_out(items, tight_s),
        "gaps": {k: float(f"{v:.4g}") for k, v in gaps.items()},
        "operators": _operators(rows, median),
        "notes": notes,
    }
    fused = defaultdict(list)
    for r in end:
        if r["way"] == "tight" and (r["fused"] or 1) > 1 and not r["host_busy"]:
            fused[int(r["fused"])].append(r)
    if fused:
        best = {n: _best(group, median) for n, group in sorted(fused.items())}
        record["fused"] = [
            {"queries": n, **table(sorted(g), [g[b][median] for b in sorted(g)])} for n, g in best.items()
        ]
        extra = [(g[b][median] - alone[n * b][median]) / (n - 1) for n, g in best.items() for b in g if n * b in alone]
        record["fused_query_s"] = float(f"{max(0.0, float(np.median(extra))):.3g}") if extra else 0.0
    return record


def _best(rows: Iterable[Row], key: str) -> dict[int, Row]:
    """Per batch size the quickest of repeated measurements: whatever disturbs a machine only ever adds time."""
    best: dict[int, Row] = {}
    for r in rows:
        b = int(r["batch"])
        if b not in best or r[key] < best[b][key]:
            best[b] = r
    return best


def _tight_contention(tight: list[Row], key: str) -> Contention:
    """Median over batch sizes of the time with n busy over the time with one."""
    levels = sorted({int(r["busy"]) for r in tight if r["busy"]})
    if len(levels) < 2 or levels[0] != 1:
        return NO_CONTENTION
    one = _best([r for r in tight if r["busy"] == 1], key)
    factor = [1.0]
    for n in levels[1:]:
        many = _best([r for r in tight if r["busy"] == n], key)
        factor.append(float(np.median([many[b][key] / one[b][key] for b in many if b in one])))
    return Contention(busy=tuple(levels), factor=tuple(max(0.5, f) for f in factor))


def _served_launches(rows: list[Row], median: str, mean: str) -> tuple[list[int], list[float]]:
    """Mean service by items: the median at each batch size times the usual ratio of mean to median.

    A single stray launch in a few dozen would move a mean.
    """
    best = _best(rows, median)
    usual = float(np.median([r[mean] / r[median] for r in rows]))
    items = sorted(best)
    return items, [best[b][median] * usual for b in items]


def _served(rows: list[Row], key: str) -> tuple[list[int], list[float], Contention]:
    r"""Least squares, in relative errors, of mean service :math:`S(b)(1 + c(m - 1))` at m busy workers."""
    items = sorted({int(r["batch"]) for r in rows})
    workers = int(max(r["busy"] or 1 for r in rows))
    slopes = np.arange(-0.5 / workers, 1.0, 0.002) if workers > 1 else np.zeros(1)
    best: tuple[float, float, list[float]] | None = None
    for c in slopes:
        base, error = [], 0.0
        for b in items:
            mine = [r for r in rows if r["batch"] == b]
            one = np.array([r[key] / (1 + c * (r["mean_busy"] - 1)) for r in mine])
            middle = float(np.median(one))
            base.append(middle)
            error += float(np.abs(one / middle - 1).sum())
        if best is None or error < best[0]:
            best = (error, float(c), base)
    assert best is not None
    _, c, base = best
    contention = (
        Contention(busy=(1, workers), factor=(1.0, 1 + c * (workers - 1))) if len(slopes) > 1 else NO_CONTENTION
    )
    return items, rising(base), contention


def _to_all_cores(served: Contention, tight: Contention, notes: list[str]) -> Contention:
    """Go on to the cores that the sender left no worker for, with the growth of the tight loop, never down."""
    last, cores = served.busy[-1], tight.busy[-1]
    if not 1 < last < cores:
        return served
    growth = max(1.0, float(tight.factor_at(cores) / tight.factor_at(last)))
    notes.append(f"contention beyond {last} busy workers: times {growth:.3g} at {cores}, as in tight loops")
    return Contention(busy=(*served.busy, cores), factor=(*served.factor, served.factor[-1] * growth))


def _operators(rows: list[Row], key: str) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for r in rows:
        if r["scope"] == "operator":
            groups[r["operator"], r["kind"], int(r["count"])].append(r)
    found = []
    for (name, kind, count), group in groups.items():
        best = _best(group, key if group[0].get(key) else "median_s")
        seconds = [max(best[b].get(key) or best[b]["median_s"], 1e-9) for b in sorted(best)]
        found.append({"name": name, "kind": kind, "count": count, **table(sorted(best), seconds)})
    return found


def _gaps(rows: list[Row], alone: dict[int, Row], key: str) -> dict[str, float]:
    total: dict[int, float] = defaultdict(float)
    for operator in _operators(rows, key):
        for b, s in zip(operator["items"], operator["seconds"], strict=True):
            total[b] += s
    gaps = {}
    if both := sorted(set(total) & set(alone)):
        gaps["operators_over_end_to_end"] = float(np.median([total[b] / alone[b][key] for b in both]))
    zipf = _best([r for r in rows if r["ids"] == "zipf" and r["scope"] == "end_to_end"], key)
    if both := sorted(set(zipf) & set(alone)):
        gaps["zipf_over_uniform"] = float(np.median([zipf[b][key] / alone[b][key] for b in both]))
    eager = [r for r in rows if r["way"] == "tight" and r["scope"] == "end_to_end" and r["fused"] == 1]
    for name, column in (("graph_over_eager", "graph"), ("busy_host_over_idle", "host_busy")):
        other = "host_busy" if column == "graph" else "graph"
        with_it, without = (
            _best([r for r in eager if bool(r[column]) is on and not r[other]], key) for on in (True, False)
        )
        if both := sorted(set(with_it) & set(without)):
            gaps[name] = float(np.median([with_it[b][key] / without[b][key] for b in both]))
    return gaps


HEADER = (
    "model          S(1) ms  S(64) ms  S(1024) ms   cv  LOO tight  LOO served  served fit"
    "  ops/e2e  served/tight  zipf/unif  contention  dispatch us  fused us"
)
LEGEND = (
    "S and cv as served (cores: with one core busy; accelerator: beside a busy host). LOO: median error of a batch",
    "size left out and interpolated (target 5 %). served fit: median error of S(b) times contention over all batch",
    "sizes and loads. ops/e2e: sum of operators over end to end, tight loop. contention: factor with all workers busy",
    "as served, and with all cores in tight loops. fused: what one more query in a launch adds, its items apart.",
)


def _line(r: dict[str, Any]) -> str:
    def at(b: int) -> str:
        s = dict(zip(r["service"]["items"], r["service"]["seconds"], strict=True)).get(b)
        return "-" if s is None else f"{1e3 * s:.3f}"

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f} %"

    g = r["gaps"]
    ratio = [
        f"{g[k]:.2f}" if k in g else "-"
        for k in ("operators_over_end_to_end", "served_over_tight", "zipf_over_uniform")
    ]
    contention = f"{r['contention']['factor'][-1]:.2f} ({r['tight_contention']['factor'][-1]:.2f})"
    fused = f"{1e6 * r['fused_query_s']:.1f}" if "fused_query_s" in r else "-"
    return (
        f"{r['model']:14s} {at(1):>7s} {at(64):>9s} {at(1024):>11s} {r['service']['cv']:>4.2f}"
        f" {share(r['leave_one_out']):>10s} {share(g.get('leave_one_out_served')):>11s}"
        f" {share(g.get('served_fit')):>11s}"
        f" {ratio[0]:>8s} {ratio[1]:>13s}"
        f" {ratio[2]:>10s} {contention:>11s}"
        f" {1e6 * r['dispatch_overhead_s']:>12.0f} {fused:>9s}"
    )
