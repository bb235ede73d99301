"""What could be changed about a server, its promise or its load: each a function from a scenario to a scenario."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recqueue.errors import InputError
from recqueue.profiles import LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla
from recqueue.workload import QuerySizes

FUSED_QUERIES = 4
"""Queries in one launch when fusion is tried."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A scenario after a change.

    Attributes
    ----------
    name : str
        For scripts, such as ``cores+1``.
    text : str
        For readers, such as "one more core (17)".
    scenario : Scenario
        The changed scenario.
    """

    name: str
    text: str
    scenario: Scenario


def cores(scenario: Scenario, number: int) -> Scenario:
    """The same machine with ``number`` cores; its contention table is read there, flat beyond its last point."""
    return replace(scenario, system=replace(scenario.system, cores=number))


def cpu_speed(scenario: Scenario, factor: float) -> Scenario:
    """Cores on which every sub-request takes 1 / ``factor`` of the time, dispatch overhead included, wake-ups not."""
    system = scenario.system
    return replace(
        scenario,
        system=replace(
            system,
            service=_faster(system.service, factor),
            dispatch_overhead_s=system.dispatch_overhead_s / factor,
        ),
    )


def accelerators(scenario: Scenario, number: int) -> Scenario:
    """The same machine with ``number`` of its accelerators; with 0 nothing is offloaded any more.

    Raises
    ------
    InputError
        When the scenario has no accelerator, so that nobody knows how fast one would be.
    """
    device, policy = _device(scenario), scenario.policy
    if number == 0:
        policy = None if policy is None else no_offload(policy)
        return replace(scenario, policy=policy, system=replace(scenario.system, accelerator=None))
    return _with_device(scenario, replace(device, count=number))


def no_offload(policy: Policy) -> Policy:
    """The same policy when the accelerator is gone: every query is split over the cores."""
    return replace(policy, offload_threshold=None, max_fused_queries=None)


def accelerator_speed(scenario: Scenario, factor: float) -> Scenario:
    """Accelerators on which every launch takes 1 / ``factor`` of the time, wake-ups not included."""
    device = _device(scenario)
    return _with_device(
        scenario,
        replace(device, service=_faster(device.service, factor), fused_query_s=device.fused_query_s / factor),
    )


def fused_queries(scenario: Scenario, number: int) -> Scenario:
    """Up to ``number`` queries in one launch."""
    return _with_device(scenario, replace(_device(scenario), max_fused_queries=number))


def sla_latency(scenario: Scenario, latency_s: float) -> Scenario:
    """The same percentile within ``latency_s`` seconds."""
    return replace(scenario, sla=Sla(percentile=scenario.sla.percentile, latency_s=latency_s))


def sla_percentile(scenario: Scenario, percentile: float) -> Scenario:
    """The same latency for ``percentile`` per cent of the queries."""
    return replace(scenario, sla=Sla(percentile=percentile, latency_s=scenario.sla.latency_s))


def contention(scenario: Scenario, share: float) -> Scenario:
    """Only ``share`` of the slow-down by other busy cores; where they speed each other up nothing changes."""
    given = scenario.system.contention
    factor = tuple(1 + (f - 1) * share if f > 1 else f for f in given.factor)
    return replace(scenario, system=replace(scenario.system, contention=replace(given, factor=factor)))


def noise(scenario: Scenario, share: float) -> Scenario:
    """Service times, on cores and accelerators, with ``share`` of their coefficient of variation."""
    system, device = scenario.system, scenario.system.accelerator
    if device is not None:
        device = replace(device, service=_calmer(device.service, share))
    return replace(scenario, system=replace(system, service=_calmer(system.service, share), accelerator=device))


def dispatch_overhead(scenario: Scenario, seconds: float) -> Scenario:
    """Sub-requests that occupy their core for ``seconds`` beyond their service."""
    return replace(scenario, system=replace(scenario.system, dispatch_overhead_s=seconds))


def without_wakeup(scenario: Scenario) -> Scenario:
    """Workers that look for work all the time, so that none must be woken."""
    system, device = scenario.system, scenario.system.accelerator
    if device is not None:
        device = replace(device, wakeup_s=0.0)
    return replace(scenario, system=replace(system, wakeup_s=0.0, accelerator=device))


def without_drift(scenario: Scenario) -> Scenario:
    """Cores that keep their mean speed, as on a machine without other guests."""
    return replace(scenario, system=replace(scenario.system, drift=None))


def without_host_slowdown(scenario: Scenario) -> Scenario:
    """Launches that busy cores do not slow, as from a core kept for them."""
    return _with_device(scenario, replace(_device(scenario), host_slowdown=0.0))


def largest_query(scenario: Scenario, items: int) -> Scenario:
    """Larger queries cut to their first ``items`` items; none is turned away.

    Raises
    ------
    InputError
        When ``items`` is below 1.
    """
    if items < 1:
        raise InputError(f"largest query {items}; it must have 1 item or more")
    p, policy = scenario.sizes.pmf, scenario.policy
    if items >= len(p) - 1:
        return scenario
    cut = np.append(p[:items], p[items:].sum())
    if policy and policy.offload_threshold and policy.offload_threshold > items:
        policy = no_offload(policy)
    name = f"{scenario.sizes.name}, at most {items} items"
    return replace(scenario, sizes=QuerySizes(cut, name), policy=policy)


def improvements(scenario: Scenario) -> tuple[Change, ...]:
    """Changes that somebody could buy, order or program, where they make a difference to ``scenario``."""
    system, device = scenario.system, scenario.system.accelerator
    found = [
        ("cores+1", f"one more core ({system.cores + 1})", cores(scenario, system.cores + 1)),
        ("cpu_speed*1.1", "CPU 10 % faster", cpu_speed(scenario, 1.1)),
    ]
    if device is not None:
        found += [
            ("accelerators+1", f"one more accelerator ({device.count + 1})", accelerators(scenario, device.count + 1)),
            ("accelerator_speed*1.1", "accelerator 10 % faster", accelerator_speed(scenario, 1.1)),
        ]
        if device.max_fused_queries == 1 and scenario.arrivals.process == "poisson":
            text = f"fusion of up to {FUSED_QUERIES} queries"
            found.append((f"fused_queries={FUSED_QUERIES}", text, fused_queries(scenario, FUSED_QUERIES)))
    latency_s = 1.1 * scenario.sla.latency_s
    found.append(("sla_latency*1.1", f"latency bound {latency_s * 1e3:.4g} ms", sla_latency(scenario, latency_s)))
    if max(system.contention.factor) > 1:
        found.append(("contention/2", "half the contention", contention(scenario, 0.5)))
    if system.service.cv > 0 or (device is not None and device.service.cv > 0):
        found.append(("noise/2", "half the noise of service times", noise(scenario, 0.5)))
    if system.dispatch_overhead_s > 0:
        found.append(("dispatch_overhead=0", "no dispatch overhead", dispatch_overhead(scenario, 0.0)))
    if system.wakeup_s > 0 or (device is not None and device.wakeup_s > 0):
        found.append(("wakeup=0", "no wake-up (workers that poll)", without_wakeup(scenario)))
    if system.drift is not None and system.drift.variance > 0:
        found.append(("drift=0", "cores that keep their speed (no other guests)", without_drift(scenario)))
    if device is not None and device.host_slowdown > 0:
        found.append(("host_slowdown=0", "launches not slowed by cores", without_host_slowdown(scenario)))
    return tuple(Change(name=name, text=text, scenario=changed) for name, text, changed in found)


def losses(scenario: Scenario) -> tuple[Change, ...]:
    """What can break: one core, one accelerator, all accelerators."""
    system, device = scenario.system, scenario.system.accelerator
    found = []
    if system.cores > 1:
        found.append(("cores-1", "one core lost", cores(scenario, system.cores - 1)))
    if device is not None and device.count > 1:
        found.append(("accelerators-1", "one accelerator lost", accelerators(scenario, device.count - 1)))
    if device is not None:
        text = "accelerator lost" if device.count == 1 else "all accelerators lost"
        found.append(("accelerators=0", text, accelerators(scenario, 0)))
    return tuple(Change(name=name, text=text, scenario=changed) for name, text, changed in found)


def _faster(curve: LatencyCurve, factor: float) -> LatencyCurve:
    return replace(curve, seconds=tuple(s / factor for s in curve.seconds))


def _calmer(curve: LatencyCurve, share: float) -> LatencyCurve:
    return replace(curve, cv=curve.cv * share, noise=tuple(1 + (f - 1) * share for f in curve.noise))


def _device(scenario: Scenario) -> Accelerator:
    device = scenario.system.accelerator
    if device is None:
        raise InputError("the system has no accelerator; describe one to ask what more of it would do")
    return device


def _with_device(scenario: Scenario, device: Accelerator) -> Scenario:
    return replace(scenario, system=replace(scenario.system, accelerator=device))
