"""``recqueue models`` through click's test runner, and its pictures."""

import json

import pytest
from click.testing import CliRunner
from matplotlib.text import Text

from recqueue.cli.models import models
from recqueue.errors import InputError
from recqueue.models import get, names
from recqueue.plotting.dag import model_figure


def run(*arguments):
    return CliRunner().invoke(models, arguments, catch_exceptions=False).output


def test_list_holds_every_model_and_variants_on_request():
    assert all(name in run() for name in names())
    assert "din-published" not in run()
    text = run("--variants")
    assert all(name in text for name in names(include_variants=True))
    assert text.count("(unverified)") == 8
    record = json.loads(run("--json"))
    assert record["schema"] == 1
    assert [m["name"] for m in record["models"]] == list(names())


def test_operator_table_shows_formulas_and_numbers():
    text = run("dlrm-rmc1", "--batch-size", "10")
    row = next(line for line in text.splitlines() if "top_fc_1" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    # 288 -> 256: FLOPs b 256 (2 288 + 1), reads 4 (288 b + 289 * 256), writes 4 * 256 b
    assert cells == [
        "top_fc_1", "fully connected", "288 → 256",
        "147,712 b", "1,477,120", "1,152 b + 295,936", "307,456", "1,024 b", "10,240",
    ]  # fmt: skip
    assert "embedding ×8" in text
    assert "100,416 multiply-accumulates (bottom 10,240, top 90,176)" in text


def test_unverified_sizes_are_marked():
    assert "UNVERIFIED" in run("din-table-i")
    assert "UNVERIFIED" not in run("din")


@pytest.mark.parametrize("name", names(include_variants=True))
def test_json_of_a_model(name):
    record, model = json.loads(run(name, "--json", "--batch-size", "7")), get(name)
    assert (record["schema"], record["kind"], record["batch_size"]) == (1, "model", 7)
    assert [op["name"] for op in record["operators"]] == [op.name for op in model.operators]
    assert (
        sum(op["flops"]["value"] for op in record["operators"]) == record["total"]["flops"]["value"] == model.flops(7)
    )
    assert record["verified"] is model.verified


@pytest.mark.parametrize("name", names(include_variants=True))
def test_picture_has_a_box_for_each_role_and_none_overlap(name):
    figure = model_figure(get(name))
    figure.draw_without_rendering()
    (ax,) = figure.axes
    texts = [t for t in ax.texts if isinstance(t, Text) and t.get_text()]
    boxes = [p.get_window_extent() for p in ax.patches if type(p).__name__ == "FancyBboxPatch"]
    assert len(texts) == len(boxes) > 3
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    for text, box in zip(texts, boxes, strict=True):  # every label inside its box, every box inside the figure
        label = text.get_window_extent()
        assert box.x0 <= label.x0
        assert label.x1 <= box.x1
        assert box.y0 <= label.y0
        assert label.y1 <= box.y1
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_plot_writes_a_file(tmp_path, ending):
    path = tmp_path / f"dag.{ending}"
    assert str(path) in run("din", "--plot", str(path))
    assert path.stat().st_size > 5_000


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("dlrm-rmc9",), "did you mean"),
        (("ncf", "--batch-size", "0"), "--batch-size 0; it must be a whole number of 1 or more"),
        (("--plot", "dag.svg"), "--plot needs the name of one model"),
        (("ncf", "--plot", "dag.doc"), r"allowed: \.pdf, \.png, \.svg"),
        (("ncf", "--plot", "no/such/folder/dag.svg"), "cannot be written"),
    ],
)
def test_bad_input_is_one_line(arguments, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
