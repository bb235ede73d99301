"""Results as the JSON that scripts rely on (schema 1); no number that JSON cannot hold."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recqueue.analysis import error_ledger
from recqueue.cli.advice import infeasibility_record, sensitivity_record
from recqueue.profiles import LatencyCurve
from recqueue.serving import Performance, Policy, Scenario
from recqueue.workload import arrivals_label

if TYPE_CHECKING:
    from recqueue.analysis import MaxRate
    from recqueue.optimize import Infeasibility, Optimization, Sensitivity

SCHEMA = 1
UNITS = {"qps": "1/s", "qps-per-watt": "1/J", "latency": "s", "headroom": "1"}
KNOBS = tuple(knob.name for knob in dataclasses.fields(Policy))


def dumps(record: Mapping[str, Any]) -> str:
    """JSON text of a record; infinite and undefined numbers become null."""
    return json.dumps(plain(record), indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """Replace what JSON does not know: tuples, numpy numbers, mappings, infinities."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str) else str(value)


def policy_record(policy: Policy | None) -> dict[str, Any] | None:
    """The knobs, or null where there is no policy."""
    return None if policy is None else dataclasses.asdict(policy)


def scenario_record(scenario: Scenario, qps: float) -> dict[str, Any]:
    """What was asked about: the promise, the workload, and where each service time comes from."""
    system, sizes = scenario.system, scenario.sizes
    accelerator = system.accelerator
    return {
        "scenario": scenario.name,
        "model": scenario.model,
        "sla": {"percentile": scenario.sla.percentile, "latency_s": scenario.sla.latency_s},
        "workload": {
            "sizes": sizes.name,
            "mean_items": sizes.mean,
            "scv_items": sizes.scv,
            "max_items": sizes.max_items,
            "share_of_largest_quarter": sizes.share_of_largest_quarter,
            "arrivals": arrivals_label(scenario.arrivals, qps),
        },
        "profiles": {
            "cpu": _profile(system.name, system.service),
            "accelerator": None if accelerator is None else _profile(accelerator.name, accelerator.service),
        },
    }


def _profile(device: str, curve: LatencyCurve) -> dict[str, Any]:
    return {
        "device": device,
        "provenance": curve.provenance,
        "source": curve.source,
        "measured_range": curve.measured_range,
        "cv": curve.cv,
    }


def performance_record(p: Performance, scenario: Scenario, sensitivity: Sensitivity | None = None) -> dict[str, Any]:
    """Contract of evaluate and simulate."""
    return {
        "schema": SCHEMA,
        "kind": p.kind,
        "method": p.method,
        "qps": p.qps,
        "items_per_s": p.qps * scenario.sizes.mean,
        "latency_s": p.latency_s,
        "interval_s": p.interval_s,
        "breakdown_s": p.breakdown_s,
        "error": p.error,
        "utilization": p.utilization,
        "offloaded": p.offloaded,
        "power_w": p.power_w,
        "qps_per_w": p.qps / p.power_w if p.power_w and p.stable else None,
        "meets_sla": p.meets_sla,
        "verdict": p.verdict,
        "stable": p.stable,
        "status": p.status,
        "seed": p.seed,
        "queries": p.queries,
        "sub_requests": p.sub_requests,
        "experiment": None if p.experiment is None else dataclasses.asdict(p.experiment),
        "notes": p.notes,
        "ledger": dataclasses.asdict(error_ledger(scenario, p)),
        "policy": policy_record(scenario.policy),
        "sensitivity": sensitivity_record(sensitivity),
        **scenario_record(scenario, p.qps),
    }


def max_rate_record(
    r: MaxRate,
    scenario: Scenario,
    sensitivity: Sensitivity | None = None,
    infeasibility: Infeasibility | None = None,
) -> dict[str, Any]:
    """Largest rate of a policy, and what stops it; the figures at that rate are missing when there is none."""
    p = r.performance
    figures = {"policy": policy_record(scenario.policy), **scenario_record(scenario, r.qps)}
    if p is not None:
        figures = performance_record(p, scenario)
    head = {"schema": SCHEMA, "kind": "max-rate", "qps": r.qps, "sensitivity": sensitivity_record(sensitivity)}
    head["infeasibility"] = infeasibility_record(infeasibility)
    return {**figures, **head, "limit": r.limit, "reason": r.reason, "feasible": r.feasible}


def optimization_record(r: Optimization) -> dict[str, Any]:
    """Contract of optimize."""
    p, v, scenario = r.performance, r.verification, r.scenario
    return {
        "schema": SCHEMA,
        "kind": "optimize",
        "method": p.method if p else None,
        "policy": policy_record(r.policy),
        "qps": r.qps,
        "formula_qps": r.formula_qps,
        "items_per_s": r.qps * scenario.sizes.mean,
        "latency_s": p.latency_s if p else None,
        "utilization": p.utilization if p else None,
        "offloaded": p.offloaded if p else None,
        "power_w": p.power_w if p else None,
        "qps_per_w": r.qps / p.power_w if p and p.power_w else None,
        "baselines": {
            name: {
                **(policy_record(b.policy) or dict.fromkeys(KNOBS)),
                "qps": b.qps,
                "gain": r.qps / b.qps if b.qps > 0 else None,
                "shortfall_qps": r.qps - b.qps,
                "believed_qps": b.believed_qps,
                "method": b.method,
                "sub_requests": b.sub_requests,
                "verification_sub_requests": b.verification_sub_requests,
            }
            for name, b in r.baselines.items()
        },
        "verification": None
        if v is None
        else {
            "verdict": v.verdict,
            "interval_s": v.interval_s,
            "queries": v.queries,
            "sub_requests": v.sub_requests,
            "replications": v.replications,
            "steps_back": v.steps_back,
            "latency_s": v.performance.latency_s,
            "utilization": v.performance.utilization,
            "seed": v.performance.seed,
        },
        "feasible": r.policy is not None,
        "limit": r.limit,
        "reason": r.reason,
        "lattice": r.lattice,
        "evaluations": r.evaluations,
        "excluded": r.excluded,
        "upper_bound_qps": r.upper_bound_qps,
        "objective": {"name": r.objective, "value": r.value, "unit": UNITS[r.objective]},
        "certificate": {**dataclasses.asdict(r.certificate), "gap": r.certificate.gap},
        "seconds": r.seconds,
        "demand_qps": r.demand_qps,
        "ledger": dataclasses.asdict(error_ledger(scenario, p)),
        "sensitivity": sensitivity_record(r.sensitivity),
        "infeasibility": infeasibility_record(r.infeasibility),
        **scenario_record(scenario, r.qps),
    }
