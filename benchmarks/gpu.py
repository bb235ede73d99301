"""Check the GPU simulator against the CPU simulator, then measure it: ``python -m benchmarks.gpu --out FILE``.

Needs CuPy, numpy, scipy and a GPU; nothing is installed, and the repository's root must be on PYTHONPATH. The CPU's
answers lie in ``benchmarks/gpu_reference.json``, made by ``python -m benchmarks.gpu --make-reference`` where numba is.
Exit code 1 when a check fails.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

try:
    import numba  # noqa: F401
except ImportError:  # the CPU's loops are then not used, but their module must be importable
    sys.modules["numba"] = types.ModuleType("numba")
    sys.modules["numba"].njit = lambda **_: lambda function: function  # type: ignore[attr-defined]
    NUMBA = False
else:
    NUMBA = True

import numpy as np
from scipy import stats

from benchmarks.gpu_cases import CHECKS, bound, design_space, rates, scenario
from recqueue.errors import MissingDeviceError
from recqueue.serving import Scenario
from recqueue.simulate.gpu import Sweep, simulate_many
from recqueue.simulate.gpu_device import CudaDevice, HostDevice, Tuning, state_words
from recqueue.simulate.gpu_tables import build

REFERENCE = Path(__file__).with_name("gpu_reference.json")
CHECK_QUERIES = 20_000
"""Counted queries of a replication in the check: the same on both sides, so that what is left of the start is too."""
CHECKED = ("mean", "p50", "p95", "p99")
FALSE_ALARM = 1e-3
"""Probability that the check of all scenarios fails though both simulators are right (Bonferroni)."""
PROFILED = (
    "gpu__time_duration.sum",
    "smsp__inst_executed.sum",
    "smsp__thread_inst_executed_per_inst_executed.ratio",
    "sm__inst_executed.avg.per_cycle_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "dram__bytes.sum",
    "lts__t_bytes.sum",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
)


def make_reference(replications: int = 96) -> None:
    """Simulate the scenarios to check on the CPU."""
    from recqueue import simulate

    rows: dict[str, Any] = {}
    for i, (name, options) in enumerate(CHECKS.items()):
        run = simulate(
            scenario(**options), queries=CHECK_QUERIES * replications, replications=replications, seed=1000 + i
        )
        to_error = 2 * stats.t(replications - 1).ppf(0.975)
        rows[name] = {q: [run.latency_s[q], float(np.diff(run.interval_s[q])[0] / to_error)] for q in CHECKED}
        rows[name]["utilization"] = [run.utilization["cpu"], run.utilization["accelerator"]]
    record = {"command": "python -m benchmarks.gpu --make-reference", "queries": CHECK_QUERIES}
    record |= {"replications": replications, "columns": "estimate, standard error", "scenarios": rows}
    REFERENCE.write_text(json.dumps(record, indent=1) + "\n")


def check(device: Any, replications: int) -> dict[str, Any]:
    """Compare every quantity of every scenario with the CPU's: by how many standard errors they differ."""
    record = json.loads(REFERENCE.read_text())
    made = [scenario(**options) for options in CHECKS.values()]
    sweep = simulate_many(made, queries=CHECK_QUERIES, replications=replications, seed=1, device=device)
    freedom, rows = record["replications"] - 1, []
    limit = float(stats.t(freedom).ppf(1 - FALSE_ALARM / 2 / (len(made) * len(CHECKED))))
    for i, name in enumerate(CHECKS):
        for quantity in CHECKED:
            expected, error = record["scenarios"][name][quantity]
            here = sweep.latency_s[quantity][i]
            both = float(np.hypot(error, here.std(ddof=1) / np.sqrt(replications)))
            binned = 0.0 if quantity == "mean" else sweep.relative_error * expected  # of the histogram
            off = float(here.mean()) - expected
            beyond = max(abs(off) - binned, 0.0) / both
            rows.append(
                {"scenario": name, "quantity": quantity, "gpu_s": float(here.mean()), "cpu_s": expected}
                | {"standard_errors": beyond, "relative": off / expected, "interval": 1.96 * both / expected}
                | {"agrees": bool(beyond <= limit)}
            )
    busy = [record["scenarios"][name]["utilization"][0] for name in CHECKS]
    within = float(stats.t(freedom).ppf(0.975))
    means = [r["standard_errors"] for r in rows if r["quantity"] == "mean"]
    return {
        "replications": replications,
        "scenarios": len(made),
        "comparisons": len(rows),
        "limit_standard_errors": limit,
        "failed": [r for r in rows if not r["agrees"]],
        "largest_standard_errors": max(r["standard_errors"] for r in rows),
        "share_of_means_within_95_percent": float(np.mean([m <= within for m in means])),
        "median_relative_difference": float(np.median([abs(r["relative"]) for r in rows])),
        "median_relative_interval": float(np.median([r["interval"] for r in rows])),
        "largest_utilization_difference": float(np.abs(sweep.cpu_utilization.mean(axis=1) - busy).max()),
        "rows": rows,
    }


def check_same_numbers(device: Any) -> dict[str, Any]:
    """Compare with the host build on the same random numbers, where a compiler is; every layout must agree."""
    made = [scenario(**options) for options in CHECKS.values()]
    try:
        here = simulate_many(made, queries=1000, replications=2, seed=5, device=HostDevice())
    except MissingDeviceError as error:
        return {"skipped": str(error)}
    found: dict[str, Any] = {}
    for tuning in (Tuning(), Tuning(state="global", block=32), Tuning(order="replication"), Tuning(block=32)):
        there = simulate_many(made, queries=1000, replications=2, seed=5, device=device, tuning=tuning)
        off = np.abs(there.latency_s["mean"] / here.latency_s["mean"] - 1)
        found[f"{tuning.state}, by {tuning.order}, block {tuning.block or 'chosen'}"] = {
            "largest_relative_difference_of_a_mean": float(off.max()),
            "same_sub_requests": bool(np.array_equal(here.sub_requests, there.sub_requests)),
        }
    return found


def timed(
    device: Any,
    made: list[Scenario],
    runs: int,
    tuning: Tuning | None = None,
    *,
    target_s: float,
    repeats: int = 3,
    bins_per_octave: int = 256,
) -> dict[str, Any]:
    """Sub-requests per second of ``runs`` runs: median of repeats that take about ``target_s`` each."""
    tuning = tuning or Tuning()
    replications = max(runs // len(made), 1)

    def run(queries: int, seed: int) -> tuple[Sweep, float]:
        start = time.perf_counter()
        sweep = simulate_many(
            made,
            queries=queries,
            replications=replications,
            seed=seed,
            bins_per_octave=bins_per_octave,
            device=device,
            tuning=tuning,
        )
        return sweep, time.perf_counter() - start

    run(100, 0)  # compile, allocate
    pilot, _ = run(400, 1)
    queries = int(np.clip(400 * target_s / pilot.kernel_s, 400, 200_000))
    seconds, walls, parts = [], [], 0
    for seed in range(2, 2 + repeats):
        sweep, wall = run(queries, seed)
        seconds.append(sweep.kernel_s)
        walls.append(wall)
        parts = int(sweep.sub_requests.sum())
    tables = build(made[:1], np.array([made[0].qps]), 15)
    kind = int(tables.kind[0])
    row: dict[str, Any] = {"runs": replications * len(made), "queries_per_run": queries, "sub_requests": parts}
    row |= {
        "kernel_s": seconds,
        "wall_s": walls,
        "order": tuning.order,
        "bins": bins_per_octave,
        "backlogged": int(sweep.backlogged.sum()),
    }
    row |= {"per_s": parts / statistics.median(seconds), "per_s_wall": parts / statistics.median(walls)}
    row |= {"queries_per_s": row["runs"] * queries * 1.25 / statistics.median(seconds)}
    if hasattr(device, "resources"):
        row |= device.resources(int(state_words(tables.jobs, kind).max()), kind, tuning, row["runs"])
    return row


class Measurement:
    """Measurements in order of interest until the time is up."""

    def __init__(self, device: Any, seconds: float, target_s: float, scale: int) -> None:
        self.device, self.end, self.target_s, self.scale = device, time.monotonic() + seconds, target_s, scale
        self.rows: list[dict[str, Any]] = []
        self.skipped: list[str] = []

    def measure(
        self,
        group: str,
        label: str,
        made: list[Scenario],
        runs: int,
        tuning: Tuning | None = None,
        bins_per_octave: int = 256,
    ) -> None:
        """Time one family and print its line."""
        if time.monotonic() > self.end:
            self.skipped.append(f"{group}: {label}")
            return
        row: dict[str, Any] = {"group": group, "label": label, "bound": bound(made)}
        runs = max(runs // self.scale, len(made))
        row |= timed(self.device, made, runs, tuning, target_s=self.target_s, bins_per_octave=bins_per_octave)
        self.rows.append(row)
        spread = max(row["kernel_s"]) / min(row["kernel_s"]) - 1
        print(
            f"{group:9s} {label:46s} {row['runs']:7d} runs {row['per_s']:9.3g}/s (wall {row['per_s_wall']:8.3g}) "
            f"block {row.get('block', 0):3d} {row.get('state', '-'):6s} regs {row.get('registers', 0):3d} "
            f"warps {row.get('warps_per_multiprocessor', 0):4.1f} spread {spread:.0%}",
            flush=True,
        )

    def all(self) -> None:
        """Everything, the most interesting first."""
        for cv in (0.0, 0.2):
            self.measure("sweep", f"1000 points, 40 cores, cv {cv:g}", design_space(cv=cv), 100_000)
        for cv in (0.0, 0.2):
            for cores in (4, 16, 40, 128):
                for batch in (16, 64, 256):
                    label = f"{cores} cores, batch {batch}, cv {cv:g}"
                    self.measure("grid", label, rates(cores, batch, cv=cv), 100_000)
        for cores in (40, 128):
            for state in ("shared", "global"):
                for block in (32, 64, 128, 256):
                    tuning = Tuning(block=block, state=state)  # type: ignore[arg-type]
                    self.measure("layout", f"{cores} cores, {state}, block {block}", rates(cores, 64), 100_000, tuning)
        for cores in (16, 40):
            for order in ("job", "replication"):
                for cv in (0.0, 0.2):
                    label = f"{cores} cores, cv {cv:g}, lanes share a {order}"
                    tuning = Tuning(order=order)  # type: ignore[arg-type]
                    self.measure("order", label, rates(cores, 64, cv=cv), 100_000, tuning)
        for bins in (32, 64, 128, 1024):
            self.measure("bins", f"40 cores, {bins} bins an octave", rates(40, 64), 100_000, bins_per_octave=bins)
        for runs in (1_000, 3_000, 10_000, 30_000, 100_000, 300_000):
            self.measure("runs", f"{runs:,} runs", rates(40, 64), runs)
            if runs <= 30_000:
                self.measure("runs", f"{runs:,} runs, full warps", rates(40, 64), runs, Tuning(block=32))
        for cores in (4, 16, 40, 128):
            label = f"{cores} cores, batch 64, contention 1.3"
            self.measure("contended", label, rates(cores, 64, slowdown=1.3), 100_000)


def cpu_rate() -> dict[str, Any]:
    """Sub-requests per second of ``simulate`` on all cores of this machine, for the scale of things."""
    if not NUMBA:
        return {"skipped": "numba cannot be imported here"}
    try:
        from recqueue import simulate

        made, workers = scenario(40, 64), os.cpu_count() or 1
        simulate(made, queries=1000, replications=4)  # compile
        start = time.perf_counter()
        run = simulate(made, queries=100_000 * workers, replications=max(workers, 3))
        seconds = time.perf_counter() - start
    except Exception as error:  # a side measurement must not lose the others
        return {"skipped": f"{type(error).__name__}: {error}"}
    return {"cores": workers, "per_s": (run.sub_requests or 0) / seconds, "seconds": seconds}


def about(device: Any) -> dict[str, Any]:
    """Device, driver, versions, and the copy bandwidth as the memory's ceiling."""
    found: dict[str, Any] = {"device": device.name, "python": platform.python_version(), "numpy": np.__version__}
    if not isinstance(device, CudaDevice):
        return found
    import cupy

    found |= {"cupy": cupy.__version__, "multiprocessors": device.multiprocessors}
    found |= {"driver": cupy.cuda.runtime.driverGetVersion(), "runtime": cupy.cuda.runtime.runtimeGetVersion()}
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.max.sm", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)
        found["nvidia_smi"] = done.stdout.strip()
    source = cupy.asarray(np.random.default_rng(0).random(1 << 27, dtype=np.float32))
    target = cupy.empty_like(source)
    seconds = []
    for _ in range(6):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        cupy.copyto(target, source)
        end.record()
        end.synchronize()
        seconds.append(cupy.cuda.get_elapsed_time(start, end) / 1e3)
    found["copy_bytes_per_s"] = 2 * source.nbytes / statistics.median(seconds[1:])
    return found


def profile(timeout_s: float) -> dict[str, Any]:
    """Hardware counters of one launch of each kernel, through Nsight Compute where it is."""
    tool = shutil.which("ncu")
    if tool is None:
        return {"skipped": "ncu is not on the PATH"}
    command = [tool, "--csv", "--clock-control", "none", "--kernel-name", "regex:rq_(constant|noisy|contended)"]
    command += ["--metrics", ",".join(PROFILED), sys.executable, "-m", "benchmarks.gpu", "--profiled"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return {"skipped": f"ncu took longer than {timeout_s:.0f} s"}
    start = done.stdout.find('"ID"')
    if start < 0:
        return {"skipped": "ncu gave no table", "output": (done.stdout + done.stderr)[-1500:]}
    found: dict[str, Any] = {}
    for row in csv.DictReader(io.StringIO(done.stdout[start:])):
        kernel = found.setdefault(row["Kernel Name"].split("(")[0], {})
        kernel[row["Metric Name"]] = f"{row['Metric Value']} {row['Metric Unit']}".strip()
    counts = [line for line in done.stdout.splitlines() if line.startswith("sub-requests ")]
    return {"kernels": found, "sub_requests": counts}


def profiled() -> None:
    """Launch each kernel once; under Nsight Compute."""
    device = CudaDevice()
    for name, options in (("constant", {}), ("noisy", {"cv": 0.2}), ("contended", {"slowdown": 1.3})):
        sweep = simulate_many(rates(40, 64, **options), queries=400, replications=2000, device=device)
        print("sub-requests", name, int(sweep.sub_requests.sum()), flush=True)


def main() -> int:
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--seconds", type=float, default=110.0, help="no measurement starts after this")
    parser.add_argument("--target", type=float, default=0.15, help="seconds of a timed launch")
    parser.add_argument("--device", choices=("gpu", "host"), default="gpu", help="host: try this script without a GPU")
    parser.add_argument("--scale", type=int, default=1, help="divide the numbers of runs by this, for a trial")
    parser.add_argument("--make-reference", action="store_true", help="renew gpu_reference.json on the CPU")
    parser.add_argument("--profiled", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make_reference:
        make_reference()
        return 0
    if given.profiled:
        profiled()
        return 0
    begin = time.monotonic()
    try:
        device: Any = CudaDevice() if given.device == "gpu" else HostDevice()
    except MissingDeviceError as error:
        print(error, file=sys.stderr)
        return 3
    record: dict[str, Any] = {"schema": 1, "command": " ".join(["python -m benchmarks.gpu", *sys.argv[1:]])}
    record["machine"] = about(device)
    print(json.dumps(record["machine"]), flush=True)
    record["same_numbers"] = check_same_numbers(device)
    print("same numbers as the host build:", json.dumps(record["same_numbers"]), flush=True)
    checked = record["check"] = check(device, max(512 // given.scale, 8))
    print({k: v for k, v in checked.items() if k != "rows"}, flush=True)
    measurement = Measurement(device, given.seconds - (time.monotonic() - begin), given.target, given.scale)
    measurement.all()
    record["rows"], record["skipped"] = measurement.rows, measurement.skipped
    if given.out:
        given.out.write_text(json.dumps(record, indent=1) + "\n")
    record["cpu"] = cpu_rate()
    print("CPU:", record["cpu"], flush=True)
    if given.device == "gpu":
        record["profile"] = profile(60.0)
        print("profile:", json.dumps(record["profile"], indent=1), flush=True)
    record["seconds"] = time.monotonic() - begin
    if given.out:
        given.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{len(measurement.rows)} rows, skipped {measurement.skipped}, {record['seconds']:.0f} s; check "
          f"{'FAILED' if checked['failed'] else 'passed'}")  # fmt: skip
    return 1 if checked["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
