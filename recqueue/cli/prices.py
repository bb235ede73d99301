"""``recqueue optimize --shadow-prices``: what each resource is worth, as a table and as a record."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

from recqueue.cli.advice import rate
from recqueue.cli.records import policy_record
from recqueue.cli.report import _grid, _screen
from recqueue.optimize.prices import NEGLIGIBLE, Price, ShadowPrices

NAMES = {
    "sla": "latency bound",
    "late_share": "queries that may be late",
    "cores": "cores",
    "cpu_speed": "speed of the cores",
    "bandwidth": "memory bandwidth",
    "accelerator_speed": "speed of the accelerator",
    "accelerators": "accelerators",
}


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _confirmed(price: Price, exact_qps: float | None) -> str:
    if price.exact is None or exact_qps is None:
        return ""
    return "yes" if price.agrees(exact_qps) else "NO"


def price_report(found: ShadowPrices) -> None:
    """Print the price of each resource beside the differences of the exact optimum."""
    r = found.relaxation
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("what one more is worth", no_wrap=True)
    for name in ("now", "queries/s", "for one more", "exact: one less", "exact: one more", "confirmed"):
        table.add_column(name, justify="left" if name == "for one more" else "right")
    for p in found.prices.values():
        worth = "0" if p.elasticity < NEGLIGIBLE / 10 and p.resource != "accelerators" else _signed(p.qps_per_unit)
        exact = ("", "") if p.exact is None else tuple(_signed(0.0 if abs(x) < 1e-9 else x) for x in p.exact)
        table.add_row(NAMES[p.resource], f"{p.amount:g}", worth, p.unit, *exact, _confirmed(p, found.exact_qps))
    with _screen() as out:
        out.print()
        if not found.prices:
            out.print(_grid([("prices", "none: the relaxation keeps the promise at no rate")]))
            return
        out.print(table)
        out.print(
            _grid(
                [
                    (
                        "relaxation",
                        f"geometric program: {rate(r.qps)} queries/s; its policy ({r.policy}) carries "
                        f"{rate(r.policy_qps)} by the exact formulas; posynomial of the service time within "
                        f"{100 * r.fit.median_error:.1f} % (median) and {100 * r.fit.largest_error:.1f} % (worst); "
                        f"{r.programs} programs, {found.seconds:.1f} s with the check",
                    ),
                    *(("note", note) for note in found.notes),
                ]
            )
        )


def price_record(found: ShadowPrices) -> dict[str, Any]:
    """The same for scripts."""
    r = found.relaxation
    return {
        "relaxed_qps": r.qps,
        "policy": policy_record(r.policy),
        "policy_qps": r.policy_qps,
        "exact_qps": found.exact_qps,
        "fit_error": {"median": r.fit.median_error, "largest": r.fit.largest_error},
        "programs": r.programs,
        "prices": {
            name: {
                "unit": p.unit,
                "amount": p.amount,
                "elasticity": p.elasticity,
                "qps_per_unit": p.qps_per_unit,
                "exact_qps_per_unit": None if p.exact is None else {"less": p.exact[0], "more": p.exact[1]},
                "confirmed": None if found.exact_qps is None else p.agrees(found.exact_qps),
            }
            for name, p in found.prices.items()
        },
        "notes": found.notes,
        "seconds": found.seconds,
    }
