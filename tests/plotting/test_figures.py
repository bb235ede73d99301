import numpy as np
import pytest
from matplotlib.figure import Figure

from recqueue.errors import InputError
from recqueue.plotting import latency_against_qps, qps_heatmap
from recqueue.serving import Performance, Policy, Sla


def result(qps, p95_s, interval=None):
    return Performance(
        kind="simulate" if interval else "evaluate",
        method="made up",
        qps=qps,
        latency_s={"p95": p95_s},
        utilization={"cpu": 0.5, "accelerator": None},
        offloaded={"queries": 0.0, "items": 0.0},
        power_w=None,
        meets_sla=True,
        status="ok",
        interval_s={"p95": interval} if interval else {},
    )


def test_heat_map_shows_rates_never_and_marks():
    ax = Figure().subplots()
    mesh = qps_heatmap(
        ax,
        [16, 32, 64],
        [100, 200, None],
        [[1, 2, 3], [4, 5, float("nan")], [0, 8, 9]],
        optimum=Policy(64, None),
        baselines={"static": Policy(32), "hill climb": Policy(32, 200)},
    )
    assert mesh.get_array().mask.sum() == 2  # NaN and 0: no rate keeps the SLA
    assert mesh.get_clim() == (1, 9)
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels[-1] == "never"
    marks = {line.get_label().split(":")[0]: line.get_xydata()[0] for line in ax.get_lines()}
    never = ax.get_yticks()[-1]
    assert marks["optimum"] == pytest.approx([64, never])
    assert marks["static"] == pytest.approx([32, never])
    assert marks["hill climb"] == pytest.approx([32, 200])
    assert "items" in ax.get_xlabel()
    assert "items" in ax.get_ylabel()
    assert "queries/s" in ax.figure.axes[1].get_ylabel()


@pytest.mark.parametrize(
    ("batches", "thresholds", "shape"),
    [([1, 2], [1, 2], (2, 3)), ([2, 1], [1, 2], (2, 2)), ([1, 2], [None, 2], (2, 2)), ([1, 2], [2, 2], (2, 2))],
)
def test_heat_map_refuses_axes_that_do_not_fit(batches, thresholds, shape):
    with pytest.raises(InputError, match="heat map"):
        qps_heatmap(Figure().subplots(), batches, thresholds, np.ones(shape))


def test_latency_figure_in_milliseconds_with_intervals_and_promise():
    ax = Figure().subplots()
    latency_against_qps(
        ax,
        [result(10, 0.02), result(20, 0.05), result(30, float("inf"))],
        [result(10, 0.021, (0.02, 0.023))],
        Sla(latency_s=0.1),
        max_qps=22,
    )
    line = next(line for line in ax.get_lines() if line.get_label() == "formula")
    np.testing.assert_allclose(line.get_ydata(), [20, 50, np.nan])
    (bars,) = [c for c in ax.containers if c.has_yerr]
    np.testing.assert_allclose(bars.lines[2][0].get_segments()[0][:, 1], [20, 23])
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "SLA: p95 <= 100 ms" in legend
    assert "22 queries/s" in legend
    assert "ms" in ax.get_ylabel()
    assert "queries/s" in ax.get_xlabel()


def test_latency_figure_refuses_a_percentile_that_is_not_there():
    with pytest.raises(InputError, match="no p99; it has p95"):
        latency_against_qps(Figure().subplots(), [result(1, 1.0)], [], Sla(percentile=99, latency_s=1))
