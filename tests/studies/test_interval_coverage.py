import csv
import json

from studies import coverage, robustness
from studies.record import RESULTS


def test_table_in_the_documentation_is_that_of_the_committed_run():
    rows = coverage.read()
    assert coverage.TABLE.read_text() == coverage.text(rows)
    assert len(rows) == len(coverage.MODELS) * len(coverage.LOADS) * len(coverage.KINDS)


def test_committed_coverage_is_what_is_claimed():
    rows = coverage.read()
    assert all(int(r["runs"]) == 500 for r in rows)
    for r in rows:
        if r["kind"] == "until decided":
            # nominally 5 %: missed, because the intervals hold the truth in 92 to 98 % of runs only, which is the claim
            assert float(r["decided"]) <= 0.08
        elif r["kind"] == "fixed length":
            assert 0.92 <= float(r["held_p95"]) <= 0.98
        else:  # several looks at one interval each: wider than 95 % at the end, so that it holds at least as often
            assert 0.92 <= float(r["held_p95"]) <= 1


def test_ten_thousand_random_scenarios_were_run():
    with robustness.CSV.open(newline="") as f:
        rows = list(csv.DictReader(f))
    record = json.loads((RESULTS / "robustness.json").read_text())
    assert sum(int(r["scenarios"]) for r in rows) == record["scenarios"] >= 10_000
    assert [int(r["chunk"]) for r in rows] == list(range(len(rows)))
    assert record["violations"] == 0
