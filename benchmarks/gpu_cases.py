"""Scenarios for the GPU: thirty to check against the CPU simulator, and families of runs to time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recqueue.profiles import Contention, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate.gpu_tables import build
from recqueue.workload import Arrivals, QuerySizes, lognormal_sizes, mlperf_sizes, production_sizes

SIZES: dict[str, QuerySizes] = {
    "mlperf": mlperf_sizes(),
    "production": production_sizes(),
    "lognormal": lognormal_sizes(4.5, 0.8, 1000),
}


def scenario(
    cores: int,
    batch_size: int,
    *,
    sizes: str = "mlperf",
    cv: float = 0.0,
    offload_from: int | None = None,
    accelerators: int = 1,
    slowdown: float = 1.0,
    gap_scv: float = 1.0,
    rho: float = 0.7,
) -> Scenario:
    """Cores that take 0.2 ms + 0.02 ms an item, at the rate that offers the busier pool ``rho`` of its capacity."""
    contention = Contention(busy=(1, cores), factor=(1.0, slowdown)) if slowdown != 1 else Contention()
    device = Accelerator(
        name="bench", count=accelerators, service=LatencyCurve(items=(1, 1000), seconds=(2e-3, 4e-3), cv=cv)
    )
    system = System(
        name="bench",
        cores=cores,
        service=LatencyCurve(items=(1, 1000), seconds=(0.22e-3, 20.2e-3), cv=cv),
        contention=contention,
        accelerator=device if offload_from else None,
    )
    arrivals = Arrivals() if gap_scv == 1 else Arrivals(process="renewal", gap_scv=gap_scv)
    made = Scenario(
        name="bench",
        model="bench",
        system=system,
        sizes=SIZES[sizes],
        sla=Sla(latency_s=0.1),
        policy=Policy(batch_size, offload_from),
        arrivals=arrivals,
    )
    return replace(made, qps=rho / build([made], np.ones(1), 15).offered_load.max())


CHECKS: dict[str, dict[str, object]] = {
    f"{cores} cores, batch {batch}, {sizes}, cv {cv:g}, rho {rho:g}": {
        "cores": cores, "batch_size": batch, "sizes": sizes, "cv": cv, "rho": rho
    }
    for cores, batch, sizes, cv, rho in [
        (1, 1000, "mlperf", 0.0, 0.6), (1, 100, "lognormal", 0.3, 0.6), (4, 16, "mlperf", 0.0, 0.8),
        (4, 64, "production", 0.2, 0.8), (4, 256, "lognormal", 0.0, 0.7), (16, 16, "production", 0.2, 0.7),
        (16, 64, "mlperf", 0.0, 0.3), (16, 64, "mlperf", 0.0, 0.9), (16, 256, "production", 0.0, 0.8),
        (40, 16, "lognormal", 0.0, 0.9), (40, 64, "production", 0.5, 0.8), (40, 64, "mlperf", 0.0, 0.85),
        (40, 256, "production", 0.2, 0.3), (40, 1000, "lognormal", 0.2, 0.85), (128, 16, "production", 0.0, 0.8),
        (128, 64, "mlperf", 0.2, 0.85), (128, 256, "production", 0.0, 0.9), (128, 1000, "production", 0.0, 0.5),
    ]
} | {
    "offload from 300": {"cores": 16, "batch_size": 64, "offload_from": 300, "sizes": "production"},
    "offload from 500, noise": {"cores": 16, "batch_size": 64, "offload_from": 500, "cv": 0.3},
    "offload from 300, three accelerators": {
        "cores": 8, "batch_size": 100, "offload_from": 300, "accelerators": 3, "cv": 0.2, "rho": 0.8
    },
    "everything offloaded": {"cores": 8, "batch_size": 64, "offload_from": 1, "accelerators": 4, "rho": 0.8},
    "regular arrivals, gap SCV 0": {"cores": 16, "batch_size": 64, "gap_scv": 0.0, "rho": 0.85},
    "regular arrivals, gap SCV 0.3": {"cores": 16, "batch_size": 64, "gap_scv": 0.3, "rho": 0.85},
    "bursty arrivals, gap SCV 4": {"cores": 16, "batch_size": 64, "gap_scv": 4.0, "sizes": "production"},
    "contention 1.3, 16 cores": {"cores": 16, "batch_size": 64, "slowdown": 1.3, "rho": 0.8},
    "contention 1.5, 40 cores, noise": {
        "cores": 40, "batch_size": 64, "slowdown": 1.5, "cv": 0.2, "rho": 0.8, "sizes": "production"
    },
    "contention 1.2, 4 cores, offload": {
        "cores": 4, "batch_size": 32, "slowdown": 1.2, "offload_from": 300, "sizes": "lognormal"
    },
    "contention 1.1, 128 cores": {"cores": 128, "batch_size": 16, "slowdown": 1.1, "rho": 0.8, "sizes": "lognormal"},
    "contention 1.4, 2 cores, bursty": {"cores": 2, "batch_size": 256, "slowdown": 1.4, "gap_scv": 2.0, "rho": 0.6},
}  # fmt: skip
"""Names of the scenarios to check, and the arguments of :func:`scenario`."""


def rates(cores: int, batch_size: int, *, count: int = 50, **options: object) -> list[Scenario]:
    """One policy at rates from 0.3 to 0.95 of its capacity."""
    one = scenario(cores, batch_size, rho=1.0, **options)  # type: ignore[arg-type]
    assert one.qps is not None
    return [replace(one, qps=one.qps * rho) for rho in np.linspace(0.3, 0.95, count)]


def design_space(cores: int = 40, *, cv: float = 0.0) -> list[Scenario]:
    """A thousand points: 40 batch sizes, 5 offload thresholds (one of them never), 5 rates each."""
    found = []
    for batch in np.unique(np.round(np.geomspace(4, 1000, 45)).astype(int))[:40]:
        for threshold in (None, 150, 300, 500, 700):
            one = scenario(cores, int(batch), sizes="production", cv=cv, offload_from=threshold, rho=1.0)
            assert one.qps is not None
            found += [replace(one, qps=one.qps * rho) for rho in (0.3, 0.5, 0.7, 0.8, 0.9)]
    return found


PER_QUERY, PER_FULL = 255, 33
"""Instructions of the kernel without noise for a query (Poisson gap, sizes, one remainder, the histogram) and for each
full sub-request, counted in the disassembly of nvcc 13.0's code for sm_90 (nvdisasm -c)."""
HISTOGRAM_BYTES = 64
"""Device memory that a latency moves when its bin is in no cache: one sector of 32 bytes in and out."""


def bound(made: Sequence[Scenario], width: int = 32) -> dict[str, float]:
    """What a sub-request of one policy costs without noise or offload, sizes of neighbouring runs being independent.

    All lanes of a warp wait for the one whose query has most full sub-requests, so a warp spends PER_QUERY + PER_FULL
    times the expected largest of ``width`` numbers on ``width`` queries.

    Parameters
    ----------
    made : sequence of Scenario
        The first one counts.
    width : int
        Lanes of a warp.

    Returns
    -------
    dict
        ``busy_lanes``: share of lanes at work in the loop over full sub-requests; ``warp_instructions`` and
        ``histogram_bytes`` of a sub-request.
    """
    one = made[0]
    assert one.policy is not None
    n = np.arange(len(one.sizes.pmf))
    fulls, rest = n // one.policy.batch_size, n % one.policy.batch_size > 0
    p = np.bincount(fulls, weights=one.sizes.pmf)
    mean, most = float(np.arange(len(p)) @ p), float(np.sum(1 - np.cumsum(p) ** width))
    parts = mean + float(one.sizes.pmf @ rest)
    return {
        "busy_lanes": mean / most if most > 0 else 1.0,
        "warp_instructions": (PER_QUERY + PER_FULL * most) / (width * parts),
        "histogram_bytes": HISTOGRAM_BYTES / parts,
    }
