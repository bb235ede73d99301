"""What the study of the optimizer shows: claim, summary, table and picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.accuracy_table import listing
from studies.record import DOCS, RESULTS, command_line, save_record
from studies.simulated_rates import FINE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JSON, PICTURE = RESULTS / "optimizer.json", RESULTS / "optimizer.png"
TABLE, SUMMARY = DOCS / "studies" / "optimizer_table.inc", DOCS / "studies" / "optimizer_summary.inc"
GAP = 0.01
"""Most that the chosen policy may lack of the best simulated one."""
BASELINES = {
    "static": "static",
    "hill_climb": "clean hill climb",
    "repaired": "published climb",
    "as_published": "with its fault",
    "random_search": "random search",
}
Line = Mapping[str, Any]


def rates(line: Line, name: str) -> list[float]:
    """Simulated rates of a baseline, one for each seed."""
    simulated = line["simulated"]
    if name in ("repaired", "as_published"):
        return [simulated[f"{name} {i}"]["qps"] for i in range(len(line[name]))]
    return [simulated[name]["qps"] if name in simulated else 0.0]


def sub_requests(line: Line, name: str) -> float:
    """Sub-requests that a baseline simulated to choose, median over seeds."""
    if name in ("repaired", "as_published"):
        return float(np.median([climb["sub_requests"] for climb in line[name]]))
    return float(line["baselines"][name]["sub_requests"])


def check(lines: Mapping[str, Line]) -> None:
    """Assert the claim: a gap or a baseline beyond it by more than its own error contradicts."""
    for line in lines.values():
        found, own = line["exhaustive"], line["simulated"]["formula"]
        assert line["feasible"], line["case"]
        assert found["gap"] - found["gap_error"] <= GAP, line["case"]
        assert own["half_width"] <= FINE, line["case"]
        for name in BASELINES:
            for i, other in enumerate(rates(line, name)):
                key = f"{name} {i}" if name in ("repaired", "as_published") else name
                error = own["half_width"] + line["simulated"].get(key, own)["half_width"]
                assert own["qps"] >= other * (1 - max(error, 0.002)), (line["case"], name)


def facts(lines: Mapping[str, Line]) -> dict[str, Any]:
    """Summary over all cases."""
    all_ = list(lines.values())
    own = np.array([line["simulated"]["formula"]["qps"] for line in all_])
    shares = {name: np.array([np.median(rates(line, name)) for line in all_]) / own for name in BASELINES}
    at_margin = [line for line in all_ if line["simulated"]["formula"]["half_width"] == 0]
    return {
        "cases": len(all_),
        "median_gap": float(np.median([line["exhaustive"]["gap"] for line in all_])),
        "largest_gap": max(line["exhaustive"]["gap"] for line in all_),
        "largest_gap_case": max(all_, key=lambda line: line["exhaustive"]["gap"])["case"],
        "at_the_margin": len(at_margin),
        "ties_at_the_margin": [line["exhaustive"]["ties"] for line in at_margin],
        "share_of_ours": {
            name: {"median": float(np.median(s)), "least": float(s.min()), "most": float(s.max())}
            for name, s in shares.items()
        },
        "sub_requests": {
            name: {"median": float(np.median([sub_requests(line, name) for line in all_]))} for name in BASELINES
        }
        | {
            "ours": {"median": 0.0},
            "verification": {"median": float(np.median([x["answer"]["verification_sub_requests"] for x in all_]))},
            "exhaustive": {
                "median": float(
                    np.median([x["exhaustive"]["sub_requests"] + x["exhaustive"]["long_sub_requests"] for x in all_])
                )
            },
        },
        "believed_over_true": believed(all_),
        "verified": sum(line["answer"]["verdict"] == "pass" for line in all_),
        "verified_share": min(x["answer"]["verified_qps"] / x["simulated"]["answer"]["qps"] for x in all_),
        "seconds_to_find": {
            "median": float(np.median([line["formula"]["seconds"] for line in all_])),
            "most": max(line["formula"]["seconds"] for line in all_),
        },
    }


def believed(lines: list[Line]) -> dict[str, float]:
    """What the published climb believes over what its policy carries: quartiles over all cases and seeds."""
    ratios = [
        climb["believed_qps"] / rate
        for line in lines
        for climb, rate in zip(line["repaired"], rates(line, "repaired"), strict=True)
        if rate > 0
    ]
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return {"quarter": float(low), "median": float(middle), "three_quarters": float(high), "most": max(ratios)}


def summary(f: Mapping[str, Any]) -> str:
    """The findings as reStructuredText."""
    b, effort, shares = f["believed_over_true"], f["sub_requests"], f["share_of_ours"]
    margin, ties = f["at_the_margin"], f["ties_at_the_margin"]
    tied = f", where {min(ties)} to {max(ties)} policies tie within 0.3 %" if ties else ""
    points = [
        f"**Gap.** The policy that the formulas choose carries at most {f['largest_gap']:.2%} less than the best one "
        f"by exhaustive simulation ({f['largest_gap_case']}); over {f['cases']} cases the median is "
        f"{f['median_gap']:.2%}.",
        f"**Verification.** {f['verified']} of {f['cases']} answers are verified, at no less than "
        f"{f['verified_share']:.1%} of the rate that long simulations find for the policy.",
        f"**Effort.** Finding the policy takes no simulation and {f['seconds_to_find']['median']:.1f} s (at most "
        f"{f['seconds_to_find']['most']:.1f} s). In the median the published climb simulates "
        f"{effort['repaired']['median']:,.0f} sub-requests, the clean one {effort['hill_climb']['median']:,.0f}, our "
        f"verification {effort['verification']['median']:,.0f}, and the exhaustive search "
        f"{effort['exhaustive']['median']:,.0f}.",
        f"**Belief.** In half of its runs the published climb believes in {b['quarter']:.2f} to "
        f"{b['three_quarters']:.2f} times the rate that its policy carries (median {b['median']:.2f}, at most "
        f"{b['most']:.1f}).",
        f"**Loose bounds.** In {margin} cases the margin to saturation stops the rate and not the latency{tied}: how "
        "queries are cut hardly matters there, only the work does.",
    ]
    rows = [
        [label, *(f"{shares[name][key]:.1%}" for key in ("median", "least", "most"))]
        for name, label in BASELINES.items()
    ]
    table = listing("Rate over that of our policy, by simulation", ["baseline", "median", "least", "most"], rows)
    lines = [".. made by python -m studies.optimizer; do not edit", "", *(f"- {point}" for point in points), "", table]
    return "\n".join(lines)


def _policy(knobs: list[int | None]) -> str:
    return f"{knobs[0]}, {'never' if knobs[1] is None else knobs[1]}"


def cells(line: Line) -> list[str]:
    """One row as shown."""
    own, found = line["simulated"]["formula"], line["exhaustive"]
    width = f" ± {own['half_width']:.1%}" if own["half_width"] else ", at the margin"
    return [
        f"{line['model']}{'' if line['accelerator'] else ', CPU only'}",
        f"{line['sla_ms']:g}",
        _policy(line["formula"]["policy"]),
        f"{line['answer']['verified_qps']:,.0f}",
        f"{own['qps']:,.0f}{width}",
        _policy(found["best"]["policy"]),
        f"{100 * found['gap']:.2f} %",
        *(_gain(own["qps"], rates(line, name)) for name in BASELINES),
        f"{sub_requests(line, 'repaired') / 1e3:,.0f} k",
        f"{line['answer']['verification_sub_requests'] / 1e6:,.1f} M",
    ]


def _gain(own: float, others: list[float]) -> str:
    """Our rate over that of a baseline: of several seeds the least and the most."""
    gains = sorted(own / q if q > 0 else np.inf for q in others)
    shown = ["∞" if np.isinf(g) else f"{g:.2f}" if g < 10 else f"{g:.0f}" for g in gains]
    return shown[0] if shown[0] == shown[-1] else f"{shown[0]} .. {shown[-1]}"


HEADER = [
    "model", "p95 bound (ms)", "our batch size, threshold", "verified (queries/s)", "simulated (queries/s)",
    "best simulated", "gap", *(f"gain over {label}" for label in BASELINES.values()),
    "sub-requests, published climb", "sub-requests, our verification",
]  # fmt: skip


def text(lines: Mapping[str, Line]) -> str:
    """The table as reStructuredText."""
    title = "The optimizer against exhaustive simulation and its baselines"
    ordered = sorted(lines.values(), key=lambda x: (x["model"], not x["accelerator"], x["sla_ms"]))
    return "\n".join(
        [".. made by python -m studies.optimizer; do not edit", "", listing(title, HEADER, [cells(x) for x in ordered])]
    )


def draw(lines: Mapping[str, Line]) -> Figure:
    """What each baseline carries over ours, and what each method simulates."""
    import matplotlib.pyplot as plt

    all_ = sorted(lines.values(), key=lambda x: np.median(rates(x, "hill_climb")) / x["simulated"]["formula"]["qps"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), width_ratios=(1.7, 1), layout="constrained")
    x = np.arange(len(all_))
    left.axhline(1, color="0.4", lw=1)
    for i, (name, label) in enumerate(BASELINES.items()):
        shares = [np.array(rates(line, name)) / line["simulated"]["formula"]["qps"] for line in all_]
        places = np.concatenate([np.full(len(s), at) for at, s in zip(x, shares, strict=True)])
        values = np.maximum(np.concatenate(shares), 3e-3)
        left.plot(places, values, "ov^sD"[i], ms=3.5, alpha=0.7, label=label, color=f"C{i}")
    best = [line["exhaustive"]["best"]["qps"] / line["simulated"]["formula"]["qps"] for line in all_]
    left.plot(x, best, "k_", ms=7, label="best by exhaustive simulation")
    left.set(yscale="log", xlabel="case, in the order of the clean hill climb", ylabel="rate over that of our policy")
    left.set_yticks([0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 1], ["0.01", "0.03", "0.1", "0.3", "0.5", "0.7", "1"])
    left.legend(fontsize=7, loc="lower right")
    effort = {
        label: [sub_requests(line, name) for line in all_] for name, label in BASELINES.items() if name != "static"
    }
    effort["our verification"] = [line["answer"]["verification_sub_requests"] for line in all_]
    effort["exhaustive"] = [e["sub_requests"] + e["long_sub_requests"] for e in (line["exhaustive"] for line in all_)]
    for i, counts in enumerate(effort.values()):
        right.plot(counts, np.full(len(counts), i) + np.linspace(-0.25, 0.25, len(counts)), ".", ms=4, color="C0")
        right.plot(np.median(counts), i, "k|", ms=16)
    right.set(xscale="log", xlabel="sub-requests simulated in each case")
    right.set_yticks(range(len(effort)), list(effort))
    right.invert_yaxis()
    return figure


def report(lines: Mapping[str, Line]) -> None:
    """Write JSON, table and picture, and check the claim."""
    ordered = [lines[name] for name in sorted(lines)]
    cases = [{k: v for k, v in line.items() if k not in ("versions", "cpus")} for line in ordered]
    machines = sorted({(str(line["versions"]), line["cpus"]) for line in lines.values()})
    save_record(JSON, command_line("studies.optimizer"), summary=facts(lines), machines=machines, cases=cases)
    TABLE.write_text(text(lines))
    SUMMARY.write_text(summary(facts(lines)))
    draw(lines).savefig(PICTURE, dpi=130)
    check(lines)
