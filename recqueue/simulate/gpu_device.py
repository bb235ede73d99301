"""Where the kernel runs: on a GPU through CuPy, or compiled as plain C++ on this machine's processor."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import MissingDeviceError
from recqueue.simulate.gpu_tables import JOB, KINDS, Tables

PLAN = np.dtype(
    [
        *((name, "u4") for name in ("threads", "replications", "first_replication", "by_replication")),
        *((name, "u4") for name in ("queries", "warm_up", "bins", "shift", "k0", "k1")),
    ]
)
RESULT = np.dtype(
    [
        *((name, "u8") for name in ("latency_ticks", "cpu_ticks", "accelerator_ticks", "span_ticks")),
        *((name, "u8") for name in ("items", "offloaded_items", "sub_requests")),
        *((name, "u4") for name in ("counted", "offloaded", "backlogged", "unused")),
        ("quantile_ticks", "f8", 4),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How the runs are laid out on a GPU; no choice changes a result.

    Parameters
    ----------
    block : int, optional
        Threads of a block, a power of two in 1..1024; halved until the state of a block fits shared memory. By default
        32 (a warp), or 16, 8 or 4 while the runs are too few for 8 warps on every multiprocessor: the lanes of a warp
        wait for each other, so fewer of them are faster where there is room.
    state : {"shared", "global"}
        Where the free times of the cores are kept.
    order : {"job", "replication"}
        What the lanes of a warp have in common: one policy and rate, or one sequence of queries.
    """

    block: int | None = None
    state: Literal["shared", "global"] = "shared"
    order: Literal["job", "replication"] = "job"


class Device(Protocol):
    """Runs the kernel."""

    name: str
    memory_bytes: int
    """For histograms, at most."""

    def launch(
        self, tables: Tables, jobs: NDArray[np.void], plan: NDArray[np.void], *, kind: int, tuning: Tuning
    ) -> tuple[NDArray[np.void], float]:
        """Results of all threads (see ``RESULT``) and the seconds that the kernels took."""


def state_words(jobs: NDArray[np.void], kind: int) -> NDArray[np.int64]:
    """32-bit words of state that a run of each job needs: the free times and, under contention, who runs."""
    cores = jobs["cores"].astype(np.int64)
    words: NDArray[np.int64] = (2 * cores, cores, 4 * cores + 2)[kind] + jobs["accelerators"]
    return words


def source() -> str:
    """Text of the kernel: the files of ``gpu_kernel/`` one after the other."""
    folder = files("recqueue.simulate").joinpath("gpu_kernel")
    names = ("draws", "state", "independent", "contended", "entry")
    return "\n".join(folder.joinpath(f"{name}.cuh").read_text(encoding="utf-8") for name in names)


class HostDevice:
    """The kernel as plain C++, one thread; for tests, and to look at a few runs without a GPU."""

    name = "host"
    memory_bytes = 1 << 28

    def __init__(self) -> None:
        self._library = _host_library()

    def launch(
        self, tables: Tables, jobs: NDArray[np.void], plan: NDArray[np.void], *, kind: int, tuning: Tuning
    ) -> tuple[NDArray[np.void], float]:
        """Results of all threads, and seconds."""
        threads = int(plan["threads"][0])
        results = np.zeros(threads, RESULT)
        histograms = np.zeros(threads * int(plan["bins"][0]), np.uint32)
        scratch = np.empty(int(state_words(jobs, kind).max()), np.uint32)
        start = time.perf_counter()
        self._library.rq_host(
            *(ctypes.c_void_p(a.ctypes.data) for a in (jobs, plan)),
            ctypes.c_int(kind),
            *(ctypes.c_void_p(a.ctypes.data) for a in (tables.aliases, tables.entries, tables.factors)),
            *(ctypes.c_void_p(a.ctypes.data) for a in (scratch, histograms, results)),
        )
        return results, time.perf_counter() - start


@lru_cache(maxsize=1)
def _host_library() -> ctypes.CDLL:
    """Compile the kernel with this machine's C++ compiler and load it."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise MissingDeviceError("simulate_many: device 'host' needs a C++ compiler (g++ or clang++); none was found")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "kernel.so"
        command = [compiler, "-O2", "-std=c++17", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
        done = subprocess.run(command, input=source(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingDeviceError(f"simulate_many: {compiler} failed: {done.stderr.strip().splitlines()[-1]}")
        loaded = ctypes.CDLL(str(library))
    sizes = (ctypes.c_uint * 3)()
    loaded.rq_sizes(sizes)
    if list(sizes) != [JOB.itemsize, PLAN.itemsize, RESULT.itemsize]:
        raise MissingDeviceError(f"simulate_many: {compiler} lays out structures in another way ({list(sizes)})")
    return loaded


class CudaDevice:
    """The current CUDA device, through CuPy."""

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise MissingDeviceError(
                f"simulate_many: CuPy cannot be imported ({error}); install recqueue[gpu], or use device='host'"
            ) from None
        self._cupy = cupy
        try:
            properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
            free_bytes = cupy.cuda.runtime.memGetInfo()[0]
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise MissingDeviceError(f"simulate_many: no usable GPU ({error}); use device='host'") from None
        self.name = properties["name"].decode()
        self.multiprocessors = int(properties["multiProcessorCount"])
        self.shared_bytes = int(properties["sharedMemPerBlockOptin"])
        self.memory_bytes = min(int(0.5 * free_bytes), 32 << 30)

    def kernels(self, block: int, state: str) -> Any:
        """Return the compiled module for a block size and a place of the state."""
        return _cuda_module(block, state)

    def layout(self, words: int, threads: int, tuning: Tuning) -> tuple[int, str, int]:
        """Block size, place of the state and bytes of shared memory of a block that are possible."""
        fits = threads // (8 * self.multiprocessors)
        chosen = tuning.block or next((block for block in (32, 16, 8) if block <= fits), 4)
        block = chosen
        while tuning.state == "shared" and block:
            if 4 * words * block <= self.shared_bytes:
                return block, "shared", 4 * words * block
            block //= 2
        return chosen, "global", 0

    def launch(
        self, tables: Tables, jobs: NDArray[np.void], plan: NDArray[np.void], *, kind: int, tuning: Tuning
    ) -> tuple[NDArray[np.void], float]:
        """Results of all threads, and seconds of the kernels by the device's clock."""
        cupy, threads = self._cupy, int(plan["threads"][0])
        words = int(state_words(jobs, kind).max())
        block, state, shared = self.layout(words, threads, tuning)
        kernel = self.kernels(block, state).get_function(f"rq_{KINDS[kind]}")
        if shared > 48 << 10:
            kernel.max_dynamic_shared_size_bytes = shared
        job, planned, alias, entry, factor = (
            cupy.asarray(np.ascontiguousarray(a).view(np.uint8))
            for a in (jobs, plan, tables.aliases, tables.entries, tables.factors)
        )
        scratch = cupy.empty(words * threads if state == "global" else 1, np.uint32)
        histograms = cupy.zeros(threads * int(plan["bins"][0]), np.uint32)
        results = cupy.zeros(threads * RESULT.itemsize, np.uint8)
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        grid = (-(-threads // block),)
        kernel(grid, (block,), (job, planned, alias, entry, factor, scratch, histograms, results), shared_mem=shared)
        quantiles = self.kernels(block, state).get_function("rq_quantiles")
        quantiles((-(-threads // 128),), (128,), (job, planned, histograms, results))
        end.record()
        end.synchronize()
        return results.get().view(RESULT), cupy.cuda.get_elapsed_time(start, end) / 1e3

    def resources(self, words: int, kind: int, tuning: Tuning, threads: int) -> dict[str, int | float | str]:
        """Registers and memory of a kernel, and the warps that a multiprocessor keeps at once."""
        block, state, shared = self.layout(words, threads, tuning)
        kernel = self.kernels(block, state).get_function(f"rq_{KINDS[kind]}")
        if shared > 48 << 10:
            kernel.max_dynamic_shared_size_bytes = shared
        blocks = self._cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.kernel.ptr, block, shared)
        return {
            "block": block,
            "state": state,
            "registers": int(kernel.num_regs),
            "local_bytes": int(kernel.local_size_bytes),
            "shared_bytes": shared,
            "blocks_per_multiprocessor": int(blocks),
            "warps_per_multiprocessor": min(blocks, -(-threads // block) / self.multiprocessors) * -(-block // 32),
        }


@lru_cache(maxsize=32)
def _cuda_module(block: int, state: str) -> Any:
    """Compile the kernel for the current device."""
    import cupy

    options = ("-std=c++17", f"-DRQ_BLOCK={block}", *(("-DRQ_GLOBAL_STATE",) if state == "global" else ()))
    return cupy.RawModule(code=source(), options=options)
