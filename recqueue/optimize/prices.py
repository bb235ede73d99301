r"""What one more of each resource would bring: shadow prices from the relaxation, and the same from the exact optimum.

A price is the multiplier of the resource's constraint in the geometric program, an elasticity
:math:`e = \partial \log \lambda / \partial \log r`, times the rate: :math:`e\,\lambda / r` queries/s for each unit. One
more accelerator is no small step, so its price is the difference of two optima of the programs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from recqueue import profiles
from recqueue.analysis.pools import Costs
from recqueue.errors import InputError
from recqueue.optimize import changes
from recqueue.optimize.posynomial import ServiceFit, service_fit
from recqueue.optimize.relaxation import Relaxation, relax
from recqueue.profiles import LatencyCurve
from recqueue.serving import Scenario

STEP = 0.05
"""Relative step of the differences of the exact optimum, up and down; cores and accelerators go by one."""
AGREES, NEGLIGIBLE = 0.25, 0.03
"""A price agrees with the exact one within a quarter of it; elasticities below 0.03 both count as none."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """Worth of a resource.

    Attributes
    ----------
    resource : str
        ``sla``, ``late_share``, ``cores``, ``cpu_speed``, ``bandwidth``, ``accelerator_speed`` or ``accelerators``.
    unit : str
        What one more is: ``ms``, ``percentage point``, ``core``, ``per cent``, ``GB/s``, ``accelerator``.
    amount : float
        How much there is now, in that unit.
    elasticity : float
        Per cent more rate for one per cent more, by the relaxation.
    qps_per_unit : float
        Queries per second for one more, by the relaxation.
    exact : tuple of float or None
        Queries per second for each unit by the exact optimum: lost with less, gained with more; nan for fewer
        accelerators, since the price is that of one more. None when not asked for.
    """

    resource: str
    unit: str
    amount: float
    elasticity: float
    qps_per_unit: float
    exact: tuple[float, float] | None = None

    @property
    def exact_qps_per_unit(self) -> float | None:
        """Mean of the differences below and above, of those that exist."""
        if self.exact is None:
            return None
        return float(np.nanmean(self.exact))

    def agrees(self, qps: float) -> bool | None:
        """Whether the exact optimum confirms the price within a quarter; None when it was not asked.

        Parameters
        ----------
        qps : float
            Rate of the exact optimum.
        """
        exact = self.exact_qps_per_unit
        if exact is None:
            return None
        none = NEGLIGIBLE * qps / self.amount
        return abs(self.qps_per_unit - exact) <= max(AGREES * abs(exact), none)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShadowPrices:
    """Prices of a scenario.

    Attributes
    ----------
    relaxation : Relaxation
        The program behind them.
    prices : mapping
        Resource -> its price; those that do not apply are missing.
    exact_qps : float or None
        Rate of the exact optimum, when it was asked.
    notes : tuple of str
        What was assumed.
    seconds : float
        Wall-clock time, that of the exact optima included.
    """

    relaxation: Relaxation
    prices: Mapping[str, Price]
    exact_qps: float | None
    notes: tuple[str, ...]
    seconds: float


def shadow_prices(scenario: Scenario, *, check: bool = True, exact: bool = False) -> ShadowPrices:
    """Price of the bound, of late queries, cores, their speed, memory bandwidth, accelerator speed and accelerators.

    Parameters
    ----------
    scenario : Scenario
        Its own policy and rate are not used.
    check : bool
        Also take differences of the exact optimum: two searches for each resource.
    exact : bool
        Let each of these searches go on until it has proved its answer, however long it takes.

    Returns
    -------
    ShadowPrices
        Empty when the relaxation finds no rate that keeps the promise.

    Raises
    ------
    InputError
        As :func:`recqueue.optimize.relaxation.relax`.
    """
    started = time.perf_counter()
    scenario = replace(scenario, policy=None, qps=None)
    relaxed = relax(scenario)
    rate = relaxed.policy_qps
    found: dict[str, Price] = {}
    if relaxed.qps > 0 and rate > 0:
        for resource, (unit, amount) in _amounts(scenario, relaxed.fit).items():
            if resource == "accelerators":
                more = relax(scenario, accelerators=round(amount) + 1)
                worth = (more.qps / relaxed.qps - 1) * rate
            else:
                worth = relaxed.elasticity[resource] * rate / amount
            found[resource] = Price(
                resource=resource,
                unit=unit,
                amount=amount,
                elasticity=relaxed.elasticity[resource],
                qps_per_unit=worth,
            )
    exact_qps = None
    if check and found:
        exact_qps = optimum(scenario, exact=exact)
        found = {
            name: replace(price, exact=_differences(scenario, price, exact_qps, exact=exact))
            for name, price in found.items()
        }
    return ShadowPrices(
        relaxation=relaxed,
        prices=found,
        exact_qps=exact_qps,
        notes=tuple(_notes(scenario, relaxed)),
        seconds=time.perf_counter() - started,
    )


def optimum(scenario: Scenario, *, exact: bool = False) -> float:
    """Rate of the best policy by search on the formulas, proved when ``exact``; 0 when none keeps the promise."""
    from recqueue.optimize.search import search

    return search(scenario, Costs.of(scenario), exact=exact).qps


def _amounts(scenario: Scenario, fitted: ServiceFit) -> dict[str, tuple[str, float]]:
    """Unit and amount of each resource that the scenario has."""
    system, sla = scenario.system, scenario.sla
    found = {
        "sla": ("ms", sla.latency_s * 1e3),
        "late_share": ("percentage point", 100 - sla.percentile),
        "cores": ("core", float(system.cores)),
        "cpu_speed": ("per cent", 100.0),
    }
    bandwidth = bandwidth_gb_per_s(scenario)
    if fitted.memory.terms and bandwidth is not None:
        found["bandwidth"] = ("GB/s", bandwidth)
    if system.accelerator is not None:
        found["accelerator_speed"] = ("per cent", 100.0)
        found["accelerators"] = ("accelerator", float(system.accelerator.count))
    return found


def bandwidth_gb_per_s(scenario: Scenario) -> float | None:
    """Memory bandwidth of the machine's cores; None where the hardware is not packaged."""
    name = scenario.system.name
    return profiles.hardware(name).bandwidth_bytes_per_s / 1e9 if name in profiles.hardware_names() else None


def _notes(scenario: Scenario, relaxed: Relaxation) -> list[str]:
    notes = []
    if relaxed.fit.memory.terms:
        share = float(relaxed.fit.memory_share(float(scenario.sizes.mean)))
        notes.append(
            f"bandwidth: {share:.0%} of the time of a mean query counts as memory traffic (operators with less than 2 "
            "FLOPs per byte of their counted traffic), and is taken to shrink with the bandwidth; not measured"
        )
    elif bandwidth_gb_per_s(scenario) is not None:
        notes.append("bandwidth: no price, since the operators of this service were not timed one by one")
    return notes


def changed(scenario: Scenario, resource: str, factor: float) -> Scenario:
    """The scenario with ``factor`` times as much of a resource; cores and accelerators are rounded.

    Raises
    ------
    InputError
        When there is no such resource.
    """
    system, sla, device = scenario.system, scenario.sla, scenario.system.accelerator
    match resource:
        case "sla":
            return changes.sla_latency(scenario, sla.latency_s * factor)
        case "late_share":
            return changes.sla_percentile(scenario, 100 - (100 - sla.percentile) * factor)
        case "cores":
            return changes.cores(scenario, round(system.cores * factor))
        case "cpu_speed" | "bandwidth":
            fitted = service_fit(system, scenario.model, scenario.sizes.max_items)
            memory = fitted.memory_share(np.asarray(system.service.items, dtype=float))
            # What is not memory traffic goes with the clock.
            shares, overhead = (1 - memory, factor) if resource == "cpu_speed" else (memory, 1.0)
            service = _faster(system.service, shares.tolist(), factor)
            overhead_s = system.dispatch_overhead_s / overhead
            return replace(scenario, system=replace(system, service=service, dispatch_overhead_s=overhead_s))
        case "accelerator_speed" if device is not None:
            return changes.accelerator_speed(scenario, factor)
        case "accelerators" if device is not None:
            return changes.accelerators(scenario, round(device.count * factor))
        case _:
            raise InputError(f"price: no resource {resource!r} here")


def _faster(curve: LatencyCurve, shares: list[float], factor: float) -> LatencyCurve:
    """The table with a share of each time divided by ``factor``."""
    seconds = tuple(s * (1 - share + share / factor) for s, share in zip(curve.seconds, shares, strict=True))
    return replace(curve, seconds=seconds)


def _differences(scenario: Scenario, price: Price, exact_qps: float, *, exact: bool) -> tuple[float, float]:
    """Queries per second for each unit of the exact optimum, towards less and towards more."""
    whole = price.resource in ("cores", "accelerators")
    step = 1 / price.amount if whole else STEP
    found = []
    for way in (-1, 1):
        if way < 0 and (price.resource == "accelerators" or (whole and price.amount < 2)):
            found.append(float("nan"))
            continue
        other = optimum(changed(scenario, price.resource, 1 + way * step), exact=exact)
        found.append(way * (other - exact_qps) / (step * price.amount))
    return found[0], found[1]
