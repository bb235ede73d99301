"""``recqueue share`` and its files."""

import json

import pytest

from recqueue.errors import InputError
from recqueue.io import load_sharing

FILE = """
schema: 1
kind: sharing
server: {cpu: own, cores: 3}
models:
  - name: ranking
    qps: 100
    service: {cpu: {batch_size: [1, 64], latency_ms: [1, 5]}}
    sla: {latency_ms: 20}
  - model: filtering
    qps: 50
    service: {cpu: {batch_size: [1, 64], latency_ms: [2, 4]}}
    sla: {percentile: 99, latency_ms: 30}
    workload: {sizes: {distribution: fixed, items: 8}}
workload: {sizes: {distribution: fixed, items: 32}}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text(FILE)
    return path


def test_file_says_what_each_model_is(file):
    machine = load_sharing(file)
    assert [t.name for t in machine.tenants] == ["ranking", "filtering"]
    assert [t.demand_qps for t in machine.tenants] == [100, 50]
    assert [t.scenario.sizes.max_items for t in machine.tenants] == [32, 8]
    assert (machine.cores, machine.accelerators, machine.goal) == (3, 0, "scale")
    assert load_sharing("three-models").accelerators == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"goal": "most"}, "goal"),
        ({"server.cores": 1}, "server.cores 1 for 2 models"),
        ({"workload": None}, "models.1 workload: missing"),
        ({"kind": "fleet"}, "a sharing is needed"),
        ({"models": []}, "none given"),
    ],
)
def test_bad_files_are_one_line(file, change, message):
    with pytest.raises(InputError, match=message) as caught:
        load_sharing(file, overrides=change)
    assert "\n" not in str(caught.value)


def test_command_shows_and_records(recqueue_command, file, monkeypatch):
    monkeypatch.setattr("recqueue.optimize.verify._FIRST_QUERIES", 20_000)
    shown = recqueue_command("share", file, "--no-verify")
    assert shown.exit_code == 0
    for text in ("ranking", "filtering", "in proportion to the work", "no partition carries more"):
        assert text in shown.stdout
    record = json.loads(recqueue_command("share", file, "--json").stdout)
    assert record["kind"] == "share"
    assert sum(p["cores"] for p in record["parts"]) == 3
    assert {p["verification"]["verdict"] for p in record["parts"]} == {"pass"}
    assert record["scale"] == min(p["scale"] for p in record["parts"]) <= record["bound"]
    weighted = json.loads(recqueue_command("share", file, "--json", "--no-verify", "--set", "goal=rate").stdout)
    assert weighted["weighted_qps"] == pytest.approx(weighted["bound"])


def test_demands_that_do_not_fit_are_exit_code_1(recqueue_command, tmp_path):
    path = tmp_path / "much.yaml"
    path.write_text(FILE.replace("qps: 100", "qps: 1e5"))
    assert recqueue_command("share", path, "--no-verify").exit_code == 1
    refused = recqueue_command("optimize", path)
    assert refused.exit_code == 3
    assert "'recqueue share' takes it" in refused.stderr
