"""Campaigns of different models, measured one after the other, as one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from calibration.records import repack
from calibration.runs import rows_of
from recqueue.errors import InputError

TABLES = ("live.csv", "services.csv", "capacities.csv")


def join(folders: Sequence[Path], out: Path) -> str:
    """Pack the records of all campaigns into ``out`` and append their rows; returns a line on what is there.

    Raises
    ------
    InputError
        When a folder holds no campaign, two hold the same model, their tables differ in columns, or ``out`` holds some.
    """
    held: dict[str, Path] = {}
    for folder in folders:
        for model in dict.fromkeys(r["model"] for r in rows_of(folder / "live.csv")):
            if model in held:
                raise InputError(f"{folder}: runs of {model}, as {held[model]} has; join campaigns of different models")
            held[model] = folder
    if any((out / name).exists() for name in TABLES):
        raise InputError(f"{out}: holds a campaign already; give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        texts = [
            (f / name).read_text(encoding="utf-8").splitlines(keepends=True) for f in folders if (f / name).exists()
        ]
        if len({text[0] for text in texts}) > 1:
            raise InputError(f"{name}: the campaigns differ in columns; measure them with the same version")
        if texts:
            (out / name).write_text("".join([texts[0][0], *(x for t in texts for x in t[1:])]), encoding="utf-8")
    for folder in folders:
        for file in sorted(folder.iterdir()):
            if file.name not in TABLES and file.is_file():
                target = out / file.name
                copy = repack if file.suffix == ".npz" else shutil.copy2
                copy(file, target if not target.exists() else out / f"{folder.name}-{file.name}")
    return f"{out}: {', '.join(held)}"
