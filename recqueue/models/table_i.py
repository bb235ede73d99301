"""The models with the sizes of Table I of the DeepRecSys paper, as recalled: unverified, for comparison only.

The recalled table gives MLP widths, and tables and lookups partly in words. Every builder here says in its notes what
it filled in: "up to" counts at their upper end, "tens" as 20 and "hundreds" as 200 where the repository has no count
that fits, embedding dimension and rows per table from the repository.
"""

from __future__ import annotations

from collections.abc import Sequence

from recqueue.models import architectures as arch
from recqueue.models.model import Model
from recqueue.models.operators import Operator

_TENS, _HUNDREDS = 20, 200


def _model(name: str, title: str, operators: tuple[Operator, ...], filled_in: str) -> Model:
    return Model(
        name=f"{name}-table-i",
        title=f"{title} (Table I)",
        description=f"{title} with the sizes of the paper's Table I as recalled; unverified.",
        operators=operators,
        verified=False,
        source="DeepRecSys paper (ISCA 2020), Table I, recalled and not checked against the paper",
        notes=(f"Filled in: {filled_in}.",),
    )


def _dlrm(number: int, *, bottom: Sequence[int], top: Sequence[int], tables: int, rows: int, lookups: int) -> Model:
    operators = arch.dlrm(bottom=bottom, top=top, rows=(rows,) * tables, dim=32, lookups=lookups)
    filled = f"{tables} tables (up to {tables}), {lookups} lookups (about {lookups}), {rows:,} rows"
    if number != 3:
        filled += f", {bottom[0]} dense features (first width of the recalled list)"
    return _model(f"dlrm-rmc{number}", f"DLRM-RMC{number}", operators, filled + ", dimension 32 (last bottom width)")


def dlrm_rmc1() -> Model:
    """DLRM-RMC1: bottom 256-128-32, top 256-64-1, up to 10 tables, about 80 lookups."""
    return _dlrm(1, bottom=(256, 128, 32), top=(256, 64, 1), tables=10, rows=4_000_000, lookups=80)


def dlrm_rmc2() -> Model:
    """DLRM-RMC2: bottom 256-128-32, top 512-128-1, up to 40 tables, about 80 lookups."""
    return _dlrm(2, bottom=(256, 128, 32), top=(512, 128, 1), tables=40, rows=500_000, lookups=80)


def dlrm_rmc3() -> Model:
    """DLRM-RMC3: bottom 2560-512-32, top 512-128-1, up to 10 tables, about 20 lookups."""
    return _dlrm(3, bottom=(2560, 512, 32), top=(512, 128, 1), tables=10, rows=2_000_000, lookups=20)


def ncf() -> Model:
    """NCF: predict 256-256-128, 4 tables, one lookup."""
    operators = arch.ncf(mlp=(256, 256), final=(128,), rows=(140_000, 140_000, 28_000, 28_000), dim=64)
    return _model(
        "ncf", "NCF", operators, "rows and dimension 64 of the repository; the last width is the layer after the join"
    )


def wide_and_deep() -> Model:
    """Wide & Deep: predict 1024-512-256, tens of tables, one lookup."""
    operators = arch.wide_and_deep(dense=512, shared=(1024, 512, 256), task=(), rows=(1_000_000,) * 27, dim=32)
    return _model(
        "wide-and-deep", "Wide & Deep", operators, "512 dense features, 27 tables, rows and dimension of the repository"
    )


def mt_wnd() -> Model:
    """Multi-task Wide & Deep: predict N x (1024-512-256), tens of tables, one lookup."""
    rows = (500_000,) * 41 + (5_000_000,) * 2
    operators = arch.wide_and_deep(dense=512, shared=(1024, 512, 256), task=(), rows=rows, dim=32)
    return _model(
        "mt-wnd", "MT-Wide & Deep", operators,
        "one task (N is not recalled), 512 dense features, 43 tables, rows and dimension of the repository",
    )  # fmt: skip


def din() -> Model:
    """DIN: predict 200-80-2, tens of tables, hundreds of lookups."""
    rows = (1_000_000,) + (100_000,) * (_TENS - 3) + (10_000_000,) * 2
    operators = arch.din(unit=(1,), top=(200, 80, 2), rows=rows, dim=32, lookups=_HUNDREDS)
    return _model(
        "din", "DIN", operators,
        f"{_TENS} tables, {_HUNDREDS} lookups in each, attention unit, rows and dimension of the repository",
    )  # fmt: skip


def dien() -> Model:
    """DIEN: predict 200-80-2, tens of tables, tens of lookups."""
    rows = (500_000,) * 41 + (5_000_000,) * 2
    operators = arch.dien(hidden=64, top=(200, 80, 2), rows=rows, dim=32, lookups=_TENS)
    return _model(
        "dien",
        "DIEN",
        operators,
        f"43 tables, rows, dimension and hidden size of the repository, {_TENS} lookups in each",
    )
