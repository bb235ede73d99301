"""Each change changes what it says and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from recqueue.errors import InputError
from recqueue.optimize import changes
from recqueue.profiles import Contention, Drift, LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.workload import mmpp_arrivals, sizes_from_pmf

CPU = LatencyCurve(items=(1, 100), seconds=(1e-3, 5e-3), cv=0.2)
DEVICE = Accelerator(
    name="d",
    service=LatencyCurve(items=(1, 100), seconds=(2e-3, 3e-3), noise=(0.9, 1.1)),
    count=2,
    fused_query_s=1e-4,
    wakeup_s=1e-4,
    host_slowdown=0.2,
)


def scenario(**changed):
    system = System(
        name="c",
        cores=4,
        service=CPU,
        accelerator=DEVICE,
        contention=Contention(busy=(1, 2, 4), factor=(1.0, 0.9, 1.5)),
        dispatch_overhead_s=1e-4,
        wakeup_s=2e-4,
        drift=Drift(factor=(0.9, 1.1), lasting_s=0.1),
    )
    base = Scenario(
        name="s",
        model="m",
        system=system,
        sizes=sizes_from_pmf([10, 50, 100], [0.5, 0.3, 0.2]),
        sla=Sla(percentile=90, latency_s=0.02),
        policy=Policy(20, 100),
    )
    return replace(base, **changed)


def differences(a, b, path=""):
    """Paths of the values that differ."""
    if hasattr(a, "__dataclass_fields__") and type(a) is type(b):
        found = set()
        for name in a.__dataclass_fields__:
            found |= differences(getattr(a, name), getattr(b, name), f"{path}.{name}" if path else name)
        return found
    same = np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
    return set() if same else {path}


@pytest.mark.parametrize(
    ("changed", "paths"),
    [
        (changes.cores(scenario(), 5), {"system.cores"}),
        (changes.without_drift(scenario()), {"system.drift"}),
        (changes.cpu_speed(scenario(), 2.0), {"system.service.seconds", "system.dispatch_overhead_s"}),
        (changes.accelerators(scenario(), 3), {"system.accelerator.count"}),
        (
            changes.accelerator_speed(scenario(), 2.0),
            {"system.accelerator.service.seconds", "system.accelerator.fused_query_s"},
        ),
        (changes.fused_queries(scenario(), 4), {"system.accelerator.max_fused_queries"}),
        (changes.sla_latency(scenario(), 0.03), {"sla.latency_s"}),
        (changes.sla_percentile(scenario(), 80), {"sla.percentile"}),
        (changes.contention(scenario(), 0.5), {"system.contention.factor"}),
        (
            changes.noise(scenario(), 0.5),
            {"system.service.cv", "system.accelerator.service.cv", "system.accelerator.service.noise"},
        ),
        (changes.without_wakeup(scenario()), {"system.wakeup_s", "system.accelerator.wakeup_s"}),
        (changes.without_host_slowdown(scenario()), {"system.accelerator.host_slowdown"}),
        (changes.dispatch_overhead(scenario(), 0.0), {"system.dispatch_overhead_s"}),
        (
            changes.largest_query(scenario(), 60),
            {"sizes.pmf", "sizes.name", "policy.offload_threshold"},
        ),
        (changes.accelerators(scenario(), 0), {"system.accelerator", "policy.offload_threshold"}),
    ],
)
def test_a_change_changes_what_it_says_alone(changed, paths):
    assert differences(scenario(), changed) == paths


def test_what_the_changes_amount_to():
    assert changes.cpu_speed(scenario(), 2.0).system.service.seconds == (0.5e-3, 2.5e-3)
    assert changes.contention(scenario(), 0.5).system.contention.factor == (1.0, 0.9, 1.25)  # speed-ups stay
    assert changes.noise(scenario(), 0.5).system.service.cv == 0.1
    assert changes.noise(scenario(), 0.5).system.accelerator.service.cv == pytest.approx(0.05)
    cut = changes.largest_query(scenario(), 60)
    assert cut.sizes.max_items == 60
    np.testing.assert_allclose(cut.sizes.pmf[[10, 50, 60]], [0.5, 0.3, 0.2])
    assert cut.policy == Policy(20)
    assert differences(changes.largest_query(scenario(), 400), scenario()) == set()


def test_what_is_offered_is_what_makes_a_difference():
    full = [c.name for c in changes.improvements(scenario())]
    assert full == [
        "cores+1",
        "cpu_speed*1.1",
        "accelerators+1",
        "accelerator_speed*1.1",
        "fused_queries=4",
        "sla_latency*1.1",
        "contention/2",
        "noise/2",
        "dispatch_overhead=0",
        "wakeup=0",
        "drift=0",
        "host_slowdown=0",
    ]
    plain = replace(
        scenario().system,
        accelerator=None,
        contention=Contention(),
        dispatch_overhead_s=0.0,
        wakeup_s=0.0,
        drift=None,
        service=replace(CPU, cv=0.0),
    )
    bare = scenario(system=plain, policy=Policy(20))
    assert [c.name for c in changes.improvements(bare)] == ["cores+1", "cpu_speed*1.1", "sla_latency*1.1"]
    assert [c.name for c in changes.losses(bare)] == ["cores-1"]
    assert [c.name for c in changes.losses(scenario())] == ["cores-1", "accelerators-1", "accelerators=0"]
    single = scenario(system=replace(plain, cores=1), policy=Policy(20))
    assert changes.losses(single) == ()
    bursty = scenario(arrivals=mmpp_arrivals([1, 3], [[0, 1], [1, 0]]))
    assert "fused_queries=4" not in [c.name for c in changes.improvements(bursty)]  # the formulas need Poisson there


def test_what_cannot_be_changed_is_one_line():
    bare = scenario(system=replace(scenario().system, accelerator=None), policy=None)
    with pytest.raises(InputError, match="no accelerator"):
        changes.accelerators(bare, 1)
    with pytest.raises(InputError, match="1 item or more"):
        changes.largest_query(scenario(), 0)
    with pytest.raises(InputError, match="1 or more"):
        changes.cores(scenario(), 0)
