"""``recqueue init``."""

from __future__ import annotations

from pathlib import Path

import click

from recqueue.errors import InputError


@click.command()
@click.argument("file", default="scenario.yaml")
@click.option("--force", is_flag=True, help="Overwrite FILE when it exists.")
def init(file: str, *, force: bool) -> None:
    """Write a commented scenario to FILE (scenario.yaml by default; - for the screen)."""
    from recqueue.io import template

    if file == "-":
        click.echo(template(), nl=False)
        return
    path = Path(file)
    if path.is_dir():
        raise InputError(f"{path}: this is a directory; give a file name such as {path / 'scenario.yaml'}")
    try:
        with path.open("w" if force else "x", encoding="utf-8") as out:
            out.write(template())
    except FileExistsError:
        raise InputError(f"{path}: exists already; give another name, or --force to overwrite it") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give a file in a folder that exists") from None
    click.echo(f"wrote {path}; try: recqueue optimize {path}")
