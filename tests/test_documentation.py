"""Every command shown in the documentation and the README runs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.rst"), ROOT / "README.md"])
OPTIONAL = re.compile(r"SCENARIO|\[[A-Z]+\]")  # the synopsis of a command, not a command


def blocks(page: Path, language: str) -> list[str]:
    """Text of the code blocks of a page in that language, indentation removed."""
    text = page.read_text()
    if page.suffix == ".md":
        return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:(?:   .*)?\n)+)", text, re.MULTILINE)
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in found]


def commands(page: Path) -> list[str]:
    """Lines ``$ recqueue ...`` of a page, comments removed."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    shown = [re.sub(r"\s+#.*", "", line[2:]) for line in lines if line.startswith("$ recqueue ")]
    return [command for command in shown if not OPTIONAL.search(command)]


def test_there_is_something_to_run():
    assert sum(len(commands(page)) for page in PAGES) >= 8


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_commands_of_a_page_run(page, tmp_path):
    for scenario in [b for b in blocks(page, "yaml") if b.startswith("schema: 1")]:
        (tmp_path / "mine.yaml").write_text(scenario)
    for command in commands(page):
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)], cwd=tmp_path, env=os.environ, capture_output=True, text=True
        )
        # 1 and 2 are answers too: the SLA cannot be met, or the simulation cannot tell.
        assert done.returncode in {0, 1, 2}, f"{command}: {done.stderr}"
        assert "Traceback" not in done.stderr, f"{command}: {done.stderr}"
