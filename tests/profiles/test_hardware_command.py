import json

import pytest
from click.testing import CliRunner

from recqueue import profiles
from recqueue.cli.hardware import hardware
from recqueue.errors import InputError


def run(*arguments):
    return CliRunner().invoke(hardware, list(arguments), catch_exceptions=False).output


def test_the_list_names_every_device_and_its_provenances():
    text = run()
    for name in profiles.hardware_names():
        assert name in text
    listed = json.loads(run("--json"))["hardware"]
    assert {h["name"]: h["profiles"] for h in listed}["t4"]["ncf"] == "published"


@pytest.mark.parametrize("name", profiles.hardware_names())
def test_details_show_power_profiles_and_sources(name):
    text = run(name)
    device = profiles.hardware(name)
    assert device.power_source in text
    answer = json.loads(run(name, "--json"))
    assert answer["kind"] == "hardware"
    (record,) = answer["hardware"]
    assert record["kind"] == device.kind
    assert record["profiles"]
    for model, p in record["profiles"].items():
        assert model in text
        assert p["latency_s"] == list(profiles.load(model, name).service.seconds)


def test_an_unknown_device_is_bad_input():
    with pytest.raises(InputError, match="unknown hardware 'abacus'"):
        run("abacus")
