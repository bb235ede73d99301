"""The benchmark of fleets: its table is made from its committed result, and it measures what it says."""

import json

import pytest

from benchmarks import fleets


def test_table_of_the_documentation_is_that_of_the_committed_result():
    record = json.loads(fleets.RESULT.read_text(encoding="utf-8"))
    assert fleets.TABLE.read_text(encoding="utf-8") == fleets.table(record)
    assert [row["name"].startswith("one machine") for row in record["rows"]] == [True] + [False] * len(fleets.ROUTERS)


def test_it_simulates_as_many_queries_as_it_says():
    for name, call in fleets.tasks(4000).items():
        sub_requests, queries = call()
        assert queries == pytest.approx(4000, rel=0.08), name  # a Poisson number: standard error 1.6 %
        # 4.7 sub-requests in the mean query, and the hour of warm-up of a fleet
        assert 4.5 < sub_requests / queries < 5.5, name
