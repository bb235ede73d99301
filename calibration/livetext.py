"""The parameters of a live server in the words of the scenario format."""

from __future__ import annotations

from typing import Any

from calibration.livefit import LARGE, SMALL, LiveFit


def scenario_text(fitted: LiveFit, source: str) -> str:
    """A scenario file with these parameters in the words of the scenario format."""
    f = fitted
    strongest, drift = max(f.strength), f.weather.drift
    lines = [
        f"# {f.model} as a live server of {f.workers} workers served it. Measured; made by: {source}",
        f"# Median residual of the mean service of a kind: {100 * f.error:.1f} %.",
        *([] if f.weather.known else ["# How the speed drifts is not known: too few services at a time."]),
        "schema: 1",
        f"model: {f.model}",
        "service:",
        "  cpu:",
        f"    batch_size: {list(f.items)}",
        f"    latency_ms: {_list(1e3 * s for s in f.service_s)}",
        f"    noise: {_list(f.noise)}",
    ]
    if f.launch_items:
        lines += [
            "  accelerator:",
            f"    batch_size: {[1, *f.launch_items]}   # fewer items than measured take no less time",
            f"    latency_ms: {_list(1e3 * s for s in (f.launch_s[0], *f.launch_s))}",
            f"    cv: {f.launch_cv:.4g}",
        ]
    lines += [
        "server:",
        "  cpu: live",
        f"  cores: {f.workers}",
        "  contention: none"
        if strongest < 1e-3
        else f"  contention: {{busy: [1, {f.workers}], factor: [1.0, {1 + strongest:.5g}], "
        f"batch_size: [{SMALL}, {LARGE}], strength: {_list(s / strongest for s in f.strength)}}}",
        f"  dispatch_overhead_us: {1e6 * f.dispatch_s:.4g}",
        f"  wakeup_us: {1e6 * max(f.woken_s + f.cold_s - f.dispatch_s, 0):.4g}"
        f"   # {1e6 * f.woken_s:.4g} until it starts, {1e6 * f.cold_s:.4g} of cold caches, less the dispatch",
    ]
    if drift is not None:
        lines += [
            f"  drift: {{factor: {_list(drift.factor)}, lasting_ms: {1e3 * drift.lasting_s:.4g}}}"
            f"   # standard deviation {100 * f.weather.sd:.2g} %",
        ]
    if f.launch_items:
        lines += [
            f"accelerator: {{device: live-accelerator, count: 1, max_fused_queries: 16, "
            f"fused_query_us: {1e6 * f.fused_query_s:.4g}, host_slowdown: {f.host_slowdown:.4g}, "
            f"wakeup_us: {1e6 * (f.launch_woken_s + f.launch_cold_s):.4g}}}"
            f"   # {1e6 * f.launch_woken_s:.4g} until it starts, {1e6 * f.launch_cold_s:.4g} of cold caches",
        ]
    lines += ["workload:", "  sizes: {distribution: mlperf}", "sla: medium"]
    return "\n".join(lines) + "\n"


def _list(values: Any) -> str:
    return "[" + ", ".join(f"{v:.5g}" for v in values) + "]"
