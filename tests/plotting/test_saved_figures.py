"""Figures of saved results: what is drawn is what the files hold, and what they lack is one line."""

import json

import numpy as np
import pytest

from recqueue.errors import InputError
from recqueue.plotting.curves import Curve, latency_curves
from recqueue.plotting.pareto import front
from recqueue.plotting.saved import KINDS, Options, figure
from recqueue.plotting.style import new_figure, save
from recqueue.serving import Sla


@pytest.fixture
def write(tmp_path):
    def to(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to


def record(kind="evaluate", qps=100.0, p95=0.02, **more):
    """What the commands print, as far as figures read it."""
    latency = {"mean": p95 / 3, "p50": p95 / 4, "p95": p95, "p99": None if p95 is None else 2 * p95}
    load = {"cpu": qps / 1000, "accelerator": None}
    return {
        "schema": 1, "kind": kind, "qps": qps, "latency_s": latency, "utilization": load,
        "policy": {"batch_size": 8, "offload_threshold": 300}, "sla": {"percentile": 95.0, "latency_s": 0.1},
        "scenario": "mine", "model": "m", **more,
    }  # fmt: skip


def legend(ax):
    return [t.get_text() for t in ax.get_legend().get_texts()]


SWEEP = "batch_size,offload_threshold,qps,p95_s,meets_sla,power_w\n" + "".join(
    f"{b},{'' if t is None else t},{q},{p},{m},{w}\n"
    for b, t, q, p, m, w in [
        (8, 100, 500, 0.01, "true", 100), (16, 100, 900, 0.05, "true", 300), (32, 100, "", "", "", ""),
        (8, None, 400, 0.02, "true", 50), (16, None, 880, 0.03, "true", 200), (32, None, 700, 0.2, "false", 300),
    ]
)  # fmt: skip


def test_heat_map_of_rates_marks_the_optimum_and_what_keeps_the_sla(write):
    fig = figure("heatmap", [write("s.csv", SWEEP)], Options(sla_ms=100))
    ax = fig.axes[0]
    mesh = ax.collections[0]
    values = mesh.get_array().reshape(2, 3)
    np.testing.assert_array_equal(values.filled(-1), [[500, 900, -1], [400, 880, -1]])  # (32, never) breaks the SLA
    star = next(line for line in ax.get_lines() if line.get_label().startswith("optimum"))
    assert star.get_label() == "optimum: batch size 16, offload from 100 items"
    assert star.get_xydata()[0] == pytest.approx([16, 100])
    assert legend(ax)[:2] == ["keeps the SLA", "within 5 % of the optimum"]
    edges = ax.collections[-1].get_segments()
    assert len(edges) == 4  # both cells of batch size 16 lie within 5 %: a line on either side of each ...
    assert sorted({s[0][0] for s in edges}) == pytest.approx([2**3.5, 2**4.5])
    feasible = ax.collections[1].get_segments()
    assert {s[0][0] for s in feasible} == {2**4.5}  # ... and batch size 32 is cut off half an octave above 16
    assert ax.get_yticklabels()[-1].get_text() == "never"
    assert "no rate keeps the SLA" in legend(ax)
    assert "queries/s" in fig.axes[1].get_ylabel()


def test_heat_map_of_a_latency_is_in_ms_and_bright_where_short(write):
    one = SWEEP.replace(",500,", ",100,").replace(",900,", ",100,").replace(",400,", ",100,").replace(",880,", ",100,")
    fig = figure("heatmap", [write("s.csv", one.replace(",700,", ",100,"))], Options(sla_ms=30))
    ax, bar = fig.axes[:2]
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(2, 3).filled(-1), [[10, 50, -1], [20, 30, 200]])
    assert ax.collections[0].get_cmap().name == "viridis_r"
    assert ax.collections[0].get_clim()[1] == 60  # twice the bound: what is worse than that has one colour
    assert bar.get_ylabel() == "p95 latency (ms) at 100 queries/s"
    assert "optimum: batch size 8, offload from 100 items" in legend(ax)


def test_latency_of_one_policy_has_three_percentiles_a_bound_and_the_unstable_end(write):
    text = "qps,p50_s,p95_s,p99_s\n" + "".join(f"{q},{q / 4e4},{q / 1e4},{q / 5e3}\n" for q in (100, 200, 300))
    fig = figure("latency", [write("s.csv", text + "400,inf,inf,inf\n")], Options(sla_ms=25))
    ax = fig.axes[0]
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_allclose(lines["p95: formula"].get_ydata(), [10, 20, 30, np.nan])
    np.testing.assert_allclose(lines["p99: formula"].get_ydata(), [20, 40, 60, np.nan])
    assert lines["SLA: p95 <= 25 ms"].get_ydata()[0] == 25
    assert "no steady state" in legend(ax)
    assert ax.get_yscale() == "log"  # 2.5 to 60 ms
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("offered rate (queries/s)", "latency of the whole query (ms)")


def test_latency_of_several_policies_with_simulation_and_measured_points(write):
    rows = [(b, q, b * q / 1e5) for b in (8, 16) for q in (100, 200, 300)]
    text = "batch_size,offload_threshold,qps,p95_s,p95_low_s,p95_high_s\n"
    text += "".join(f"{b},300,{q},{p},{0.9 * p},{1.2 * p}\n" for b, q, p in rows)
    measured = write("m.csv", "qps,batch_size,offload_threshold,p95_s\n100,16,300,0.017\n100,99,,1\n")
    ax = figure("latency", [write("s.csv", text)], Options(sla_ms=100, measured=(str(measured),))).axes[0]
    assert [t for t in legend(ax) if "batch" in t] == [
        "batch 16: measured", "batch 8: simulation, 95 % interval", "batch 16: simulation, 95 % interval",
    ]  # fmt: skip
    bars = ax.containers[1]
    np.testing.assert_allclose(
        [s[:, 1] for s in bars.lines[2][0].get_segments()], [[14.4, 19.2], [28.8, 38.4], [43.2, 57.6]]
    )
    dots = next(line for line in ax.get_lines() if line.get_label() == "batch 16: measured")
    assert dots.get_ydata() == pytest.approx([17])
    assert dots.get_color() == bars.lines[0].get_color()  # the same policy, the same colour
    with pytest.raises(InputError, match="no run of what is drawn"):
        figure(
            "latency", [write("s.csv", text)], Options(measured=(str(write("m.csv", "qps,batch_size,p95_s\n1,3,1\n")),))
        )


def test_latency_from_records_has_the_formulas_error_as_a_band(write):
    files = [write(f"{q}.json", record(qps=float(q), p95=q / 1e4, error={"p95": 0.1})) for q in (100, 200, 300)]
    files.append(write("s.json", record("simulate", 200.0, 0.021, interval_s={"p95": [0.02, 0.023]})))
    fig = figure("latency", files)
    ax = fig.axes[0]
    band = next(c for c in ax.collections if c.get_paths() and len(c.get_paths()[0].vertices) > 6)
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(30 / 0.9)
    assert "p95: formula and its error" in legend(ax)
    assert "p95: simulation, 95 % interval" in legend(ax)
    assert fig.get_suptitle() == "mine: batch size 8, offload from 300 items"


def test_curves_start_at_zero_where_a_linear_axis_shows_them_all():
    _, ax = new_figure()
    latency_curves(
        ax, [Curve(kind="formula", qps=[1, 2], latency_s={"p95": [0.02, 0.04]})], names=["p95"], sla=Sla(latency_s=0.03)
    )
    assert ax.get_ylim() == pytest.approx((0, 44))
    assert ax.get_ylabel() == "p95 latency of the whole query (ms)"


@pytest.mark.parametrize(("up", "expected"), [(True, [3, 1, 4]), (False, [0, 3, 4])])
def test_the_front_is_what_no_other_point_beats(up, expected):
    x, y = np.array([1, 3, 2, 2, 5, np.nan]), np.array([1, 5, 3, 9 if up else 2, 2, 0])
    found = front(x, y if up else np.array([1, 5, 3, 2, 4, 0]), up=up)
    assert found.tolist() == expected
    for i in range(5):  # by definition
        y_ = (y if up else -np.array([1, 5, 3, 2, 4, 0]))[:5]
        beaten = any((x[j] >= x[i] and y_[j] >= y_[i]) and (x[j] > x[i] or y_[j] > y_[i]) for j in range(5))
        assert (i in found) == (not beaten)


def test_pareto_from_a_sweep_and_from_a_record(write):
    ax = figure("pareto", [write("s.csv", SWEEP)]).axes[0]
    line = next(line for line in ax.get_lines() if line.get_label() == "beaten by none")
    # 400/50 = 8 and 500/100 = 5 and 880/200 = 4.4 and 900/300 = 3 queries/s per W; what breaks the SLA is left out
    assert line.get_xydata().tolist() == [[400, 8], [500, 5], [880, 4.4], [900, 3]]
    assert "most queries/s per W: batch size 8, no offload" in legend(ax)
    points = [{"qps": q, "qps_per_w": w, "p95_s": p, "batch_size": 4, "offload_threshold": None, "max_fused_queries": 2}
              for q, w, p in ((100, 9, 0.01), (200, 8, 0.02), (150, 7, 0.03))]  # fmt: skip
    file = write(
        "p.json", {"schema": 1, "kind": "pareto", "points": points, "sla": {"percentile": 95, "latency_s": 0.05}}
    )
    ax = figure("pareto", [file], Options(show="p95_s")).axes[0]
    line = next(line for line in ax.get_lines() if line.get_label() == "beaten by none")
    assert line.get_xydata().tolist() == [[100, 10], [200, 20]]
    assert "SLA: p95 <= 50 ms" in legend(ax)
    assert ax.get_ylabel() == "p95 latency (ms)"
    assert any("at most 2 in a launch" in text for text in legend(ax))
    saved = json.loads(file.read_text()) | {"against": "latency", "exact": False, "left_open": 1200, "scenario": "mine"}
    fig = figure("pareto", [write("l.json", saved)])
    assert fig.axes[0].get_ylabel() == "p95 latency (ms)"  # what the front was made against
    assert fig.get_suptitle() == "mine, not proved: 1,200 policies left open"


def test_optimum_has_three_panels_and_a_line_for_each_model(write):
    text = "model,sla.latency_ms,qps,batch_size,offload_threshold\n"
    text += "b,50,900,64,\na,100,2000,128,300\na,50,1000,64,400\na,5,0,,\n"
    fig = figure("optimum", [write("s.csv", text)])
    rate, batch, threshold = fig.axes
    assert [line.get_label() for line in rate.get_lines()] == ["b", "a"]
    a = rate.get_lines()[1]
    np.testing.assert_array_equal(a.get_xydata(), [[5, np.nan], [50, 1000], [100, 2000]])  # by bound; no policy at 5 ms
    np.testing.assert_array_equal(batch.get_lines()[1].get_ydata(), [np.nan, 64, 128])
    np.testing.assert_array_equal(threshold.get_lines()[1].get_ydata(), [np.nan, 400, 300])
    assert threshold.get_yticklabels()[-1].get_text() == "never"
    assert threshold.get_lines()[0].get_ydata()[0] == threshold.get_yticks()[-1] > 400
    assert threshold.get_xlabel() == "bound on p95 (ms)"


def test_error_map_is_the_packaged_one(write):
    from recqueue.analysis.accuracy import error_map

    ax, other = figure("error", []).axes
    cells = error_map().cells
    values = ax.images[0].get_array()
    assert values.size == len(cells)
    np.testing.assert_allclose(np.sort(values.ravel()), sorted(100 * c.error["p95"]["95"] for c in cells))
    assert "p99" in other.get_title()
    assert sum(int(t.get_text().split("of ")[1]) for t in ax.texts) == sum(c.scenarios for c in cells)


def test_error_of_scenarios_leaves_flagged_ones_out_of_the_lines(write):
    rows = "".join(f"{i / 40},{(-1) ** i * 0.01},{'jump' if i == 3 else ''}\n" for i in range(1, 40))
    fig = figure("error", [write("a.csv", "utilization,p95_error,flagged\n" + rows)], Options(show="p95"))
    (ax,) = fig.axes
    dots = {line.get_label(): line for line in ax.get_lines()}
    assert (len(dots["a scenario"].get_xdata()), len(dots["flagged by the formula itself"].get_xdata())) == (38, 1)
    assert dots["a scenario"].get_ydata() == pytest.approx(1.0)
    for stairs in ax.patches:
        assert stairs.get_data().values == pytest.approx(np.ones(10))


def test_error_by_load_of_a_comparison(write):
    run = {"load": 0.5, "error": {"p95": 0.1}, "measured_s": {"p95": 0.1}, "interval_s": {"p95": [0.08, 0.11]},
           "predicted_s": {"p95": 0.11}}  # fmt: skip
    saved = {"schema": 1, "kind": "compare", "runs": [run], "error": {"p95": {}}, "result": "r", "by": "formula"}
    ax = figure("error", [write("c.json", saved | {"bound": {"max_error": 0.2}})]).axes[0]
    (bars,) = ax.containers
    # 0.11 / 0.11 - 1 and 0.11 / 0.08 - 1
    np.testing.assert_allclose(bars.lines[2][0].get_segments()[0][:, 1], [0, 37.5], atol=1e-9)
    assert bars.lines[0].get_ydata() == pytest.approx([10])
    assert legend(ax) == ["bound: 20 %", "p95, with its measured 95 % interval"]
    low, high = ax.get_ylim()
    assert (low <= -20, high > 37.5) == (True, True)


def test_breakdown_is_stacked_in_ms(write):
    parts = {"wait": 0.001, "service": 0.002, "straggler": 0.004}
    files = [write(f"{q}.json", record("simulate", float(q), breakdown_s=parts)) for q in (300, 100)]
    ax = figure("breakdown", files).axes[0]
    heights = [[bar.get_height() for bar in bars] for bars in ax.containers]
    np.testing.assert_allclose(heights, [[1, 1], [2, 2], [4, 4]])
    assert [bar.get_y() for bar in ax.containers[2]] == pytest.approx([3, 3])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["100\n10 %", "300\n30 %"]  # by rate


def test_missing_columns_and_wrong_files_are_one_line_with_the_command(write):
    sweep, answer = write("s.csv", SWEEP), write("a.json", record())
    bare = write("b.csv", "qps\n1\n")
    for kind, files, options, words in (
        ("heatmap", [bare], {}, "no column 'batch_size'; it has qps; such a table is made by: recqueue sweep"),
        ("heatmap", [answer], {}, "takes one table, .parquet or .csv, not"),
        ("heatmap", [sweep], {"show": "p95_s"}, r"p95_s at 5 rates; choose with --where qps=400, or --show qps"),
        ("heatmap", [sweep], {"where": {"batch_size": 9}}, "no row with batch_size 9; there are 8, 16, 32"),
        ("latency", [bare], {}, "no column 'p95_s'; it has qps"),
        ("latency", [answer], {"show": "p90"}, "no p90 in .*a.json; there are mean, p50, p95, p99"),
        ("pareto", [bare], {}, "no column 'power_w'"),
        ("pareto", [answer], {}, "a record of kind 'evaluate'; this figure takes kind 'pareto'"),
        ("optimum", [sweep], {}, "no column 'model'; .* --method optimize"),
        ("error", [answer], {}, "a record of kind 'evaluate'; this figure takes that of 'recqueue compare"),
        ("error", [sweep], {}, "no column 'utilization'"),
        ("breakdown", [answer], {}, "no breakdown_s in this evaluate record; records that have it: recqueue simulate"),
        ("breakdown", [sweep], {}, "a table; this figure takes records of simulations"),
        ("latency", [], {}, "no RESULT given"),
        ("spiral", [answer], {}, "allowed: heatmap, latency, pareto, optimum, error, breakdown"),
    ):
        with pytest.raises(InputError, match=words) as error:
            figure(kind, files, Options(**options))
        assert "\n" not in str(error.value)


def test_a_heat_map_refuses_rows_that_differ_in_more(write):
    text = "model," + SWEEP.replace("\n8", "\na,8").replace("\n16", "\nb,16").replace("\n32", "\nb,32")
    with pytest.raises(InputError, match=r"differ in model too, .* choose with --where model=a \(there are a, b\)"):
        figure("heatmap", [write("s.csv", text)])
    figure("heatmap", [write("s.csv", text)], Options(where={"model": "a"}))


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_command_writes_each_format_and_twice_the_same(write, tmp_path, ending):
    from click.testing import CliRunner

    from recqueue.cli import cli

    source, files = write("s.csv", SWEEP), [tmp_path / f"{i}.{ending}" for i in "ab"]
    for file in files:
        result = CliRunner().invoke(cli, ["plot", "heatmap", str(source), "--out", str(file), "--where", "qps=500"])
        assert (result.exit_code, result.stdout) == (0, f"picture: {file}\n"), result.stderr
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_command_and_the_package_know_the_same_kinds(write, tmp_path):
    from click.testing import CliRunner

    from recqueue.cli import cli
    from recqueue.cli.plot import KINDS as OFFERED

    assert list(OFFERED) == list(KINDS)
    for arguments, line in (
        (["heatmap", write("s.csv", SWEEP), "--out", tmp_path / "a.doc"], "the picture cannot be written"),
        (["heatmap", write("s.csv", SWEEP), "--out", tmp_path / "a.png", "--where", "qps"], "give COLUMN=VALUE"),
        (["error", "--out", tmp_path / "a.png", "--measured", "m.csv"], "--measured is for the kind 'latency'"),
    ):
        result = CliRunner().invoke(cli, ["plot", *map(str, arguments)])
        assert (result.exit_code, line in result.stderr, len(result.stderr.splitlines())) == (3, True, 1), result.stderr


def test_an_unwritable_picture_is_one_line(tmp_path):
    fig, _ = new_figure()
    with pytest.raises(InputError, match="the picture cannot be written"):
        save(fig, str(tmp_path / "no" / "where.png"))
