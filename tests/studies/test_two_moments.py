import numpy as np
import pytest

from studies import approximations, dispatch, two_moments


def test_laws_have_the_moments_they_are_named_after():
    for phases, scv in approximations.LAWS.values():
        if phases is not None:
            alpha, matrix = phases
            once = np.linalg.solve(-matrix, np.ones(len(alpha)))
            assert alpha @ once == pytest.approx(1)
            assert 2 * alpha @ np.linalg.solve(-matrix, once) - 1 == pytest.approx(scv)


def test_a_small_run_repeats_the_committed_rows():
    committed = {
        (r["arrivals"], r["service"], r["quantity"], r["formula"]): float(r["error"])
        for r in approximations.read()
        if (r["servers"], r["utilization"]) == ("4", "0.8")
    }
    rows = approximations.run(servers=(4,), utilizations=(0.8,))
    assert len(rows) == len(committed) > 50
    for r in rows:
        key = (r["arrivals"], r["service"], r["quantity"], r["formula"])
        assert r["error"] == pytest.approx(committed[key], abs=2e-3)  # tables of quantiles are read linearly


def test_claim_of_the_approximations():
    rows = [r for r in approximations.read() if r["quantity"] == "mean wait"]
    best = [r for r in rows if r["formula"] == "Cosmetatos" and r["traffic"] == "Poisson arrivals, service SCV up to 1"]
    assert len(best) > 50
    assert max(abs(float(r["error"])) for r in best) <= 0.01
    assert approximations.TABLE.read_text() == approximations.text(approximations.read())


def test_claim_of_the_private_queues():
    rows = dispatch.read()
    for policy in dispatch.POLICIES:
        errors = [abs(float(r["p95_error"])) for r in rows if r["policy"] == policy and r["status"] == "compared"]
        assert len(errors) >= 30
        assert np.median(errors) <= 0.02
        assert max(errors) <= 0.15
    assert dispatch.TABLE.read_text() == dispatch.text(rows)


def test_two_moments_are_not_enough():
    study = two_moments.run(shares=(0.02, 0.95))
    two_moments.check(study)
    with pytest.raises(AssertionError):
        two_moments.check(two_moments.run(shares=(0.3, 0.5)))
