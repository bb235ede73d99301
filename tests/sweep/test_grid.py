import pytest

from recqueue.errors import InputError
from recqueue.sweep import axis
from recqueue.sweep.grid import Axis, size


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1..4", (1, 2, 3, 4)),
        ("1..1024:log2", tuple(2**i for i in range(11))),
        ("3..50:log2", (3, 6, 12, 24, 48)),
        ("0.5..700:log10", (0.5, 5.0, 50.0, 500.0)),
        ("0..1:+0.25", (0.0, 0.25, 0.5, 0.75, 1.0)),
        ("0..0.3:+0.1", (0.0, 0.1, 0.2, 0.30000000000000004)),
        ("10..20:lin3", (10.0, 15.0, 20.0)),
        ("1..100:geom3", (1.0, 10.0, 100.0)),
    ],
)
def test_ranges(text, values):
    assert axis("qps", text).values == pytest.approx(values, rel=1e-12)


def test_whole_keys_are_rounded_and_kept_once():
    found = axis("policy.batch_size", "1..10:geom8", whole=True).values
    assert found == (1, 2, 3, 4, 5, 7, 10)
    assert all(isinstance(v, int) for v in found)


def test_lists_mix_values_and_ranges():
    assert axis("policy.offload_threshold", [None, "100..300:+100"]).values == (None, 100, 200, 300)
    assert axis("accelerator", [None, {"device": "h200"}]).values == (None, {"device": "h200"})


@pytest.mark.parametrize("text", ["5..1", "1..8:log3", "0..8:log2", "1..8:lin1", "1..8:+0", "a..b", "1..1e12"])
def test_a_bad_range_is_one_line_with_the_forms(text):
    with pytest.raises(InputError, match=r"^qps: ") as error:
        axis("qps", text)
    assert "\n" not in str(error.value)


def test_values_are_given_once_and_keys_do_not_hold_each_other():
    with pytest.raises(InputError, match="given twice"):
        Axis("qps", (1, 1))
    with pytest.raises(InputError, match="one holds the other"):
        size([Axis("accelerator", (None,)), Axis("accelerator.count", (1, 2))])
    with pytest.raises(InputError, match="varied twice"):
        size([Axis("qps", (1,)), Axis("qps", (2,))])
    assert size([Axis("policy.batch_size", (1, 2, 3)), Axis("policy.offload_threshold", (None, 4))]) == 6
    with pytest.raises(InputError, match="at most"):
        size([Axis("a", tuple(range(20_000))), Axis("b", tuple(range(20_000)))])
