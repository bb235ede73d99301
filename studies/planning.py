"""What planning buys over provisioning by rule: ``python -m studies.planning``; renews docs/planning_study.inc.

The packaged day of eight models is planned for each objective, with a machine to spare for every model, and checked by
simulation. Greedy and proportional provisioning and the best peak kept all day have the same promises and the same
figures for one machine.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from recqueue.cli.plan_picture import draw
from recqueue.cli.plan_record import plan_record
from recqueue.cli.records import plain
from recqueue.io import load_plan
from recqueue.optimize.plan import plan
from recqueue.optimize.plan_columns import columns
from recqueue.optimize.plan_result import Plan, Totals
from recqueue.serving.planning import OBJECTIVES
from studies.record import DOCS, RESULTS, command_line, save_record

RESULT = RESULTS / "planning.json"
TABLE = DOCS / "planning_study.inc"
PICTURE = DOCS / "planning_day.png"
SHOWN = ("cost_usd", "provisioned_kwh", "machines", "machine_hours")


def plans(queries: int) -> dict[str, Plan]:
    """Objective -> its verified plan."""
    question = load_plan("eight-models-day")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        known = columns(question, executor=pool)
    found = {}
    for objective in OBJECTIVES:
        asked = load_plan("eight-models-day", overrides={"objective": objective})
        found[objective] = plan(asked, known=known, verify=True, queries=queries)
        print(objective, found[objective].totals, found[objective].verification.verdict, flush=True)  # type: ignore[union-attr]
    return found


def table(found: dict[str, Plan]) -> str:
    """Totals of each plan and its baselines as reStructuredText."""
    lines = [
        ".. list-table:: The packaged day; in brackets what the plan needs more (+) or less (-) than each rule",
        "   :header-rows: 1",
        "   :widths: 34 17 17 15 17",
        "",
    ]
    rows = [["", "USD", "kWh provisioned", "machines", "machine-hours"]]
    for objective, p in found.items():
        assert p.totals is not None
        assert p.verification is not None
        head = f"**least {objective}** (gap {100 * p.gap:.2g} %; simulation: {p.verification.verdict})"
        rows.append([head, *(_number(p.totals, name) for name in SHOWN)])
        for name, b in p.baselines.items():
            if b.totals is None:
                rows.append([f"{name}: {b.reason}", *("" for _ in SHOWN)])
            else:
                rows.append([name, *(_compared(p.totals, b.totals, total) for total in SHOWN)])
    for row in rows:
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def _number(totals: Totals, name: str) -> str:
    value = getattr(totals, name)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _compared(ours: Totals, theirs: Totals, name: str) -> str:
    return f"{_number(theirs, name)} ({100 * (getattr(ours, name) / getattr(theirs, name) - 1):+.1f} %)"


def main() -> None:
    """Plan, print, and renew the committed result, the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=400_000, help="queries of a first look at an hour")
    options = parser.parse_args()
    found = plans(options.queries)
    records = {objective: plain(plan_record(p)) for objective, p in found.items()}
    save_record(RESULT, command_line("studies.planning"), plans=records)
    TABLE.write_text(table(found), encoding="utf-8")
    draw(found["cost"]).savefig(PICTURE, dpi=110)
    print(TABLE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
