"""The catalog: every model by name, built when asked for."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import cache

from recqueue.errors import InputError
from recqueue.models import published, table_i
from recqueue.models.model import Model

Build = Callable[[], Model]

DEFAULTS: dict[str, Build] = {
    "ncf": published.ncf,
    "wide-and-deep": published.wide_and_deep,
    "mt-wnd": published.mt_wnd,
    "dlrm-rmc1": published.dlrm_rmc1,
    "dlrm-rmc2": published.dlrm_rmc2,
    "dlrm-rmc3": published.dlrm_rmc3,
    "din": published.din,
    "dien": published.dien,
}
"""The eight models, with the sizes of the authors' repository."""

VARIANTS: dict[str, Build] = {
    "ncf-published": published.ncf_published,
    "din-published": published.din_published,
    "ncf-table-i": table_i.ncf,
    "wide-and-deep-table-i": table_i.wide_and_deep,
    "mt-wnd-table-i": table_i.mt_wnd,
    "dlrm-rmc1-table-i": table_i.dlrm_rmc1,
    "dlrm-rmc2-table-i": table_i.dlrm_rmc2,
    "dlrm-rmc3-table-i": table_i.dlrm_rmc3,
    "din-table-i": table_i.din,
    "dien-table-i": table_i.dien,
}
"""Other readings of the same models; those of Table I are unverified."""


def names(include_variants: bool = False) -> tuple[str, ...]:
    """Names of the eight models, and of their variants if wanted."""
    return (*DEFAULTS, *VARIANTS) if include_variants else tuple(DEFAULTS)


@cache
def _build(name: str) -> Model:
    return (DEFAULTS | VARIANTS)[name]()


def get(name: str) -> Model:
    """Return the model of a name.

    Raises
    ------
    InputError
        When there is no such model; the message suggests the nearest name.
    """
    known = names(include_variants=True)
    if name not in known:
        near = get_close_matches(str(name).lower().replace("_", "-"), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"model {name!r} is not known; {hint}allowed: {', '.join(names())}, and variants of them")
    return _build(name)
