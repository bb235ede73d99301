"""The ``recqueue`` group: lazy commands, one-line errors, exit codes."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from recqueue.errors import OutsideMeasuredRangeWarning, RecqueueError, UnstableQueueError

PASS, CANNOT_MEET_SLA, UNDECIDED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 3, 130

COMMANDS = {
    "optimize": ("recqueue.cli.questions", "Find the best batch size and offload threshold, and verify them."),
    "evaluate": ("recqueue.cli.questions", "Latency, utilization and power of a policy at a rate, by formula."),
    "simulate": ("recqueue.cli.questions", "The same by simulation, with confidence intervals."),
    "max-rate": ("recqueue.cli.questions", "Largest rate that a policy carries within the SLA."),
    "pareto": ("recqueue.cli.pareto", "Policies that nothing beats in rate and energy, or rate and latency, at once."),
    "sweep": ("recqueue.cli.sweep", "All of these over a grid of any scenario keys, into one Parquet table."),
    "plot": ("recqueue.cli.plot", "Draw saved results: heat maps, latency curves, Pareto fronts, errors."),
    "compare": ("recqueue.cli.compare", "Measured latencies against predicted ones, by load."),
    "check": ("recqueue.cli.check", "Promises held against a scenario or a saved answer, for scripts."),
    "share": ("recqueue.cli.share", "Divide one machine among several models."),
    "plan": ("recqueue.cli.plan", "Plan which machines run which model, hour by hour."),
    "models": ("recqueue.cli.models", "List the models, or show the operators of one."),
    "hardware": ("recqueue.cli.hardware", "List the hardware and the profiles measured on it."),
    "init": ("recqueue.cli.init", "Write a commented scenario to start from."),
}


class _InterruptedError(Exception):
    """Ctrl-C, kept from click, which would print an empty line for it."""


class LazyGroup(click.Group):
    """A group that imports a command when it runs, and ends every error as one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they are useful."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and take the command out of it."""
        if cmd_name not in COMMANDS:
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"no command {cmd_name!r}; commands: {', '.join(COMMANDS)}{hint}", ctx=ctx)
        command: click.Command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run; in standalone mode (the default) end the process with the documented exit code."""
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", OutsideMeasuredRangeWarning)
            code = self._run(args, prog_name, **extra)
        _show(caught)
        sys.exit(code)

    def _run(self, args: Sequence[str] | None, prog_name: str | None, **extra: Any) -> int:
        try:
            result = super().main(args, prog_name, standalone_mode=False, **extra)
        except click.ClickException as error:
            where = f" (see '{error.ctx.command_path} --help')" if getattr(error, "ctx", None) else ""  # type: ignore[attr-defined]
            return _fail(f"{error.format_message()}{where}", BAD_INPUT)
        except UnstableQueueError as error:
            return _fail(str(error), CANNOT_MEET_SLA)
        except RecqueueError as error:
            return _fail(str(error), BAD_INPUT)
        except (_InterruptedError, KeyboardInterrupt, click.Abort):
            return _fail("interrupted", INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output has gone (as with `| head`); point stdout elsewhere so that exit is silent.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PASS
        return result if isinstance(result, int) else PASS


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return code


def _show(caught: list[warnings.WarningMessage]) -> None:
    """Say everything that was read outside its measured range in one line; pass other warnings on."""
    notes: list[str] = []
    for w in caught:
        if issubclass(w.category, OutsideMeasuredRangeWarning):
            if str(w.message) not in notes:
                notes.append(str(w.message))
        else:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    if notes:
        more = f" (and {len(notes) - 1} more of this kind)" if len(notes) > 1 else ""
        click.echo(f"note: {notes[0]}{more}", err=True)


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.pass_context
def cli(ctx: click.Context, *, version: bool) -> None:
    """Batch size, offload threshold and capacity of recommendation inference, from queueing models.

    SCENARIO is a YAML file ('recqueue init' writes one) or a packaged name such as dlrm-rmc1.

    Exit codes: 0 yes, 1 the SLA cannot be met, 2 undecided, 3 bad input.
    """
    if version:
        import recqueue

        click.echo(f"recqueue {recqueue.__version__}")
    elif ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line and exit."""
    cli(prog_name="recqueue")
