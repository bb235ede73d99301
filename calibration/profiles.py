"""Write profile files: the one place that knows their JSON form besides the reader in recqueue.profiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recqueue.profiles import Contention, Profile, profile_from_json
from recqueue.profiles.profile import PROFILE_SCHEMA


def table(items: Sequence[int], seconds: Sequence[float], cv: float | None = None) -> dict[str, Any]:
    """Return a curve in JSON form, four significant digits."""
    curve: dict[str, Any] = {"items": [int(b) for b in items], "seconds": [float(f"{s:.4g}") for s in seconds]}
    return curve if cv is None else curve | {"cv": float(f"{cv:.3g}")}


def factors(contention: Contention) -> dict[str, Any]:
    """Return a contention table in JSON form."""
    return {"busy": list(contention.busy), "factor": [float(f"{f:.4g}") for f in contention.factor]}


def write_profile(out: Path, record: Mapping[str, Any]) -> Path | None:
    """Check a record by reading it back, then write ``MODEL--HARDWARE.json``.

    A measured profile always wins: a record of another provenance does not replace one, and None is returned.
    """
    text = json.dumps({"schema": PROFILE_SCHEMA, **record})
    name = f"{record['model']}--{record['hardware']}.json"
    profile_from_json(text, name=name)
    path = out / name
    if record["provenance"] != "measured" and path.exists() and read(path).provenance == "measured":
        return None
    out.mkdir(parents=True, exist_ok=True)
    lines = [f"  {json.dumps(k)}: {_lines(v)}" for k, v in json.loads(text).items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return path


def _lines(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"    {json.dumps(v)}" for v in value) + "\n  ]"
    return json.dumps(value)


def read(path: Path) -> Profile:
    """Read a profile file from anywhere."""
    return profile_from_json(path.read_text(encoding="utf-8"), name=path.name)


def leave_one_out(items: Sequence[int], seconds: Sequence[float]) -> float | None:
    """Median relative error of each inner point against the line through its neighbours; None below three points."""
    b, s = np.asarray(items, dtype=float), np.asarray(seconds, dtype=float)
    if len(b) < 3:
        return None
    line = s[:-2] + (b[1:-1] - b[:-2]) * (s[2:] - s[:-2]) / (b[2:] - b[:-2])
    return float(np.median(np.abs(line / s[1:-1] - 1)))


def rising(seconds: Sequence[float], weights: Sequence[float] | None = None) -> list[float]:
    """Nearest (least squares) sequence that never falls: more items cannot take less time, so a fall is noise."""
    blocks: list[list[float]] = []
    for value, weight in zip(seconds, weights if weights is not None else [1.0] * len(seconds), strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            v, w, n = blocks.pop()
            u = blocks[-1]
            blocks[-1] = [(u[0] * u[1] + v * w) / (u[1] + w), u[1] + w, u[2] + n]
    return [v for v, _, n in blocks for _ in range(int(n))]
