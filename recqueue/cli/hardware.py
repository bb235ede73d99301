"""``recqueue hardware``: the devices, and which models have a profile on them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from recqueue import profiles

if TYPE_CHECKING:
    from rich.table import Table

    from recqueue.profiles import Hardware, Profile


@click.command("hardware")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def hardware(name: str | None, as_json: bool) -> None:
    """List the hardware, or show one device with the profiles of the models on it.

    NAME is a device such as xeon-16c. A profile is measured (by this project's driver), published (by others) or
    roofline (modelled, not measured).
    """
    if name is None:
        found = [profiles.hardware(known) for known in profiles.hardware_names()]
        if as_json:
            records = [asdict(h) | {"profiles": _provenances(h.name)} for h in found]
            click.echo(json.dumps({"schema": 1, "kind": "hardware", "hardware": records}, indent=2))
        else:
            _print(_list(found))
            click.echo("[U] in a source marks a figure that nobody has verified: recqueue hardware NAME")
        return
    device = profiles.hardware(name)
    if as_json:
        records = [asdict(device) | {"profiles": {p.model: _record(p) for p in _profiles(name)}}]
        click.echo(json.dumps({"schema": 1, "kind": "hardware", "hardware": records}, indent=2))
        return
    click.echo(f"{device.title} ({device.name}, {device.kind})")
    cores = "cores" if device.kind == "cpu" else "multiprocessors"
    click.echo(
        f"Size: {device.cores} {cores}, {device.memory_bytes / 1e9:.0f} GB, "
        f"{device.bandwidth_bytes_per_s / 1e9:,.0f} GB/s ({device.source})"
    )
    click.echo(f"Power: {_watts(device)} idle to busy ({device.power_source})")
    if device.price_usd_per_h is not None:
        click.echo(f"Price: {device.price_usd_per_h} USD per hour")
    _print(_profile_table(device))
    notes = {note: None for p in _profiles(name) for note in p.notes}
    for note in notes:
        click.echo(f"Note: {note}")
    for source in dict.fromkeys(p.source for p in _profiles(name)):
        click.echo(f"Source: {source}")


def _profiles(device: str) -> list[Profile]:
    return [profiles.load(m, h) for m, h, _ in profiles.available() if h == device]


def _provenances(device: str) -> dict[str, str]:
    return {m: provenance for m, h, provenance in profiles.available() if h == device}


def _watts(h: Hardware) -> str:
    return "unknown" if h.idle_w is None or h.busy_w is None else f"{h.idle_w:.0f}-{h.busy_w:.0f} W"


def _record(p: Profile) -> dict[str, Any]:
    return {
        "provenance": p.provenance,
        "source": p.source,
        "batch_size": p.service.items,
        "latency_s": p.service.seconds,
        "tight_latency_s": dict(zip(p.tight.items, p.tight.seconds, strict=True)),
        "cv": p.service.cv,
        "contention": asdict(p.contention),
        "dispatch_overhead_s": p.dispatch_overhead_s,
        "leave_one_out": p.leave_one_out,
        "gaps": dict(p.gaps),
        "notes": p.notes,
    }


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    # a table in a file or a pipe keeps its rows on one line each
    console.print(table) if console.is_terminal else Console(width=max(console.width, 140)).print(table)


def _list(found: list[Hardware]) -> Table:
    from rich.table import Table

    table = Table("hardware", "kind", "what", title="Hardware", title_justify="left")
    for column in ("cores", "memory GB", "power"):
        table.add_column(column, justify="right")
    table.add_column("profiles")
    for h in found:
        counts = Counter(_provenances(h.name).values())
        shown = ", ".join(f"{n} {provenance}" for provenance, n in sorted(counts.items())) or "none"
        table.add_row(h.name, h.kind, h.title, str(h.cores), f"{h.memory_bytes / 1e9:.0f}", _watts(h), shown)
    return table


def _profile_table(device: Hardware) -> Table:
    from rich.table import Table

    table = Table("model", "provenance", "batch sizes", title="Profiles, as served", title_justify="left")
    for column in ("S smallest ms", "S(64) ms", "S largest ms", "cv", "all busy", "dispatch us"):
        table.add_column(column, justify="right")
    for p in _profiles(device.name):
        low, high = p.service.measured_range
        middle = f"{1e3 * float(p.service.seconds_at(64)):.3f}" if low <= 64 <= high else "-"
        table.add_row(
            p.model,
            p.provenance,
            f"{low}..{high}",
            f"{1e3 * p.service.seconds[0]:.3f}",
            middle,
            f"{1e3 * p.service.seconds[-1]:.2f}",
            f"{p.service.cv:.2f}",
            f"x{p.contention.factor[-1]:.2f}",
            f"{1e6 * p.dispatch_overhead_s:.0f}",
        )
    return table
