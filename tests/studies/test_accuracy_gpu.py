"""Two files of reference simulations are compared scenario by scenario."""

import csv

import pytest

from studies.accuracy_gpu import QUANTITIES, compare


def write(path, rows):
    with path.open("w", newline="") as text:
        writer = csv.DictWriter(
            text, ["index", "qps", "queries", *(f"{q}{x}_s" for q in QUANTITIES for x in ("", "_half"))]
        )
        writer.writeheader()
        for index, qps, queries, value, half in rows:
            row = {"index": index, "qps": qps, "queries": queries}
            writer.writerow(row | {f"{q}_s": value for q in QUANTITIES} | {f"{q}_half_s": half for q in QUANTITIES})


def test_rounds_are_weighted_and_other_scenarios_left_out(tmp_path):
    write(tmp_path / "a", [(0, 10, 100, 1.10, 0.0196), (1, 20, 100, 9.0, 0.1), (2, 30, 100, 9.0, 0.1)])
    # scenario 0 in two rounds of 1 and 3 parts: 1.0 with a standard error of hypot(0.25 * 0.04, 0.75 * 0.04)
    write(tmp_path / "b", [(0, 10, 100, 1.3, 0.0784), (0, 10, 300, 0.9, 0.0784), (1, 21, 100, 1.0, 0.1)])
    apart = compare(tmp_path / "a", tmp_path / "b")
    relative, errors = apart["mean"]
    assert relative == pytest.approx([0.1])  # scenario 1 has another rate, scenario 2 is in one file alone
    assert errors == pytest.approx([0.1 / (0.01**2 + 0.01**2 + 0.03**2) ** 0.5])
    assert 0 < apart["p95"][1][0] < errors[0], "a bin's width is allowed"
