"""The command line: every command loads what it needs only when it runs."""

from recqueue.cli.app import cli, main

__all__ = ["cli", "main"]
