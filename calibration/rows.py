"""Raw measurements: one CSV row per measured thing, append-only, and a manifest for each run."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

COLUMNS = (
    "run",  # names the manifest
    "model",
    "way",  # tight: a loop that does nothing else; served: sub-requests of a paced Poisson queue
    "device",  # cpu or cuda
    "scope",  # end_to_end, operator, copy_in or copy_back
    "operator",  # role in the model's graph; empty for the whole model
    "kind",
    "count",  # operators that share the role
    "batch",  # items of one sub-request or query
    "ids",  # uniform or zipf
    "busy",  # processes in tight loops, or workers behind the queue
    "load",  # offered load per worker (served)
    "mean_busy",  # workers busy during a service, itself included (served)
    "host_busy",  # host processes in tight loops beside the accelerator
    "fused",  # queries in one launch
    "graph",  # 1: replayed as a CUDA graph
    "table_scale",  # 1 is the published size; other rows are never fitted
    "reps",
    "median_s",
    "mean_s",
    "cv",
    "p95_s",
    "cpu_median_s",  # the same by the thread's CPU clock, which does not run while another process has the core
    "cpu_mean_s",
    "cpu_cv",
    "dispatch_s",  # from one end of service to the next start with work waiting (served, median)
    "loadavg",
)


class RowFile:
    """Append rows to a CSV file, opened for each so that a killed run or a fork loses and repeats nothing."""

    def __init__(self, path: Path, **common: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._common = path, common
        if not path.exists() or path.stat().st_size == 0:
            path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")

    def add(self, **values: Any) -> None:
        """Write one row; floats keep six significant digits."""
        row = {**self._common, "loadavg": os.getloadavg()[0], **values}
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Write one row of a file whose columns are those of its first row; floats keep seven significant digits.

    Raises
    ------
    recqueue.errors.InputError
        When the file has other columns, such as those of another version.
    """
    from recqueue.errors import InputError

    with path.open("a+", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        file.seek(0)
        if not (header := file.readline()):
            writer.writeheader()
        elif header.rstrip("\n") != ",".join(row):
            raise InputError(f"{path}: has other columns than the rows to be added; choose another folder")
        writer.writerow({k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()})


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def gpu_name() -> str:
    """Name and driver of the first GPU, by nvidia-smi so that no CUDA context exists before a fork; empty if none."""
    return _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader").split("\n")[0]


def write_manifest(folder: Path, run: str, **extra: Any) -> dict[str, Any]:
    """Write ``manifest-RUN.json``: what the rows of a run were measured on and how."""
    import torch

    cpu = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in _output("lscpu").splitlines())
        if key.strip()
        in {
            "Model name",
            "CPU family",
            "Model",
            "Thread(s) per core",
            "Core(s) per socket",
            "Socket(s)",
            "Hypervisor vendor",
        }
        or key.strip().endswith("cache")
    }
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    manifest = {
        "schema": 1,
        "run": run,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m calibration", *sys.argv[1:]]),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "transparent_hugepage": pages.read_text().strip() if pages.exists() else "",
        "gpu": gpu_name(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads_per_process": torch.get_num_threads(),
        "loadavg_at_start": os.getloadavg(),
        **extra,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"manifest-{run}.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of a folder's CSV files, numbers as numbers, absent ones None.

    Rows of a run whose manifest has an entry ``withdrawn`` (the reason) stay in the file but are not returned.

    Raises
    ------
    recqueue.errors.InputError
        When there are none, or a file has other columns.
    """
    from recqueue.errors import InputError

    text = {"run", "model", "way", "device", "scope", "operator", "kind", "ids"}
    rows: list[dict[str, Any]] = []
    manifests = [json.loads(p.read_text(encoding="utf-8")) for p in folder.glob("manifest-*.json")]
    withdrawn = {m["run"] for m in manifests if m.get("withdrawn")}
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(f"{path}: columns {reader.fieldnames}; expected {list(COLUMNS)}")
            for row in reader:
                if None in row.values() or None in row or row["run"] in withdrawn | {"run"}:
                    continue  # the last line of a killed run, or the header of files joined end to end
                rows.append({k: v if k in text else (float(v) if v else None) for k, v in row.items()})
    if not rows:
        raise InputError(f"{folder}: no measured rows; run 'python -m calibration measure' first")
    return rows
