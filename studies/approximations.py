"""Two-moment approximations against exact queues.

Claim: over k 1..64 and utilizations .3 to .95, the best formula for Poisson arrivals is within 1 % of the exact mean
wait in every cell while the service SCV is at most 1; beyond, every formula misses by 40 % somewhere.

``python -m studies.approximations`` solves every cell exactly (M/PH/k, M/D/k, GI/M/k, MAP/PH/k) and writes
``studies/results/approximations.csv``, its record ``approximations.json`` and the tables
``docs/theory/approximations_table.inc``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import OutOfValidityError
from recqueue.queueing import approximations as two_moment
from recqueue.queueing.arrival_processes import MAP
from recqueue.queueing.constant_service import mdk
from recqueue.queueing.interpolation import mxgk
from recqueue.queueing.phase_service import mapphk
from recqueue.queueing.renewal_arrivals import gimk
from recqueue.queueing.steady_state import SteadyState
from recqueue.queueing.variability import effective_scv
from recqueue.queueing.whitt import whitt_delay_probability, whitt_mean_wait_s, whitt_wait
from studies.accuracy_table import listing
from studies.record import DOCS, RESULTS, command_line, read_rows, save_record, write_rows

CSV, TABLE = RESULTS / "approximations.csv", DOCS / "theory" / "approximations_table.inc"
Phases = tuple[NDArray[np.float64], NDArray[np.float64]]
SERVERS = (1, 2, 4, 16, 64)
UTILIZATIONS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
RARE = 0.01
"""Cells in which fewer jobs wait are left out: an error of 10 % of next to nothing says nothing."""


def erlang(stages: int) -> Phases:
    """Erlang law of mean 1, SCV 1 / stages."""
    rate = float(stages)
    return np.eye(1, stages)[0], np.diag(np.full(stages, -rate)) + np.diag(np.full(stages - 1, rate), 1)


def hyperexponential(scv: float, short: float = 0.5) -> Phases:
    """Two exponentials, mean 1 and that SCV; jobs of the shorter kind bring the share ``short`` of the work.

    1/2 is balanced means; more makes the third moment larger.
    """
    # p the share of short jobs: E S^2 / 2 = short^2 / p + (1 - short)^2 / (1 - p) = (scv + 1) / 2
    half = (scv + 1) / 2
    roots = np.roots([half, -(half + short**2 - (1 - short) ** 2), short**2])
    p = float(max(roots.real))
    return np.array([p, 1 - p]), np.diag([-p / short, -(1 - p) / (1 - short)])


LAWS: dict[str, tuple[Phases | None, float]] = {
    "D": (None, 0.0),
    "E4": (erlang(4), 0.25),
    "E2": (erlang(2), 0.5),
    "M": (erlang(1), 1.0),
    "H2 scv 2": (hyperexponential(2.0), 2.0),
    "H2 scv 4": (hyperexponential(4.0), 4.0),
    "H2 scv 4, low third moment": (hyperexponential(4.0, 0.1), 4.0),
    "H2 scv 4, high third moment": (hyperexponential(4.0, 0.9), 4.0),
    "H2 scv 9": (hyperexponential(9.0), 9.0),
}
POISSON = [("M", s) for s in LAWS if s != "M"]
RENEWAL = [(a, "M") for a in ("D", "E4", "E2", "H2 scv 4", "H2 scv 9")] + [
    (a, s) for a in ("E2", "H2 scv 4") for s in ("E2", "H2 scv 4")
]
BURSTS = {"MMPP, I = 1.9": 10.0, "MMPP, I = 10": 1.0}
"""Speed at which a Poisson process switches between rates of 1 : 10."""


def bursts(name: str, rate: float) -> MAP:
    """The Markov-modulated Poisson process of that name."""
    switching = np.array([[-0.1, 0.1], [0.2, -0.2]]) / 1.2
    base = MAP.mmpp([0.25, 2.5], switching * BURSTS[name])
    return base.scaled_to(rate)


def exact(arrivals: str, service: str, servers: int, rho: float) -> SteadyState | None:
    """The cell solved; None where it is too large for that."""
    rate, (law, _) = rho * servers, LAWS[service]
    if law is None:
        return mdk(rate, 1.0, servers)
    if arrivals == "D":
        return gimk(1 / rate, 1.0, servers)
    if arrivals in BURSTS:
        return mapphk(bursts(arrivals, 1.0).scaled_to(rate), law, servers)
    states = 1
    for i in range(1, len(law[0])):
        states = states * (servers + i) // i
    gaps = LAWS[arrivals][0]
    assert gaps is not None
    if states * len(gaps[0]) > 180:
        return None
    return mapphk(MAP.renewal(gaps).scaled_to(rate), law, servers)


def kind(arrivals: str, service: str) -> str:
    """Which traffic a cell belongs to."""
    if arrivals in BURSTS:
        return "MMPP arrivals, exponential service"
    scv = LAWS[service][1]
    if arrivals == "M":
        if "third" in service:
            return "Poisson arrivals, other third moment"
        return "Poisson arrivals, service SCV up to 1" if scv <= 1 else "Poisson arrivals, service SCV 2 to 9"
    return "smooth arrivals" if LAWS[arrivals][1] < 1 else "bursty renewal arrivals"


def guesses(arrivals: str, service: str, servers: int, rate: float, late: float) -> Iterator[tuple[str, str, float]]:
    """(quantity, formula, value) of every formula that is valid in the cell; ``late`` a probability."""
    law, scv = LAWS[service]
    if arrivals in BURSTS:
        ca2 = effective_scv(bursts(arrivals, rate), 1.0, servers, service_scv=scv)
    else:
        ca2 = LAWS[arrivals][1]
    given: Any = {"arrival_scv": ca2, "service_scv": scv}
    means: dict[str, Callable[[], float]] = {
        "Allen-Cunneen": lambda: two_moment.allen_cunneen_mean_wait_s(rate, 1.0, servers, **given),
        "Whitt": lambda: whitt_mean_wait_s(rate, 1.0, servers, **given),
        "Kimura": lambda: two_moment.kimura_mean_wait_s(rate, 1.0, servers, **given),
        "Page": lambda: two_moment.page_mean_wait_s(rate, 1.0, servers, **given),
    }
    if arrivals == "M":
        full: object = 1.0 if law is None else law
        means["Lee-Longton"] = lambda: two_moment.lee_longton_mean_wait_s(rate, 1.0, servers, service_scv=scv)
        means["Cosmetatos"] = lambda: two_moment.cosmetatos_mean_wait_s(rate, 1.0, servers, service_scv=scv)
        means["Tijms-van Hoorn-Federgruen"] = lambda: two_moment.tijms_mean_wait_s(rate, full, servers)
    for name, formula in means.items():
        try:
            yield "mean wait", name, formula()
        except OutOfValidityError:
            continue
    yield "delay probability", "Whitt", whitt_delay_probability(rate, 1.0, servers, **given)
    yield "late wait", "Whitt", float(whitt_wait(rate, 1.0, servers, **given).quantile(1 - late))
    if arrivals == "M" and scv <= 2:
        state = mxgk(rate, 1.0 if law is None else law, servers)
        yield "delay probability", "interpolation", state.delay_probability
        yield "late wait", "interpolation", float(state.wait.quantile(1 - late))


def run(servers: Sequence[int] = SERVERS, utilizations: Sequence[float] = UTILIZATIONS) -> list[dict[str, object]]:
    """A row for each quantity and formula of each cell."""
    rows: list[dict[str, object]] = []
    for arrivals, service in [*POISSON, *RENEWAL, *((b, "M") for b in BURSTS)]:
        for k in servers:
            for rho in utilizations:
                if arrivals in BURSTS and (1 - rho) * np.sqrt(k) > 0.4:
                    continue  # the effective SCV is not for these
                state = exact(arrivals, service, k, rho)
                if state is None or state.delay_probability < RARE:
                    continue
                late = state.delay_probability / 20
                truth = {
                    "mean wait": state.wait.mean,
                    "delay probability": state.delay_probability,
                    "late wait": float(state.wait.quantile(1 - late)),
                }
                for quantity, formula, value in guesses(arrivals, service, k, rho * k, late):
                    rows.append(
                        {
                            "traffic": kind(arrivals, service),
                            "arrivals": arrivals,
                            "service": service,
                            "servers": k,
                            "utilization": rho,
                            "quantity": quantity,
                            "formula": formula,
                            "exact": truth[quantity],
                            "value": value,
                            "error": value / truth[quantity] - 1,
                        }
                    )
    return rows


def read() -> list[dict[str, str]]:
    """Rows of the committed run."""
    return read_rows(CSV)


def _lines(rows: Sequence[dict[str, str]], quantity: str) -> list[list[str]]:
    lines = []
    for traffic in dict.fromkeys(r["traffic"] for r in rows):
        for formula in dict.fromkeys(r["formula"] for r in rows):
            cells = [r for r in rows if (r["traffic"], r["formula"], r["quantity"]) == (traffic, formula, quantity)]
            if not cells:
                continue
            error = 100 * np.array([float(r["error"]) for r in cells])
            busy = 100 * np.array([float(r["error"]) for r in cells if float(r["utilization"]) >= 0.8])
            worst = error[np.argmax(np.abs(error))]
            figures = (np.median(np.abs(error)), np.quantile(np.abs(error), 0.95), worst, np.abs(busy).max())
            shown = [f"{x:+.1f}" if x is worst else f"{x:.1f}" for x in figures]
            lines.append([traffic, formula, str(len(cells)), *shown])
    return lines


def text(rows: Sequence[dict[str, str]]) -> str:
    """The tables of the documentation."""
    head = ["traffic", "formula", "cells", "median", "95th percentile", "worst", "worst from utilization .8"]
    titles = {
        "mean wait": "Error of the mean wait, per cent (median, 95th percentile and last column without sign)",
        "delay probability": "Error of the probability of waiting, per cent of it",
        "late wait": "Error of the wait that one in twenty of those that wait exceeds, per cent",
    }
    return "\n".join(
        [
            ".. made by python -m studies.approximations; do not edit",
            "",
            *(listing(title, head, _lines(rows, quantity)) for quantity, title in titles.items()),
        ]
    )


def main() -> None:
    """Run at full size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rows = run()
    write_rows(CSV, rows, 5)
    save_record(RESULTS / "approximations.json", command_line("studies.approximations"), rows=len(rows))
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(text(read()))
    print(f"wrote {CSV.name} and {TABLE.name}")


if __name__ == "__main__":
    main()
