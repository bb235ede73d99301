"""The whole path on a made-up server: the campaign's own code measures it, and fit and predictions meet the truth."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the calibration extra (torch) is not installed")

from calibration.judge import error
from calibration.livefit import fit
from calibration.livetext import scenario_text
from calibration.madeup import STEP_S, MadeUp, _serve, campaign_on, drift_path
from calibration.plan import Campaign, planned
from calibration.predict import Prediction, predict, predict_all, unknown_of
from calibration.records import ENOUGH_BYTES
from calibration.runs import measured_runs, rows_of
from recqueue import load_scenario
from recqueue.errors import InputError

RAW = Path(__file__).parents[2] / "calibration" / "raw" / "xeon-16c" / "live"
MODEL, SD, LASTING_S, SECONDS = "dlrm-rmc3", 0.05, 0.6, 120.0


CASES = [(0.8, 0.05, 14, 0.99, 1.01), (0.9, 0.1, 1, 1.0, 1.2), (0.9, 0.1, 14, 1.0, 1.2)]


@pytest.mark.parametrize(("load", "sd", "workers", "low", "high"), CASES)
def test_the_speed_may_be_that_of_the_arrival(load, sd, workers, low, high):
    """A machine slows what it serves; the formulas and the simulator slow what comes, which is hardly different.

    Both with the same random numbers. With other seeds the ratio is 1.000 in the first case, 1.04 to 1.12 otherwise.
    """
    rng, service_s, count = np.random.default_rng(1), 5e-3, 400_000
    came = np.cumsum(rng.exponential(service_s / (load * workers), count))
    noise = rng.lognormal(-0.02, 0.2, count)
    path = drift_path(1.5 * came[-1] + 10, sd, [(1.0, 1.0)], seed=2)
    steady, even = np.ones(len(path)), np.full(count, service_s)
    p95 = []
    for factors, speeds in ((noise * path[(came / STEP_S).astype(int)], steady), (noise, path)):
        start, end, worker = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
        _serve(came, even, 0 * even, factors, speeds, 0.0, workers, (0.0, 0.0, 0.0), start, end, worker)
        p95.append(np.quantile((end - came)[count // 10 :], 0.95))
    assert low <= p95[0] / p95[1] <= high


@pytest.fixture(scope="module")
def truth():
    return fit(RAW, MODEL)


@pytest.fixture(scope="module")
def folder(truth, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made-up")
    server = MadeUp(truth, drift_path(SECONDS + 60, SD, [(1.0, LASTING_S)], seed=3), seed=3)
    campaign_on(server, folder, Campaign(names=[MODEL], seconds=SECONDS))
    assert SECONDS * 0.9 < server.now_s < SECONDS + 3  # it ends in time, and does not waste it
    return folder


def test_all_rounds_are_made_and_the_archive_stays_small(folder):
    rows = rows_of(folder / "live.csv")
    assert {(r["split"], r["configuration"], float(r["load"])) for r in rows} == {
        (p.split, str(p.configuration), p.load) for p in planned(Campaign(names=[MODEL], seconds=1))
    }
    assert {int(r["round"]) for r in rows} == set(range(6))
    kinds = {r["kind"] for r in rows_of(folder / "services.csv")}
    assert kinds == {"service", "wakeup", "dispatch", "drift", "launch", "launch-wakeup"}
    assert (folder / f"records-{MODEL}.npz").stat().st_size < 1.4 * ENOUGH_BYTES
    began = [float(r["began_s"]) for r in rows]
    assert began == sorted(began)
    # fitted and held-out segments are spread alike over the campaign; a third of it apart would be half and half
    mean = {half: np.mean([float(r["began_s"]) for r in rows if r["split"] == half]) for half in ("fit", "held-out")}
    assert mean["fit"] == pytest.approx(mean["held-out"], abs=0.05 * SECONDS)


def test_a_slow_server_is_measured_in_fewer_rounds_rather_than_in_part(truth, tmp_path):
    """One core of a fourteenth: sixty queries of each run take so long that two rounds fill the time."""
    slow = replace(truth, workers=1, launch_items=())
    server = MadeUp(slow, drift_path(900, SD, [(1.0, LASTING_S)], seed=4), seed=4)
    asked = Campaign(names=[MODEL], seconds=250, device=None)
    campaign_on(server, tmp_path, asked)
    rows = rows_of(tmp_path / "live.csv")
    rounds = {int(r["round"]) for r in rows}
    assert 2 <= len(rounds) < 6
    made = Counter((r["configuration"], float(r["load"])) for r in rows)
    assert set(made) == {(str(p.configuration), p.load) for p in planned(asked)}
    assert {n for (_, load), n in made.items() if load < 0.9} == {len(rounds)}
    assert server.now_s < 1.1 * 250
    alone = fit(tmp_path, MODEL)
    assert alone.strength == (0.0, 0.0)  # one worker has nobody to contend with
    assert min(alone.noise) > 0


def test_the_parameters_and_the_drift_come_back(folder, truth):
    found = fit(folder, MODEL)
    # 50 s of the fitting half and the canaries hold some 80 draws: 11 % of the deviation, 0.6 % of the mean
    assert found.weather.sd == pytest.approx(SD, rel=0.3)
    assert 0.3 * LASTING_S < found.weather.lasting_s < 3 * LASTING_S
    busy = np.full(3, 11.0)
    items, idle = np.array([64, 256, 700]), np.zeros(3, bool)
    ratio = found.expected(items, busy, idle) / truth.expected(items, busy, idle)
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    # one size is told by some seven stretches, each at a speed of its own: 2 % of it; three times that
    assert ratio == pytest.approx(np.ones(3), abs=0.06)


def test_at_the_measured_speed_the_predictions_meet_what_was_measured(folder, tmp_path):
    """And the rest of the path: scenario, pooled measurements, all ways to predict."""
    found = fit(folder, MODEL)
    (tmp_path / "m.yaml").write_text(scenario_text(found, "a test"))
    scenario = load_scenario(tmp_path / "m.yaml")
    chosen = [m for m in measured_runs(folder, MODEL) if (m.row["split"], m.row["load"]) == ("held-out", "0.7")]
    assert len(chosen) == 4
    for m in chosen:
        p = predict(scenario, found, m)
        row = p.within(0.0)
        wider = p.within(0.05)
        assert wider["range_p95_low_s"] < row["range_p95_low_s"]
        assert wider["range_p95_high_s"] > row["range_p95_high_s"]
        assert row["segments"] == 6
        assert row["p95_low_s"] <= row["p95_s"] <= row["p95_high_s"]
        assert row["range_p95_low_s"] <= row["replayed_p95_s"] <= row["range_p95_high_s"]
        assert row["covered"] > 0.9
        # some thousand queries: 0.7 % of the level, hence 2 % of the value; twice that, and 2 % of what S is off
        assert abs(error(row, "own_speed", "p95")) < 0.06
        assert abs(error(row, "own_speed", "mean")) < 0.03


def test_how_large_a_rest_is_comes_from_the_fitting_half_where_its_speed_is_known():
    def seen(split, covered, off):
        return Prediction(
            {"split": split, "covered": covered, "p95_s": 1.0, "own_speed_p95_s": np.exp(off)}, np.ones(1)
        )

    known = [seen("fit", 1.0, off) for off in (0.03, -0.04, 0.0, 0.0)]
    others = [seen("fit", 0.5, 2.0), seen("held-out", 1.0, 3.0)]
    assert unknown_of(known + others) == pytest.approx(0.025)
    assert unknown_of(known[:2] + others) == pytest.approx(np.sqrt((0.03**2 + 0.04**2 + 4) / 3))  # too few are known
    assert unknown_of(others[1:]) == 0


def test_runs_of_another_campaign_need_the_predictions_of_the_first(folder, tmp_path):
    with pytest.raises(InputError, match=rf"predicted\.csv: nothing of {MODEL}; run live-predict without --runs first"):
        predict_all(folder, [MODEL], tmp_path, runs=folder)
