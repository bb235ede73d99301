"""The optimizer against its baselines and against exhaustive simulation: 8 models, 3 latency targets, 2 machines.

Claim: in each of the 48 cases the policy that the formulas choose carries, by simulation, at least 99 % of what the
best policy carries that an exhaustive search by simulation finds, and no baseline carries more than it.

``python -m studies.optimizer`` runs the cases that ``studies/results/optimizer.jsonl`` lacks, in parallel processes,
and appends each as it is finished; with all of them there it checks the claim and writes
``studies/results/optimizer.json``, the table ``docs/studies/optimizer_table.inc`` and a picture. Parts can be run on
several machines (``--cases 1/2``) and their lines joined. A machine without pydantic, PyYAML or matplotlib can run
cases, but not the report (``--no-report``).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from recqueue import optimize, profiles
from recqueue.optimize.baselines import PUBLISHED, REPAIRED, normal_form, published_hill_climb
from recqueue.serving import Accelerator, Policy, Scenario, Sla, System
from recqueue.workload import LEVELS, MEDIUM_TARGETS_S, latency_target_s, mlperf_sizes
from studies.record import RESULTS, versions
from studies.simulated_rates import FINE, Rate, Simulations, grid, neighbours, race

LINES = RESULTS / "optimizer.jsonl"
CPU, DEVICE, CORES = "xeon-16c", "h200", 16
SEED = 0
CLIMBS = 5
"""Seeds for which the published climb is run, with and without its fault: its result is a random one."""
KEPT = 6
"""Policies of the race that are compared in long runs."""
LONGER = 4
"""Times that runs may become longer until the interval is narrow: the first estimate of the spread is a rough one."""
NEAR = 0.015
"""Policies whose first rate is this close to the best one may take part in the long runs."""


@dataclass(frozen=True)
class Case:
    """One question."""

    model: str
    level: str
    accelerator: bool

    @property
    def name(self) -> str:
        """Key in the file."""
        return f"{self.model} {self.level} {'with' if self.accelerator else 'without'} accelerator"


CASES = tuple(Case(m, level, a) for a in (True, False) for m in MEDIUM_TARGETS_S for level in LEVELS)


def question(case: Case) -> Scenario:
    """The packaged scenario of the model at another latency target, without reading a scenario file."""
    cpu, device = profiles.load(case.model, CPU), profiles.load(case.model, DEVICE)
    accelerator = Accelerator(name=DEVICE, service=device.service, fused_query_s=device.fused_query_s)
    return Scenario(
        name=case.name,
        model=case.model,
        system=System(
            name=CPU,
            cores=CORES,
            service=cpu.service,
            contention=cpu.contention,
            dispatch_overhead_s=cpu.dispatch_overhead_s,
            accelerator=accelerator if case.accelerator else None,
        ),
        sizes=mlperf_sizes(),
        sla=Sla(latency_s=latency_target_s(case.model, case.level)),
    )


def knobs(policy: Policy | None) -> list[int | None] | None:
    """Batch size and threshold."""
    return None if policy is None else [policy.batch_size, policy.offload_threshold]


def run(case: Case) -> dict[str, Any]:
    """Everything about one case, as it goes into a line of the file."""
    started, scenario = time.perf_counter(), question(case)
    line: dict[str, Any] = {
        "case": case.name,
        "model": case.model,
        "level": case.level,
        "accelerator": case.accelerator,
    }
    line["sla_ms"] = scenario.sla.latency_s * 1e3
    formula = optimize(scenario, verify=False, sensitivity="none")
    line["feasible"] = formula.policy is not None
    if formula.policy is None:
        return line | {"reason": formula.reason}
    found = optimize(scenario, seed=SEED, sensitivity="none")
    assert found.verification is not None
    line["formula"] = {
        "policy": knobs(formula.policy),
        "qps": formula.qps,
        "limit": formula.limit,
        "evaluations": formula.evaluations,
        "open": formula.certificate.open,
        "proved_within": formula.certificate.gap,
        "seconds": formula.seconds,
        "sub_requests": 0,
    }
    line["answer"] = {
        "policy": knobs(found.policy),
        "verified_qps": found.qps,
        "verdict": found.verification.verdict,
        "verification_sub_requests": found.verification.sub_requests,
        "seconds": found.seconds,
    }
    line["baselines"] = {
        name: {
            "policy": knobs(b.policy),
            "confirmed_qps": b.qps,
            "believed_qps": b.believed_qps,
            "sub_requests": b.sub_requests,
            "verification_sub_requests": b.verification_sub_requests,
        }
        for name, b in found.baselines.items()
    }
    asked = {name: b.policy for name, b in found.baselines.items() if b.policy is not None}
    asked |= {"formula": formula.policy, "answer": found.policy or formula.policy}
    for name, schedule in (("as_published", PUBLISHED), ("repaired", REPAIRED)):
        climbs = [published_hill_climb(scenario, seed=SEED + i, schedule=schedule) for i in range(CLIMBS)]
        line[name] = [
            {"policy": knobs(c.policy), "believed_qps": c.believed_qps, "sub_requests": c.sub_requests} for c in climbs
        ]
        asked |= {f"{name} {i}": c.policy for i, c in enumerate(climbs) if c.policy is not None}
    compare(scenario, formula.policy, formula.qps, asked, line)
    line["seconds"] = time.perf_counter() - started
    return line


def compare(
    scenario: Scenario, ours: Policy, formula_qps: float, asked: dict[str, Policy], line: dict[str, Any]
) -> None:
    """Simulated rates of all policies asked for and of the best of an exhaustive search, into ``line``."""
    simulations = Simulations(scenario, SEED + 1000)
    rates: dict[Policy, Rate] = {}
    same = {name: normal_form(scenario, policy) for name, policy in asked.items()}
    for policy in dict.fromkeys(same.values()):
        start = formula_qps if policy == same["formula"] else 0.7 * formula_qps
        rates[policy] = simulations.rate(policy, start, 25_000, 8, 0.03)
    result = race(simulations, [*grid(scenario), *neighbours(scenario, ours)], list(rates.values()), KEPT)
    best = result.rates[0].qps
    near = [r.policy for r in result.rates if r.qps >= (1 - NEAR) * best]
    asked_for = [p for p in near if p in rates]
    finalists = list(dict.fromkeys([same["formula"], same["answer"], *near[:KEPT], *asked_for]))
    long = Simulations(scenario, SEED + 2000)
    length = 60_000
    for _ in range(LONGER):
        fine = long.rate(finalists[0], best, length, 16, 0.02)
        if fine.half_width <= FINE:
            break
        length = round(length * min((fine.half_width / (0.8 * FINE)) ** 2, 10.0))
    final = [long.rate(p, best, length, 16, 0.02) for p in finalists]
    mine, top = final[0], max(final, key=lambda r: r.qps)
    apart = top.by_replication / mine.by_replication - 1
    line["simulated"] = {name: rate_record(rates[policy]) for name, policy in same.items()}
    line["simulated"] |= {name: rate_record(r) for name, p in same.items() for r in final if r.policy == p}
    line["exhaustive"] = {
        "policies": result.policies,
        "saturated": result.saturated,
        "late": result.late,
        "sub_requests": simulations.sub_requests,
        "long_sub_requests": long.sub_requests,
        "finalists": [rate_record(r) for r in sorted(final, key=lambda r: -r.qps)],
        "best": rate_record(top),
        "gap": float(1 - mine.qps / top.qps),
        "gap_error": float(2.13 * apart.std(ddof=1) / len(apart) ** 0.5),  # Student's t with 15 degrees of freedom
        "ties": sum(r.qps >= (1 - FINE) * best for r in result.rates),
    }


def rate_record(rate: Rate) -> dict[str, Any]:
    """A simulated rate."""
    return {"policy": knobs(rate.policy), "qps": rate.qps, "half_width": rate.half_width}


def finished(lines: Path) -> dict[str, dict[str, Any]]:
    """Lines of the file by case; of several for one case the last."""
    if not lines.exists():
        return {}
    read = (json.loads(text) for text in lines.read_text().splitlines() if text.strip())
    return {line["case"]: line for line in read}


def run_cases(cases: Sequence[Case], workers: int, lines: Path) -> None:
    """Run what the file lacks; each line is written as soon as it is there."""
    left = [case for case in cases if case.name not in finished(lines)]
    if not left:
        return
    started = time.perf_counter()
    warm_up(question(left[0]))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool, lines.open("a") as out:
        for i, done in enumerate(as_completed([pool.submit(run, case) for case in left]), 1):
            line = done.result() | {"seed": SEED, "versions": versions(), "cpus": os.cpu_count()}
            out.write(json.dumps(line) + "\n")
            out.flush()
            print(
                f"{time.perf_counter() - started:6.0f} s  {i}/{len(left)}  {line['case']}: {summary(line)}", flush=True
            )


def warm_up(scenario: Scenario) -> None:
    """Compile the loops once, so that the processes find them in the cache."""
    published_hill_climb(scenario, seed=0)
    policy = Policy(64, 300 if scenario.system.accelerator else None)
    Simulations(scenario, 0).excess(policy, 1.0, 1000, 3)


def summary(line: dict[str, Any]) -> str:
    """A line for the screen."""
    if not line["feasible"]:
        return "infeasible"
    best = line["exhaustive"]["best"]
    return (
        f"{line['formula']['policy']} {line['simulated']['formula']['qps']:,.0f}/s, best simulated {best['policy']} "
        f"{best['qps']:,.0f}/s, gap {line['exhaustive']['gap']:.2%}, {line['seconds']:.0f} s"
    )


def main() -> None:
    """Run what is missing and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--cases", default="1/1", help="i/n: every n-th case from the i-th on")
    parser.add_argument("--lines", type=Path, default=LINES)
    parser.add_argument("--no-report", action="store_true")
    options = parser.parse_args()
    place, parts = (int(n) for n in options.cases.split("/"))
    run_cases(CASES[place - 1 :: parts], options.workers, options.lines)
    if not options.no_report and len(finished(options.lines)) == len(CASES):
        from studies.optimizer_report import report

        report(finished(options.lines))


if __name__ == "__main__":
    main()
