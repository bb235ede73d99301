"""Devices that a system can be made of: their size, their power and where those figures come from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from recqueue.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A CPU or an accelerator.

    Attributes
    ----------
    name, title : str
        Short name used in scenarios, and a readable one.
    kind : {"cpu", "accelerator"}
        Which pool it serves in.
    cores : int
        Cores that take sub-requests; streaming multiprocessors of an accelerator.
    memory_bytes, bandwidth_bytes_per_s : float
        Size of its memory and the bandwidth to it.
    idle_w, busy_w : float or None
        Power of the whole device (all ``cores``) at utilization 0 and 1; None when unknown.
    power_source : str
        Where those two come from; starts with "[U]" when they are estimates that nobody has verified.
    price_usd_per_h : float or None
        Rental price, where one is published.
    source : str
        Where the other figures come from.
    """

    name: str
    title: str
    kind: Literal["cpu", "accelerator"]
    cores: int
    memory_bytes: float
    bandwidth_bytes_per_s: float
    source: str
    idle_w: float | None = None
    busy_w: float | None = None
    power_source: str = ""
    price_usd_per_h: float | None = None


@cache
def _table() -> dict[str, Hardware]:
    text = (files("recqueue") / "data" / "hardware.json").read_text(encoding="utf-8")
    return {name: Hardware(name=name, **entry) for name, entry in json.loads(text)["hardware"].items()}


def hardware_names() -> tuple[str, ...]:
    """Names of all packaged hardware, CPUs first."""
    return tuple(sorted(_table(), key=lambda name: (_table()[name].kind != "cpu", name)))


def hardware(name: str) -> Hardware:
    """Record of a piece of packaged hardware.

    Raises
    ------
    InputError
        When the name is unknown; the message lists the known ones.
    """
    if name not in _table():
        raise InputError(f"unknown hardware {name!r}; known: {', '.join(hardware_names())}")
    return _table()[name]
