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


CASES: list[Callable[[], Iterator[Case]]] = [start_up]
"""Groups of cases; a group imports what it times when it is called."""
