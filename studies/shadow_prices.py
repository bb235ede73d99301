"""Where the shadow prices of the geometric program can be trusted.

Claim: over the eight packaged models, each with three latency targets, with and without an accelerator, the program's
rate is within 10 % of the proven optimum, and its prices of the latency bound, cores, their speed and their bandwidth
are within a quarter of the differences of that optimum in at least four of five scenarios.

``python -m studies.shadow_prices`` works on the scenarios that ``studies/results/shadow_prices.csv`` lacks, for
``--seconds`` at most, and with all of them there checks the claim and writes the tables in ``docs/studies`` and the
picture.
``--fresh`` begins anew, ``--again`` measures policies and times again and keeps the prices, ``--write`` only writes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from unittest import mock

import numpy as np

from recqueue import load_scenario
from recqueue.analysis.pools import Costs, loads
from recqueue.analysis.rates import CLOSEST_TO_SATURATION
from recqueue.io import packaged_scenarios
from recqueue.optimize import climb as climbing
from recqueue.optimize.prices import AGREES, NEGLIGIBLE, STEP, Price, shadow_prices
from recqueue.optimize.relaxation import Relaxation, relax
from recqueue.optimize.search import Found, search
from recqueue.serving import Policy, Scenario
from studies.accuracy_table import Rows, listing
from studies.record import DOCS, RESULTS, command_line, read_rows, save_record, write_rows

CSV = RESULTS / "shadow_prices.csv"
TABLE, RATES, WARM = (DOCS / "studies" / f"shadow_prices_{name}.inc" for name in ("table", "rates", "warm"))
PICTURE = DOCS / "studies" / "shadow_prices.png"
TARGETS = ("low", "medium", "high")
RESOURCES = {
    "sla": "latency bound",
    "late_share": "queries that may be late",
    "cores": "cores",
    "cpu_speed": "speed of the cores",
    "bandwidth": "memory bandwidth",
    "accelerator_speed": "speed of the accelerator",
    "accelerators": "one more accelerator",
}
CLAIMED = ("sla", "cores", "cpu_speed", "bandwidth")
RATE_WITHIN, SHARE_CLAIMED = 0.1, 0.8


@dataclass(frozen=True)
class Case:
    """One scenario of the study."""

    model: str
    target: str
    accelerator: bool

    @property
    def key(self) -> tuple[str, str, str]:
        """As it stands in the file."""
        return self.model, self.target, str(self.accelerator)

    def scenario(self) -> Scenario:
        """The packaged model with that target."""
        overrides = {"sla": self.target} | ({} if self.accelerator else {"accelerator": None})
        return load_scenario(self.model, overrides=overrides, ignore_policy=True)


CASES = [Case(m, t, a) for m in packaged_scenarios() for t in TARGETS for a in (True, False)]


def searched(scenario: Scenario, start: Policy | None = None) -> Found:
    """The proven optimum; the search looks at ``start`` before anything else."""
    costs = Costs.of(scenario)
    if start is None:
        return search(scenario, costs, exact=True)

    def warm(grid, bounds, try_policy):  # type: ignore[no-untyped-def]
        column = grid.thresholds.index(start.offload_threshold)
        try_policy((min(start.batch_size, int(grid.largest_local[column])) - 1, column, 0))
        climbing.climb(grid, bounds, try_policy)

    with mock.patch("recqueue.optimize.search.climb", warm):
        return search(scenario, costs, exact=True)


def measured(scenario: Scenario) -> tuple[Relaxation, Found, Found, dict[str, float]]:
    """The program, the search, the search that begins with the program's policy, and their seconds of CPU time."""
    seconds, begun = {}, time.process_time()

    def lap(name: str) -> None:
        nonlocal begun
        seconds[name], begun = time.process_time() - begun, time.process_time()

    r = relax(scenario)
    lap("program_cpu_s")
    cold = searched(scenario)
    lap("search_cpu_s")
    warm = searched(scenario, r.policy)
    lap("warm_cpu_s")
    return r, cold, warm, seconds


def again(rows: Rows) -> Rows:
    """The rows with rounded policies, evaluations and times measured anew; prices stay."""
    new = {}
    for case in CASES:
        r, cold, warm, seconds = measured(case.scenario())
        new[case.key] = {
            "policy": str(r.policy),
            "policy_qps": f"{r.policy_qps:.6g}",
            "search_evaluations": str(cold.evaluations),
            "warm_evaluations": str(warm.evaluations),
            **{name: f"{value:.3g}" for name, value in seconds.items()},
        }
    return [{**r, **new[r["model"], r["target"], r["accelerator"]]} for r in rows]


def rows_of(case: Case) -> list[dict[str, object]]:
    """A row for each price of a scenario."""
    scenario = case.scenario()
    found = shadow_prices(scenario, exact=True)
    r, cold, warm, cpu_s = measured(scenario)
    assert cold.policy is not None
    limits = loads(scenario, cold.policy, Costs.of(scenario)).saturation_qps(scenario)
    saturated = cold.qps / min(limits) > CLOSEST_TO_SATURATION - 1e-3
    common: dict[str, object] = {
        "model": case.model,
        "target": case.target,
        "accelerator": case.accelerator,
        "latency_ms": scenario.sla.latency_s * 1e3,
        "bound_by": "saturation" if saturated else "latency",
        "exact_policy": str(cold.policy),
        "exact_qps": cold.qps,
        "relaxed_qps": r.qps,
        "policy": str(r.policy),
        "policy_qps": r.policy_qps,
        "programs": r.programs,
        "fit_median": r.fit.median_error,
        "fit_worst": r.fit.largest_error,
        "search_evaluations": cold.evaluations,
        "warm_evaluations": warm.evaluations,
        **cpu_s,
    }
    return [{**common, **price_row(p, cold.qps)} for p in found.prices.values()]


def price_row(p: Price, exact_qps: float) -> dict[str, object]:
    """What is kept of a price."""
    less, more = p.exact or (np.nan, np.nan)
    return {
        "resource": p.resource,
        "unit": p.unit,
        "amount": p.amount,
        "elasticity": p.elasticity,
        "price": p.qps_per_unit,
        "exact_less": "" if np.isnan(less) else float(less),
        "exact_more": float(more),
        "agrees": p.agrees(exact_qps),
    }


def exact_price(row: dict[str, str]) -> float:
    """Mean of the differences of the exact optimum below and above, where both exist."""
    return float(np.mean([float(row[name]) for name in ("exact_less", "exact_more") if row[name]]))


def scenarios(rows: Rows) -> list[dict[str, str]]:
    """The first row of each scenario."""
    return list({(r["model"], r["target"], r["accelerator"]): r for r in reversed(rows)}.values())[::-1]


def check(rows: Rows) -> None:
    """Assert the claim."""
    each = scenarios(rows)
    assert len(each) == len(CASES)
    for r in each:
        assert abs(float(r["relaxed_qps"]) / float(r["exact_qps"]) - 1) <= RATE_WITHIN, r
        # the program's policy is one of those that the optimum is proved over
        assert float(r["policy_qps"]) <= float(r["exact_qps"]) * (1 + 5e-4), r
    for name in CLAIMED:
        mine = [r["agrees"] == "True" for r in rows if r["resource"] == name]
        assert np.mean(mine) >= SHARE_CLAIMED, (name, np.mean(mine))


def table(rows: Rows) -> str:
    """Prices that agree, by resource and by what binds."""
    header = ["price of", "latency binds", "saturation binds", "median difference", "largest difference"]
    lines = []
    for name, label in RESOURCES.items():
        mine = [r for r in rows if r["resource"] == name]
        cells = []
        for bound in ("latency", "saturation"):
            some = [r["agrees"] == "True" for r in mine if r["bound_by"] == bound]
            cells.append(f"{sum(some)} of {len(some)}" if some else "-")
        off = [
            abs(float(r["price"]) / exact_price(r) - 1)
            for r in mine
            if exact_price(r) * float(r["amount"]) > NEGLIGIBLE * float(r["exact_qps"])
        ]
        cells += [f"{100 * np.median(off):.0f} %", f"{100 * max(off):.0f} %"] if off else ["-", "-"]
        lines.append([label, *cells])
    title = (
        f"Prices within {AGREES:.0%} of the differences of the proven optimum (steps of {STEP:.0%}, one core, one "
        f"accelerator; elasticities below {NEGLIGIBLE:g} count as none). Differences: where it is above that"
    )
    return ".. made by python -m studies.shadow_prices; do not edit\n\n" + listing(title, header, lines)


def rates(rows: Rows) -> str:
    """Rate and policy of the program, by model."""
    header = [
        "model",
        "program's rate against the optimum",
        "its policy against the optimum",
        "fit of S(b)",
        "CPU seconds, median",
    ]
    lines = []
    each = scenarios(rows)
    for model in [*packaged_scenarios(), "all"]:
        mine = [r for r in each if model in (r["model"], "all")]
        rate = [100 * (float(r["relaxed_qps"]) / float(r["exact_qps"]) - 1) for r in mine]
        policy = [100 * (float(r["policy_qps"]) / float(r["exact_qps"]) - 1) for r in mine]
        median, worst = (100 * max(float(r[name]) for r in mine) for name in ("fit_median", "fit_worst"))
        lines.append(
            [
                model,
                f"{min(rate):+.1f} .. {max(rate):+.1f} %, half of them within {np.median(np.abs(rate)):.1f} %",
                f"{min(policy):+.1f} .. {max(policy):+.1f} %",
                f"{median:.1f} % median, {worst:.0f} % worst",
                f"{np.median([float(r['program_cpu_s']) for r in mine]):.2f}",
            ]
        )
    near = sum(float(r["policy_qps"]) >= 0.99 * float(r["exact_qps"]) for r in each)
    title = f"Geometric program against the proven optimum; its policy is within 1 % in {near} of {len(each)} scenarios"
    return ".. made by python -m studies.shadow_prices; do not edit\n\n" + listing(title, header, lines)


def warm_start(rows: Rows) -> str:
    """What the search saves when it begins with the program's policy."""
    each = scenarios(rows)
    cold, warm = (sum(int(r[name]) for r in each) for name in ("search_evaluations", "warm_evaluations"))
    total = {name: sum(float(r[name]) for r in each) for name in ("search_cpu_s", "warm_cpu_s", "program_cpu_s")}
    fewer = sum(int(r["warm_evaluations"]) < int(r["search_evaluations"]) for r in each)
    more = sum(int(r["warm_evaluations"]) > int(r["search_evaluations"]) for r in each)
    return (
        ".. made by python -m studies.shadow_prices; do not edit\n\n"
        f"Over the {len(each)} scenarios the search proves its answers in {cold:,} evaluations; "
        f"when it looks at the\npolicy of the program first it takes {warm:,}: fewer in {fewer} scenarios, "
        f"more in {more}.\nIn CPU time: {total['search_cpu_s']:.1f} s from cold, {total['warm_cpu_s']:.1f} s from the "
        f"program's policy, and {total['program_cpu_s']:.1f} s for the\nprograms.\n"
    )


def draw(rows: Rows) -> None:
    """Each price against the exact one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(2, 4).ravel()
    for axes, (name, label) in zip(panels, RESOURCES.items(), strict=False):
        mine = [r for r in rows if r["resource"] == name]
        least = NEGLIGIBLE / 10
        for bound, colour in (("latency", "tab:blue"), ("saturation", "tab:orange")):
            some = [r for r in mine if r["bound_by"] == bound]
            scale = [float(r["amount"]) / float(r["exact_qps"]) for r in some]
            x = [max(exact_price(r) * s, least) for r, s in zip(some, scale, strict=True)]
            y = [max(float(r["price"]) * s, least) for r, s in zip(some, scale, strict=True)]
            axes.plot(x, y, "o", color=colour, ms=4, alpha=0.6, label=f"{bound} binds")
        ends = np.array([least, 3.0])
        axes.fill_between(ends, (1 - AGREES) * ends, (1 + AGREES) * ends, color="0.85", lw=0)
        axes.plot(ends, ends, color="0.5", lw=0.8)
        axes.axvspan(least, NEGLIGIBLE, color="0.95", lw=0, zorder=0)
        axes.axhspan(least, NEGLIGIBLE, color="0.95", lw=0, zorder=0)
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=label)
        axes.set_aspect("equal")
    panels[0].legend(fontsize=8, loc="upper left")
    panels[-1].axis("off")
    panels[-1].text(
        0,
        0.5,
        "gain for one more,\nas a share of the rate\ntimes the amount there is\n(elasticity for small steps)\n\n"
        "dark band: within 25 %\nlight band: counts as none,\nthe least is drawn at its edge",
        va="center",
        fontsize=9,
    )
    figure.supxlabel("proven optimum, by differences")
    figure.supylabel("geometric program")
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


def write(rows: Rows) -> None:
    """Renew tables and picture."""
    TABLE.write_text(table(rows))
    RATES.write_text(rates(rows))
    WARM.write_text(warm_start(rows))
    draw(rows)


def run(cases: Sequence[Case], rows: Rows, seconds: float) -> Rows:
    """Add the scenarios that are missing, in order, until the time is over."""
    end = time.monotonic() + seconds
    known = {(r["model"], r["target"], r["accelerator"]) for r in rows}
    for case in cases:
        if case.key in known:
            continue
        if time.monotonic() > end:
            break
        rows = [*rows, *({k: str(v) if not isinstance(v, float) else f"{v:.6g}" for k, v in row.items()}
                         for row in rows_of(case))]  # fmt: skip
        write_rows(CSV, rows, 6)
        print(*case.key, flush=True)
    return rows


def main() -> None:
    """Work on what is missing, then write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no scenario after so long")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--again", action="store_true", help="only measure policies, evaluations and times again")
    parser.add_argument("--write", action="store_true", help="only write tables and picture")
    options = parser.parse_args()
    rows: Rows = [] if options.fresh or not CSV.exists() else read_rows(CSV)
    if options.again:
        rows = again(rows)
    elif not options.write:
        rows = run(CASES, rows, options.seconds)
    if len(scenarios(rows)) < len(CASES):
        print(f"{len(scenarios(rows))} of {len(CASES)} scenarios; run again for the others")
        return
    order = {case.key: i for i, case in enumerate(CASES)}
    rows = sorted(rows, key=lambda r: order[r["model"], r["target"], r["accelerator"]])
    write_rows(CSV, rows, 6)
    if not options.write:
        save_record(CSV.with_suffix(".json"), command_line("studies.shadow_prices"), scenarios=len(CASES))
    write(rows)
    check(rows)


if __name__ == "__main__":
    main()
