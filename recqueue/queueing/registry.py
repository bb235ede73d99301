"""Which queueing models there are: exact or not, what each returns, where it is valid, where it comes from."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from recqueue.errors import InputError, OutOfValidityError, UnstableQueueError

Function = TypeVar("Function", bound=Callable[..., Any])
_RECORDS: dict[str, Model] = {}


@dataclass(frozen=True)
class Validity:
    """Ranges, ends included, in which a model's numbers hold: ``Validity({"servers": (1, 1000)})``."""

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def check(self, model: str, **values: float) -> None:
        """Raise OutOfValidityError, with name, value and range, when one of ``values`` lies outside its range."""
        for name, value in values.items():
            low, high = self.ranges[name]
            # a rounding error of the caller's arithmetic is no reason to refuse
            if not low * (1 - 1e-12) <= value <= high * (1 + 1e-12):
                raise OutOfValidityError(
                    f"{model}: {name.replace('_', ' ')} is {value:.6g}; the model holds from {low:g} to {high:g}"
                )

    def contains(self, **values: float) -> bool:
        """Whether all values lie in their ranges."""
        return all(self.ranges[name][0] <= value <= self.ranges[name][1] for name, value in values.items())


@dataclass(frozen=True, kw_only=True)
class Model:
    """One entry of the registry.

    Attributes
    ----------
    name : str
        Kendall notation, ``M/G/1``; a variant in brackets, ``M/G/k (Kimura)``.
    function : callable
        ``function(arrival, service, servers, ...)``: arrival a rate per second (or a gap law, or a MAP), service a
        time or law, servers a whole number; models of one server have no third argument.
    exact : bool
        Whether the answer is exact up to the numerical error that comes with it.
    returns : str
        What it returns, in words.
    valid : Validity
        Where; checked by the function.
    reference : tuple of str
        Keys in docs/references.bib.
    docs : str
        Page of the documentation that explains it, ``theory/one-server``.
    special_case : str
        The limit or identity with a known answer that its tests check, in words.
    """

    name: str
    function: Callable[..., Any]
    exact: bool
    returns: str
    valid: Validity
    reference: tuple[str, ...]
    docs: str
    special_case: str


def register(
    name: str,
    *,
    exact: bool,
    returns: str,
    valid: Validity,
    reference: tuple[str, ...],
    docs: str,
    special_case: str,
) -> Callable[[Function], Function]:
    """Decorator that enters a function in the registry and leaves it as it is; arguments as in :class:`Model`.

    A name that another function has, or a missing reference, is an InputError.
    """
    if not reference:
        raise InputError(f"model {name}: no reference")

    def enter(function: Function) -> Function:
        known = _RECORDS.get(name)
        if known is not None and (known.function.__module__, known.function.__qualname__) != (
            function.__module__,
            function.__qualname__,
        ):
            raise InputError(
                f"model {name}: already registered by {known.function.__module__}.{known.function.__qualname__}"
            )
        _RECORDS[name] = Model(
            name=name,
            function=function,
            exact=exact,
            returns=returns,
            valid=valid,
            reference=reference,
            docs=docs,
            special_case=special_case,
        )
        return function

    return enter


def models() -> tuple[Model, ...]:
    """All registered models, by name."""
    home = importlib.import_module("recqueue.queueing")
    for module in pkgutil.iter_modules(home.__path__, "recqueue.queueing."):
        importlib.import_module(module.name)
    return tuple(_RECORDS[name] for name in sorted(_RECORDS))


def model(name: str) -> Model:
    """The model of that name, as listed by :func:`models`; an InputError lists the names there are."""
    known = {m.name: m for m in models()}
    if name not in known:
        raise InputError(f"model {name!r} is not known; there are {', '.join(known)}")
    return known[name]


def finite_or_raise(values: Any, utilization: Any, what: str) -> Any:
    """``values`` where the utilization is below 1: arrays get inf elsewhere, a scalar raises UnstableQueueError.

    ``values`` and ``utilization`` broadcast; the answer is a float when both are scalars. ``what`` begins the message.
    """
    values, rho = np.broadcast_arrays(np.asarray(values, dtype=float), np.asarray(utilization, dtype=float))
    if values.ndim == 0:
        require_stable(float(rho), what)
        return float(values)
    return np.where(rho < 1, values, np.inf)


def require_positive(what: str, servers: float = 1, **values: float) -> None:
    """Raise InputError, with the number, for a value not above 0 or servers that are no whole number of 1 or more."""
    for name, value in values.items():
        if not value > 0:
            raise InputError(f"{what}: {name} {value}; it must be above 0")
    if not servers >= 1 or servers != int(servers):
        raise InputError(f"{what}: servers {servers}; it must be a whole number of 1 or more")


def require_stable(utilization: float, what: str) -> None:
    """Raise UnstableQueueError, with the number, when the utilization is 1 or more; ``what`` begins the message."""
    if not utilization < 1:
        raise UnstableQueueError(
            f"{what}: utilization {utilization:.6g}; it must be below 1. Lower the rate or add servers"
        )
