"""Latency against the rate, from sweeps and from records of single answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from recqueue.errors import InputError
from recqueue.io.answers import performance_of, policy_of
from recqueue.io.measured import read_measured
from recqueue.io.results import Saved, Table, shown
from recqueue.plotting.curves import Curve, latency_curves
from recqueue.plotting.saved.options import (
    WORDS,
    Options,
    Results,
    method_of,
    name_in,
    policy_in,
    sla_in,
    title,
    varied,
)
from recqueue.plotting.style import COLOURS, new_figure
from recqueue.serving import Performance, Policy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recqueue.validation import Measured

MADE_BY = "recqueue sweep SCENARIO --vary qps=100..2000:lin20 --out FILE.parquet"
NAMES = ("p50", "p95", "p99")


def latency(results: Results, options: Options) -> Figure:
    """p50, p95 and p99 of one policy, or one percentile of several, against the rate."""
    curves: list[Curve] = []
    policies: dict[str, Policy | None] = {}
    for r in results:
        if isinstance(r, Table):
            curves += _from_table(r.matching(options.where, made_by=MADE_BY), policies, several=len(results) > 1)
    curves += _from_records([r for r in results if isinstance(r, Saved)], policies)
    several = len({c.label for c in curves}) > 1
    if options.measured:
        runs = [run for file in options.measured for run in read_measured(file, where=options.measured_where)]
        curves += _from_measured(runs, policies, options.measured[0])
    if len({c.label for c in curves}) > len(COLOURS):
        raise InputError(
            f"plot latency: {len({c.label for c in curves})} policies or settings, more than a figure can tell apart; "
            "choose some with --where COLUMN=VALUE"
        )
    sla = sla_in(results, options)
    names: Sequence[str] = NAMES
    if several:
        names = (f"p{sla.percentile if sla else 95:g}",)
    if options.show:
        names = tuple(options.show.removesuffix("_s").split(","))
    if not any(n in c.latency_s for c in curves for n in names):
        there = sorted({n for c in curves for n in c.latency_s})
        raise InputError(f"plot latency: no {', '.join(names)} in {results[0].where}; there are {', '.join(there)}")
    if not several:
        curves = [Curve(**{**vars(c), "label": ""}) for c in curves]
    figure, ax = new_figure()
    latency_curves(ax, curves, names=names, sla=sla)
    policy = next(iter(policies.values())) if len(policies) == 1 else None
    title(ax, options, ": ".join(part for part in (name_in(results), str(policy or "")) if part))
    return figure


def _from_table(table: Table, policies: dict[str, Policy | None], *, several: bool) -> list[Curve]:
    """A curve for each setting apart from the rate; the policy behind each label goes into ``policies``."""
    qps = table.numbers("qps", made_by=MADE_BY)
    names = [n for n in ("mean", *NAMES) if f"{n}_s" in table.columns]
    if not names:
        table.values("p95_s", made_by=MADE_BY)
    keys = varied(table, but=("qps",))
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(table.rows()):
        text = ", ".join(_setting(k, row[k]) for k in keys)
        if np.isfinite(qps[i]):
            groups.setdefault(text, []).append(i)
    simulated = method_of(table) == "simulate" or "p95_low_s" in table.columns
    kind: Literal["formula", "simulation"] = "simulation" if simulated else "formula"
    curves = []
    for text, rows in groups.items():
        order = np.array(rows)[np.argsort(qps[rows], kind="stable")]
        columns: dict[str, Any] = {n: table.numbers(f"{n}_s")[order] for n in names}
        ends = {
            end: {n: table.numbers(f"{n}_{end}_s")[order] for n in names if f"{n}_{end}_s" in table.columns}
            for end in ("low", "high")
        }
        policy = policy_in(table.rows()[rows[0]])
        label = text or (str(policy) if several and policy else "")
        policies.setdefault(label, policy)
        if _missing(columns):  # rows that could not be answered
            keep = ~np.all([np.isnan(c) for c in columns.values()], axis=0)
            columns = {n: c[keep] for n, c in columns.items()}
            ends = {end: {n: c[keep] for n, c in found.items()} for end, found in ends.items()}
            order = order[keep]
        curves.append(Curve(kind=kind, qps=qps[order], latency_s=columns, low_s=ends["low"], high_s=ends["high"],
                            label=label))  # fmt: skip
    return curves


def _setting(name: str, value: Any) -> str:
    if name == "offload_threshold" and value is None:
        return "no offload"
    return f"{WORDS.get(name, name)} {shown(value)}"


def _missing(columns: dict[str, Any]) -> bool:
    return any(np.isnan(c).any() for c in columns.values())


def _from_records(records: Sequence[Saved], policies: dict[str, Policy | None]) -> list[Curve]:
    """A curve of each kind for each scenario and policy; the policy behind each label goes into ``policies``."""
    groups: dict[tuple[str, str], list[Performance]] = {}
    behind: dict[str, Policy | None] = {}
    for r in records:
        p = performance_of(r)
        key = f"{r.record.get('scenario', '')}: {policy_of(r)}"
        groups.setdefault((key, p.kind), []).append(p)
        behind[key] = policy_of(r)
    models = {key.split(": ")[0] for key, _ in groups}
    curves = []
    for (key, kind), found in groups.items():
        found.sort(key=lambda p: p.qps)
        names = [n for n in found[0].latency_s if all(n in p.latency_s for p in found)]
        label = key if len(models) > 1 else key.partition(": ")[2]
        policies.setdefault(label, behind[key])
        low: dict[str, Any] = {}
        high: dict[str, Any] = {}
        for n in names:
            if kind == "simulate":
                ends = [p.interval_s.get(n, (p.latency_s[n],) * 2) for p in found]
            else:
                ends = [_within(p, n) for p in found]
            low[n], high[n] = map(list, zip(*ends, strict=True))
        curves.append(
            Curve(
                kind="simulation" if kind == "simulate" else "formula",
                qps=[p.qps for p in found],
                latency_s={n: [p.latency_s[n] for p in found] for n in names},
                low_s=low,
                high_s=high,
                label=label,
            )
        )
    return curves


def _within(p: Performance, name: str) -> tuple[float, float]:
    """Where the simulated latency lies in 95 of 100 scenarios, by the formula's error."""
    error = p.error.get(name, 0.0)
    return p.latency_s[name] / (1 + error), p.latency_s[name] / (1 - error)


def _from_measured(runs: Sequence[Measured], policies: Mapping[str, Policy | None], file: str) -> list[Curve]:
    """Measured runs of the policies that are drawn, each under the label of its policy."""
    groups: dict[str, list[Measured]] = {}
    for run in runs:
        for label, policy in policies.items():
            if policy is None or run.batch_size is None or _knobs(policy) == _knobs(run):
                groups.setdefault(label, []).append(run)
                break
    if not groups:
        drawn = "; ".join(str(p) for p in policies.values())
        raise InputError(f"{file}: no run of what is drawn ({drawn}); there are {', '.join({r.policy for r in runs})}")
    curves = []
    for label, found in groups.items():
        found.sort(key=lambda r: r.qps)
        names = [n for n in ("mean", *NAMES) if any(n in r.latency_s for r in found)]
        nothing = (np.nan, np.nan)
        curves.append(
            Curve(
                kind="measured",
                qps=[r.qps for r in found],
                latency_s={n: [r.latency_s.get(n, np.nan) for r in found] for n in names},
                low_s={n: [r.interval_s.get(n, nothing)[0] for r in found] for n in names},
                high_s={n: [r.interval_s.get(n, nothing)[1] for r in found] for n in names},
                label=label,
            )
        )
    return curves


def _knobs(policy: Policy | Measured) -> tuple[int | None, int | None]:
    return policy.batch_size, policy.offload_threshold
