"""What the baselines do: the published climb step by step, its fault, random search, and the test they are put to."""

from dataclasses import replace

import numpy as np
import pytest

from recqueue.analysis.pools import Costs
from recqueue.optimize.baselines import (
    PUBLISHED,
    REPAIRED,
    Candidate,
    Confirmer,
    Schedule,
    by_formula,
    normal_form,
    published_hill_climb,
    random_search,
)
from recqueue.optimize.baselines import published as published_module
from recqueue.optimize.baselines.published import Phase, fastest_qps
from recqueue.optimize.result import Verification
from recqueue.profiles import LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import Run, offered_load
from recqueue.workload import sizes_from_pmf

CURVE = LatencyCurve(items=(1, 1000), seconds=(1e-3, 21e-3), cv=0.1)
DEVICE = Accelerator(name="device", service=LatencyCurve(items=(1, 1000), seconds=(2e-3, 6e-3)))
SCENARIO = Scenario(
    name="s",
    model="m",
    system=System(name="cores", cores=4, service=CURVE, accelerator=DEVICE),
    sizes=sizes_from_pmf([40, 200, 600], [0.6, 0.3, 0.1]),
    sla=Sla(latency_s=0.02),
)
ALONE = replace(SCENARIO, system=replace(SCENARIO.system, accelerator=None))
SHORT = Schedule(updates=4, rates=5, slowest=16.0, start=4.0)
GAPS = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
BOUND = 1.0


def feed(phase, tails):
    return [phase.update(t) for t in tails]


def test_the_rate_follows_each_window_by_one_step_and_stays_in_range():
    phase = Phase(SHORT, 3, GAPS, BOUND)
    assert phase.gap_s == 4
    seen = []
    for tail in (0.5, 0.95, 1.0, 1.2):  # below 1 / 1.1; in the stable region; at the bound, which still holds; above
        phase.update(tail)
        seen.append(phase.gap_s)
    assert seen == [2, 2, 2, 4]
    fast, slow = Phase(SHORT, 3, GAPS, BOUND), Phase(SHORT, 3, GAPS, BOUND)
    feed(fast, [0.1] * 4)
    feed(slow, [9.0] * 4)
    assert (fast.gap_s, slow.gap_s) == (1, 16)


def test_a_configuration_is_decided_by_the_update_after_the_last_and_credited_with_the_median_of_the_latest_gaps():
    phase = Phase(SHORT, 3, GAPS, BOUND)
    assert feed(phase, [0.1, 0.1, 2.0, 2.0, 2.0]) == [False] * 4 + [True]  # gaps 2, 1, 2, 4, 8
    assert phase.credited_s == [2]
    assert (phase.configuration, phase.gap_s, phase.over) == (1, 4, False)  # begins anew
    longer = Phase(replace(SHORT, updates=7), 3, GAPS, BOUND)
    feed(longer, [9.0] * 3 + [0.1] * 5)  # 8 16 16 8 4 2 1 1, of which the latest five count, as many as there are rates
    assert longer.credited_s == [2]


@pytest.mark.parametrize(
    ("gaps", "choice", "gap", "tried"),
    [
        ([4, 2, 8, 1], 1, 2, 3),  # stops at the first that is worse and goes back, though the last would be best
        ([8, 4, 2, 1], 3, 1, 4),  # all tried: the best
        ([4, 4, 4, 4], 0, 4, 4),  # equals do not stop it, and of equals the first is chosen
    ],
)
def test_a_phase_ends_at_the_first_configuration_that_is_worse(gaps, choice, gap, tried):
    phase = Phase(replace(SHORT, updates=12), 4, GAPS, BOUND)
    for wanted in gaps[:tried]:
        assert not phase.over
        while not phase.update(2.0 if phase.gap_s < wanted else 0.1 if phase.gap_s > wanted else 0.95):
            pass
    assert phase.over
    assert (phase.configuration, phase.gap_s) == (choice, gap)
    assert phase.credited_s == gaps[:tried]


class Decree:
    """In place of the live server: windows that are late exactly above a rate that each policy carries."""

    capacity = None
    log = None

    def __init__(self, scenario, policy, qps, streams, *, window):
        self.bound_s, self.policy, self.qps, self.sub_requests, self.size = (
            scenario.sla.latency_s,
            policy,
            qps,
            0,
            window,
        )
        type(self).log = []

    def set(self, *, policy, qps):
        self.policy, self.qps = policy, qps

    def window(self):
        self.sub_requests += self.size
        if not self.log or self.log[-1] != self.policy:
            self.log.append(self.policy)
        return np.full(self.size, self.bound_s * (2.0 if self.qps > self.capacity(self.policy) else 0.95))

    def drain(self, pause_s):
        assert pause_s == 3.0


@pytest.fixture
def decree(monkeypatch):
    def use(capacity):
        monkeypatch.setattr("recqueue.simulate.server.LiveServer", Decree)
        monkeypatch.setattr(Decree, "capacity", staticmethod(capacity))
        monkeypatch.setattr(published_module, "fastest_qps", lambda scenario, schedule: 1000.0)
        return Decree

    return use


def test_the_fault_credits_the_first_threshold_with_a_run_without_offload(decree):
    def capacity(policy):
        """Offload never pays, the lower the threshold the less; 256 is the best batch size."""
        t = policy.offload_threshold
        return {512: 60, 384: 80, 256: 99}.get(policy.batch_size, 70) * (1 if t is None else 0.55 + t / 1200)

    server = decree(capacity)
    found = published_hill_climb(SCENARIO, seed=0, schedule=PUBLISHED)
    batches = [Policy(b) for b in (512, 384, 256, 192)]
    assert server.log == [*batches, Policy(256), Policy(256, 128)]  # 96 is never set
    assert found.policy == Policy(256, 96)  # and chosen, believed to carry what no offload at all carries
    assert found.believed_qps == pytest.approx(99, rel=0.07)  # one step of the rates is 6 %
    assert capacity(found.policy) < 65

    repaired = published_hill_climb(SCENARIO, seed=0, schedule=REPAIRED)
    tried = [Policy(256, t) for t in (96, 128, 192, 256, 384, 512)]
    assert server.log == [*batches, *tried]
    assert repaired.policy == Policy(256, 512)
    assert repaired.believed_qps <= 1.07 * capacity(Policy(256, 512))
    assert repaired.sub_requests == 10 * (PUBLISHED.updates + 1) * 64  # windows of 64 for each of 10 configurations


def test_without_an_accelerator_there_is_one_phase(decree):
    server = decree(lambda policy: 100 - abs(policy.batch_size - 128) / 100)
    assert published_hill_climb(ALONE, seed=0).policy.offload_threshold is None
    assert all(p.offload_threshold is None for p in server.log)


def test_the_published_settings():
    assert replace(REPAIRED, measures_first_threshold=False) == PUBLISHED
    gaps = PUBLISHED.gaps_s(1000.0)
    assert (len(gaps), gaps[0], gaps[-1]) == (50, pytest.approx(1e-3), pytest.approx(20e-3))  # 1 to 20 ms
    assert np.allclose(np.diff(np.log(gaps)), np.log(20) / 49)
    batches, thresholds = (512, 384, 256, 192, 128, 96, 64, 48, 32), (None, 96, 128, 192, 256, 384, 512)
    saturation = [1 / max(offered_load(SCENARIO, Policy(b, t), 1.0)) for b in batches for t in thresholds]
    assert fastest_qps(SCENARIO, PUBLISHED) == pytest.approx(max(saturation))


def test_the_published_climb_on_the_steered_server_is_repeatable_and_believes_in_a_possible_rate():
    short = replace(REPAIRED, updates=50, batch_sizes=(256, 64), thresholds=(256, 512))
    found = published_hill_climb(SCENARIO, seed=3, schedule=short)
    assert found == published_hill_climb(SCENARIO, seed=3, schedule=short)
    assert found.believed_qps <= fastest_qps(SCENARIO, short) * (1 + 1e-9)
    assert found.believed_qps > 0.2 * fastest_qps(SCENARIO, short)
    assert 64 * 51 * 2 <= found.sub_requests <= 64 * 51 * 4 * 12


def test_random_search_keeps_its_budget_and_finds_what_is_decreed(monkeypatch):
    def run_once(scenario, policy, qps, queries, streams):
        late = 2.0 if qps > 50 + policy.batch_size / 10 else 0.5
        shares = {
            "offloaded_queries": 0.0,
            "offloaded_items": 0.0,
            "cpu_utilization": 0.5,
            "accelerator_utilization": 0,
        }
        latency_s = np.full(100, late * scenario.sla.latency_s)
        return Run(latency_s=latency_s, warm_up_s=np.empty(0), breakdown_s={}, sub_requests=7, **shares)

    monkeypatch.setattr("recqueue.simulate.run_once", run_once)
    few, many = (random_search(ALONE, budget, seed=1) for budget in (70, 7000))
    assert few.sub_requests == 70
    assert many.sub_requests < 7000  # the lattice was searched before
    assert few.believed_qps <= many.believed_qps
    assert many.policy.batch_size > 500
    assert many.believed_qps == pytest.approx(50 + many.policy.batch_size / 10, rel=0.002)
    assert many == random_search(ALONE, 7000, seed=1)


def test_normal_form_is_the_same_policy():
    assert normal_form(SCENARIO, Policy(700)) == Policy(600)
    assert normal_form(SCENARIO, Policy(700, 201)) == Policy(200, 600)  # no query between 200 and 600
    assert normal_form(SCENARIO, Policy(150, 41)) == Policy(40, 200)
    assert normal_form(SCENARIO, Policy(150, 1)) == Policy(1, 40)  # everything is offloaded
    assert normal_form(ALONE, Policy(150)) == Policy(150)
    fusing = replace(SCENARIO, system=replace(SCENARIO.system, accelerator=replace(DEVICE, max_fused_queries=4)))
    assert normal_form(fusing, Policy(40, 200, 4)) == normal_form(fusing, Policy(40, 200)) == Policy(40, 200)
    assert normal_form(fusing, Policy(40, 200, 3)) == Policy(40, 200, 3)


def test_equal_policies_are_tested_once_and_without_a_rate_nothing_is(monkeypatch):
    calls = []

    def verify(scenario, policy, rate, *, seed, effort):
        calls.append((policy, rate, effort))
        seen = Verification(
            verdict="pass" if policy.batch_size > 1 else "fail", interval_s=(0, 1), queries=1, replications=1,
            sub_requests=5, steps_back=0, performance=None,
        )  # fmt: skip
        return 0.9 * rate, seen

    monkeypatch.setattr("recqueue.optimize.verify.verify", verify)
    confirm = Confirmer(SCENARIO, Costs.of(SCENARIO), seed=0)
    a = confirm(Candidate("x", Policy(600, 300), 77.0, 11))
    b = confirm(Candidate("y", Policy(200, 600), 78.0))
    assert len(calls) == 1
    assert calls[0][2] == 0.25
    assert a.baseline.qps == b.baseline.qps == 0.9 * calls[0][1]
    assert (a.baseline.believed_qps, a.baseline.sub_requests, a.baseline.verification_sub_requests) == (77.0, 11, 5)
    assert a.baseline.policy == Policy(600, 300)
    assert confirm(Candidate("z", None, 0.0, 3)).baseline.qps == 0
    failed = confirm(Candidate("z", Policy(1, 40), 5.0))
    assert (failed.baseline.qps, failed.verification) == (0.0, None)
    hopeless = replace(SCENARIO, sla=Sla(latency_s=1e-5))
    nothing = Confirmer(hopeless, Costs.of(hopeless), seed=0)(Candidate("z", Policy(100), 0.0))
    assert nothing.baseline.qps == 0
    assert len(calls) == 2
    assert by_formula(Candidate("z", Policy(9), 4.0)).qps == 4.0
