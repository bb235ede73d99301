import sys

import numpy as np
import pytest

from recqueue.errors import InputError
from recqueue.io.parquet import COLUMNS, QueryRecords
from recqueue.profiles import LatencyCurve
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.simulate import run_blocks, spawn
from recqueue.workload import sizes_from_pmf

CURVE = LatencyCurve(items=(1, 64), seconds=(0.002, 0.0083))
SCENARIO = Scenario(
    name="s",
    model="m",
    system=System(name="c", cores=4, service=CURVE, accelerator=Accelerator(name="d", service=CURVE)),
    sizes=sizes_from_pmf([4, 16, 40], [0.5, 0.3, 0.2]),
    sla=Sla(latency_s=0.02),
)


def test_a_row_for_each_query_that_says_what_happened(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    blocks, path = [], tmp_path / "run.parquet"
    with QueryRecords(path) as file:

        def visit(finished):
            blocks.append(finished)
            file.write(finished)
            assert not path.exists()  # nothing under that name before it is complete

        run_blocks(SCENARIO, Policy(10, 40), 300.0, 2000, spawn(1, 1)[0], visit, block=300)
    table = parquet.read_table(path)
    assert tuple(table.column_names) == COLUMNS
    assert file.rows == table.num_rows == 2000
    assert [p.name for p in tmp_path.iterdir()] == ["run.parquet"]
    rows = {name: np.array(table[name].to_pylist()) for name in COLUMNS}
    order = np.argsort(rows["query"])
    rows = {name: column[order] for name, column in rows.items()}
    np.testing.assert_array_equal(rows["query"], np.arange(2000))
    assert np.all(np.diff(rows["arrival_s"]) >= 0)
    np.testing.assert_array_equal(rows["latency_s"], rows["finish_s"] - rows["arrival_s"])
    np.testing.assert_array_equal(rows["pool"], np.where(rows["items"] == 40, "accelerator", "cpu"))
    np.testing.assert_array_equal(rows["sub_requests"], np.where(rows["items"] == 16, 2, 1))
    whole = {name: np.concatenate([getattr(b, name) for b in blocks])[order] for name in ("start_s", "last_start_s")}
    for name, column in whole.items():
        np.testing.assert_array_equal(rows[name], column)


def test_an_interrupted_run_leaves_no_file(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    with pytest.raises(KeyboardInterrupt), QueryRecords(tmp_path / "run.parquet"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_or_folder_is_one_line(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(InputError, match=r"need pyarrow, which is not .* 'recqueue\[parquet\]'"):
            QueryRecords(tmp_path / "run.parquet")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    with pytest.raises(InputError, match=r"cannot write '.*nowhere/run.parquet' \(.*\)") as error:
        QueryRecords(tmp_path / "nowhere" / "run.parquet")
    assert "\n" not in str(error.value)
