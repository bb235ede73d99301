"""``recqueue optimize --plot``."""

import json

import pytest


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_picture_is_written(recqueue_command, small, tmp_path, ending):
    file = tmp_path / f"answer.{ending}"
    result = recqueue_command("optimize", small, "--no-verify", "--plot", file)
    assert result.exit_code == 0, result.stderr
    assert f"picture: {file}" in result.stdout
    head = file.read_bytes()[:400]
    assert head.startswith(b"\x89PNG") if ending == "png" else b"<svg" in head


def test_json_stays_json_beside_a_picture(recqueue_command, small, tmp_path):
    result = recqueue_command("optimize", small, "--no-verify", "--json", "--plot", tmp_path / "answer.png")
    assert json.loads(result.stdout)["kind"] == "optimize"


def test_unknown_format_is_one_line(recqueue_command, small, tmp_path):
    result = recqueue_command("optimize", small, "--no-verify", "--plot", tmp_path / "answer.doc")
    assert result.exit_code == 3
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "answer.doc" in errors[0]
    assert "png" in errors[0]
    assert "Traceback" not in result.stderr
