"""What is timed. Informational: a slow machine is no failure, so nothing here stops a build."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.timing import Case


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
    yield Case(name="max-rate", run=lambda: max_rate(scenario), reference_name=reference, reference=simulated)
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


CASES: list[Callable[[], Iterator[Case]]] = [start_up, answers]
"""Groups of cases; a group imports what it times when it is called."""
