"""The errors on live servers that reports quote."""

import json
from dataclasses import replace

import pytest

from calibration.judge import STATISTICS
from recqueue.analysis import error_ledger, evaluate
from recqueue.io import load_scenario
from recqueue.profiles import Drift
from studies import live_ledger


@pytest.fixture(scope="module")
def known():
    return json.loads(live_ledger.DATA.read_text())


def test_the_packaged_figures_are_those_of_the_predictions(known):
    assert known == live_ledger.ledger()


def test_each_model_comes_from_one_campaign():
    rows = live_ledger.measurements()
    rounds = {r["model"] for r in rows if int(r["segments"]) > 1}
    assert rounds == {"wide-and-deep", "dlrm-rmc3", "dlrm-rmc1"}
    assert {r["model"] for r in rows if int(r["segments"]) == 1} == {"ncf", "dlrm-rmc2", "din"}


def test_reports_quote_the_loads_that_the_scenario_is_nearest_to(known):
    low, high = known["bands"]
    s = load_scenario("dlrm-rmc1")
    full = 100 / max(evaluate(s, qps=100).utilization.values())
    for load, band in ((0.3, low), (0.84, low), (0.86, high), (0.95, high)):
        p = evaluate(s, qps=load * full)
        assert max(p.utilization.values()) == pytest.approx(load, abs=0.005)  # services of idle cores are longer
        e = error_ledger(s, p)
        assert (e.live_model, list(e.live_load)) == ("dlrm-rmc1", band["load"])
        assert e.live["median"] == band["models"]["dlrm-rmc1"]["still"]["median"]
        assert e.live["rate_p90"] == known["largest_rate"]["models"]["dlrm-rmc1"]["p90"]
    drifting = replace(s, system=replace(s.system, drift=Drift(factor=(1.0,), lasting_s=1.0)))
    e = error_ledger(drifting, None)
    assert e.live["median"] == low["models"]["dlrm-rmc1"]["formula"]["median"]
    assert set(e.profile_fit) == {"cpu", "accelerator"}
    assert 0 < e.profile_fit["cpu"] < 0.2
    assert 0 < error_ledger(s, evaluate(s, qps=500)).formula["p95"] < 0.2
    other = error_ledger(load_scenario("dien"), None)
    assert (other.live_model, other.formula) == (None, {})
    assert other.live["p90"] == low["all"]["still"]["p90"]


def test_infinite_errors_have_no_number():
    row = {"load": "0.9"} | {f"{way}_{n}_s": "1" for way in ("still", "replayed", "own_speed") for n in STATISTICS}
    rows = [row | {f"formula_{n}_s": "inf" for n in STATISTICS} | {f"{n}_s": "1" for n in STATISTICS}]
    assert live_ledger.of(rows)["formula"] == {"median": None, "p90": None}
    assert live_ledger.of(rows)["still"] == {"median": 0.0, "p90": 0.0}
