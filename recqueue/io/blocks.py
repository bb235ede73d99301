"""Blocks that scenario, fleet and pipeline files have in common, to values."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from recqueue import profiles
from recqueue.errors import InputError, OutsideMeasuredRangeWarning
from recqueue.io import schema
from recqueue.io.messages import near_miss
from recqueue.io.source import at
from recqueue.io.tables import read_sizes, read_timestamps
from recqueue.profiles import NO_CONTENTION, Contention, Drift, LatencyCurve, Profile
from recqueue.serving import Accelerator, Power, Sla, System
from recqueue.workload import (
    MEDIUM_TARGETS_S,
    Arrivals,
    QuerySizes,
    diurnal_arrivals,
    fixed_sizes,
    latency_target_s,
    lognormal_sizes,
    mlperf_sizes,
    mmpp_arrivals,
    normal_sizes,
    production_sizes,
    renewal_arrivals,
    sizes_from_pmf,
    trace_arrivals,
)


def sla_of(d: schema.Document) -> Sla:
    """The promise; its document names the model that a target like ``medium`` belongs to."""
    if isinstance(d.sla, str):
        with at("sla"):
            return Sla(latency_s=latency_target_s(d.model or "custom", d.sla))
    return Sla(percentile=d.sla.percentile, latency_s=d.sla.latency_ms / 1e3)


def _curve(table: schema.Table, key: str) -> LatencyCurve:
    with at(key):
        return LatencyCurve(
            items=tuple(table.batch_size),
            seconds=tuple(ms / 1e3 for ms in table.latency_ms),
            cv=table.cv,
            noise=tuple(sorted(table.noise)),
            provenance="given",
            source=f"{key} of the scenario",
        )


def _profile(d: schema.Document, device: str, key: str, kind: str) -> Profile:
    """Load the packaged profile of the model on a device, or say in one line which ones there are."""
    if d.model is None:
        raise InputError(
            f"model: missing; name a packaged one ({', '.join(MEDIUM_TARGETS_S)}), or give a table 'service'"
        )
    pairs = profiles.available()
    models = sorted({m for m, _, _ in pairs})
    if d.model not in models:
        hint = near_miss(d.model, models) or f", or your own times under service.{kind}"
        raise InputError(f"model {d.model!r}: no such packaged model; allowed: {', '.join(models)}{hint}")
    devices = [h for m, h, _ in pairs if m == d.model and profiles.hardware(h).kind == kind]
    if device not in devices:
        hint = near_miss(device, devices) or f", or your own times under service.{kind}"
        raise InputError(f"{key} {device!r}: no profile of {d.model} on it; allowed: {', '.join(devices)}{hint}")
    return profiles.load(d.model, device)


def _power(device: str, share: float = 1.0) -> Power | None:
    if device not in profiles.hardware_names():
        return None
    h = profiles.hardware(device)
    if h.idle_w is None or h.busy_w is None:
        return None
    return Power(idle_w=h.idle_w * share, busy_w=h.busy_w * share, source=h.power_source)


def system_of(d: schema.Document) -> System:
    """The machine that ``server``, ``accelerator``, ``service`` and ``model`` describe."""
    cpu = d.server.cpu
    given = d.service.cpu
    profile = None if given else _profile(d, cpu, "server.cpu", "cpu")
    known = cpu in profiles.hardware_names() and profiles.hardware(cpu).kind == "cpu"
    cores = d.server.cores or (profiles.hardware(cpu).cores if known else None)
    if cores is None:
        raise InputError(f"server.cores: missing, and {cpu!r} is not packaged hardware; give the number of cores")
    contention = _contention(d, profile)
    if cores > contention.busy[-1] > 1:
        warnings.warn(
            f"server.cores {cores} but contention is known for 1..{contention.busy[-1]} busy cores; beyond, the last "
            "factor is kept",
            OutsideMeasuredRangeWarning,
            stacklevel=2,
        )
    wakeup_us = d.server.wakeup_us
    overhead_us, dispatch, prefetch = d.server.dispatch_overhead_us, d.server.dispatch, d.server.prefetch
    if prefetch is not None and dispatch != "prefetch":
        raise InputError(
            f"server.prefetch {prefetch} with server.dispatch {dispatch!r}: only cores that prefetch have a buffer; "
            "leave it out, or use 'dispatch: prefetch'"
        )
    return System(
        name=cpu,
        cores=cores,
        service=profile.service if profile else _curve(given, "service.cpu"),  # type: ignore[arg-type]
        contention=contention,
        dispatch_overhead_s=(
            overhead_us / 1e6 if overhead_us is not None else profile.dispatch_overhead_s if profile else 0.0
        ),
        wakeup_s=wakeup_us / 1e6 if wakeup_us is not None else profile.wakeup_s if profile else 0.0,
        drift=_drift(d.server.drift),
        dispatch=dispatch,
        **({} if prefetch is None else {"prefetch": prefetch}),
        accelerator=accelerator_of(d),
        power=_power(cpu, cores / profiles.hardware(cpu).cores) if known else None,
    )


def _drift(given: schema.Drift | None) -> Drift | None:
    if given is None:
        return None
    with at("server.drift"):
        return Drift(factor=tuple(sorted(given.factor)), lasting_s=given.lasting_ms / 1e3)


def _contention(d: schema.Document, profile: Profile | None) -> Contention:
    asked = d.server.contention
    if isinstance(asked, schema.ContentionTable):
        with at("server.contention"):
            return Contention(
                busy=tuple(asked.busy),
                factor=tuple(asked.factor),
                items=tuple(asked.batch_size),
                strength=tuple(asked.strength),
            )
    if asked == "none" or (asked is None and profile is None):
        return NO_CONTENTION
    if profile is None:
        with at("server.contention 'measured' with your own service.cpu (use 'none' or a table if that is not meant)"):
            profile = _profile(d, d.server.cpu, "server.cpu", "cpu")
    return profile.contention


def accelerator_of(d: schema.Document) -> Accelerator | None:
    """The accelerators of the machine, or None."""
    a = d.accelerator
    if a is None:
        return None
    given = d.service.accelerator
    profile = None if given else _profile(d, a.device, "accelerator.device", "accelerator")
    return Accelerator(
        name=a.device,
        service=profile.service if profile else _curve(given, "service.accelerator"),  # type: ignore[arg-type]
        count=a.count,
        max_fused_queries=a.max_fused_queries,
        fused_query_s=(
            a.fused_query_us / 1e6 if a.fused_query_us is not None else profile.fused_query_s if profile else 0.0
        ),
        fusion_wait_s=a.fusion_wait_ms / 1e3,
        power=_power(a.device),
        wakeup_s=a.wakeup_us / 1e6 if a.wakeup_us is not None else profile.wakeup_s if profile else 0.0,
        host_slowdown=(a.host_slowdown if a.host_slowdown is not None else profile.host_slowdown if profile else 0.0),
    )


def sizes_of(s: Any, folder: Path) -> QuerySizes:
    """Query sizes of ``workload.sizes``; files are in ``folder``."""
    with at("workload.sizes"):
        match s:
            case schema.Mlperf():
                return mlperf_sizes()
            case schema.Production():
                return production_sizes()
            case schema.Lognormal():
                return lognormal_sizes(s.mean_log, s.sigma_log, s.max)
            case schema.Normal():
                return normal_sizes(s.mean, s.sd, s.max)
            case schema.Fixed():
                return fixed_sizes(s.items)
            case schema.Pmf():
                return sizes_from_pmf(s.items, s.weight)
            case _:
                return read_sizes(folder / s.file)


def arrivals_of(a: Any, folder: Path) -> Arrivals:
    """Arrivals of ``workload.arrivals``; files are in ``folder``."""
    with at("workload.arrivals"):
        match a:
            case schema.Renewal():
                return renewal_arrivals(a.scv, a.law)
            case schema.Mmpp():
                return mmpp_arrivals(a.rates, a.switch_per_s)
            case schema.Diurnal():
                return diurnal_arrivals(3600 * np.array(a.time_h), a.relative_rate, 3600 * a.period_h)
            case schema.Trace():
                with at(a.file):
                    return trace_arrivals(read_timestamps(folder / a.file))
            case _:
                return Arrivals(process=a.process)
