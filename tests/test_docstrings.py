"""Docstrings say what a reader of formulas needs; importing a module without one fails here."""

import importlib
import inspect
import pkgutil

import pytest

import recqueue
import recqueue.queueing

MODULES = [m.name for m in pkgutil.walk_packages(recqueue.__path__, "recqueue.") if not m.name.endswith("__main__")]
QUEUEING = [m.name for m in pkgutil.iter_modules(recqueue.queueing.__path__, "recqueue.queueing.")]


def public(module: str):
    """Classes and functions that a module defines for others."""
    home = importlib.import_module(module)
    return [
        value
        for name, value in vars(home).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module
    ]


def test_walk_finds_the_packages():
    assert {"recqueue.serving.policy", "recqueue.queueing.mxdk", "recqueue.cli.app"} <= set(MODULES)
    assert len(QUEUEING) >= 4


@pytest.mark.parametrize("module", MODULES)
def test_public_things_have_one_line_of_meaning(module):
    assert (importlib.import_module(module).__doc__ or "").strip()
    for thing in public(module):
        first = (inspect.getdoc(thing) or "").partition("\n")[0]
        assert first, f"{module}.{thing.__name__} has no docstring"
        assert not first.startswith(f"{thing.__name__}("), f"{module}.{thing.__name__} has no docstring of its own"


@pytest.mark.parametrize("module", QUEUEING)
def test_solvers_name_their_source_and_what_they_raise(module):
    for thing in public(module):
        text = inspect.getdoc(thing) or ""
        if not inspect.isfunction(thing) or "Raises" not in text:
            continue
        for section in ("References",) if "Parameters" not in text else ("Parameters", "Returns", "References"):
            assert f"\n{section}\n---" in text, f"{module}.{thing.__name__}: no section {section}"
