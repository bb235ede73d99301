"""DLRM-RMC1: where the best policy lies, and whether its promise holds.

Claim: the simulator confirms the rate of the policy that ``recqueue.optimize`` finds; by formula no policy of the map
carries over 1 % more, and neither baseline does by simulation; and the formula's p95 is within 6 % of the simulated
one, or, where latency rises steeply, right at a rate within 1 %.

``python -m studies.dlrm_rmc1`` runs it at full size and writes ``studies/results/dlrm-rmc1.json``; the documentation
runs it at small size. Both check the claim.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recqueue import evaluate, load_scenario, optimize, simulate
from recqueue.analysis.pools import Costs
from recqueue.analysis.rates import largest_rate
from recqueue.io import scenario_from_mapping
from recqueue.optimize import Optimization
from recqueue.serving import Performance, Policy, Scenario
from studies.record import RESULTS, command_line, save_record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIES = 2e-3
"""Rates closer than this are equal: the smallest step back of the verification is 0.25 %."""
OPTIMISM = 0.01
"""A rate of the map is by formula and may be optimistic; near saturation 6 % of p95 are less than 1 % of the rate."""
RATE_ERROR = 0.01
"""Where latency rises steeply, an error of more than 6 % in p95 is one of less than 1 % in the rate."""
FORMULA_ERROR = 0.06
"""The accuracy that the formulas are documented with (docs/accuracy.rst)."""
NARROW = 0.09
"""Relative half-width of p95 that the simulations go on to; an interval above 10 % would not mean much."""
SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Simulated rates, as shares of the largest."""
BASELINE_LABELS = {
    "static": "static",
    "hill_climb": "hill climb",
    "published_hill_climb": "published",
    "random_search": "random",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """What was found for one scenario."""

    found: Optimization
    batch_sizes: list[int]
    thresholds: list[int | None]
    rates: NDArray[np.float64]
    formula: list[Performance]
    simulated: list[Performance]


def epyc() -> Scenario:
    """DLRM-RMC1 on two cores whose service times were measured; nothing is modelled here but the queue."""
    return scenario_from_mapping(
        {
            "schema": 1,
            "model": "dlrm-rmc1",
            "server": {"cpu": "epyc-2c", "cores": 2, "contention": "measured"},
            "accelerator": None,
            "workload": {"sizes": {"distribution": "mlperf"}, "arrivals": {"process": "poisson"}},
            "sla": {"percentile": 95, "latency_ms": 100},
        }
    )


def run(scenario: Scenario, *, ratio: float, queries: int, seed: int = 0) -> Study:
    """Optimize, map all thresholds over batch sizes a factor ``ratio`` apart, and follow p95 up to the largest rate.

    ``queries`` is what a simulation without load takes; busier ones take more, since their queues forget more slowly,
    and all go on until their interval is narrow.
    """
    found = optimize(scenario, seed=seed)
    assert found.policy is not None
    costs, largest = Costs.of(scenario), scenario.sizes.max_items
    batch_sizes = np.unique(np.geomspace(1, largest, round(np.log(largest) / np.log(ratio)) + 1).round().astype(int))
    sizes = [int(n) for n in np.flatnonzero(scenario.sizes.pmf)]
    thresholds: list[int | None] = [*sizes, None] if scenario.system.accelerator else [None]
    rates = np.array([[largest_rate(scenario, Policy(int(b), t), costs) for b in batch_sizes] for t in thresholds])
    chosen = replace(scenario, policy=found.policy)
    return Study(
        found=found,
        batch_sizes=batch_sizes.tolist(),
        thresholds=thresholds,
        rates=rates,
        formula=[evaluate(chosen, qps=found.formula_qps * share) for share in (*np.linspace(0.05, 0.95, 19), 0.975, 1)],
        simulated=[
            simulate(
                chosen,
                qps=found.qps * share,
                queries=round(queries * (1.05 - share) ** -2),
                half_width=NARROW,
                seed=seed * 1000 + 500 + i,
            )
            for i, share in enumerate(SHARES)
        ],
    )


def check(study: Study) -> None:
    """Assert the claim.

    The formula is held against the simulated interval, whose half-width must stay below 10 % for that to
    mean something.
    """
    found = study.found
    assert study.rates.max() <= found.qps * (1 + OPTIMISM), (study.rates.max(), found.qps)
    assert found.verification is not None
    assert found.verification.verdict == "pass"
    assert found.qps >= max(b.qps for b in found.baselines.values()) * (1 - TIES), found.baselines
    chosen = replace(found.scenario, policy=found.policy)
    for performance in study.simulated:
        low, high = performance.interval_s["p95"]
        before, formula, after = (
            evaluate(chosen, qps=performance.qps * factor).latency_s["p95"]
            for factor in (1 - RATE_ERROR, 1, 1 + RATE_ERROR)
        )
        assert (high - low) / 2 <= 0.1 * performance.latency_s["p95"], (performance.qps, low, high)
        close = low * (1 - FORMULA_ERROR) <= formula <= high * (1 + FORMULA_ERROR)
        assert close or before <= high <= after or before <= low <= after, (performance.qps, low, high, formula)


def draw_map(study: Study, ax: Axes) -> None:
    """Largest rate over both knobs, with the optimum and the baselines."""
    from recqueue.plotting import qps_heatmap

    baselines = {BASELINE_LABELS[name]: b.policy for name, b in study.found.baselines.items() if b.policy is not None}
    qps_heatmap(ax, study.batch_sizes, study.thresholds, study.rates, optimum=study.found.policy, baselines=baselines)


def draw_rates(study: Study, ax: Axes) -> None:
    """Largest rate against the batch size without an accelerator, with the optimum and the baselines."""
    ax.plot(study.batch_sizes, study.rates[-1], "-", color="0.4", label="largest rate by formula, never offload")
    assert study.found.policy is not None
    ax.plot(study.found.policy.batch_size, study.found.qps, "*", ms=15, color="tab:red", mec="black", ls="none",
            label=f"optimum, verified: {study.found.policy}")  # fmt: skip
    for (name, b), marker in zip(study.found.baselines.items(), "s^Dv", strict=False):
        if b.policy is not None:
            ax.plot(b.policy.batch_size, b.qps, marker, ms=8, mfc="white", mec="black", ls="none",
                    label=f"{BASELINE_LABELS[name]}: {b.policy}")  # fmt: skip
    ax.set(xscale="log", xlabel="batch size (items per sub-request)", ylabel="largest rate within the SLA (queries/s)")
    ax.set_ylim(0, None)
    ax.legend(fontsize="small")


def draw_latency(study: Study, ax: Axes) -> None:
    """p95 against the rate under the optimum: formula, simulation, promise."""
    from recqueue.plotting import latency_against_qps

    found = study.found
    latency_against_qps(
        ax, study.formula, study.simulated, found.scenario.sla, max_qps=found.qps, label=str(found.policy)
    )
    ax.set_yscale("log")
    ax.set_ylim(0.5e3 * study.formula[0].latency_s["p95"], 2e3 * found.scenario.sla.latency_s)


def as_record(study: Study) -> dict[str, Any]:
    """The numbers, for a file."""
    found = study.found
    assert found.verification is not None
    return {
        "policy": found.policy and asdict(found.policy),
        "qps": found.qps,
        "formula_qps": found.formula_qps,
        "verdict": found.verification.verdict,
        "interval_s": found.verification.interval_s,
        "baselines": {name: asdict(b) for name, b in found.baselines.items()},
        "map": {"batch_sizes": study.batch_sizes, "thresholds": study.thresholds, "qps": study.rates.round(2).tolist()},
        "formula": [{"qps": p.qps, "p95_s": p.latency_s["p95"]} for p in study.formula],
        "simulated": [
            {"qps": p.qps, "p95_s": p.latency_s["p95"], "interval_s": p.interval_s["p95"], "queries": p.queries}
            for p in study.simulated
        ],
        "provenance": {
            "cpu": found.scenario.system.service.provenance,
            "accelerator": found.scenario.system.accelerator and found.scenario.system.accelerator.service.provenance,
        },
    }


def main() -> None:
    """Run at full size, check the claim, keep the numbers and the pictures."""
    from matplotlib.figure import Figure

    seed, ratio, queries = 0, 1.2, 40_000
    records = {}
    for name, scenario in (("xeon-16c + h200", load_scenario("dlrm-rmc1")), ("epyc-2c", epyc())):
        study = run(scenario, ratio=ratio, queries=queries, seed=seed)
        records[name] = as_record(study)
        check(study)
        if name == "epyc-2c":
            continue
        figure = Figure(figsize=(12.0, 5.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_map(study, left)
        draw_latency(study, right)
        figure.suptitle("DLRM-RMC1, 16 Xeon cores and an H200 (service times measured)")
        figure.savefig(RESULTS / "dlrm-rmc1.png", dpi=110, metadata={"Software": None})
    command = command_line("studies.dlrm_rmc1")
    save_record(
        RESULTS / "dlrm-rmc1.json",
        command,
        seed=seed,
        batch_size_ratio=ratio,
        queries_per_point=queries,
        results=records,
    )


if __name__ == "__main__":
    main()
