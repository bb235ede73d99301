import json
import subprocess
import sys

import numpy as np
import pytest

from recqueue import models, profiles
from recqueue.errors import InputError, OutsideMeasuredRangeWarning

PAIRS = profiles.available()


def test_every_model_has_a_profile_where_the_packaged_scenarios_need_one():
    found = {(m, h) for m, h, _ in PAIRS}
    assert {(m, h) for m in models.names() for h in ("xeon-16c", "h200", "epyc-2c")} <= found
    assert {h for m, h, p in PAIRS if p == "published"} == {"c5n-2xlarge", "t4"}


@pytest.mark.parametrize(("model", "hardware", "provenance"), PAIRS, ids=lambda x: x)
def test_a_packaged_profile_is_usable_and_says_where_it_comes_from(model, hardware, provenance):
    p = profiles.load(model, hardware)
    assert (p.model, p.hardware, p.provenance) == (model, hardware, provenance)
    assert model in models.names()
    assert p.service.provenance == p.tight.provenance == provenance
    assert "python -m calibration" in p.source
    for curve in (p.service, p.tight, *p.fused.values()):
        if profiles.hardware(hardware).kind == "cpu":
            assert np.all(np.diff(curve.seconds) >= 0)  # more items never take less time on a core
        assert curve.seconds[0] < curve.seconds[-1] * 1.001
    # 1 us: no model answers faster; 10 s: none is that slow at 2048 items
    assert 1e-6 < p.service.seconds[0] <= p.service.seconds[-1] < 10
    assert 0 <= p.service.cv < 1
    assert 0 <= p.dispatch_overhead_s < 1e-3
    assert p.contention.busy[-1] <= profiles.hardware(hardware).cores
    if provenance == "measured":
        assert p.service.measured_range == (1, 2048)
        assert p.leave_one_out is not None
        assert p.leave_one_out < 0.05  # the target
        # the operators make up the whole; what remains is the interpreter between them and the clock around each
        assert 0.8 < p.gaps["operators_over_end_to_end"] < 1.25
        assert {o.name for o in p.operators} == {
            op.role for op in models.get(model).operators if op.kind != "dense input"
        }


def test_a_fused_launch_takes_longer_than_one_query_but_less_than_all_one_by_one():
    for model, hardware, _ in PAIRS:
        p = profiles.load(model, hardware)
        for queries, curve in p.fused.items():
            at_64 = p.tight.seconds_at(64)
            assert at_64 < curve.seconds_at(64) < queries * at_64


def test_reading_beyond_the_measured_range_warns_with_the_range():
    with pytest.warns(OutsideMeasuredRangeWarning, match=r"10\.\.1000"):
        profiles.load("ncf", "t4").service.seconds_at(4)


def test_unknown_names_list_what_exists():
    with pytest.raises(InputError, match=r"no profile of model 'bert'.*dlrm-rmc1"):
        profiles.load("bert", "xeon-16c")
    with pytest.raises(InputError, match=r"'din' on hardware 't4'.*xeon-16c"):
        profiles.load("din", "t4")
    with pytest.raises(InputError, match=r"unknown hardware 'xeon'; known: .*xeon-16c"):
        profiles.load("din", "xeon")
    with pytest.raises(InputError, match="unknown hardware 'cray'; known: "):
        profiles.hardware("cray")


def test_hardware_records_are_complete():
    for name in profiles.hardware_names():
        h = profiles.hardware(name)
        assert h.cores >= 1
        assert h.memory_bytes > 1e9
        assert h.bandwidth_bytes_per_s > 1e9
        assert 0 < h.idle_w < h.busy_w
        assert h.source
        assert h.power_source


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema": 2}, "schema 2"), ({"service": None}, "missing or malformed"), ({"tight": {"items": []}}, "seconds")],
)
def test_a_malformed_profile_is_one_clear_line(change, message):
    curve = {"items": [1, 2], "seconds": [1e-3, 2e-3]}
    names = {"model": "m", "hardware": "h", "provenance": "measured", "source": "s"}
    good = {"schema": 1, **names, "service": curve, "tight": curve}
    assert profiles.profile_from_json(json.dumps(good)).service.seconds == (1e-3, 2e-3)
    with pytest.raises(InputError, match=message):
        profiles.profile_from_json(json.dumps(good | change))
    with pytest.raises(InputError, match="not JSON"):
        profiles.profile_from_json("{")


def test_loading_a_profile_imports_nothing_heavy():
    code = (
        "import sys; from recqueue import profiles; profiles.load('din', 'xeon-16c'); profiles.available();"
        "print([m for m in ('torch', 'sympy', 'networkx', 'scipy', 'yaml', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
