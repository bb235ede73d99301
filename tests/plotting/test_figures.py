import numpy as np
import pytest
from matplotlib.figure import Figure

from recqueue.errors import InputError
from recqueue.plotting import latency_against_qps, latency_by_hour, machines_by_hour, qps_heatmap
from recqueue.serving import FleetPerformance, HourPerformance, Performance, Policy, Sla


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


def hour(number, p95_s, interval, **on):
    return HourPerformance(
        hour=number,
        qps=1000.0 * (number + 1),
        machines_on=on,
        offered_load=0.5,
        latency_s={} if p95_s is None else {"p95": p95_s},
        interval_s={} if p95_s is None else {"p95": interval},
        late=0.0,
        late_interval=(0.0, 0.0),
        lost=0.0,
        utilization=dict.fromkeys(on, 0.5),
        power_w=None,
        meets_sla=True,
        status="ok",
    )


DAY = FleetPerformance(
    method="made up",
    hours=(
        hour(0, 0.01, (0.009, 0.012), old=2, new=1),
        hour(1, None, None, old=0, new=0),
        hour(2, 0.03, (0.02, 0.04), old=3, new=1),
    ),
    latency_s={},
    interval_s={},
    late=0.0,
    lost=0.0,
    machine_utilization=np.zeros((3, 4)),
    accelerator_utilization=np.zeros((3, 4)),
    energy_kwh=None,
    machine_hours=7,
    meets_sla=True,
    hour_s=1.0,
    queries=1,
    sub_requests=1,
    replications=3,
    seed=0,
)


def test_latency_by_hour_has_steps_a_band_and_the_bound():
    ax = Figure().subplots()
    latency_by_hour(ax, DAY, Sla(latency_s=0.05), label="jsq")
    steps = next(p for p in ax.patches if p.get_label().startswith("jsq"))
    assert steps.get_data().values.tolist() == pytest.approx([10, np.nan, 30], nan_ok=True)
    (band,) = ax.collections
    assert band.get_paths()[0].vertices[:, 1].max() <= 40
    assert {round(y, 6) for path in band.get_paths() for y in path.vertices[:, 1]} >= {9, 12, 20, 40}
    assert [line.get_ydata()[0] for line in ax.get_lines()] == [50]
    assert ax.get_ylabel() == "p95 latency of the whole query (ms)"
    assert ax.get_xlim() == (0, 3)
    with pytest.raises(InputError, match="the hours have no p99; they have p95"):
        latency_by_hour(ax, DAY, Sla(percentile=99, latency_s=1))


def test_machines_by_hour_stack_and_share_the_figure_with_the_rate():
    ax = Figure().subplots()
    machines_by_hour(ax, DAY)
    old, new = ax.patches
    assert old.get_data().values.tolist() == [2, 0, 3]
    assert (new.get_data().baseline.tolist(), new.get_data().values.tolist()) == ([2, 0, 3], [3, 0, 4])
    rate = ax.figure.axes[1]
    assert rate.get_lines()[0].get_ydata().tolist() == [1, 2, 3]
    assert "queries/s" in rate.get_ylabel()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "old: machines on",
        "new: machines on",
        "offered rate",
    ]
