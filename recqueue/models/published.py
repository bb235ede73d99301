"""The eight models with the sizes of the DeepRecSys repository (models/ and models/configs/)."""

from __future__ import annotations

from collections.abc import Sequence

from recqueue.models import architectures as arch
from recqueue.models.model import Model

_REPOSITORY = "DeepRecSys repository (harvard-acc/DeepRecSys, commit 1383176)"
_MANY_TABLES = (500_000,) * 41 + (5_000_000,) * 2  # multi-task Wide & Deep and DIEN
_NCF_ROWS = (140_000, 140_000, 28_000, 28_000)


def _source(code: str, config: str) -> str:
    return f"{_REPOSITORY}: models/{code}, models/configs/{config}"


def _dlrm(
    number: int,
    description: str,
    *,
    bottom: Sequence[int],
    top: Sequence[int],
    rows: Sequence[int],
    dim: int,
    lookups: int,
) -> Model:
    return Model(
        name=f"dlrm-rmc{number}",
        title=f"DLRM-RMC{number}",
        description=description,
        operators=arch.dlrm(bottom=bottom, top=top, rows=rows, dim=dim, lookups=lookups),
        source=_source("dlrm_s_caffe2.py", f"dlrm_rm{number}.json"),
    )


def dlrm_rmc1() -> Model:
    """DLRM-RMC1: few large tables with many lookups, small MLPs."""
    return _dlrm(
        1, "DLRM with 8 tables of 80 lookups and small MLPs: bound by embedding reads.",
        bottom=(128, 64, 32), top=(256, 64, 1), rows=(4_000_000,) * 8, dim=32, lookups=80,
    )  # fmt: skip


def dlrm_rmc2() -> Model:
    """DLRM-RMC2: many tables with many lookups."""
    return _dlrm(
        2, "DLRM with 32 tables of 120 lookups: bound by embedding reads, the most of all eight.",
        bottom=(256, 128, 64), top=(128, 64, 1), rows=(500_000,) * 32, dim=64, lookups=120,
    )  # fmt: skip


def dlrm_rmc3() -> Model:
    """DLRM-RMC3: a wide bottom MLP."""
    return _dlrm(
        3, "DLRM with a wide bottom MLP over 2560 dense features: bound by matrix products.",
        bottom=(2560, 1024, 256, 32), top=(512, 256, 1), rows=(2_000_000,) * 10, dim=32, lookups=20,
    )  # fmt: skip


def ncf() -> Model:
    """NCF, each embedding gathered once."""
    return Model(
        name="ncf",
        title="NCF",
        description="Neural collaborative filtering: a matrix-factorization pair and an MLP over a second pair.",
        operators=arch.ncf(mlp=(256, 256, 128, 64), final=(64,), rows=_NCF_ROWS, dim=64),
        source=_source("ncf.py", "ncf.json"),
        notes=(
            "The factor pair is added, not multiplied, and the output is 64 wide, as in the published code.",
            "The published code gathers the factor pair twice on CPU: variant ncf-published.",
        ),
    )


def ncf_published() -> Model:
    """NCF as the published code runs on CPU: the factor tables are gathered twice."""
    return Model(
        name="ncf-published",
        title="NCF (as run on CPU)",
        description="NCF as the published CPU code runs it: the factor pair is gathered twice.",
        operators=arch.ncf(mlp=(256, 256, 128, 64), final=(64,), rows=_NCF_ROWS, dim=64, issue_twice=True),
        source=_source("ncf.py", "ncf.json"),
        notes=("The second gather writes the same result over the first.",),
    )


def wide_and_deep() -> Model:
    """Wide & Deep without its wide linear part, as published."""
    return Model(
        name="wide-and-deep",
        title="Wide & Deep",
        description="512 dense features and 27 one-hot embeddings into one deep MLP.",
        operators=arch.wide_and_deep(dense=512, shared=(1024, 512, 256, 1), task=(), rows=(1_000_000,) * 27, dim=32),
        source=_source("wide_and_deep.py", "wide_and_deep.json"),
        notes=("The wide linear part is not modelled, as in the published code.",),
    )


def mt_wnd() -> Model:
    """Multi-task Wide & Deep with the published default of one task."""
    return Model(
        name="mt-wnd",
        title="MT-Wide & Deep",
        description="Wide & Deep with 43 tables, a shared MLP and a task MLP.",
        operators=arch.wide_and_deep(dense=512, shared=(1024, 512), task=(256, 128), rows=_MANY_TABLES, dim=32),
        source=_source("multi_task_wnd.py", "mtwnd.json"),
        notes=("One task: the published configuration does not set the number of tasks and its default is 1.",),
    )


def din() -> Model:
    """DIN as intended: 250 behaviour tables are added to the one of the configuration, so 251 attention units."""
    return Model(
        name="din",
        title="DIN",
        description="Deep interest network as intended: 251 attention units over user behaviours.",
        operators=arch.din(
            unit=(1,), top=(200, 80, 2), rows=(1_000_000,) + (100_000,) * 251 + (10_000_000,) * 2, dim=32, lookups=3
        ),
        source=_source("din.py", "din.json") + ", utils/utils.py for the expansion of behaviour tables",
        notes=(
            "user_behavior_tables = 250 adds 250 copies to the one behaviour table of the configuration: 251 units.",
            "The published scripts never apply that expansion: variant din-published is what they run.",
            "The attention weight is not multiplied onto the behaviour, as in the published code.",
        ),
    )


def din_published() -> Model:
    """DIN as the published scripts run it: the behaviour tables are not expanded, so one attention unit."""
    return Model(
        name="din-published",
        title="DIN (as run)",
        description="DIN as the published scripts run it: 4 tables and a single attention unit.",
        operators=arch.din(
            unit=(1,), top=(200, 80, 2), rows=(1_000_000, 100_000, 10_000_000, 10_000_000), dim=32, lookups=3
        ),
        source=_source("din.py", "din.json"),
        notes=("The configuration file overwrites the expanded table list, so 4 tables remain.",),
    )


def dien() -> Model:
    """DIEN: 40 behaviours through two recurrent cells."""
    return Model(
        name="dien",
        title="DIEN",
        description="Deep interest evolution network: 40 behaviours through two recurrent cells of 64.",
        operators=arch.dien(hidden=64, top=(200, 80, 2), rows=_MANY_TABLES, dim=32),
        source=_source("dien.py", "dien.json") + ", utils/utils.py (hidden size 64)",
        notes=(
            "The attention between the cells is computed but does not reach the output, as in the published code.",
            "Plain tanh cells, as in the published code, not the GRUs of the DIEN paper.",
            "The published code also feeds a zero start state and sequence lengths (260 bytes per item); not counted.",
        ),
    )
