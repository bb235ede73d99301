import numpy as np

from benchmarks.plan import checked, synthetic, table
from recqueue.optimize.plan_solve import solve


def test_a_small_week_is_planned_to_the_gap_that_is_claimed():
    instance = synthetic(models=120, types=4, hours=3)
    assert instance.qps.size == 960
    found = checked(instance, solve(instance, gap=1e-3, time_limit_s=60))
    assert found.status == "solved"
    assert found.gap <= 1e-3
    assert np.any(instance.on_of_type(found.counts) == instance.stock[:, None])  # the stock matters
    again = synthetic(models=120, types=4, hours=3)
    assert np.array_equal(again.demand_qps, instance.demand_qps)


def test_rows_without_an_answer_say_so():
    rows = [
        {"name": "a", "choices": 1200, "seconds": 0.123, "gap": 0.00123},
        {"name": "b", "choices": None, "seconds": 31.2, "gap": None},
        {"name": "c", "choices": 1, "seconds": 1.0, "gap": np.inf},
    ]
    text = table({"processor": "p", "cores": 2, "scipy": "1", "rows": rows})
    for cell in ("- 1,200\n", "- 0.12\n", "- 0.123 %\n", "- 31\n", "- no answer\n"):
        assert cell in text
