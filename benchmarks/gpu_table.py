"""Write docs/gpu_table.inc from benchmarks/gpu_results.json: ``python -m benchmarks.gpu_table``.

Needs neither a GPU nor CuPy; a test compares the two files.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("gpu_results.json")
TARGET = Path(__file__).parents[1] / "docs" / "gpu_table.inc"
NOT_MEASURED = """.. note::

   Not measured yet: ``benchmarks/gpu_results.json`` does not exist. ``python -m benchmarks.gpu --out
   benchmarks/gpu_results.json`` makes it on a machine with a GPU, ``python -m benchmarks.gpu_table`` this text."""
GROUPS = {
    "sweep": "A design space of a thousand policies and rates, mixed in one launch",
    "grid": "One policy at 50 rates",
    "layout": "Where the state lies, and threads of a block (batch size 64, no noise)",
    "order": "What the lanes of a warp share (batch size 64)",
    "bins": "Bins of the histogram (batch size 64, no noise)",
    "runs": "Number of runs (40 cores, batch size 64, no noise)",
    "contended": "Cores that slow each other",
}
COUNTERS = {
    "smsp__inst_executed.sum": "warp instructions",
    "smsp__thread_inst_executed_per_inst_executed.ratio": "lanes active in an instruction, of 32",
    "sm__inst_executed.avg.per_cycle_active": "instructions of a multiprocessor in a cycle, of 4",
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "cycles that issue",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "warps resident, of 64",
    "dram__bytes.sum": "device memory moved",
    "lts__t_bytes.sum": "L2 traffic",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum": "bank conflicts in shared memory",
    "gpu__time_duration.sum": "time",
}


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a list-table."""
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join(lines)


def speeds(rows: Sequence[dict[str, Any]], group: str) -> str:
    """Return the table of one group of measurements."""
    header = ("runs of", "runs", "10⁹ sub-requests/s", "with the host's part", "spread", "registers", "layout",
              "warps of a multiprocessor, of 64")  # fmt: skip
    cells = []
    for r in (r for r in rows if r["group"] == group):
        spread = f"{max(r['kernel_s']) / min(r['kernel_s']) - 1:.1%}"
        layout = f"{r['state']}, block {r['block']}"
        speed = (f"{r['per_s'] / 1e9:.3g}", f"{r['per_s_wall'] / 1e9:.3g}")
        resources = (str(r["registers"]), layout, f"{r['warps_per_multiprocessor']:.1f}")
        cells.append((r["label"], f"{r['runs']:,}", *speed, spread, *resources))
    return table(GROUPS[group], header, cells)


def agreement(check: dict[str, Any], same: dict[str, Any]) -> str:
    """Say in words how the GPU agrees with the CPU."""
    failed = len(check["failed"])
    text = (
        f"**Agreement.** {check['scenarios']} scenarios, {check['comparisons']} comparisons of mean, p50, p95 and p99 "
        f"with independent random numbers: {'none differs' if not failed else f'{failed} DIFFER'} by more than "
        f"{check['limit_standard_errors']:.1f} standard errors (a false alarm once in a thousand such checks) beyond "
        f"the width of a histogram's bin; the largest difference is {check['largest_standard_errors']:.1f}. Of the "
        f"means, {check['share_of_means_within_95_percent']:.0%} lie within the 95 % interval of the difference. In "
        f"the median the two differ by {check['median_relative_difference']:.2%}, and the interval is "
        f"± {check['median_relative_interval']:.2%}; utilizations differ by "
        f"{check['largest_utilization_difference']:.4f} at most."
    )
    if "skipped" in same:
        return f"{text} The comparison with the host build was left out: {same['skipped']}."
    most = max(v["largest_relative_difference_of_a_mean"] for v in same.values())
    counts = "the same" if all(v["same_sub_requests"] for v in same.values()) else "DIFFERENT"
    return (
        f"{text} On the same random numbers the GPU and the host build give {counts} numbers of sub-requests and means "
        f"that differ by {most:.1e} at most, in {len(same)} layouts."
    )


def ceilings(record: dict[str, Any]) -> str:
    """Compare the measured speed of each run without noise with what instructions and bytes allow."""
    machine = record["machine"]
    if not machine.get("nvidia_smi"):
        return "The clock could not be read, so there are no ceilings to compare with."
    clock_mhz = float(machine["nvidia_smi"].split(",")[3].split()[0])
    issued_per_s = machine["multiprocessors"] * 4 * clock_mhz * 1e6
    cells = []
    for r in (r for r in record["rows"] if r["group"] == "grid" and r["label"].endswith("cv 0")):
        b = r["bound"]
        by_instructions, by_bytes = (
            issued_per_s / b["warp_instructions"],
            machine["copy_bytes_per_s"] / b["histogram_bytes"],
        )
        cells.append((
            r["label"].removesuffix(", cv 0"), f"{b['busy_lanes']:.0%}", f"{b['warp_instructions']:.2f}",
            f"{by_instructions / 1e9:.3g}", f"{by_bytes / 1e9:.3g}", f"{r['per_s'] / 1e9:.3g}",
            f"{r['per_s'] / min(by_instructions, by_bytes):.0%}",
        ))  # fmt: skip
    header = (
        "runs of", "lanes busy in the loop", "warp instructions of a sub-request", "ceiling by instructions (10⁹/s)",
        "ceiling by histogram bytes (10⁹/s)", "measured (10⁹/s)", "share of the lower ceiling",
    )  # fmt: skip
    title = (
        f"Ceilings at {clock_mhz:.0f} MHz and {machine['copy_bytes_per_s'] / 1e12:.2f} TB/s of a device-to-device copy"
    )
    return table(title, header, cells)


def counters(profile: dict[str, Any]) -> str:
    """Return the hardware counters of a launch of each kernel, or why there are none."""
    if "kernels" not in profile:
        return f"Hardware counters were not read: {profile.get('skipped', 'not tried')}."
    names = list(profile["kernels"])
    counts = dict(line.split()[1:3] for line in profile["sub_requests"])
    rows = [("sub-requests", *(f"{int(counts[n.removeprefix('rq_')]):,}" for n in names))]
    rows += [(text, *(profile["kernels"][n].get(metric, "-") for n in names)) for metric, text in COUNTERS.items()]
    return table("Hardware counters of one launch (Nsight Compute)", ("", *(f"``{n}``" for n in names)), rows)


def render() -> str:
    """Return the whole file."""
    head = ".. Written by benchmarks/gpu_table.py; do not edit.\n\n"
    if not RESULTS.exists():
        return head + NOT_MEASURED + "\n"
    record = json.loads(RESULTS.read_text(encoding="utf-8"))
    machine, rows = record["machine"], record["rows"]
    best = max(rows, key=lambda r: r["per_s"])
    sweep = statistics.median(r["per_s"] for r in rows if r["group"] in {"sweep", "grid"})
    text = [
        f"Measured on one {machine['device']} ({machine['multiprocessors']} multiprocessors; name, driver, clock at "
        f"rest and highest clock: {machine.get('nvidia_smi', 'unknown')}) with CuPy {machine['cupy']}, by "
        f"``{record['command']}``. Highest speed: {best['per_s'] / 1e9:.3g} · 10⁹ sub-requests/s ({best['label']}); "
        f"median of sweeps and grid: {sweep / 1e9:.3g} · 10⁹.",
        agreement(record["check"], record["same_numbers"]),
    ]
    if "per_s" in record["cpu"]:
        cpu = record["cpu"]
        text.append(
            f"``simulate`` on the {cpu['cores']} processor cores of the same machine: {cpu['per_s'] / 1e9:.3g} · 10⁹ "
            "sub-requests/s (40 cores, batch size 64, no noise)."
        )
    text += [speeds(rows, group) for group in GROUPS if any(r["group"] == group for r in rows)]
    text += [ceilings(record), counters(record["profile"])]
    if record["skipped"]:
        text.append(f"Left out for lack of time: {', '.join(record['skipped'])}.")
    return head + "\n\n".join(text) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
