"""``recqueue init``."""

from __future__ import annotations

from pathlib import Path

import click

from recqueue.errors import InputError


@click.command()
@click.argument("file", required=False)
@click.option("--plan", is_flag=True, help="A fleet plan instead (plan.yaml by default).")
@click.option("--force", is_flag=True, help="Overwrite FILE when it exists.")
def init(file: str | None, *, plan: bool, force: bool) -> None:
    """Write a commented scenario to FILE (scenario.yaml by default; - for the screen)."""
    from recqueue.io import plan_template, template

    text, command = (plan_template(), "plan") if plan else (template(), "optimize")
    if file == "-":
        click.echo(text, nl=False)
        return
    path = Path(file or ("plan.yaml" if plan else "scenario.yaml"))
    if path.is_dir():
        raise InputError(f"{path}: this is a directory; give a file name such as {path / 'scenario.yaml'}")
    try:
        with path.open("w" if force else "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise InputError(f"{path}: exists already; give another name, or --force to overwrite it") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give a file in a folder that exists") from None
    click.echo(f"wrote {path}; try: recqueue {command} {path}")
