"""The simulations of the accuracy study on a GPU: every scenario at once, with narrow intervals.

``python -m studies.accuracy_gpu`` simulates the scenarios of :mod:`studies.accuracy` and writes
``studies/results/accuracy_reference_gpu.csv`` in the columns of the CPU's file, then says how far the two are apart in
units of their joint standard error: the same scenarios by different programs on different random numbers.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from recqueue.serving import Scenario
from recqueue.simulate.gpu import Sweep, simulate_many
from recqueue.simulate.gpu_tables import build

TARGET = Path(__file__).parent / "results" / "accuracy_reference_gpu.csv"
CPU = TARGET.with_name("accuracy_reference.csv")
REPLICATIONS = 64
MEMORIES = 300
"""Counted queries of a replication over those in which a queue forgets its start, so that the bias of a quantile of one
replication, about one over their number, is far below the interval."""
LEAST, MOST = 40_000, 1_000_000
BINS = 2048
"""For each doubling: quantiles are off by 0.05 % at most."""
QUANTITIES = ("p95", "p99", "mean")


def batches(scenarios: list[Scenario]) -> Iterator[tuple[int, list[int]]]:
    """Queries of a replication (a power of two) and the scenarios that need so many."""
    load = build(scenarios, np.array([s.qps for s in scenarios], float), 15).offered_load.max(axis=1)
    memory = 2 * (1 + np.array([s.sizes.scv for s in scenarios])) / (1 - load) ** 2
    queries = 2 ** np.ceil(np.log2(np.clip(MEMORIES * memory, LEAST, MOST))).astype(int)
    for each in np.unique(queries):
        yield int(each), np.flatnonzero(queries == each).tolist()


def rows(found: Sweep, indices: list[int], scenarios: list[Scenario], seconds: float) -> Iterator[dict[str, object]]:
    """Return lines of the file."""
    factor = stdtrit(found.replications - 1, 0.975) / found.replications**0.5
    for i, index in enumerate(indices):
        row: dict[str, object] = {"index": index, "qps": f"{scenarios[index].qps:.7g}", "round": 0}
        row["queries"] = found.queries * found.replications
        for name in QUANTITIES:
            values = found.latency_s[name][i]
            row[f"{name}_s"] = f"{values.mean():.7g}"
            row[f"{name}_half_s"] = f"{factor * values.std(ddof=1):.7g}"
        yield row | {"seconds": f"{seconds / len(indices):.4g}"}


def compare(here: Path, there: Path) -> dict[str, tuple[list[float], list[float]]]:
    """For each quantity: (here / there - 1, the same over its standard error) of each scenario that both files know.

    A scenario drawn from other profiles has another rate, and is then another scenario. A difference within a bin of
    the histogram counts as none.
    """
    answers = []
    for file in (here, there):
        known: dict[int, list[dict[str, str]]] = defaultdict(list)
        with file.open(newline="") as text:
            for row in csv.DictReader(text):
                if None not in row.values():
                    known[int(row["index"])].append(row)
        answers.append(known)
    apart: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in QUANTITIES}
    for index in sorted(answers[0].keys() & answers[1].keys()):
        if answers[0][index][0]["qps"] != answers[1][index][0]["qps"]:
            continue
        for name, (relative, errors) in apart.items():
            value, error = [], []
            for known in answers:
                weight = np.array([float(r["queries"]) for r in known[index]])
                weight = weight / weight.sum()
                value.append(float(weight @ [float(r[f"{name}_s"]) for r in known[index]]))
                half = np.array([float(r[f"{name}_half_s"]) for r in known[index]])
                error.append(float(np.sqrt(weight**2 @ half**2)) / 1.96)
            off = value[0] - value[1]
            binned = 0.0 if name == "mean" else value[0] / BINS
            if min(error) > 0:
                relative.append(value[0] / value[1] - 1)
                errors.append(float(np.sign(off)) * max(abs(off) - binned, 0.0) / float(np.hypot(*error)))
    return apart


def main() -> None:
    """Simulate, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, help="scenarios; all of the study by default")
    parser.add_argument("--first", type=int, default=0, help="first scenario (2000 for those held out)")
    parser.add_argument("--device", choices=("gpu", "host"), default="gpu")
    parser.add_argument("--replications", type=int, default=REPLICATIONS)
    parser.add_argument("--seconds", type=float, default=60.0, help="no launch starts after this")
    parser.add_argument("--out", type=Path, default=TARGET)
    given = parser.parse_args()
    try:
        from studies.accuracy import SCENARIOS, draw
    except ImportError as error:
        parser.error(f"this study needs the scenarios of studies.accuracy ({error})")

    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tables continued beyond what was measured, as the study means to
        scenarios = [draw(given.first + i)[1] for i in range(given.count or SCENARIOS)]
        parts, kernel_s, done = 0, 0.0, 0
        with given.out.open("w", newline="") as text:
            writer = None
            for queries, indices in batches(scenarios):
                if time.perf_counter() - start > given.seconds:
                    break
                found = simulate_many(
                    [scenarios[i] for i in indices],
                    queries=queries,
                    replications=given.replications,
                    seed=2026,
                    bins_per_octave=BINS,
                    device=given.device,
                )
                parts, done = parts + int(found.sub_requests.sum()), done + len(indices)
                kernel_s += found.kernel_s
                for row in rows(found, indices, scenarios, found.kernel_s):
                    if writer is None:
                        writer = csv.DictWriter(text, list(row), lineterminator="\n")
                        writer.writeheader()
                    writer.writerow(row | {"index": given.first + int(str(row["index"]))})
                print(f"{len(indices)} scenarios of {queries:,} queries: {found.kernel_s:.1f} s", flush=True)
    wall = time.perf_counter() - start
    print(f"{done} of {len(scenarios)} scenarios, {parts:.3g} sub-requests, kernels {kernel_s:.1f} s, all {wall:.0f} s")
    if CPU.exists():
        for name, (relative, errors) in compare(given.out, CPU).items():
            if not errors:
                continue
            a, r = np.array(errors), np.array(relative)
            print(
                f"{name}: {len(a)} scenarios, {np.mean(np.abs(a) < 1.96):.1%} within 1.96 standard errors, most "
                f"{np.abs(a).max():.1f}; difference {np.median(r):+.3%} in the median, {np.mean(a > 0):.0%} above"
            )


if __name__ == "__main__":
    main()
