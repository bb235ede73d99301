import doctest
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from recqueue.errors import InputError, OutOfValidityError, UnstableQueueError
from recqueue.queueing import model, models
from recqueue.queueing.registry import Validity, finite_or_raise, register

DOCS = Path(__file__).parents[2] / "docs"
KEYS = set(re.findall(r"^@\w+\{(\w+),", (DOCS / "references.bib").read_text(), re.MULTILINE))


def test_the_exact_models_are_there():
    names = {m.name for m in models() if m.exact}
    assert {"M/M/1", "M/M/k", "M/G/1", "M/D/k", "M^X/M/k", "M^X/D/k", "M/PH/k", "MAP/PH/k", "GI/M/k"} <= names
    assert not model("M/G/k").exact


@pytest.mark.parametrize("record", models(), ids=lambda m: m.name)
def test_every_model_is_documented_and_its_example_runs(record):
    assert set(record.reference) <= KEYS
    page = (DOCS / f"{record.docs}.rst").read_text()
    assert record.function.__name__ in page, f"{record.docs}.rst does not name the function that computes {record.name}"
    assert record.returns
    assert record.special_case
    assert record.valid.ranges
    assert all(low <= high for low, high in record.valid.ranges.values())
    text = inspect.getdoc(record.function) or ""
    for section in ("Parameters", "Returns", "Raises", "References", "Examples"):
        assert f"\n{section}\n---" in text, f"{record.name}: docstring without {section}"
    for key in record.reference:
        assert key in text, f"{record.name}: docstring does not cite {key}"
    names = list(inspect.signature(record.function).parameters)
    assert names[0] in {"arrival_rate", "gap", "arrivals", "gaps", "times_s", "stages"}, (
        f"{record.name}: first comes the arrival process"
    )
    globals_ = dict(inspect.getmodule(record.function).__dict__)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    tests = doctest.DocTestFinder(recurse=False).find(record.function, record.name, globs=globals_)
    assert sum(len(t.examples) for t in tests) > 0
    for test in tests:
        assert runner.run(test).failed == 0


def test_names_are_unique_and_unknown_ones_refused():
    valid = Validity({"servers": (1, 10)})
    facts = {"exact": True, "returns": "-", "valid": valid, "reference": ("tijms2003first",)}
    facts |= {"docs": "theory/index", "special_case": "-"}
    taken = models()[0].name
    with pytest.raises(InputError, match="already registered by"):
        register(taken, **facts)(test_names_are_unique_and_unknown_ones_refused)
    with pytest.raises(InputError, match="no reference"):
        register("M/test/2", **{**facts, "reference": ()})
    with pytest.raises(InputError, match="there are"):
        model("M/X/7")


def test_validity_names_the_range():
    valid = Validity({"servers": (1, 10), "service_scv": (0, 20)})
    valid.check("M/G/k", servers=10, service_scv=0.0)
    assert valid.contains(servers=3)
    assert not valid.contains(servers=11)
    with pytest.raises(OutOfValidityError, match=r"M/G/k: service scv is 25; the model holds from 0 to 20"):
        valid.check("M/G/k", servers=1, service_scv=25)


def test_scalars_raise_and_arrays_mark_where_unstable():
    assert finite_or_raise(2.0, 0.5, "M/M/k") == 2.0
    assert finite_or_raise(np.array([1.0, -3.0]), [0.5, 1.0], "M/M/k") == pytest.approx([1.0, np.inf])
    with pytest.raises(UnstableQueueError, match=r"M/M/k: utilization 1\.2"):
        finite_or_raise(2.0, 1.2, "M/M/k")
