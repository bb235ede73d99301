"""The committed results as tables of docs/performance.rst: ``python -m benchmarks.tables``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.scaling import CONTROL

RESULTS = Path(__file__).with_name("results")
DOCS = Path(__file__).parents[1] / "docs"
Rows = tuple[list[str], list[list[str]]]


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _speed(d: dict[str, Any]) -> Rows:
    rows = [
        [
            r["name"],
            f"{r['sub_requests_per_s'] / 1e6:.3g}",
            f"{r['events_per_s'] / 1e6:.3g}",
            r["reference"],
            f"{r['ratio']:.3g}",
        ]
        for r in d["rows"]
    ]
    rows += [[name, "", "", "", f"skipped: {reason}"] for name, reason in d["skipped"].items()]
    return ["simulator", "million sub-requests/s", "million events/s", "reference", "times the reference"], rows


def _workers(d: dict[str, Any]) -> Rows:
    found = d.get("workers", d["rows"])
    bare = {r["workers"]: r["efficiency"] for r in found if r["kind"] == CONTROL}
    rows = [
        [
            r["kind"],
            str(r["workers"]),
            f"{r['sub_requests_per_s'] / 1e6:.3g}" if r["sub_requests_per_s"] else "",
            f"{r['efficiency']:.2f}",
            f"{r['efficiency'] / bare[r['workers']]:.2f}" if bare else "",
        ]
        for r in found
    ]
    return ["workers", "number", "million sub-requests/s", "efficiency", "over that of arithmetic"], rows


def _answers(d: dict[str, Any]) -> Rows:
    rows = []
    for r in d["rows"]:
        limit = "" if r["limit_s"] is None else f"{r['limit_s']:g} s, {'kept' if r['within_limit'] else 'MISSED'}"
        span = f"{r['fastest_s']:.3g} to {r['slowest_s']:.3g}"
        rows.append([r["name"], f"{r['median_s']:.3g}", span, r["reference"], f"{r['ratio']:.3g}", limit])
    return ["operation", "median (s)", "range (s)", "reference", "times the reference", "limit"], rows


def _long_run(d: dict[str, Any]) -> Rows:
    rows = [
        [
            f"{r['sub_requests']:,}",
            f"{r['seconds']:.1f}",
            f"{r['sub_requests_per_s'] / 1e6:.3g}",
            f"{r['peak_mib']:.0f}",
            f"{1e3 * r['p95_s']:.3f}",
        ]
        for r in d["rows"]
    ]
    return ["sub-requests", "seconds", "million/s", "peak memory (MiB)", "p95 (ms)"], rows


def _sweep(d: dict[str, Any]) -> Rows:
    large = [{**d["large"], "efficiency": None, "arithmetic_efficiency": None}] if d["large"] else []
    rows = [
        [
            "whole sweep" if r["efficiency"] is None else "scaling",
            str(r["workers"]),
            f"{r['points']:,}",
            f"{r['answered']:.0%}",
            f"{r['seconds']:.1f}",
            f"{r['points_per_s']:,.0f}",
            f"{r['points_per_s_per_worker']:,.0f}",
            "" if r["efficiency"] is None else f"{r['efficiency']:.2f}",
            "" if r["efficiency"] is None else f"{r['arithmetic_efficiency']:.2f}",
        ]
        for r in [*d["rows"], *large]
    ]
    header = ["run", "workers", "points", "not saturated", "seconds", "points/s", "points/s each", "efficiency"]
    return [*header, "of arithmetic"], rows


def tables() -> dict[str, Rows]:
    """Header and rows of each table, by the name of its file in docs/; only what has been measured."""
    found: dict[str, Rows] = {}
    for name, build in (("answers", _answers), ("speed", _speed), ("long_run", _long_run), ("sweep", _sweep)):
        if (RESULTS / f"{name}.json").exists():
            found[f"performance_{name}"] = build(_read(RESULTS / f"{name}.json"))
    if (RESULTS / "speed.json").exists():
        found["performance_workers"] = _workers(_read(RESULTS / "speed.json"))
    for path in sorted(RESULTS.glob("scaling*.json")):
        found[f"performance_{path.stem}"] = _workers(_read(path))
    return found


def _caption(name: str) -> str:
    source = "speed" if name == "performance_workers" else name.removeprefix("performance_")
    m = _read(RESULTS / f"{source}.json")["machine"]
    software = f"Python {m['python']}, numba {m['numba']}"
    return f"{m['processor']}, {m['cores']} cores, load average {m['load_average']} before; {software}"


def rst(name: str, table: Rows) -> str:
    """A table as reStructuredText."""
    header, rows = table
    lines = [f".. list-table:: {_caption(name)}", "   :header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def write() -> None:
    """Renew the tables of the documentation."""
    for name, table in tables().items():
        (DOCS / f"{name}.inc").write_text(rst(name, table), encoding="utf-8")


if __name__ == "__main__":
    write()
