"""The page on the GPU shows what the benchmark's record holds."""

import json

import pytest

from benchmarks import gpu_table


def record():
    """A record as the benchmark writes it, with figures that no machine gave."""
    row = {
        "group": "grid", "label": "40 cores, batch 64, cv 0", "runs": 100_000, "per_s": 2.5e9, "per_s_wall": 2e9,
        "kernel_s": [1.0, 1.1], "registers": 70, "state": "shared", "block": 32, "warps_per_multiprocessor": 20.0,
        "bound": {"busy_lanes": 0.4, "warp_instructions": 4.0, "histogram_bytes": 13.0},
    }  # fmt: skip
    check = {"scenarios": 30, "comparisons": 120, "limit_standard_errors": 4.7, "largest_standard_errors": 2.0}
    check |= {"share_of_means_within_95_percent": 0.95, "median_relative_difference": 0.002, "failed": []}
    check |= {"median_relative_interval": 0.006, "largest_utilization_difference": 0.001}
    machine = {"device": "Imaginary", "multiprocessors": 100, "cupy": "0", "copy_bytes_per_s": 4e12}
    return {
        "command": "python -m benchmarks.gpu", "rows": [row], "skipped": ["runs: one"], "check": check,
        "machine": machine | {"nvidia_smi": "Imaginary, 0, 300 MHz, 1000 MHz"}, "cpu": {"cores": 16, "per_s": 1e8},
        "same_numbers": {"a": {"largest_relative_difference_of_a_mean": 1e-7, "same_sub_requests": True}},
        "profile": {
            "kernels": {"rq_constant": {"smsp__inst_executed.sum": "7 inst"}},
            "sub_requests": ["sub-requests constant 1234"],
        },
    }  # fmt: skip


def test_page_is_what_the_record_renders_to():
    assert gpu_table.TARGET.read_text() == gpu_table.render()


def test_rendering_shows_the_record(monkeypatch, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(record()))
    monkeypatch.setattr(gpu_table, "RESULTS", path)
    text = gpu_table.render()
    # 100 multiprocessors x 4 instructions x 1 GHz over 4 each is 100e9; 4e12 bytes over 13 is 308e9: 2.5 % of the lower
    for shown in (
        "none differs",
        "2.5 · 10⁹",
        "- 100\n",
        "- 308\n",
        "- 2%\n",
        "- 7 inst",
        "1,234",
        "Left out",
        "Imaginary",
    ):
        assert shown in text, shown


def test_a_failed_check_is_said_aloud(monkeypatch, tmp_path):
    bad = record()
    bad["check"]["failed"] = [{}]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(bad))
    monkeypatch.setattr(gpu_table, "RESULTS", path)
    assert "1 DIFFER" in gpu_table.render()


def test_without_a_record_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_table, "RESULTS", tmp_path / "missing.json")
    assert "Not measured yet" in gpu_table.render()


@pytest.mark.parametrize("missing", ["nvidia_smi"])
def test_a_machine_that_hides_its_clock(monkeypatch, tmp_path, missing):
    hidden = record()
    del hidden["machine"][missing]
    hidden["profile"] = {"skipped": "no ncu"}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(hidden))
    monkeypatch.setattr(gpu_table, "RESULTS", path)
    assert "could not be read" in gpu_table.render()
    assert "no ncu" in gpu_table.render()
