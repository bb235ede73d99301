"""The C reference: compiled on the spot, called in this process."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recqueue.serving import Policy, Scenario

FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")


def compiler() -> str | None:
    """Version line of gcc, or None where there is none."""
    if shutil.which("gcc") is None:
        return None
    return subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def load() -> ctypes.CDLL:
    """Compile heap.c and load it."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "heap.so"
        source = Path(__file__).with_name("heap.c")
        subprocess.run(["gcc", *FLAGS, str(source), "-o", str(library), "-lm"], check=True)
        loaded = ctypes.CDLL(str(library))
    loaded.heap_run.restype = ctypes.c_long
    return loaded


def _pointer(array: NDArray[np.generic] | None) -> ctypes.c_void_p | None:
    return None if array is None else array.ctypes.data_as(ctypes.c_void_p)


def service_table(scenario: Scenario) -> NDArray[np.float64]:
    """Seconds of a sub-request by items."""
    policy = scenario.policy or Policy(1)
    return np.concatenate(([0.0], scenario.system.service.seconds_at(np.arange(1, policy.batch_size + 1))))


def own_inputs(c: ctypes.CDLL, scenario: Scenario, queries: int) -> tuple[Callable[[], int], NDArray[np.float64]]:
    """Call that draws inputs and simulates, returning the sub-requests; and the latencies that it writes."""
    cdf = np.cumsum(scenario.sizes.pmf)
    cdf[-1] = np.inf
    begin = np.searchsorted(cdf, np.arange(4096) / 4096, side="right").astype(np.int64)
    service, latency = service_table(scenario), np.empty(queries)

    def run() -> int:
        return int(
            c.heap_run(
                ctypes.c_uint64(1),
                ctypes.c_long(queries),
                ctypes.c_double(scenario.qps or 0.0),
                _pointer(cdf),
                _pointer(begin),
                ctypes.c_long(4096),
                ctypes.c_double(scenario.system.service.cv),
                ctypes.c_long(scenario.system.cores),
                ctypes.c_long(len(service) - 1),
                _pointer(service),
                _pointer(latency),
            )
        )

    return run, latency


def given_inputs(
    c: ctypes.CDLL,
    scenario: Scenario,
    arrival_s: NDArray[np.float64],
    items: NDArray[np.int64],
    noise: NDArray[np.float64] | None,
) -> tuple[Callable[[], None], NDArray[np.float64]]:
    """Call that simulates these queries; and the latencies that it writes."""
    service, latency = service_table(scenario), np.empty(len(items))

    def run() -> None:
        c.heap_loop(
            ctypes.c_long(len(items)),
            _pointer(arrival_s),
            _pointer(items),
            _pointer(noise),
            ctypes.c_long(scenario.system.cores),
            ctypes.c_long(len(service) - 1),
            _pointer(service),
            _pointer(latency),
        )

    return run, latency
