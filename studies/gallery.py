"""The pictures of ``docs/plots.rst``, made by the commands that stand there.

``python -m studies.gallery`` runs every command of the page in an empty folder, in order, and keeps the pictures in
``docs/gallery``; ``python -m studies.gallery optimum.png`` runs those that this picture needs.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from studies.record import DOCS

PAGE, PICTURES = DOCS / "plots.rst", DOCS / "gallery"
LARGEST_BYTES = 120_000
"""Of a picture in the repository."""


def commands(text: str) -> list[str]:
    """Commands of a page, in order."""
    return re.findall(r"^   \$ (recqueue .*)$", text, re.MULTILINE)


def made(command: str) -> str | None:
    """Picture that a command makes."""
    words = shlex.split(command)
    return words[words.index("--out") + 1] if words[1] == "plot" else None


def shown(text: str) -> list[str]:
    """Pictures that a page shows."""
    return re.findall(r"^\.\. image:: gallery/(.*)$", text, re.MULTILINE)


def run(command: str, folder: Path) -> None:
    """Run one command; 1 and 2 are answers too."""
    words, _, into = command.partition(" > ")
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(words)], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(DOCS.parent)}, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1, 2):
        raise SystemExit(f"{command}: {done.stderr}")
    if into:
        (folder / into).write_text(done.stdout)


def needed(every: Sequence[str], pictures: Collection[str]) -> list[str]:
    """Commands that make these pictures and the files that they read, in order."""
    kept: list[str] = []
    wanted = set(pictures)
    for command in reversed(every):
        words = shlex.split(command)
        outputs = {words[i + 1] for i, word in enumerate(words) if word in ("--out", "--records", ">")}
        if outputs & wanted:
            kept.append(command)
            wanted |= set(words)
    return kept[::-1]


def main() -> None:
    """Renew the pictures named on the command line, or all."""
    every = commands(PAGE.read_text())
    chosen = sys.argv[1:] or [picture for command in every if (picture := made(command))]
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "calibration").symlink_to(DOCS.parent / "calibration")
        for command in needed(every, chosen):
            print(f"$ {command}", flush=True)
            run(command, Path(place))
            if picture := made(command):
                content = (Path(place) / picture).read_bytes()
                if len(content) > LARGEST_BYTES:
                    raise SystemExit(f"{picture}: {len(content)} bytes; at most {LARGEST_BYTES} are kept")
                (PICTURES / picture).write_bytes(content)


if __name__ == "__main__":
    main()
