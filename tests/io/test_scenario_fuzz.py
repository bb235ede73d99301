"""Whatever a scenario file holds, the answer is a scenario or one line."""

import warnings

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from recqueue.errors import InputError, OutsideMeasuredRangeWarning
from recqueue.io import scenario_from_mapping, template
from recqueue.serving import Scenario

WHOLE = yaml.safe_load(template()) | {
    "service": {
        "cpu": {"batch_size": [1, 64], "latency_ms": [0.2, 2.0], "cv": 0.1},
        "accelerator": {"batch_size": [1, 1024], "latency_ms": [0.4, 0.5]},
    }
}


def paths(value, so_far=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*so_far, key)
            yield from paths(inner, (*so_far, key))


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**20),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(-2, 5000), st.floats(), st.none()), max_size=4),
    st.dictionaries(st.text(max_size=6), st.integers(), max_size=2),
    st.sampled_from(
        [
            "none",
            "measured",
            "low",
            "ncf",
            "h200",
            {"distribution": "fixed", "items": 8},
            {"process": "trace", "file": ""},
        ]
    ),
)


@given(path=st.sampled_from(list(paths(WHOLE))), value=ODD)
@settings(max_examples=400)
def test_any_value_anywhere_gives_a_scenario_or_one_line(path, value):
    document = yaml.safe_load(yaml.safe_dump(WHOLE))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideMeasuredRangeWarning)
        try:
            found = scenario_from_mapping(document, where="here")
        except InputError as error:
            line = str(error)
        else:
            assert isinstance(found, Scenario)
            return
    assert line.startswith("here: ")
    assert len(line.splitlines()) == 1
    assert len(line) < 400
