import numpy as np
import pytest

from studies import drift


def test_formula_and_simulation_agree_at_small_size():
    cases = [c for c in drift.scenarios(40, 2) if c[2] <= 0.8 and c[4] < 3000][:8]
    rows = [drift.compare(c, seed=1) for c in cases]
    error, half = (np.abs([row[name] for row in rows]) for name in ("p95_error", "p95_half_width"))
    assert half.max() <= 0.06  # wider, and the comparison would mean little
    assert np.median(error) <= 0.03 + np.median(half)
    assert np.all(error <= 0.10 + half)  # the worst of the committed run


def test_factors_have_their_mean_and_spread():
    for spread in drift.SPREADS:
        factors = np.array(drift.normal_factors(spread))
        assert (factors.mean(), factors.std()) == (pytest.approx(1), pytest.approx(spread))


def test_table_in_the_documentation_is_that_of_the_committed_run():
    rows = drift.read_rows(drift.CSV)
    assert len(rows) == 160
    assert drift.TABLE.read_text() == drift.text(rows)
    assert np.median(np.abs([float(r["p95_error"]) for r in rows])) <= 0.03
    busy = [r for r in rows if float(r["load"]) == 0.9]
    with_it, without = (np.median(np.abs([float(r[c]) for r in busy])) for c in ("p95_error", "p95_steady_error"))
    assert without > 3 * with_it  # what the claim says of high load
