"""The import rules catch a violation: each contract is broken on purpose in a copy of the code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VIOLATIONS = {
    "data flows one way": ("recqueue/workload/intruder.py", "import recqueue.serving"),
    "the simulator is an independent witness": ("recqueue/simulate/intruder.py", "import recqueue.queueing"),
    "files, figures and arguments stay at the edges": ("recqueue/models/intruder.py", "import recqueue.io"),
    "only analysis uses the queueing mathematics": ("recqueue/optimize/intruder.py", "import recqueue.queueing"),
    "queueing is plain mathematics": ("recqueue/queueing/intruder.py", "import networkx"),
    "the package never imports its users or torch": ("recqueue/analysis/intruder.py", "import torch"),
}


def lint_imports(root: Path) -> dict[str, str]:
    """Verdict of each contract."""
    out = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=root,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(root), "COLUMNS": "200", "PATH": ""},
    ).stdout
    return dict(re.findall(r"^(.+?) (KEPT|BROKEN)", out, re.MULTILINE))


@pytest.fixture
def copy(tmp_path):
    for part in ("recqueue", "calibration", "studies"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.csv", "*.json"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_all_contracts_hold(copy):
    assert lint_imports(copy) == dict.fromkeys(VIOLATIONS, "KEPT")


def test_each_contract_catches_its_violation(copy):
    for path, line in VIOLATIONS.values():
        (copy / path).write_text(line + "\n")
        assert lint_imports(copy)
    assert lint_imports(copy) == dict.fromkeys(VIOLATIONS, "BROKEN")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("recqueue/serving/intruder.py", "import recqueue.queueing"),
        ("recqueue/queueing/intruder.py", "import recqueue.serving"),
        ("recqueue/analysis/intruder.py", "import recqueue.simulate"),
        ("recqueue/simulate/intruder.py", "import recqueue.analysis"),
        ("recqueue/optimize/intruder.py", "import recqueue.cli"),
        ("recqueue/profiles/intruder.py", "import studies"),
        ("recqueue/analysis/intruder.py", "import recqueue.plotting"),
    ],
)
def test_arrows(copy, path, line):
    (copy / path).write_text(line + "\n")
    assert "BROKEN" in lint_imports(copy).values()
