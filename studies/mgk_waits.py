"""The 95th percentile of the wait in M/G/k: formula against precise references.

Claim: over 60 queues (k 1 to 64, utilization 0.5 to 0.95; constant, Erlang, exponential, log-normal and
hyperexponential service) no cell fails, and p95 of the wait is within 0.5 % of a precise reference in the median and
5 % at worst.

References never come from the code under test: transform inversion for one server, chains solved by brute force
(``studies.truncated_chains``) for constant, Erlang, exponential and hyperexponential service, and simulation
(``studies.kiefer_wolfowitz``) for the rest. ``python -m studies.mgk_waits`` writes ``studies/results/mgk_waits.csv``,
its record ``mgk_waits.json`` and the table ``docs/mgk_waits_table.inc``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from recqueue.queueing.distribution import Distribution
from recqueue.queueing.erlang import mmk
from recqueue.queueing.general_service import mgk
from recqueue.queueing.inversion import tail_from_laplace
from recqueue.queueing.mg1 import mg1, mg1_transforms
from studies.accuracy_table import listing
from studies.kiefer_wolfowitz import wait_quantile
from studies.record import DOCS, RESULTS, command_line, read_rows, save_record, write_rows
from studies.truncated_chains import constant_quantile, two_phase_quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CSV, RECORD = RESULTS / "mgk_waits.csv", RESULTS / "mgk_waits.json"
TABLE = DOCS / "mgk_waits_table.inc"
SERVERS, UTILIZATIONS = (1, 4, 16, 64), (0.5, 0.8, 0.95)
P = 0.95
EXPONENTIAL_TWICE = (np.array([0.5, 0.5]), -np.eye(2))
ERLANG_2 = (np.array([1.0, 0.0]), np.array([[-2.0, 2.0], [0.0, -2.0]]))


def hyperexponential(scv: float) -> tuple[np.ndarray, np.ndarray]:
    """Balanced means, mean 1 s."""
    p = (1 + np.sqrt((scv - 1) / (scv + 1))) / 2
    return np.array([p, 1 - p]), -np.diag([2 * p, 2 * (1 - p)])


def lognormal(scv: float) -> Any:
    """Mean 1 s."""
    s = np.sqrt(np.log1p(scv))
    return stats.lognorm(s, scale=np.exp(-s * s / 2))


ASKED: dict[str, Any] = {
    "constant": 1.0,
    "Erlang-2": ERLANG_2,
    "exponential": stats.expon(),
    "log-normal, cv 1.5": lognormal(2.25),
    "hyperexponential, cv 3": hyperexponential(9.0),
}
"""Service laws of the claim, mean 1 s."""
MORE: dict[str, Any] = {
    "uniform": stats.uniform(0.0, 2.0),
    "log-normal, cv 0.5": lognormal(0.25),
    "gamma, cv 2": stats.gamma(0.25, scale=4.0),
}
"""Further laws, to see how far the matching carries; not part of the claim."""


def chain_reference(name: str, servers: int, rho: float, near_s: float) -> float:
    """p95 of the wait by brute force."""
    rate = rho * servers
    if name == "constant":
        return constant_quantile(rate, servers, P, states=6 * servers + 900)
    service = EXPONENTIAL_TWICE if name == "exponential" else ASKED[name]
    scv = Distribution.of(service).scv
    levels = int(16 * (1 + scv) / 2 / (1 - rho)) + 40
    return two_phase_quantile(rate, *service, servers, P, levels=levels, near_s=near_s or 0.01)


def inversion_reference(service: Any, rho: float, near_s: float) -> float:
    """p95 of the wait on one server by transform inversion."""
    wait, _ = mg1_transforms(rho, service)

    def excess(t: float) -> float:
        return float(tail_from_laplace(wait, t)) - (1 - P)

    return float(brentq(excess, 0.8 * near_s, 1.2 * near_s, rtol=1e-8))


def simulated_reference(
    service: Any, servers: int, rho: float, *, batches: int, jobs: int
) -> tuple[float, float, float]:
    """p95 of the wait by simulation, its half-width, and the share of delayed jobs."""
    scaled = Distribution.of(service).scaled(1 / servers)
    found = wait_quantile(
        rho * servers,
        service,
        servers,
        P,
        fast_exact_s=float(mg1(rho * servers, scaled).wait.quantile(P)),
        markov_exact_s=float(mmk(rho * servers, 1.0, servers).wait.quantile(P)),
        jobs=jobs,
        batches=batches,
        seed=servers * 1000 + round(100 * rho),
    )
    return found.value_s, found.half_width_s, found.delayed


def compare(name: str, servers: int, rho: float, *, batches: int, jobs: int = 1_000_000) -> dict[str, Any]:
    """One row of the results."""
    service = (ASKED | MORE)[name]
    found = mgk(rho * servers, service, servers).wait
    p95 = float(found.quantile(P))
    half = delayed = float("nan")
    if servers == 1 and name != "constant":
        by, reference = "inversion", inversion_reference(service, rho, p95)
    elif name in ASKED and name != "log-normal, cv 1.5":
        by, reference = "chain", chain_reference(name, servers, rho, p95)
    else:
        by = "simulation"
        reference, half, delayed = simulated_reference(service, servers, rho, batches=batches, jobs=jobs)
    return {
        "service": name,
        "asked": name in ASKED,
        "servers": servers,
        "rho": rho,
        "p95_formula_s": p95,
        "p95_reference_s": reference,
        "half_width_s": half,
        "reference": by,
        "delayed_formula": 1 - found.atom,
        "delayed_simulated": delayed,
    }


def error(row: dict[str, str]) -> float:
    """Relative error of p95; 0 where both say that 95 % do not wait, infinite where only the reference does."""
    formula, reference = float(row["p95_formula_s"]), float(row["p95_reference_s"])
    if reference == 0:
        return 0.0 if formula == 0 else float("inf")
    return formula / reference - 1


def half_width(row: dict[str, str]) -> float:
    """Half-width of the reference relative to it; 0 for references that are not simulated."""
    half, reference = float(row["half_width_s"]), float(row["p95_reference_s"])
    return half / reference if np.isfinite(half) and reference > 0 else 0.0


def cells() -> Iterator[tuple[str, int, float]]:
    """Every queue of the study."""
    for name in ASKED | MORE:
        for k in SERVERS:
            for rho in UTILIZATIONS:
                yield name, k, rho


def read(file: Path = CSV) -> list[dict[str, str]]:
    """Rows of the committed run."""
    return read_rows(file)


def text(rows: Sequence[dict[str, str]]) -> str:
    """The tables of the documentation."""
    groups: list[tuple[str, Callable[[dict[str, str]], bool]]] = [("all five", lambda r: r["asked"] == "True")]
    groups += [(name, lambda r, name=name: r["service"] == name) for name in ASKED]
    groups += [(f"{name} (not part of the claim)", lambda r, name=name: r["service"] == name) for name in MORE]
    body = []
    for label, inside in groups:
        chosen = [r for r in rows if inside(r)]
        e = 100 * np.abs([error(r) for r in chosen])
        by = sorted({r["reference"] for r in chosen})
        half = 100 * max(half_width(r) for r in chosen)
        body.append([label, str(len(chosen)), f"{np.median(e):.2f}", f"{e.max():.2f}", ", ".join(by), f"{half:.2f}"])
    worst = sorted(rows, key=lambda r: -abs(error(r)))[:6]
    lines = [
        [r["service"], r["servers"], r["rho"], f"{float(r['p95_formula_s']):.5f}", f"{float(r['p95_reference_s']):.5f}",
         f"{100 * error(r):+.2f}", f"{100 * half_width(r):.2f}"]
        for r in worst
    ]  # fmt: skip
    return "\n".join(
        [
            ".. made by python -m studies.mgk_waits; do not edit",
            "",
            listing(
                "Absolute error of p95 of the wait, per cent",
                ["service", "queues", "median", "worst", "reference", "half-width, worst"],
                body,
            ),
            listing(
                "The six largest errors",
                ["service", "k", "utilization", "formula (s)", "reference (s)", "error (%)", "half-width (%)"],
                lines,
            ),
        ]
    )


def draw(rows: Sequence[dict[str, str]], ax: Axes) -> None:
    """Error of p95 by service law and utilization, with the interval of simulated references; the target shaded."""
    names = list(ASKED | MORE)
    for i, rho in enumerate(UTILIZATIONS):
        chosen = [r for r in rows if float(r["rho"]) == rho]
        x = [
            names.index(r["service"]) + (i - 1) * 0.25 + (SERVERS.index(int(r["servers"])) - 1.5) * 0.05 for r in chosen
        ]
        e, half = (100 * np.array([f(r) for r in chosen]) for f in (error, half_width))
        ax.errorbar(x, e, yerr=half, fmt="o", ms=3, lw=0.8, label=f"utilization {rho:g}")
    ax.axhspan(-5, 5, color="0.93", zorder=0, label="target: 5 % at worst")
    ax.axhline(0, color="0.5", lw=0.6)
    ax.set_xticks(range(len(names)), [n.replace(", ", ",\n") for n in names], fontsize="small")
    ax.set_ylabel("error of p95 of the wait (%)")
    ax.set_xlabel("service law; within each group k = 1, 4, 16, 64 from left to right")
    ax.legend(fontsize="small")


def main() -> None:
    """Run at full size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--batches", type=int, default=60, help="of a million jobs, in each simulated queue of the claim"
    )
    parser.add_argument("--batches-more", type=int, default=12, help="the same for the further laws")
    parser.add_argument(
        "--sharpen",
        type=float,
        help="only renew queues of the claim whose relative half-width in the file is above this",
    )
    a = parser.parse_args()
    rows: list[dict[str, Any]] = list(read()) if a.sharpen else []
    for i, row in enumerate(rows):
        if row["asked"] == "True" and half_width(row) > a.sharpen:
            rows[i] = compare(row["service"], int(row["servers"]), float(row["rho"]), batches=a.batches)
            print(rows[i], flush=True)
    for name, k, rho in [] if a.sharpen else cells():
        rows.append(compare(name, k, rho, batches=a.batches if name in ASKED else a.batches_more))
        print(rows[-1], flush=True)
    write_rows(CSV, rows, 7)
    save_record(
        RECORD,
        command_line("studies.mgk_waits"),
        percentile=P,
        batches=a.batches,
        batches_more=a.batches_more,
        earlier=json.loads(RECORD.read_text()) if a.sharpen else None,
        jobs_per_batch=1_000_000,
    )
    TABLE.write_text(text(read()))
    print(f"wrote {CSV.name} and {TABLE.name}")


if __name__ == "__main__":
    main()
