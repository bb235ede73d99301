"""How long plans take: ``python -m benchmarks.plan``; renews the table in docs/planning.rst.

The packaged day of eight models, and a made-up week of 200 models on 10 types of machine with two policies for each
pair, whose figures are drawn at random (``synthetic``). What one machine carries is worked out beforehand and timed on
its own. Every plan is sought to a gap of 0.1 %. The reference is what HiGHS reaches for one hour of the week as a plain
mixed-integer program in the time given. Compiled code is loaded before the clock starts; the first plan after an
installation compiles it, which is timed too where it happens.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.fleets import processor
from recqueue.io import load_plan
from recqueue.optimize.plan import plan
from recqueue.optimize.plan_columns import Column, columns
from recqueue.optimize.plan_instance import Instance, Solved, survives
from recqueue.optimize.plan_milp import solve_program
from recqueue.optimize.plan_solve import solve
from recqueue.serving import PlanQuestion, Safety, Switching

GAP = 1e-3
RESULT = Path(__file__).with_name("results") / "plan.json"
TABLE = Path(__file__).parents[1] / "docs" / "planning_table.inc"


def synthetic(*, models: int = 200, types: int = 10, hours: int = 168, tight: float = 1.0, seed: int = 0) -> Instance:
    """A made-up fleet: types of 1 to 20 times the speed, models that like them differently, days of their own phase.

    ``tight`` scales the stock, which is a mix of what the models would take in their busiest hours and an equal share
    of everything; below 1, machines run short in the busiest hours.
    """
    rng = np.random.default_rng(seed)
    speed = np.geomspace(1, 20, types)
    qps = rng.lognormal(6, 1.2, models)[:, None] * speed * rng.lognormal(0, 0.4, (models, types))
    slower = np.stack((np.ones_like(qps), rng.uniform(0.6, 0.9, qps.shape)), axis=2)
    frugal = np.stack((np.ones_like(qps), rng.uniform(0.45, 0.9, qps.shape)), axis=2)
    model, machine, _ = np.indices(slower.shape)
    t = np.arange(hours)
    day = (
        0.6
        + 0.3 * np.sin(2 * np.pi * (t - rng.uniform(0, 6, models)[:, None]) / 24)
        + 0.1 * np.sin(2 * np.pi * t / 168)
    )
    peak = rng.lognormal(2.3, 0.8, models) * np.median(qps, axis=1)
    made = Instance(
        qps=(qps[:, :, None] * slower).ravel(),
        machine=machine.ravel(),
        model=model.ravel(),
        weight=(0.1 * speed[None, :, None] ** 0.95 * frugal).ravel(),
        own_weight=np.zeros(types),
        stock=np.full(types, 1_000_000),
        demand_qps=peak[:, None] * day * rng.uniform(0.95, 1.05, day.shape),
        margin=np.full(models, 0.05),
        spare=True,
        domains=None,
    )
    wanted = np.zeros(types)
    for m in range(models):
        mine = np.flatnonzero(made.model == m)
        best = mine[np.argmin(made.weight[mine] / made.qps[mine])]
        wanted[made.machine[best]] += made.demand_qps[m].max() / made.qps[best]
    return replace(made, stock=np.ceil(tight * (0.9 * wanted + 0.3 * wanted.mean())).astype(np.int64))


def checked(instance: Instance, found: Solved) -> Solved:
    """The answer, after a look at every promise and at the stock."""
    if found.counts is not None:
        assert survives(instance, found.counts).all()
        assert np.all(instance.on_of_type(found.counts) <= instance.stock[:, None])
    return found


def week(tight: float, domains: int | None = None) -> dict[str, object]:
    """The made-up week."""
    instance = replace(synthetic(tight=tight), domains=domains)
    begin = time.perf_counter()
    found = checked(instance, solve(instance, gap=GAP, time_limit_s=600))
    on = instance.on_of_type(found.counts) if found.counts is not None else np.zeros((1, 1))
    scarce = float(np.mean(np.any(on == instance.stock[:, None], axis=0)))
    rules = "" if domains is None else f", {domains} failure domains"
    return {
        "name": f"200 models, 10 types, 168 h; stock {tight:g}, short in {100 * scarce:.0f} % of the hours{rules}",
        "choices": instance.qps.size * instance.demand_qps.shape[1],
        "seconds": time.perf_counter() - begin,
        "gap": found.gap,
        "method": found.method,
    }


def one_hour_by_highs(limit_s: float) -> dict[str, object]:
    """One hour of the same week as a plain program."""
    hour = synthetic().hour(9)
    found = checked(hour, solve_program(hour, gap=GAP, time_limit_s=limit_s))
    return {
        "name": "one hour of it as a plain mixed-integer program",
        "choices": hour.qps.size,
        "seconds": found.seconds,
        "gap": found.gap,
        "method": found.method,
    }


def day(name: str, change: Callable[[PlanQuestion], PlanQuestion], known: tuple[Column, ...]) -> dict[str, object]:
    """The packaged day under some rules."""
    question = change(load_plan("eight-models-day"))
    found = plan(question, known=known, gap=GAP, time_limit_s=60)
    return {
        "name": f"eight-models-day: {name}",
        "choices": len(found.columns) * question.hours,
        "seconds": found.seconds["choice"],
        "gap": found.gap,
        "method": found.method,
    }


DAYS: dict[str, Callable[[PlanQuestion], PlanQuestion]] = {
    "least cost": lambda q: q,
    "least energy": lambda q: replace(q, objective="power"),
    "fewest machines": lambda q: replace(q, objective="machines"),
    "3 failure domains": lambda q: replace(q, safety=Safety(domains=3)),
    "at most 8 switched an hour": lambda q: replace(q, switching=Switching(most_per_hour=8)),
    "at most 2 switched an hour": lambda q: replace(q, switching=Switching(most_per_hour=2)),
}


def measure(limit_s: float, workers: int) -> list[dict[str, object]]:
    """Every row of the table."""
    question = load_plan("eight-models-day")
    begin = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        known = columns(question, executor=pool)
    rows: list[dict[str, object]] = [
        {
            "name": f"eight-models-day: what one machine carries, {len(question.systems)} pairs, {workers} processes",
            "choices": len(known),
            "seconds": time.perf_counter() - begin,
            "gap": None,
            "method": "formulas",
        }
    ]
    rows += [day(name, change, known) for name, change in DAYS.items()]
    begin = time.perf_counter()
    solve(synthetic(hours=1), gap=0.1, time_limit_s=600)
    rows.append(
        {
            "name": "loading compiled code, or compiling it",
            "choices": None,
            "seconds": time.perf_counter() - begin,
            "gap": None,
            "method": "",
        }
    )
    rows += [week(1.0), week(0.9), week(1.3, 4), one_hour_by_highs(limit_s)]
    return rows


def renewed(only: str) -> list[dict[str, object]]:
    """The rows of the committed result, those of the packaged day whose rules contain a text measured anew."""
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["rows"]
    known = columns(load_plan("eight-models-day"))
    solve(replace(synthetic(models=3, types=2, hours=1), domains=3), gap=GAP, time_limit_s=60)  # loads what is compiled
    fresh = {row["name"]: row for row in (day(name, change, known) for name, change in DAYS.items() if only in name)}
    return [fresh.get(row["name"], row) for row in kept]


def table(record: dict[str, object]) -> str:
    """The measured rows as reStructuredText."""
    lines = [
        f".. list-table:: {record['processor']}, {record['cores']} cores, scipy {record['scipy']}, to a gap of 0.1 %",
        "   :header-rows: 1",
        "   :widths: 60 14 12 14",
        "",
    ]
    header = ["plan", "columns x hours", "seconds", "gap reached"]
    rows = [
        [
            r["name"],
            "" if r["choices"] is None else f"{r['choices']:,}",
            f"{r['seconds']:.2g}" if r["seconds"] < 10 else f"{r['seconds']:.0f}",
            "" if r["gap"] is None else "no answer" if not np.isfinite(r["gap"]) else f"{100 * r['gap']:.3f} %",
        ]
        for r in record["rows"]  # type: ignore[attr-defined]
    ]
    for row in [header, *rows]:
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and renew the committed result and the table of the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for the plain program of one hour")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes for the formulas")
    parser.add_argument("--only", metavar="TEXT", help="measure plans of the packaged day with this in their name anew")
    options = parser.parse_args()
    record: dict[str, object] = {
        "schema": 1,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "scipy": version("scipy"),
        "numba": version("numba"),
        "rows": renewed(options.only) if options.only else measure(options.limit, options.workers),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1).replace("Infinity", "null") + "\n")
    TABLE.write_text(table(record), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
