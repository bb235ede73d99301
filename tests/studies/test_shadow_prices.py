from studies import shadow_prices
from studies.record import read_rows


def test_tables_in_the_documentation_are_those_of_the_committed_run():
    rows = read_rows(shadow_prices.CSV)
    assert shadow_prices.TABLE.read_text() == shadow_prices.table(rows)
    assert shadow_prices.RATES.read_text() == shadow_prices.rates(rows)
    assert shadow_prices.WARM.read_text() == shadow_prices.warm_start(rows)


def test_committed_run_has_every_scenario():
    rows = shadow_prices.scenarios(read_rows(shadow_prices.CSV))
    assert [(r["model"], r["target"], r["accelerator"]) for r in rows] == [c.key for c in shadow_prices.CASES]


def test_committed_run_bears_the_claim():
    shadow_prices.check(read_rows(shadow_prices.CSV))


def test_a_scenario_of_the_study_is_made_again():
    """Saturation alone binds in this one, so it takes no time."""
    case = next(c for c in shadow_prices.CASES if c.key == ("dlrm-rmc2", "high", "False"))
    committed = [r for r in read_rows(shadow_prices.CSV) if (r["model"], r["target"], r["accelerator"]) == case.key]
    for new, old in zip(shadow_prices.rows_of(case), committed, strict=True):
        assert new["resource"] == old["resource"]
        assert abs(new["price"] - float(old["price"])) <= 1e-3 * max(abs(new["price"]), 1e-3 * new["exact_qps"])
        assert str(new["agrees"]) == old["agrees"]
