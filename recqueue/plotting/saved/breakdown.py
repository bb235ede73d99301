"""Parts of the mean latency, from records of simulations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recqueue.errors import InputError
from recqueue.io.answers import performance_of, policy_of
from recqueue.io.results import Saved
from recqueue.plotting.breakdown import latency_breakdown
from recqueue.plotting.saved.options import Options, Results, name_in, title
from recqueue.plotting.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MADE_BY = "recqueue simulate SCENARIO --qps 500 --json > FILE.json, once for each rate"


def breakdown(results: Results, options: Options) -> Figure:
    """Wait, service and stragglers of each result, by policy and rate."""
    found = []
    for r in results:
        if not isinstance(r, Saved):
            raise InputError(f"{r.where}: a table; this figure takes records of simulations: {MADE_BY}")
        p = performance_of(r)
        if not p.breakdown_s:
            raise InputError(f"{r.where}: no breakdown_s in this {r.kind} record; records that have it: {MADE_BY}")
        found.append((policy_of(r), p))
    found.sort(key=lambda pair: (str(pair[0]), pair[1].qps))
    policies = list(dict.fromkeys(str(policy) for policy, _ in found))
    labels = [_short(policy) for policy, _ in found] if len(policies) > 1 else []
    figure, ax = new_figure()
    latency_breakdown(ax, [p for _, p in found], labels)
    one = policies[0] if len(policies) == 1 else ""
    title(ax, options, ": ".join(part for part in (name_in(results), one) if part))
    return figure


def _short(policy: object) -> str:
    return str(policy).replace("batch size ", "b ").replace("offload from ", "t ").replace(" items", "")
