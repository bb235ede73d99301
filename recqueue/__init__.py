"""Queueing models and optimization for neural recommendation inference."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recqueue.analysis import evaluate, max_rate
    from recqueue.io import load_scenario
    from recqueue.optimize import optimize
    from recqueue.simulate import simulate

__all__ = ["evaluate", "load_scenario", "max_rate", "optimize", "simulate"]

_HOME = {"evaluate": "analysis", "load_scenario": "io", "max_rate": "analysis"}
_CALLABLE = ("optimize", "simulate")


class _CallableModule(ModuleType):
    """A subpackage that can be called like the function of its own name inside it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Package(ModuleType):
    """Let ``recqueue.simulate`` be the subpackage and the function, whichever was imported first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLABLE and isinstance(value, ModuleType):
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _CALLABLE:
        return import_module(f"recqueue.{name}")
    if name in _HOME:
        return getattr(import_module(f"recqueue.{_HOME[name]}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("recqueue")
    raise AttributeError(f"module 'recqueue' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
