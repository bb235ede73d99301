"""The gallery shows what its commands make, and its commands are ones that exist."""

import shlex

import pytest

from studies import gallery

TEXT = gallery.PAGE.read_text()


def test_every_picture_has_its_command_and_lies_in_the_repository():
    made = [picture for command in gallery.commands(TEXT) if (picture := gallery.made(command))]
    assert made == gallery.shown(TEXT)
    for picture in made:
        content = (gallery.PICTURES / picture).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) <= gallery.LARGEST_BYTES
    assert {p.name for p in gallery.PICTURES.iterdir()} == set(made)


def test_every_kind_is_shown():
    from recqueue.cli.plot import KINDS

    assert {shlex.split(c)[2] for c in gallery.commands(TEXT) if gallery.made(c)} == set(KINDS)


@pytest.mark.parametrize("command", gallery.commands(TEXT), ids=lambda c: c[9:40])
def test_commands_parse(command):
    import click

    from recqueue.cli import cli

    words = shlex.split(command.partition(" > ")[0])[1:]
    chosen = cli.get_command(click.Context(cli), words[0])
    chosen.make_context(words[0], words[1:])


def test_a_picture_needs_the_files_that_its_command_reads():
    every = gallery.commands(TEXT)
    assert gallery.needed(every, [p for c in every if (p := gallery.made(c))]) == every
    pareto = gallery.needed(every, ["pareto.png"])
    assert [shlex.split(c)[1] for c in pareto] == ["sweep", "plot"]
    assert "policies.parquet" in pareto[0]


def test_a_command_that_fails_ends_the_run(tmp_path):
    gallery.run("recqueue models --json > models.json", tmp_path)
    assert (tmp_path / "models.json").read_text().lstrip()[0] in "[{"
    with pytest.raises(SystemExit, match="no-such"):
        gallery.run("recqueue plot latency no-such.csv --out a.png", tmp_path)
