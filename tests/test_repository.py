"""What holds for the repository as a whole."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import recqueue

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = ("sympy", "networkx", "matplotlib", "numba", "pandas", "cvxpy", "pydantic", "yaml", "torch")


def text_files() -> list[Path]:
    """Every text file that a clone would hold (tracked, or new and not ignored)."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = [ROOT / name for name in listing.split("\0") if name]
    return [p for p in paths if p.is_file() and p.suffix not in {".png", ".gz", ".npz"}]


def find(pattern: str) -> list[str]:
    """Lines of the repository that match, as file:line."""
    regex = re.compile(pattern)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if path != Path(__file__) and regex.search(line)
    ]


def test_no_path_of_one_machine_and_no_package_registry():
    assert len(text_files()) > 20
    assert find(r"(?<![\w.])/(home|root|Users|work|tmp|opt|mnt)/\w") == []
    assert find(r"https?://\S*/(simple|packages)\b|pypi\.org|pythonhosted|index-url|find-links|--hash") == []


def test_search_finds_what_it_looks_for():
    assert find("^def test_recqueue_is_never_written_like_this") == []
    assert find(r"^name = \"recqueue\"$") == ['pyproject.toml:6: name = "recqueue"']


def test_one_version_everywhere():
    version = PYPROJECT["project"]["version"]
    assert importlib.metadata.version("recqueue") == version
    assert recqueue.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_constraints_are_plain_pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines)
    assert lines == sorted(lines)


def normalized(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


@pytest.mark.parametrize("group", ["dependencies", "build", *PYPROJECT["project"]["optional-dependencies"]])
def test_every_requirement_is_pinned_with_what_it_needs(group):
    project = PYPROJECT["project"]
    requirements = {"dependencies": project["dependencies"], "build": PYPROJECT["build-system"]["requires"]}.get(
        group
    ) or project["optional-dependencies"][group]
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    pending, seen = [normalized(r) for r in requirements], set()
    while pending:
        name = pending.pop()
        assert name in pinned, f"{name} is needed by {group} but not pinned in constraints.txt"
        seen.add(name)
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed here; its first level is still checked
        pending += [
            n
            for n in (normalized(r) for r in needed if ";" not in r)  # markers: extras and other platforms
            if n not in seen and not (name == "torch" and n.startswith(("nvidia", "cuda", "triton")))
        ]


def test_readme_shows_both_commands():
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


def test_import_is_light():
    code = f"import sys, recqueue; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_package_data_is_listed_by_the_build():
    """A wheel holds whatever lies under recqueue/, so the packaged profiles must lie there and be tracked."""
    assert PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["recqueue"]
    assert (ROOT / "recqueue" / "py.typed").is_file()
