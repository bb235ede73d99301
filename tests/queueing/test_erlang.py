from fractions import Fraction
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recqueue.errors import InputError, UnstableQueueError
from recqueue.queueing.erlang import erlang_b, erlang_c, mmk


def textbook_erlang(servers, load):
    """(B, C) by the sums of the textbook, in exact rational arithmetic."""
    a = Fraction(load)
    terms = [a**j / factorial(j) for j in range(servers + 1)]
    waiting = terms[-1] * servers / (servers - a)
    return terms[-1] / sum(terms), waiting / (sum(terms[:-1]) + waiting)


@pytest.mark.parametrize("servers", [1, 2, 7, 40, 150])
@pytest.mark.parametrize("rho", [0.01, 0.5, 0.96875])
def test_erlang_against_the_exact_sums(servers, rho):
    b, c = textbook_erlang(servers, Fraction(rho) * servers)
    # one rounding of 1.1e-16 or so in each step of the recursion, damped from step to step
    assert erlang_b(servers, rho * servers) == pytest.approx(float(b), rel=1e-13)
    # 1 - rho (1 - B) cancels at most two digits here
    assert erlang_c(servers, rho * servers) == pytest.approx(float(c), rel=1e-11)


@given(servers=st.integers(1, 200), rho=st.floats(1e-3, 0.999))
def test_erlang_identities(servers, rho):
    load = rho * servers
    b, c = erlang_b(servers, load), erlang_c(servers, load)
    assert 0 <= b <= c <= 1
    if servers > 1:
        before = erlang_b(servers - 1, load)
        assert b * (servers + load * before) == pytest.approx(load * before, rel=1e-12)
        # 1/C = 1 + (1 - rho) (1 - B) / B links the two without going through the sum
        if b > 1e-200:
            assert 1 / c == pytest.approx(1 + (1 - rho) * (1 - b) / b, rel=1e-9)
    assert erlang_c(1, rho) == pytest.approx(rho, rel=1e-12)


def test_erlang_c_near_saturation_and_beyond():
    assert erlang_c(16, 16 * (1 - 1e-9)) == pytest.approx(1, abs=1e-6)
    with pytest.raises(UnstableQueueError, match=r"Erlang C: utilization 1;"):
        erlang_c(16, 16.0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0.0, 1.0, 2), r"M/M/k: arrival_rate 0\.0; it must be above 0"),
        ((1.0, float("nan"), 2), "M/M/k: mean_service_s nan; it must be above 0"),
        ((1.0, 1.0, 0), "M/M/k: servers 0; it must be a whole number of 1 or more"),
        ((1.0, 1.0, 2.5), r"M/M/k: servers 2\.5; it must be a whole number of 1 or more"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_number(arguments, says):
    with pytest.raises(InputError, match=says):
        mmk(*arguments)
