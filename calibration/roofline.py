r"""Modelled profiles: operator costs from the graph, times a few hardware parameters.

On a core, an operator that is called n times takes

.. math:: n\,t_{call} + \phi\,\text{flops} + \beta\,\text{bytes} + \ell\,\text{lookups}

with four coefficients per group of kinds, fitted (non-negative least squares in relative errors) to the operator rows
of a machine that was measured, and scaled to another machine by the ratios of :data:`XEON`. On an accelerator,

.. math:: t_{fixed} + \sqrt{(\text{launches} \cdot u)^2 + (\text{copies} + \text{work})^2}

since the host queues kernels while the device works, so that the slower of the two nearly sets the time. The square
root lies between their maximum and their sum; it is what the measured 0.47 ms of DLRM-RMC1 at 1024 items needs. The
work of an operator is the larger of FLOPs over the peak rate and bytes over the bandwidth.
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from calibration.fit import _best
from calibration.profiles import factors, leave_one_out, read, table, write_profile
from calibration.rows import read_rows
from recqueue import models
from recqueue.models import Kind, Model
from recqueue.models.costs import b as batch
from recqueue.models.costs import cost_of
from recqueue.profiles import Contention

BATCHES = [2**i for i in range(12)]
GROUPS = {Kind.EMBEDDING_BAG: "gather", Kind.FC: "matrix", Kind.RECURRENT: "recurrent"}  # all others: "move"

XEON = {"call": 1.35, "flops": 1.35, "bytes": 1.35, "lookups": 1.15}
"""Time of 16-core Xeon over time of the measured EPYC, by coefficient. [U], both CPU models being assumptions: a Xeon
Platinum 8468 at 2.9 GHz against a Zen 5 EPYC at 3.9 GHz, equal 512-bit multiply-add units (64 fp32 FLOPs per cycle
each); DRAM latency about 15 % higher (mesh of 48 cores)."""

SERVED_OVER_TIGHT, SERVED_CV = 1.25, 0.2
"""A first look at a live server of this kind (14 workers): served service 20-35 % longer at low load, cv about 0.2."""

FULL_HOST = {"gather": 1.1, "matrix": 1.45}
"""The same source: 16 busy cores slow an embedding-bound model by 1.1 and an MLP-bound one by 1.3 to 1.6."""

H200_ANCHOR_S = 0.44e-3
"""Measured on an H200: DLRM-RMC1, one item, end to end (0.47 ms for 1024). Sets the launch unit u."""
H200 = {
    "fixed_s": 40e-6,  # [U] two copies in, one back, one synchronization
    "query_s": 12e-6,  # [U] issuing the copies of one more query in the same launch
    "copy_bytes_per_s": 50e9,  # PCIe 5.0 x16, pinned: 63 GB/s nominal [U]
    "memory_bytes_per_s": 4.3e12,  # measured device-to-device copy, read and written
    "gather_share": 0.5,  # [U] share of it that random rows of 128-256 bytes reach
    "flops_per_s": 67e12 * 0.5,  # datasheet fp32, half reached [U]
}
LAUNCHES = {Kind.EMBEDDING_BAG: 1.0, Kind.FC: 0.95, Kind.CONCAT: 0.6, Kind.TO_SEQUENCE: 0.4}
"""Launch cost by kind in units of an embedding bag's; all others 0.38. Ratios read off a published operator breakdown
of these models on a GTX 1080 Ti at batch 1: ReLU 0.32-0.44, FC 0.6-1.4, concat 0.40 and more."""


@cache
def _features(model: str) -> dict[tuple[str, str], np.ndarray]:
    """(role, group) -> rows (constant, per item) of calls, flops, bytes and lookups, repetitions added up."""
    total: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros((2, 4)))
    parts: dict[int, np.ndarray] = {}
    for op in models.get(model).operators:
        if op.kind is Kind.DENSE_INPUT:
            continue
        cost = cost_of(op)
        if id(cost) not in parts:
            columns = [cost.flops, cost.bytes_read + cost.bytes_written, cost.lookups]
            parts[id(cost)] = np.array([[float(c.subs(batch, 0)), float(c.coeff(batch, 1))] for c in columns]).T
        calls = 3 * op.sizes["steps"] if op.kind is Kind.RECURRENT else max(1, op.sizes.get("inputs", 2) - 1)
        calls = 1 if op.kind is Kind.CONCAT else calls
        total[op.role, GROUPS.get(op.kind, "move")] += np.column_stack([[calls, 0.0], parts[id(cost)]])
    return dict(total)


def _at(parts: np.ndarray, b: int) -> np.ndarray:
    return parts[0] + b * parts[1]


Coefficients = dict[str, np.ndarray]


def fit_coefficients(rows: list[dict[str, Any]], names: list[str]) -> Coefficients:
    """Four coefficients per group from the operator rows of the named models."""
    left, right = defaultdict(list), defaultdict(list)
    for name in names:
        features = {role: (group, parts) for (role, group), parts in _features(name).items()}
        for r in rows:
            if r["model"] == name and r["scope"] == "operator" and r["operator"] in features:
                group, parts = features[r["operator"]]
                seconds = max(r["cpu_median_s"] or r["median_s"], 1e-7)
                left[group].append(_at(parts, int(r["batch"])) / seconds)
                right[group].append(1.0)
    found = {}
    for group, matrix in left.items():
        m = np.array(matrix)
        scale = np.where(m.max(0) > 0, m.max(0), 1.0)
        found[group] = nnls(m / scale, np.array(right[group]))[0] / scale
    return found


def core_seconds(model: str, b: int, coefficients: Coefficients) -> dict[str, float]:
    """Seconds by role of a batch on one core; a group without coefficients uses those of ``matrix``."""
    return {
        role: float(coefficients.get(group, coefficients["matrix"]) @ _at(parts, b))
        for (role, group), parts in _features(model).items()
    }


def launch_units(model: Model) -> float:
    """Launches of a model in units of an embedding bag's; one more for the ids' reordering."""
    total = LAUNCHES[Kind.TO_SEQUENCE]
    for op in model.operators:
        if op.kind is Kind.RECURRENT:  # per step a product, an addition, a tanh and a store
            total += op.sizes["steps"] * (LAUNCHES[Kind.FC] + 3 * 0.38)
        elif op.kind is not Kind.DENSE_INPUT:
            total += LAUNCHES.get(op.kind, 0.38)
    return total


def accelerator_seconds(model: Model, items: int, queries: int = 1) -> float:
    """Seconds of one launch of ``queries`` queries of ``items`` items on an H200."""
    n, h = items * queries, H200
    unit = (H200_ANCHOR_S - h["fixed_s"]) / launch_units(models.get("dlrm-rmc1"))
    host = launch_units(model) * unit + (queries - 1) * h["query_s"]
    device = model.feed_bytes(n) / h["copy_bytes_per_s"]
    for (_, group), parts in _features(model.name).items():
        _, flops, moved, _ = _at(parts, n)
        bandwidth = h["memory_bytes_per_s"] * (h["gather_share"] if group == "gather" else 1)
        device += max(flops / h["flops_per_s"], moved / bandwidth)
    return h["fixed_s"] + math.hypot(host, device)


def write_all(raw: Path, out: Path) -> str:
    """Validate the model where it was measured, then write the xeon-16c and h200 profiles; returns the report."""
    rows = read_rows(raw)
    names = list(models.names())
    coefficients = fit_coefficients(rows, names)
    lines = _validate(rows, names)
    lines += ["", "coefficients on the measured machine: s/call, s/FLOP, s/byte, s/lookup"]
    lines += [
        f"{group:10s} " + "  ".join(f"{c:9.3g}" for c in values) for group, values in sorted(coefficients.items())
    ]
    xeon = {
        g: c * np.array([XEON["call"], XEON["flops"], XEON["bytes"], XEON["lookups"]]) for g, c in coefficients.items()
    }
    dispatch = float(np.median([r["dispatch_s"] for r in rows if r["dispatch_s"]]))
    lines += [
        "",
        "another machine: modelled, and over the tight loop where it was measured since",
        f"{'':14s} {'xeon-16c ms at 1 / 64 / 1024':>31s}{'over measured':>20s}"
        f"{'h200 ms at 1 / 1024':>24s}{'over measured':>16s}",
    ]
    for name in names:
        c, a = _xeon(name, xeon, XEON["call"] * dispatch), _h200(name)
        shown = [_beside_measured(out, c, (1, 64, 1024)), _beside_measured(out, a, (1, 1024))]
        lines.append(f"{name:14s} {shown[0][0]:>31s}{shown[0][1]:>20s}{shown[1][0]:>24s}{shown[1][1]:>16s}")
    report = "\n".join(lines) + "\n"
    (raw / "roofline.txt").write_text(report, encoding="utf-8")
    return report


def _beside_measured(out: Path, record: dict[str, Any], sizes: tuple[int, ...]) -> tuple[str, str]:
    """Write a modelled profile, or where a measured one exists compare with its tight loop."""
    modelled = dict(zip(record["tight"]["items"], record["tight"]["seconds"], strict=True))
    ratios = "-"
    if write_profile(out, record) is None:
        measured = read(out / f"{record['model']}--{record['hardware']}.json").tight
        ratios = " / ".join(f"{modelled[b] / float(measured.seconds_at(b)):.2f}" for b in sizes)
    return " / ".join(f"{1e3 * modelled[b]:.3f}" for b in sizes), ratios


def _validate(rows: list[dict[str, Any]], names: list[str]) -> list[str]:
    lines = [
        "end to end, modelled over measured, with the model itself left out of the fit",
        "model          median |error|   worst |error|   at 1   at 64  at 1024",
    ]
    errors = []
    for name in names:
        mine = [r for r in rows if r["model"] == name and r["way"] == "tight" and r["scope"] == "end_to_end"]
        measured = _best([r for r in mine if r["busy"] == 1 and r["ids"] == "uniform"], "cpu_median_s")
        others = fit_coefficients(rows, [n for n in names if n != name])
        ratio = {
            b: sum(core_seconds(name, b, others).values()) / r["cpu_median_s"] for b, r in sorted(measured.items())
        }
        if not ratio:
            continue
        error = np.abs(np.array([*ratio.values()]) - 1)
        errors.append(float(np.median(error)))
        shown = "  ".join(f"{ratio.get(b, float('nan')):5.2f}" for b in (1, 64, 1024))
        lines.append(f"{name:14s} {100 * np.median(error):12.0f} % {100 * error.max():13.0f} %  {shown}")
    return [*lines, f"median over models {100 * np.median(errors):.0f} %"]


def _record(name: str, hardware: str, seconds: list[float], source: str, notes: list[str]) -> dict[str, Any]:
    return {
        "model": name,
        "hardware": hardware,
        "provenance": "roofline",
        "source": f"{source}; python -m calibration roofline",
        "service": table(BATCHES, seconds, SERVED_CV),
        "leave_one_out": leave_one_out(BATCHES, seconds),
        "notes": ["modelled, not measured", *notes],
    }


def _xeon(name: str, coefficients: Coefficients, dispatch_s: float) -> dict[str, Any]:
    each = [core_seconds(name, b, coefficients) for b in BATCHES]
    tight = [sum(e.values()) for e in each]
    groups = dict(_features(name))
    gathered = sum(s for (role, group) in groups if group == "gather" for r, s in each[6].items() if r == role)
    bound = "gather" if gathered > 0.5 * tight[6] else "matrix"
    record = _record(
        name,
        "xeon-16c",
        [SERVED_OVER_TIGHT * s for s in tight],
        "operator costs of the graph, coefficients fitted to the measured epyc-2c operators and scaled to the Xeon [U]",
        [
            f"as served = {SERVED_OVER_TIGHT} x tight loop and cv {SERVED_CV}, from a first look at a live server",
            "dispatch overhead: median of the measured machine, scaled like an operator call",
            f"{'embedding' if bound == 'gather' else 'MLP'}-bound: contention {FULL_HOST[bound]} at 16 busy cores",
        ],
    )
    contention = factors(Contention(busy=(1, 16), factor=(1.0, FULL_HOST[bound])))
    operators = [
        {"name": role, "kind": kind, "count": count, **table(BATCHES, [max(e[role], 1e-9) for e in each])}
        for role, kind, count in _roles(name)
    ]
    return record | {
        "tight": table(BATCHES, tight, 0.0),
        "contention": contention,
        "tight_contention": contention,
        "dispatch_overhead_s": float(f"{dispatch_s:.2g}"),
        "operators": operators,
    }


def _roles(name: str) -> list[tuple[str, str, int]]:
    ops = [op for op in models.get(name).operators if op.kind is not Kind.DENSE_INPUT]
    kinds = {op.role: str(op.kind) for op in ops}
    return [(role, kind, sum(op.role == role for op in ops)) for role, kind in kinds.items()]


def _h200(name: str) -> dict[str, Any]:
    model = models.get(name)
    seconds = [accelerator_seconds(model, b) for b in BATCHES]
    record = _record(
        name,
        "h200",
        seconds,
        "operator costs of the graph, one launch unit set by DLRM-RMC1 at 1 item (0.44 ms), datasheet rates",
        ["eager launches, no CUDA graph", f"cv {SERVED_CV} as served, taken from the host's workers"],
    )
    fused = [
        {"queries": q, **table(BATCHES, [accelerator_seconds(model, b, q) for b in BATCHES])} for q in (2, 4, 8, 16)
    ]
    return record | {"tight": table(BATCHES, seconds, 0.0), "fused": fused}
