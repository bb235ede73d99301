import json
import subprocess
import sys

import pytest

COMMANDS = (
    "optimize",
    "evaluate",
    "simulate",
    "max-rate",
    "pareto",
    "compare",
    "check",
    "sweep",
    "plan",
    "share",
    "models",
    "hardware",
    "init",
)


def recqueue(*args, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "recqueue", *args], capture_output=True, text=True, timeout=600, check=False, **kwargs
    )


def test_help_names_every_command():
    result = recqueue("--help")
    assert result.returncode == 0
    for command in COMMANDS:
        assert command in result.stdout


def test_import_and_help_load_nothing_heavy():
    code = (
        "import sys, recqueue, recqueue.cli; from click.testing import CliRunner; "
        "assert CliRunner().invoke(recqueue.cli.cli, ['--help']).exit_code == 0; "
        "heavy = {'numpy', 'scipy', 'sympy', 'networkx', 'matplotlib', 'numba', 'pydantic', 'yaml', 'rich'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(recqueue_command, command):
    result = recqueue_command(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_no_command_shows_help_and_version(recqueue_command):
    assert "Commands:" in recqueue_command().stdout
    assert recqueue_command("--version").stdout.startswith("recqueue 0.")


def test_init_writes_a_scenario_that_runs(tmp_path):
    assert recqueue("init", cwd=tmp_path).returncode == 0
    ran = recqueue("evaluate", "scenario.yaml", "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert json.loads(ran.stdout)["scenario"] == "scenario"


def test_init_never_overwrites_unasked(recqueue_command, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("precious")
    result = recqueue_command("init", path)
    assert (result.exit_code, path.read_text()) == (3, "precious")
    assert "--force" in result.stderr
    assert recqueue_command("init", path, "--force").exit_code == 0
    assert path.read_text().startswith("# A recqueue scenario")
    assert recqueue_command("init", "-").stdout == path.read_text()
    assert "directory" in recqueue_command("init", tmp_path).stderr
    assert "cannot be written" in recqueue_command("init", tmp_path / "no" / "where.yaml").stderr


def test_bad_input_in_a_real_process_has_no_traceback(tmp_path):
    (tmp_path / "bad.yaml").write_text("schema: 1\nmodle: ncf\n")
    result = recqueue("evaluate", "bad.yaml", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (3, "")
    assert len(result.stderr.splitlines()) == 1
    assert "Did you mean 'model'?" in result.stderr


def test_a_closed_pipe_ends_quietly():
    result = subprocess.run(
        f"{sys.executable} -m recqueue evaluate ncf --json | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout == "{"
    assert result.stderr == ""


def test_init_writes_a_plan_too(recqueue_command, tmp_path):
    path = tmp_path / "fleet.yaml"
    assert f"recqueue plan {path}" in recqueue_command("init", "--plan", path).stdout
    assert recqueue_command("init", "--plan", "-").stdout == path.read_text()
    assert "kind: plan" in path.read_text()
