"""The answers in saved records, as the values that the commands printed them from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from recqueue.errors import InputError
from recqueue.io.results import Saved
from recqueue.serving import Experiment, Performance, Policy, Sla


def sla_of(saved: Saved) -> Sla:
    """The promise that a record was asked about."""
    return Sla(percentile=saved.need("sla", "percentile"), latency_s=saved.need("sla", "latency_s"))


def policy_of(saved: Saved) -> Policy | None:
    """The policy of a record; None where there is none."""
    return policy_from(saved.record.get("policy"))


def policy_from(record: Mapping[str, Any] | None) -> Policy | None:
    """Policy from its JSON record, whose keys are its fields; None where there is none."""
    if record is None or record.get("batch_size") is None:
        return None
    known = {f.name for f in fields(Policy)}
    whole = {k: v if v is None else int(v) for k, v in record.items() if k in known}
    return Policy(**{k: v for k, v in whole.items() if v is not None})


def performance_of(saved: Saved) -> Performance:
    """The answer that ``evaluate`` or ``simulate`` printed, or that of ``max-rate`` at its rate; null is infinite.

    Raises
    ------
    InputError
        When the record is of another kind or holds no latencies.
    """
    r = saved.record
    if saved.kind not in ("evaluate", "simulate", "max-rate") or r.get("latency_s") is None:
        raise InputError(
            f"{saved.where}: a record of kind {saved.kind!r}{'' if 'latency_s' in r else ' without latencies'}; the "
            "records of 'recqueue evaluate', 'simulate' and 'max-rate' with --json are read here"
        )
    latency = {k: math.inf if v is None else float(v) for k, v in r["latency_s"].items()}
    interval = {
        k: (math.inf if low is None else float(low), math.inf if high is None else float(high))
        for k, (low, high) in (r.get("interval_s") or {}).items()
    }
    known = {f.name for f in fields(Experiment)}
    experiment = {k: v for k, v in (r.get("experiment") or {}).items() if k in known}
    return Performance(
        kind="simulate" if saved.kind == "simulate" else "evaluate",
        method=r.get("method", ""),
        qps=float(saved.need("qps")),
        latency_s=latency,
        utilization=r.get("utilization") or {"cpu": None, "accelerator": None},
        offloaded=r.get("offloaded") or {},
        power_w=r.get("power_w"),
        meets_sla=r.get("meets_sla"),
        status=r.get("status", "ok"),
        stable=r.get("stable", True),
        error=r.get("error") or {},
        interval_s=interval,
        breakdown_s=r.get("breakdown_s") or {},
        queries=r.get("queries"),
        sub_requests=r.get("sub_requests"),
        seed=r.get("seed"),
        experiment=Experiment(**experiment) if experiment else None,
        notes=tuple(r.get("notes") or ()),
    )
