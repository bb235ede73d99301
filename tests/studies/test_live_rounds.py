"""The committed predictions of the servers measured in rounds, and what the page says of them."""

import json

import numpy as np
import pytest

from calibration.judge import as_simulated, in_interval, parts, summary
from studies import live_rounds, live_server
from studies.record import DOCS

NAMES = tuple(live_rounds.MACHINES)


@pytest.fixture(scope="module")
def every():
    return {name: machine.rows for name, machine in live_rounds.MACHINES.items()}


@pytest.fixture(scope="module")
def kept():
    return json.loads(live_rounds.RECORD.read_text())["machines"]


@pytest.mark.parametrize(("name", "runs"), [("h200", 48), ("2c", 24)])
def test_at_the_measured_speed_all_targets_are_met_and_without_it_those_for_p95_are_not(every, name, runs):
    """What the page says; the numbers are of committed runs, so there is nothing to tolerate."""
    held = live_server.held_out(every[name])
    assert len(held) == runs
    found = summary(held)
    for quantity, statistic, limit in live_server.TARGETS:
        assert found["own_speed"][quantity][statistic] <= limit
        if quantity == "p95":
            assert found["formula"][quantity][statistic] > limit
    assert np.quantile([abs(parts(r)["rest"]) for r in held], 0.9) == pytest.approx(found["own_speed"]["p95"]["p90"])


def test_the_formula_is_what_an_endless_simulation_is(every):
    """Its intervals hold the truth in 95 % of cases; 44 of 48 or fewer come by chance in one case of five."""
    held = live_server.held_out(every["h200"])
    assert sum(map(as_simulated, held)) >= 44
    low = [abs(parts(r)["formula"]) for r in held if float(r["load"]) <= live_server.MODERATE]
    assert max(low) < 0.03


def test_up_to_moderate_loads_the_misses_are_within_what_was_measured(every):
    held = [r for r in live_server.held_out(every["h200"]) if float(r["load"]) <= live_server.MODERATE]
    assert sum(in_interval(r, "formula") for r in held) >= 0.85 * len(held)


def test_the_largest_rates_are_within_the_target(kept):
    sizes = np.abs([e for c in kept["h200"]["choices"] for e in c["errors"]])
    assert len(sizes) > 20
    assert np.median(sizes) <= live_server.CAPACITY


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_those_of_the_predictions(every, kept, name):
    machine, choices = live_rounds.MACHINES[name], live_server.kept_choices(kept[name]["choices"])
    assert min(c.carried for c in choices) >= live_server.CARRIED
    model = choices[0].model
    again = live_server.all_choices([r for r in every[name] if r["model"] == model], machine.folder)
    for old, found in zip(choices[:3], again, strict=True):
        assert found.picked == old.picked
        assert found.errors == pytest.approx(old.errors, abs=2e-4)  # a largest rate is found to 1e-4
    for table, text in live_rounds.tables(machine, every[name], choices).items():
        assert (DOCS / "studies" / f"live_rounds_{name}_{table}.inc").read_text() == text, table
