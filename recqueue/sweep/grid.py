"""What varies: keys with their values, written as lists and ranges."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from recqueue.errors import InputError

MOST_POINTS = 100_000_000
"""Points of one sweep; a table of more would not fit into memory when it is put together."""
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(.+))?")
_FORMS = (
    "1..8 (whole numbers), 1..1024:log2 (doubled each time), 1..1000:log10, 0..1:+0.25 (a step), 100..5000:lin50 or "
    "100..5000:geom50 (so many, evenly or by a constant factor)"
)


@dataclass(frozen=True)
class Axis:
    """One key and the values that it takes.

    Parameters
    ----------
    key : str
        Dotted key of a scenario file, such as ``policy.batch_size``.
    values : tuple
        Plain YAML values: numbers, texts, None, lists or mappings.

    Raises
    ------
    InputError
        When there is no value, or one is given twice.
    """

    key: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError(f"{self.key}: no values to vary over")
        seen = set()
        for value in self.values:
            name = repr(value)
            if name in seen:
                raise InputError(f"{self.key}: the value {name} is given twice")
            seen.add(name)


def axis(key: str, values: Any, *, whole: bool = False) -> Axis:
    """An axis from a value, or a list of values and ranges.

    Parameters
    ----------
    key : str
        Dotted key.
    values : object
        One value or a list; a text such as ``1..1024:log2`` is a range.
    whole : bool
        Whether the key takes whole numbers, to which evenly spaced values are then rounded.

    Raises
    ------
    InputError
        When a range is not readable.

    Examples
    --------
    >>> from recqueue.sweep import axis
    >>> axis("policy.batch_size", "1..64:log2", whole=True).values
    (1, 2, 4, 8, 16, 32, 64)
    >>> axis("qps", [100, "200..1000:lin3"]).values
    (100, 200.0, 600.0, 1000.0)
    """
    given = values if isinstance(values, (list, tuple)) else [values]
    expanded: list[Any] = []
    for value in given:
        expanded.extend(_expand(key, value, whole) if isinstance(value, str) and ".." in value else [value])
    return Axis(key, tuple(expanded))


def _expand(key: str, text: str, whole: bool) -> Iterable[Any]:
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{key}: {text!r} is no range; write {_FORMS}")
    first, last = (_number(part) for part in match.group(1, 2))
    form = match.group(3) or "+1"
    if not last >= first:
        raise InputError(f"{key}: the range {text!r} ends below its beginning")
    spread = re.fullmatch(r"(lin|geom)(\d+)", form)
    if form in ("log2", "log10"):
        if first <= 0:
            raise InputError(f"{key}: the range {text!r} must begin above 0 to be multiplied up")
        factor = 2 if form == "log2" else 10
        return [first * factor**i for i in range(int(math.log(last / first) / math.log(factor) + 1e-9) + 1)]
    if form.startswith("+") and re.fullmatch(_NUMBER, form[1:]) and float(form[1:]) > 0:
        step = _number(form[1:])
        count = int((last - first) / step * (1 + 1e-12) + 1e-9) + 1
        if count > MOST_POINTS:
            raise InputError(f"{key}: the range {text!r} has {count:,} values; at most {MOST_POINTS:,}")
        return [first + i * step for i in range(count)]
    if spread and int(spread[2]) >= 2 and (spread[1] == "lin" or first > 0):
        space = np.linspace if spread[1] == "lin" else np.geomspace
        values = space(first, last, int(spread[2]))
        return list(dict.fromkeys(round(v) for v in values.tolist())) if whole else values.tolist()
    raise InputError(f"{key}: {text!r} is no range; write {_FORMS}")


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def size(axes: Iterable[Axis]) -> int:
    """Points of a grid.

    Raises
    ------
    InputError
        When there are too many of them, or a key varies twice, by itself or inside another.
    """
    axes = tuple(axes)
    for i, one in enumerate(axes):
        for other in axes[i + 1 :]:
            short, long = sorted((one.key, other.key), key=len)
            if short == long:
                raise InputError(f"{short}: varied twice; give all of its values in one list")
            if long.startswith(short + "."):
                raise InputError(f"{long} and {short}: one holds the other; vary only one of the two")
    points = math.prod(len(a.values) for a in axes)
    if points > MOST_POINTS:
        raise InputError(f"a grid of {points:,} points; at most {MOST_POINTS:,} fit into one table")
    return points
