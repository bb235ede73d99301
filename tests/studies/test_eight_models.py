from recqueue.io import packaged_scenarios
from studies import accuracy_table, eight_models


def test_table_in_the_documentation_is_that_of_the_committed_run():
    assert eight_models.TABLE.read_text() == eight_models.text(accuracy_table.read(eight_models.CSV))


def test_committed_run_has_every_model_with_and_without_accelerator():
    rows = accuracy_table.read(eight_models.CSV)
    assert [(r["model"], r["accelerator"]) for r in rows] == [
        (m, a) for m in packaged_scenarios() for a in ("True", "False")
    ]


def test_committed_run_bears_the_claim():
    eight_models.check(accuracy_table.read(eight_models.CSV))
