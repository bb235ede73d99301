"""``recqueue share``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from recqueue.cli.app import CANNOT_MEET_SLA, PASS, UNDECIDED
from recqueue.cli.questions import _overrides

if TYPE_CHECKING:
    from rich.table import Table

    from recqueue.optimize.sharing import Part, Sharing


@click.command("share")
@click.argument("file")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the file, as in server.cores=8 or goal=rate; repeatable.",
)
@click.option("--verify/--no-verify", default=True, help="Check each part by simulation (the default).")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the simulations.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON record of schema 1.")
@click.pass_context
def share(ctx: click.Context, file: str, settings: tuple[str, ...], seed: int, *, verify: bool, as_json: bool) -> None:
    """Divide the cores and accelerators of one machine among several models.

    FILE is a YAML file with 'kind: sharing' or the packaged three-models. Every partition is covered: the answer is the
    largest common multiple of the demands (or the largest weighted sum of the rates), beside the division in proportion
    to the work.
    """
    from recqueue.io import load_sharing
    from recqueue.optimize.sharing import share as run

    found = run(load_sharing(file, overrides=_overrides(settings)), verify=verify, seed=seed)
    if as_json:
        from recqueue.cli.records import dumps

        click.echo(dumps(sharing_record(found)))
    else:
        sharing_report(found)
    ctx.exit(_code(found))


def _code(found: Sharing) -> int:
    verdicts = [part.verification.verdict for part in found.parts if part.verification]
    if "undecided" in verdicts:
        return UNDECIDED
    kept = found.scale >= 1 if found.machine.goal == "scale" else found.weighted_qps > 0
    return PASS if kept and "fail" not in verdicts else CANNOT_MEET_SLA


def sharing_report(found: Sharing) -> None:
    """Print who gets what, what it carries, and what the proportional partition would."""
    from rich.text import Text

    from recqueue.cli.advice import rate
    from recqueue.cli.report import _grid, _screen

    machine = found.machine
    system = machine.tenants[0].scenario.system
    device = "" if system.accelerator is None else f" + {system.accelerator.count} x {system.accelerator.name}"
    if machine.goal == "scale":
        gain = f", {found.scale / found.proportional_scale:.2f} times" if found.proportional_scale > 0 else ", against"
        carries = (
            f"{found.scale:.3f} times all demands{gain} the proportional partition's {found.proportional_scale:.3f}"
        )
        by_formula = f"no partition carries more than {found.bound:.3f} times by formula"
        if found.together is not None:
            by_formula += (
                f"; one queue of all for the accelerators carries {found.together.scale:.3f} "
                f"({found.together.tried} of {found.together.choices} choices of thresholds tried)"
            )
    else:
        other = sum(p.tenant.weight * p.qps for p in found.proportional)
        carries = f"{rate(found.weighted_qps)} queries/s, weighted; the proportional partition {rate(other)}"
        by_formula = f"no partition carries more than {rate(found.bound)} by formula"
    with _screen() as out:
        heading = f"{machine.name}: {len(machine.tenants)} models on {system.cores} cores of {system.name}{device}"
        out.print(Text(heading, style="bold"))
        out.print(_grid([("carries", carries)]))
        out.print()
        out.print(_parts("best partition" if found.together is None else "accelerators together", found.parts))
        out.print()
        out.print(_parts("in proportion to the work", found.proportional))
        out.print()
        search = (
            f"{by_formula}; {found.evaluated} of {found.possible} parts searched for their best policy, "
            f"{found.partitions:,} partitions; {found.seconds:.1f} s"
        )
        out.print(_grid([("certificate", search), *(("note", note) for note in found.notes)]))


def _parts(title: str, parts: tuple[Part, ...]) -> Table:
    from rich.table import Table

    from recqueue.cli.advice import knobs, rate

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(title, no_wrap=True)
    for name in ("cores", "accelerators", "batch / offload", "demand", "queries/s", "could carry", "simulated"):
        table.add_column(name, justify="right")
    for p in parts:
        verdict = p.verification.verdict if p.verification else "-"
        rates = rate(p.tenant.demand_qps), rate(p.qps), rate(p.most_qps)
        table.add_row(p.tenant.name, str(p.cores), str(p.accelerators), knobs(p.policy), *rates, verdict)
    return table


def sharing_record(found: Sharing) -> dict[str, Any]:
    """The same for scripts."""
    from recqueue.cli.records import SCHEMA

    machine = found.machine
    system = machine.tenants[0].scenario.system
    device = system.accelerator
    return {
        "schema": SCHEMA,
        "kind": "share",
        "name": machine.name,
        "machine": {
            "cpu": system.name,
            "cores": machine.cores,
            "accelerator": None if device is None else device.name,
            "accelerators": machine.accelerators,
        },
        "goal": machine.goal,
        "scale": found.scale,
        "weighted_qps": found.weighted_qps,
        "bound": found.bound,
        "together": None
        if found.together is None
        else {
            "scale": found.together.scale,
            "tried": found.together.tried,
            "choices": found.together.choices,
        },
        "parts": [_part_record(p) for p in found.parts],
        "proportional": {
            "scale": found.proportional_scale,
            "weighted_qps": sum(p.tenant.weight * p.qps for p in found.proportional),
            "parts": [_part_record(p) for p in found.proportional],
        },
        "evaluated": found.evaluated,
        "possible": found.possible,
        "partitions": found.partitions,
        "notes": found.notes,
        "seconds": found.seconds,
    }


def _part_record(p: Part) -> dict[str, Any]:
    from recqueue.cli.records import policy_record
    from recqueue.optimize.together import LateShare

    v, scenario = p.verification, p.tenant.scenario
    return {
        "name": p.tenant.name,
        "model": scenario.model,
        "sla": {"percentile": scenario.sla.percentile, "latency_s": scenario.sla.latency_s},
        "demand_qps": p.tenant.demand_qps,
        "weight": p.tenant.weight,
        "cores": p.cores,
        "accelerators": p.accelerators,
        "policy": policy_record(p.policy),
        "qps": p.qps,
        "scale": p.scale,
        "most_qps": p.most_qps,
        "verification": None
        if v is None
        else {
            "verdict": v.verdict,
            **({"late_interval": v.interval} if isinstance(v, LateShare) else {"interval_s": v.interval_s}),
            "queries": v.queries,
            "replications": v.replications,
            "steps_back": v.steps_back,
        },
        "provenance": scenario.system.service.provenance,
    }
