import numpy as np
import pytest
from scipy import stats

from studies import mgk_waits
from studies.kiefer_wolfowitz import wait_quantile
from studies.truncated_chains import two_phase_quantile


def test_simulator_finds_what_is_known_exactly():
    # M/E_2/4: the simulator and its two companions against a chain solved by elimination
    exact = float(mgk_waits.mmk(3.2, 1.0, 4).wait.quantile(0.95))
    fast = float(mgk_waits.mg1(3.2, stats.gamma(2, scale=0.125)).wait.quantile(0.95))
    erlang = stats.gamma(2, scale=0.5)
    found = wait_quantile(
        3.2, erlang, 4, 0.95, fast_exact_s=fast, markov_exact_s=exact, jobs=20_000, batches=20, seed=3
    )
    known = two_phase_quantile(3.2, *mgk_waits.ERLANG_2, 4, 0.95, levels=150, near_s=found.value_s)
    assert found.half_width_s < 0.05 * known  # narrow enough to mean something
    assert abs(found.value_s - known) < 2 * found.half_width_s


def test_formula_agrees_with_brute_force_at_small_size():
    for name in ("constant", "Erlang-2", "hyperexponential, cv 3"):
        row = mgk_waits.compare(name, 2, 0.8, batches=0)
        assert row["reference"] == "chain"
        assert row["p95_formula_s"] == pytest.approx(row["p95_reference_s"], rel=1e-6)  # mass cut off in the chain


def test_committed_run_supports_the_claim_and_is_what_the_documentation_shows():
    rows = mgk_waits.read()
    assert {(r["service"], int(r["servers"]), float(r["rho"])) for r in rows} == set(mgk_waits.cells())
    assert mgk_waits.TABLE.read_text() == mgk_waits.text(rows)
    asked = [r for r in rows if r["asked"] == "True"]
    errors = np.abs([mgk_waits.error(r) for r in asked])
    assert len(asked) == 60
    assert np.all(np.isfinite(errors))
    assert np.median(errors) <= 0.005
    assert errors.max() <= 0.05
    assert max(mgk_waits.half_width(r) for r in asked) <= 0.025  # half of the tolerance
