"""What is timed. Informational: a slow machine is no failure, so nothing here stops a build."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from benchmarks.timing import Case

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def python(*arguments: str) -> Callable[[], object]:
    """Call that runs a new interpreter with these arguments."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def start_up() -> Iterator[Case]:
    """How long a user waits before anything happens."""
    numpy = python("-c", "import numpy")
    yield Case(
        name="import recqueue", run=python("-c", "import recqueue"), reference_name="import numpy", reference=numpy
    )
    yield Case(
        name="recqueue --help",
        run=python("-m", "recqueue", "--help"),
        reference_name="import numpy",
        reference=numpy,
        limit_s=0.5,
    )


def answers() -> Iterator[Case]:
    """How long the main questions take, against simulating 100,000 queries of the same scenario once."""
    from dataclasses import replace

    from recqueue import evaluate, load_scenario, max_rate, optimize, simulate

    scenario = load_scenario("dlrm-rmc1")
    busy = replace(scenario, qps=0.9 * max_rate(scenario).qps)

    def simulated() -> object:
        return simulate(busy, queries=100_000, replications=4)

    reference = "simulate 100k queries"
    yield Case(name="evaluate", run=lambda: evaluate(busy), reference_name=reference, reference=simulated)
    yield Case(
        name="max-rate", run=lambda: max_rate(scenario), reference_name=reference, reference=simulated, limit_s=0.010
    )
    yield Case(
        name="optimize --no-verify",
        run=lambda: optimize(scenario, verify=False),
        reference_name=reference,
        reference=simulated,
        limit_s=2.0,
    )
    yield Case(
        name="optimize", run=lambda: optimize(scenario), reference_name=reference, reference=simulated, limit_s=15.0
    )


def fork_join() -> Iterator[Case]:
    """Response of split queries on 40 cores, a new policy each time: 64 drawn ones, then one that grows."""
    import numpy as np

    from recqueue.queueing.forkjoin import response
    from recqueue.queueing.split_queries import SplitQueries

    def drawn(i: int) -> tuple[float, SplitQueries]:
        rng = np.random.default_rng([40, i])
        batch, cv = round(2 ** rng.uniform(3, 10)), float(rng.choice([0.0, rng.uniform(0.02, 0.3), 0.2]))
        items = np.arange(1, int(rng.choice([300, 1000])) + 1)
        weight = np.exp(-((np.log(items) - 5) ** 2) / 2 / rng.uniform(0.3, 1.2) ** 2)
        return float(rng.uniform(0.1, 0.95)), split(items, weight / weight.sum(), batch, cv)

    def split(items: NDArray[np.int64], p: NDArray[np.float64], batch: int, cv: float) -> SplitQueries:
        full = (items - 1) // batch
        each = max(1, 64 // (int(full.max()) + 1))
        kind, group = np.unique(full * each + (items - 1 - full * batch) * each // batch, return_inverse=True)
        weight = np.bincount(group, p)
        last = np.bincount(group, p * (items - full * batch)) / weight
        return SplitQueries(weight, kind // each, 2e-4 + 2e-5 * last, 2e-4 + 2e-5 * batch, cv)

    def p95(rho: float, q: SplitQueries, cores: int) -> float:
        """Whole distribution and a percentile of it; a copy has nothing worked out beforehand."""
        return response(rho * cores / q.work_mean_s, q.scaled(1.0), cores).quantile(0.95)

    grid = [drawn(i) for i in range(64)]
    matrix = np.random.default_rng(0).standard_normal((256, 256))

    def reference() -> object:
        return [np.linalg.eigvalsh(matrix @ matrix.T) for _ in range(16)]

    name = "16 symmetric 256 x 256 eigenproblems"
    yield Case(
        name="64 fork-join distributions, k = 40",
        run=lambda: [p95(rho, q, 40) for rho, q in grid],
        reference_name=name,
        reference=reference,
        limit_s=0.064,
    )
    for cores, largest in ((1, 1000), (10, 1000), (100, 1000), (1000, 1000), (40, 250), (40, 4000)):
        q = split(np.arange(1, largest + 1), np.full(largest, 1 / largest), 16, 0.2)
        yield Case(
            name=f"fork-join, k = {cores}, {-(-largest // 16)} sub-requests in the largest query, x 10",
            run=lambda q=q, cores=cores: [p95(0.8, q, cores) for _ in range(10)],  # type: ignore[misc]
            reference_name=name,
            reference=reference,
        )


def evaluations() -> Iterator[Case]:
    """The latency percentile at a policy and a rate, 500 times over the scenarios of the accuracy study: of 10,000."""
    import warnings

    import numpy as np

    from recqueue.analysis.pools import Costs, mixture
    from recqueue.errors import OutsideMeasuredRangeWarning
    from recqueue.queueing import forkjoin
    from studies.accuracy import draw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideMeasuredRangeWarning)
        drawn = [draw(i)[1] for i in range(125)]
        asked = [(s, share * (s.qps or 0.0), Costs.of(s)) for s in drawn for share in (1.0, 0.9, 0.7, 0.4)]

    def percentiles() -> object:
        found = []
        for scenario, qps, costs in asked:
            assert scenario.policy is not None
            parts = mixture(scenario, scenario.policy, qps, costs)
            found.append(forkjoin.quantile(parts, scenario.sla.percentile / 100))
        return found

    matrix = np.random.default_rng(0).standard_normal((256, 256))

    yield Case(
        name="500 of 10,000 evaluations of a percentile",
        run=percentiles,
        reference_name="16 symmetric 256 x 256 eigenproblems",
        reference=lambda: [np.linalg.eigvalsh(matrix @ matrix.T) for _ in range(16)],
        limit_s=0.5,
    )


CASES: list[Callable[[], Iterator[Case]]] = [start_up, answers, fork_join, evaluations]
"""Groups of cases; a group imports what it times when it is called."""
