"""The committed predictions of the live server, and what the page says of them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from calibration.judge import crossing, parts, summary
from studies import live_server as study
from studies.record import DOCS


@pytest.fixture(scope="module")
def every():
    return study.rows()


def test_the_parts_of_a_miss_make_the_whole(every):
    for row in every:
        whole = float(row["formula_p95_s"]) / float(row["p95_s"])
        assert np.prod([1 + x for x in parts(row).values()]) == pytest.approx(whole, rel=1e-4)


def test_with_the_speed_of_the_run_the_medians_are_within_the_targets_and_without_they_are_not(every):
    """What the page says; the numbers are of committed runs, so there is nothing to tolerate."""
    held = study.held_out(every)
    assert len(held) == 150
    found = summary(held)
    assert found["own_speed"]["mean"]["median"] <= 0.04
    assert found["own_speed"]["p95"]["median"] <= 0.05
    assert found["formula"]["p95"]["median"] > 0.05  # the page says that this target is missed
    known = summary([r for r in held if float(r["covered"]) >= study.WHOLE])["own_speed"]
    assert (known["p95"]["median"] <= 0.05, known["p95"]["p90"] <= 0.12, known["mean"]["median"] <= 0.04) == (True,) * 3
    assert np.median([abs(parts(r)["formula"]) for r in held]) < 0.02


def test_tables_are_those_of_the_predictions(every):
    choices = study.kept_choices(json.loads(study.RECORD.read_text())["choices"])
    for kept, again in zip(choices[-3:], study.all_choices([r for r in every if r["model"] == "din"]), strict=True):
        assert again.errors == pytest.approx(kept.errors, abs=2e-4)  # a largest rate is found to 1e-4
        assert replace(again, errors=()) == replace(kept, errors=())
    assert min(c.carried for c in choices) >= study.CARRIED
    for name, text in study.tables(every, choices).items():
        assert (DOCS / "studies" / f"live_server_{name}.inc").read_text() == text, name


def test_a_crossing_lies_between_measured_rates():
    assert crossing([1, 2, 3], [1.0, 2.0, 6.0], 4.0) == (2.5, True)
    assert crossing([3, 1, 2], [6.0, 1.0, 2.0], 7.0) == (3.0, False)
    assert crossing([1, 2], [5.0, 6.0], 4.0) == (0.0, True)
    assert crossing([1, 2, 3], [1.0, 3.0, 2.0], 2.5) == (1.75, True)  # less at a higher rate is chance
