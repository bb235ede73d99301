"""The study of the optimizer: its questions, how it simulates rates and races policies, and what was committed."""

import json

import numpy as np
import pytest

from recqueue.io import load_scenario
from recqueue.profiles import LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import offered_load
from recqueue.workload import sizes_from_pmf
from studies import optimizer, optimizer_report
from studies.simulated_rates import MARGIN, Rate, Simulations, grid, neighbours, race

CURVE = LatencyCurve(items=(1, 1000), seconds=(1e-3, 21e-3), cv=0.1)
DEVICE = Accelerator(name="device", service=LatencyCurve(items=(1, 1000), seconds=(2e-3, 6e-3)))
SCENARIO = Scenario(
    name="s",
    model="m",
    system=System(name="cores", cores=4, service=CURVE, accelerator=DEVICE),
    sizes=sizes_from_pmf([40, 200, 600], [0.6, 0.3, 0.1]),
    sla=Sla(latency_s=0.02),
)


@pytest.mark.parametrize("case", [c for c in optimizer.CASES if c.level == "medium"], ids=lambda c: c.name)
def test_questions_are_the_packaged_scenarios(case):
    packaged = load_scenario(
        case.model, overrides={} if case.accelerator else {"accelerator": None}, ignore_policy=True
    )
    asked = optimizer.question(case)
    assert asked.sla == packaged.sla
    assert np.array_equal(asked.sizes.pmf, packaged.sizes.pmf)
    assert asked.arrivals.process == packaged.arrivals.process == "poisson"

    def times(system):
        """Everything but the power, which no rate depends on."""
        own = {k: v for k, v in vars(system).items() if k not in ("power", "accelerator")}
        return own, system.accelerator and {k: v for k, v in vars(system.accelerator).items() if k != "power"}

    assert times(asked.system) == times(packaged.system)


def test_there_are_48_cases_with_names_of_their_own():
    assert len({c.name for c in optimizer.CASES}) == len(optimizer.CASES) == 48


class Decree(Simulations):
    """Percentiles that grow like a power of the rate, to the bound at a rate that each policy is given."""

    def __init__(self, capacity, noise=0.0, power=8.0):
        super().__init__(SCENARIO, 0)
        self.capacity, self.noise, self.power, self.looks = capacity, noise, power, []

    def excess(self, policy, qps, queries, replications):
        self.looks.append((policy, qps, queries * replications))
        rng = np.random.default_rng((policy.batch_size, policy.offload_threshold or 0, queries))
        errors = self.noise * rng.standard_normal(replications) / np.sqrt(queries / 1000)
        return self.power * np.log(qps / self.capacity(policy)) + errors


@pytest.mark.parametrize("power", [1.5, 8.0, 40.0])
@pytest.mark.parametrize("start", [0.2, 0.95, 1.3])
def test_a_rate_is_found_from_any_start_at_any_slope(power, start):
    policy = Policy(200, 600)
    true = 0.6 / max(offered_load(SCENARIO, policy, 1.0))
    found = Decree(lambda p: true, power=power).rate(policy, start * true, 1000, 8, 0.02)
    assert found.qps == pytest.approx(true, rel=1e-6)
    assert found.half_width < 1e-6


def test_a_rate_has_an_interval_that_covers_and_the_margin_is_a_cap():
    policy = Policy(200, 600)
    top = MARGIN / max(offered_load(SCENARIO, policy, 1.0))
    found = Decree(lambda p: 0.6 * top, noise=0.1).rate(policy, 0.5 * top, 4000, 16, 0.02)
    assert abs(np.log(found.qps / (0.6 * top))) < 2 * found.half_width  # of 2 intervals one in 10,000 misses
    assert 0.001 < found.half_width < 0.006  # 0.1 / 2 / 8 / sqrt(16) times 2.13, for 4000 queries
    capped = Decree(lambda p: 2 * top).rate(policy, 0.5 * top, 4000, 8, 0.02)
    assert (capped.qps, capped.half_width) == (top, 0.0)
    assert Decree(lambda p: 1e-9 * top).rate(policy, 0.5 * top, 4000, 8, 0.02).qps == 0


def test_the_race_finds_the_planted_best_and_gives_the_others_up_early():
    policies = grid(SCENARIO)
    simulations = Decree(lambda p: capacity(p), noise=0.2)

    def capacity(p):
        far = abs(np.log(p.batch_size / 150)) + 0.3 * (p.offload_threshold != 600)
        return 0.3 * simulations.most_qps(Policy(150, 600)) * np.exp(-far)

    best = max(policies, key=capacity)
    first = Rate(Policy(40, 600), capacity(Policy(40, 600)), 0.0, np.empty(0))
    found = race(simulations, policies, [first], 6)
    assert found.rates[0].policy == best
    assert found.policies == found.saturated + found.late + len(found.rates)
    assert found.late > len(policies) / 2
    assert sum(n for _, _, n in simulations.looks) < 0.5 * len(policies) * 240_000 * 4  # of a rate for each of them


def test_grid_and_neighbours_hold_distinct_policies_around_what_matters():
    policies = grid(SCENARIO)
    assert len(set(policies)) == len(policies)
    assert {None, 40, 200, 600} == {p.offload_threshold for p in policies}
    assert {200, 100, 67, 600, 300, 150} <= {p.batch_size for p in policies}
    near = neighbours(SCENARIO, Policy(190, 600))
    assert Policy(191, 600) in near
    assert Policy(190, 200) not in near  # the same as batch size 40, the largest query that stays
    assert Policy(40, 200) in near


def test_simulated_rate_agrees_with_the_formula_on_a_small_system():
    found = Simulations(SCENARIO, 5).rate(Policy(150), 100.0, 8000, 8, 0.03)
    from recqueue.analysis.pools import Costs
    from recqueue.analysis.rates import largest_rate

    formula = largest_rate(SCENARIO, Policy(150), Costs.of(SCENARIO))
    assert found.qps == pytest.approx(formula, rel=0.03 + found.half_width)  # the formula is good to a few per cent
    assert found.half_width < 0.03


def test_lines_are_kept_and_the_last_of_a_case_counts(tmp_path):
    lines = tmp_path / "lines.jsonl"
    assert optimizer.finished(lines) == {}
    lines.write_text('{"case": "a", "n": 1}\n{"case": "b", "n": 2}\n\n{"case": "a", "n": 3}\n')
    assert {k: v["n"] for k, v in optimizer.finished(lines).items()} == {"a": 3, "b": 2}


committed = pytest.mark.skipif(not optimizer_report.JSON.exists(), reason="the study has not been run in full yet")


@committed
def test_committed_run_bears_the_claim_and_made_the_table():
    lines = optimizer.finished(optimizer.LINES)
    assert set(lines) == {c.name for c in optimizer.CASES}
    optimizer_report.check(lines)
    assert optimizer_report.TABLE.read_text() == optimizer_report.text(lines)
    assert optimizer_report.SUMMARY.read_text() == optimizer_report.summary(optimizer_report.facts(lines))
    kept = json.loads(optimizer_report.JSON.read_text())
    assert kept["summary"] == json.loads(json.dumps(optimizer_report.facts(lines)))
