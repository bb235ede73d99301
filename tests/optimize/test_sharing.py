"""The division of a machine against brute force over every partition, and what the parts are checked for."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from recqueue.analysis.pools import Costs
from recqueue.errors import InputError
from recqueue.optimize.search import search
from recqueue.optimize.sharing import _best, beside, share
from recqueue.profiles import Contention, LatencyCurve
from recqueue.serving import Accelerator, Scenario, SharedMachine, Sla, System, Tenant
from recqueue.workload import sizes_from_pmf

SLOWER = Contention(busy=(1, 8), factor=(1.0, 1.5))


def machine(seed, *, models=3, cores=6, accelerators=1, goal="scale", together=False):
    """Models of random speed, sizes, demand and bound on one machine."""
    rng = np.random.default_rng(seed)
    tenants = []
    for i in range(models):
        points = (1, 4, 16)
        seconds = 1e-3 * (rng.uniform(0.2, 2) + rng.uniform(0.05, 0.5) * np.array(points))
        device = None
        if accelerators:
            times = LatencyCurve(items=(1, 16), seconds=tuple(rng.uniform(0.3, 1.5, 2).cumsum() * 1e-3))
            device = Accelerator(name="d", service=times, count=accelerators)
        system = System(
            name="c",
            cores=cores,
            service=LatencyCurve(items=points, seconds=tuple(seconds), cv=0.1),
            contention=SLOWER,
            accelerator=device,
        )
        s = Scenario(
            name=f"m{i}",
            model=f"m{i}",
            system=system,
            sizes=sizes_from_pmf([2, 7, 16], rng.uniform(0.1, 1, 3).tolist()),
            sla=Sla(latency_s=float(seconds[-1] * rng.uniform(2, 5))),
            qps=float(rng.uniform(50, 400)),
        )
        tenants.append(Tenant(name=s.name, scenario=s, weight=float(rng.uniform(0.5, 2))))
    return SharedMachine(name="machine", tenants=tuple(tenants), goal=goal, shared_accelerators=together)


def rate(tenant, k, g):
    part = beside(tenant.scenario, k, g)
    return search(part, Costs.of(part)).qps


def brute_force(m):
    """Best goal over every partition that uses up to all of the machine."""
    options = list(product(range(1, m.cores + 2 - len(m.tenants)), range(m.accelerators + 1)))
    table = [{o: rate(t, *o) for o in options} for t in m.tenants]
    best = 0.0
    for choice in product(options, repeat=len(m.tenants)):
        if sum(k for k, _ in choice) > m.cores or sum(g for _, g in choice) > m.accelerators:
            continue
        rates = [q[o] for q, o in zip(table, choice, strict=True)]
        if m.goal == "scale":
            value = min(q / t.demand_qps for q, t in zip(rates, m.tenants, strict=True))
        else:
            value = sum(t.weight * q for q, t in zip(rates, m.tenants, strict=True))
        best = max(best, value)
    return best


@pytest.mark.parametrize(
    ("seed", "accelerators", "goal"),
    [(0, 1, "scale"), (2, 0, "scale"), (1, 0, "rate"), (3, 1, "rate")],
)
def test_no_partition_beats_the_answer(seed, accelerators, goal):
    m = machine(seed, accelerators=accelerators, cores=4, goal=goal)
    found = share(m, verify=False)
    value = found.scale if goal == "scale" else found.weighted_qps
    assert found.bound == pytest.approx(value, rel=1e-12)  # the certificate is tight
    # the search behind each part may miss a rate by 0.5 %, and the bounds rely on more cores never carrying less
    assert value == pytest.approx(brute_force(m), rel=5e-3)
    assert sum(p.cores for p in found.parts) == m.cores
    assert sum(p.accelerators for p in found.parts) == m.accelerators
    assert found.evaluated <= found.possible == 3 * 4 * (accelerators + 1)
    if goal == "scale":
        assert found.scale >= found.proportional_scale


def test_rates_grow_with_cores_and_accelerators():
    """What the bounds of smaller parts rely on."""
    for t in machine(0, accelerators=2, models=2, cores=8).tenants:
        table = np.array([[rate(t, k, g) for g in range(3)] for k in (1, 2, 4, 7, 8)])
        assert np.all(np.diff(table, axis=0) >= -5e-3 * table[1:])
        assert np.all(np.diff(table, axis=1) >= -5e-3 * table[:, 1:])


@pytest.mark.parametrize("goal", ["scale", "rate"])
def test_dynamic_program_is_brute_force(goal):
    rng = np.random.default_rng(5)
    for _ in range(4):
        worth = [np.vstack([np.zeros(3), rng.uniform(0, 1, (5, 3)).cumsum(0).cumsum(1)]) for _ in range(3)]
        top, split = _best(worth, goal)
        collect = min if goal == "scale" else sum
        assert top == pytest.approx(collect(w[o] for w, o in zip(worth, split, strict=True)))
        assert sum(k for k, _ in split) <= 5
        assert sum(g for _, g in split) <= 2
        every = product(product(range(1, 6), range(3)), repeat=3)
        fits = (c for c in every if sum(k for k, _ in c) <= 5 and sum(g for _, g in c) <= 2)
        assert top == pytest.approx(max(collect(w[o] for w, o in zip(worth, c, strict=True)) for c in fits))


def test_one_model_gets_the_whole_machine_as_it_is():
    m = machine(7, models=1, cores=4)
    found = share(m, verify=False)
    (part,) = found.parts
    whole = replace(m.tenants[0].scenario, qps=None)
    assert (part.cores, part.accelerators) == (4, 1)
    assert part.most_qps == search(whole, Costs.of(whole)).qps
    assert found.scale == pytest.approx(found.proportional_scale)


def test_other_cores_slow_a_part_as_if_all_were_busy():
    s = machine(0, cores=8).tenants[0].scenario
    part = beside(s, 2, 0)
    for own in (1, 2):
        seconds = part.system.service.seconds[0] * float(part.system.contention.factor_at(float(own)))
        assert seconds == pytest.approx(s.system.service.seconds[0] * float(SLOWER.factor_at(6.0 + own)))
    assert part.system.accelerator is None
    assert beside(s, 8, 1).system == s.system
    quicker = replace(s, system=replace(s.system, contention=Contention(busy=(1, 8), factor=(1.0, 0.7))))
    part = beside(quicker, 2, 0)  # no credit for the cores of others
    assert part.system.service.seconds == s.system.service.seconds
    assert part.system.contention.factor_at(2.0) == pytest.approx(quicker.system.contention.factor_at(2.0))


def test_parts_are_simulated_at_the_common_scale(monkeypatch):
    monkeypatch.setattr("recqueue.optimize.verify._FIRST_QUERIES", 20_000)
    m = machine(0, models=2, cores=2)
    found = share(m, seed=1)
    for part in found.parts:
        assert part.verification.verdict == "pass"
        assert part.verification.performance.qps == part.qps
    assert min(p.scale for p in found.parts) == found.scale <= found.bound
    # stepping back lowers a rate by 0.25 % at first
    assert found.scale >= 0.95 * found.bound


def test_what_cannot_be_divided():
    m = machine(0)
    with pytest.raises(InputError, match="2 for 3 models"):
        machine(0, cores=2)
    with pytest.raises(InputError, match="'m0' is given twice"):
        SharedMachine(name="m", tenants=(m.tenants[0], m.tenants[0]))
    with pytest.raises(InputError, match="different machines"):
        SharedMachine(name="m", tenants=(m.tenants[0], machine(1, cores=7).tenants[1]))
    with pytest.raises(InputError, match="none given"):
        SharedMachine(name="m", tenants=())
    with pytest.raises(InputError, match="qps: missing"):
        Tenant(name="a", scenario=replace(m.tenants[0].scenario, qps=None))
    with pytest.raises(InputError, match="weight -1"):
        Tenant(name="a", scenario=m.tenants[0].scenario, weight=-1.0)
    with pytest.raises(InputError, match="every weight is 0"):
        SharedMachine(name="m", goal="rate", tenants=tuple(replace(t, weight=0.0) for t in m.tenants))
