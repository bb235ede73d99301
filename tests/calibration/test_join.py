"""Campaigns of different models become one, and nothing is mixed up."""

import numpy as np
import pytest

from calibration.__main__ import main
from calibration.join import join
from calibration.records import read_records
from calibration.runs import rows_of
from recqueue.errors import InputError


@pytest.fixture
def campaigns(tmp_path):
    for name, model in (("a", "ncf"), ("b", "din")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "live.csv").write_text(f"model,number\n{model},1\n{model},2\n")
        np.savez(folder / f"records-{model}.npz", **{"3_start_us_step": np.full(9_000, 2), "3_items": np.arange(9)})
        (folder / "log.txt").write_text(model)
    (tmp_path / "a" / "services.csv").write_text("model,kind\nncf,service\n")
    return tmp_path / "a", tmp_path / "b"


def test_rows_and_records_of_both_are_there(campaigns, tmp_path, capsys):
    assert main(["join", *map(str, campaigns), "--out", str(tmp_path / "c")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'c'}: ncf, din\n"
    assert [(r["model"], r["number"]) for r in rows_of(tmp_path / "c" / "live.csv")] == [
        ("ncf", "1"), ("ncf", "2"), ("din", "1"), ("din", "2"),
    ]  # fmt: skip
    assert [r["kind"] for r in rows_of(tmp_path / "c" / "services.csv")] == ["service"]
    names = {f.name for f in (tmp_path / "c").iterdir()}
    assert names == {"live.csv", "services.csv", "records-ncf.npz", "records-din.npz", "log.txt", "b-log.txt"}
    packed = tmp_path / "c" / "records-din.npz"
    assert packed.stat().st_size < 0.2 * (tmp_path / "b" / "records-din.npz").stat().st_size
    records = read_records(packed)
    assert records["3"]["start_us"].tolist() == [*range(2, 18_001, 2)]
    assert records["3"]["items"].tolist() == [*range(9)]


def test_what_does_not_belong_together_is_refused(campaigns, tmp_path):
    a, b = campaigns
    with pytest.raises(InputError, match=r"runs of ncf, as .*a has"):
        join([a, a], tmp_path / "c")
    (b / "live.csv").write_text("number,model\n1,din\n")
    with pytest.raises(InputError, match=r"live\.csv: the campaigns differ in columns"):
        join([a, b], tmp_path / "c")
    with pytest.raises(InputError, match="holds a campaign already"):
        join([a], b)
    (a / "records-ncf.npz").write_bytes(b"half of it")
    with pytest.raises(InputError, match=r"a.records-ncf\.npz: File is not a zip file; copy the records"):
        join([a], tmp_path / "e")
    with pytest.raises(InputError, match="no such file"):
        join([tmp_path], tmp_path / "d")
