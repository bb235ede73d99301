import numpy as np
import pytest

from recqueue.errors import InputError
from recqueue.io.tables import read_sizes, read_timestamps


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "table.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_one_size_per_line_and_weights_mean_the_same(write):
    one = read_sizes(write("size\n10\n30\n\n30 # again\n20\n"))
    two = read_sizes(write("items,weight\n10,1\n20,1\n30,2\n"))
    np.testing.assert_allclose(one.pmf, two.pmf)
    assert one.name == "table.csv"


def test_timestamps(write):
    np.testing.assert_allclose(read_timestamps(write("t_s\n0\n1e-3\n0.25\n")), [0, 0.001, 0.25])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no numbers"),
        ("# only a comment", "no numbers"),
        ("size\n", "no numbers"),
        ("1\ntwo\n", "line 2: 'two' is not a number"),
        ("1\nnan\n", "line 2: 'nan' is not finite"),
        ("1\n2,3\n", "line 2: 2 columns"),
        ("1,2,3\n", "line 1: 3 columns"),
        ("1\n0\n", "items 0"),
        ("1\n2.5\n3\n", "whole number"),
        ("1.5,1\n", "items 1.5"),
        ("5,1\n3,1\n", "5 is followed by 3"),
        ("5,-1\n", "0 or more"),
    ],
)
def test_unusable_size_files(write, text, says):
    with pytest.raises(InputError, match=says) as caught:
        read_sizes(write(text))
    assert "\n" not in str(caught.value)


def test_timestamps_take_one_column(write):
    with pytest.raises(InputError, match="one timestamp in seconds per line"):
        read_timestamps(write("1,2\n"))
