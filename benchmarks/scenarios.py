"""What the simulator is timed on; needs numpy, scipy and numba only, so that it runs on a bare machine too."""

from __future__ import annotations

from dataclasses import replace

from recqueue.profiles.contention import Contention
from recqueue.profiles.curve import LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import offered_load
from recqueue.workload import production_sizes

CORES = 40
BATCH_SIZE = 25
"""The static baseline: 1000 items over 40 cores."""
LOAD = 0.8
CV = 0.2
CONTENTION = Contention(busy=(1, CORES), factor=(1.0, 1.3))


def central(*, cv: float = 0.0) -> Scenario:
    """Heavy-tailed queries split over 40 cores at 80 % load: 1 ms a sub-request and 10 us an item."""
    curve = LatencyCurve(items=(1, 1024), seconds=(1.01e-3, 11.24e-3), cv=cv)
    scenario = Scenario(
        name="benchmark",
        model="custom",
        system=System(name="40 cores", cores=CORES, service=curve),
        sizes=production_sizes(),
        sla=Sla(latency_s=0.1),
        policy=Policy(BATCH_SIZE),
    )
    return replace(scenario, qps=LOAD / offered_load(scenario, Policy(BATCH_SIZE), 1.0)[0])


def with_contention() -> Scenario:
    """The same with cores that slow each other by up to 30 %, at the same load."""
    base = central(cv=CV)
    system = replace(base.system, contention=CONTENTION)
    return replace(base, system=system, qps=(base.qps or 0.0) / CONTENTION.factor[-1])


def with_dispatch(dispatch: str) -> Scenario:
    """The same with a queue for each core."""
    base = central(cv=CV)
    return replace(base, system=replace(base.system, dispatch=dispatch))


def with_fusion() -> Scenario:
    """Every query to an accelerator that fuses up to 8: 0.44 ms a launch, 0.03 us an item; 80 % of 8 a launch."""
    curve = LatencyCurve(items=(1, 8192), seconds=(0.44e-3, 0.44e-3 + 3e-8 * 8191), cv=CV)
    device = Accelerator(name="accelerator", service=curve, max_fused_queries=8)
    base = central()
    launch_s = float(curve.seconds_at(round(8 * base.sizes.mean)))
    return replace(
        base,
        system=replace(base.system, accelerator=device),
        policy=Policy(BATCH_SIZE, offload_threshold=1),
        qps=LOAD * 8 / launch_s,
    )
