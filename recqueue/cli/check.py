"""``recqueue check``: promises held against a scenario or a saved answer, for the CI of those who rely on them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from recqueue.cli.app import CANNOT_MEET_SLA, PASS, UNDECIDED
from recqueue.cli.questions import _overrides, _share
from recqueue.errors import InputError, OutOfValidityError

if TYPE_CHECKING:
    from recqueue.io.results import Saved
    from recqueue.serving import Performance, Scenario, Sla
    from recqueue.validation import Check

SAME_RATE = 1e-3
"""Relative difference of two rates at which latencies are still compared."""


@dataclasses.dataclass(kw_only=True)
class _Subject:
    """What is checked: a scenario with its answers computed when asked for, or a saved answer."""

    sla: Sla
    performance: Performance | None = None
    capacity: float | None = None
    capacity_by: str = ""
    capacity_verdict: Any = "pass"
    scenario: Scenario | None = None
    simulated: bool = False
    queries: int = 0
    seed: int = 0
    where: str = ""
    advice: str = "--simulate decides"

    def at(self, qps: float) -> Performance:
        """Answer at a rate."""
        if self.scenario is None:
            raise InputError(f"{self.where}: a saved answer is for one rate; give the SCENARIO to ask about others")
        return answer(self.scenario, qps, simulated=self.simulated, queries=self.queries, seed=self.seed)

    def largest_rate(self) -> float:
        """Largest rate within the SLA."""
        if self.capacity is None:
            if self.scenario is None:
                raise InputError(
                    f"{self.where}: holds no largest rate; save 'recqueue max-rate SCENARIO --json' or 'recqueue "
                    "optimize SCENARIO --json', or give the SCENARIO"
                )
            from recqueue.analysis import max_rate

            self.capacity, self.capacity_by = max_rate(self.scenario).qps, "formula"
        return self.capacity


def answer(scenario: Scenario, qps: float, *, simulated: bool, queries: int, seed: int) -> Performance:
    """Performance of a scenario at a rate, by formula or by simulation."""
    if simulated:
        from recqueue.simulate import simulate

        return simulate(scenario, qps=qps, queries=queries, seed=seed, until_decided=True)
    from recqueue.analysis import evaluate

    try:
        return evaluate(scenario, qps=qps)
    except OutOfValidityError as error:
        raise InputError(f"{error}; --simulate has an answer") from None


@click.command()
@click.argument("result")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Replace a value of the scenario.")
@click.option("--qps", type=float, help="Rate to promise: of the scenario, or that a saved largest rate must reach.")
@click.option("--min-qps", type=float, help="The largest rate within the SLA must be at least this.")
@click.option("--max-utilization", callback=_share, metavar="PERCENT", help="The busier pool may be so busy.")
@click.option("--headroom", callback=_share, metavar="PERCENT", help="The SLA must hold with so much more load.")
@click.option("--against", metavar="BASELINE.json", help="A saved answer that must not have become worse.")
@click.option("--max-drop", callback=_share, metavar="PERCENT", help="--against: the rate may drop so much [5%].")
@click.option("--max-rise", callback=_share, metavar="PERCENT", help="--against: the latency may rise so much [10%].")
@click.option("--measured", metavar="CSV", help="Measured runs that must keep the SLA too ('recqueue compare').")
@click.option("--max-error", callback=_share, metavar="PERCENT", help="--measured: 90 % of errors of p95 below this.")
@click.option("--simulate", "simulated", is_flag=True, help="Ask the simulator instead of the formulas.")
@click.option("--queries", type=click.IntRange(min=1000), default=200_000, show_default=True, help="Of a first look.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the simulation.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON record of schema 1.")
@click.pass_context
def check(
    ctx: click.Context,
    result: str,
    settings: tuple[str, ...],
    qps: float | None,
    min_qps: float | None,
    max_utilization: float | None,
    headroom: float | None,
    against: str | None,
    max_drop: float | None,
    max_rise: float | None,
    measured: str | None,
    max_error: float | None,
    queries: int,
    seed: int,
    *,
    simulated: bool,
    as_json: bool,
) -> None:
    """Check promises: one line each, and an exit code for scripts.

    RESULT is a SCENARIO with a policy and a rate, or a saved answer: the JSON of evaluate, simulate, max-rate or
    optimize. The SLA is always checked, with room for what the answer may be off by: where a formula's own error or
    the width of an interval could turn the verdict, it is undecided.

    Exit codes: 0 everything is kept, 1 something is broken, 2 something is undecided, 3 bad input.
    """
    from recqueue.io.results import is_result
    from recqueue.validation import overall

    for value, option, other in ((max_drop or max_rise, "--max-drop and --max-rise", against),
                                 (max_error, "--max-error", measured)):  # fmt: skip
        if value is not None and other is None:
            raise InputError(f"{option} say how much is allowed; give what to compare with: --against, --measured")
    if is_result(result):
        if settings or simulated:
            raise InputError(f"{result}: --set and --simulate are for a SCENARIO; a saved answer is taken as it is")
        subject, checks = _saved(result, qps, headroom)
    else:
        subject, checks = _scenario(result, settings, qps, headroom, simulated=simulated, queries=queries, seed=seed)
    checks += _bounds(subject, min_qps, max_utilization)
    if against is not None:
        checks += _against(subject, against, 0.05 if max_drop is None else max_drop, max_rise or 0.1)
    if measured is not None:
        checks += _measured(subject, result, settings, measured, max_error)
    verdict = overall(checks)
    if as_json:
        from recqueue.cli.records import dumps

        found = [dataclasses.asdict(c) for c in checks]
        click.echo(dumps({"schema": 1, "kind": "check", "result": result, "verdict": verdict, "checks": found}))
    else:
        for c in checks:
            click.echo(f"{c.verdict.upper():<9}  {c.name}: {c.text}")
    ctx.exit({"pass": PASS, "fail": CANNOT_MEET_SLA, "undecided": UNDECIDED}[verdict])


def _scenario(
    source: str,
    settings: tuple[str, ...],
    qps: float | None,
    headroom: float | None,
    *,
    simulated: bool,
    queries: int,
    seed: int,
) -> tuple[_Subject, list[Check]]:
    from recqueue.cli.questions import _with_rate
    from recqueue.io import load_scenario
    from recqueue.validation import check_headroom, check_sla

    scenario = _with_rate(load_scenario(source, overrides=_overrides(settings)), source, qps)
    assert scenario.qps is not None  # _with_rate saw to it
    advice = "more --queries decide" if simulated else "--simulate decides"
    subject = _Subject(sla=scenario.sla, scenario=scenario, simulated=simulated, queries=queries, seed=seed,
                       where=source, advice=advice)  # fmt: skip
    subject.performance = subject.at(scenario.qps)
    checks = [check_sla(subject.performance, scenario.sla, advice=advice)]
    if headroom is not None:
        more = subject.at(scenario.qps * (1 + headroom))
        checks.append(check_headroom(more, scenario.sla, headroom, advice=advice))
    return subject, checks


def _saved(source: str, qps: float | None, headroom: float | None) -> tuple[_Subject, list[Check]]:
    from recqueue.io.answers import performance_of, sla_of
    from recqueue.io.results import Table, read_result
    from recqueue.validation import check_rate, check_sla

    saved = read_result(source)
    if isinstance(saved, Table):
        raise InputError(f"{source}: a table of many answers; check takes a SCENARIO or the JSON of one answer")
    advice = "'recqueue check SCENARIO --simulate' decides"
    if saved.kind in ("evaluate", "simulate"):
        if qps is not None or headroom is not None:
            raise InputError(
                f"{source}: a saved {saved.kind} is for one rate; --qps and --headroom need the SCENARIO, or a saved "
                "'recqueue max-rate SCENARIO --json'"
            )
        subject = _Subject(sla=sla_of(saved), performance=performance_of(saved), where=source, advice=advice)
        assert subject.performance is not None
        return subject, [check_sla(subject.performance, subject.sla, advice=advice)]
    if saved.kind not in ("max-rate", "optimize"):
        raise InputError(
            f"{source}: a record of kind {saved.kind!r}; check reads those of evaluate, simulate, max-rate and optimize"
        )
    subject = _capacity(saved)
    least = 0.0 if qps is None else qps * (1 + (headroom or 0.0))
    if headroom is not None and qps is None:
        raise InputError(f"{source}: --headroom of a saved largest rate is over the rate to promise; give --qps too")
    name = "sla" if qps is None else "headroom" if headroom else "rate"
    assert subject.capacity is not None
    if subject.capacity == 0:
        text = f"no rate keeps it: {saved.record.get('reason', 'see the record')}"
        zero = check_rate(0.0, 0.0, by=subject.capacity_by, verdict="fail", name=name)
        return subject, [dataclasses.replace(zero, text=text)]
    return subject, [
        check_rate(subject.capacity, least, by=subject.capacity_by, verdict=subject.capacity_verdict, name=name)
    ]


def _capacity(saved: Saved) -> _Subject:
    """The largest rate of a saved max-rate or optimize, and how sure it is."""
    from recqueue.io.answers import performance_of, sla_of

    verification = saved.record.get("verification")
    verdict = "pass" if verification is None else verification["verdict"]
    by = "formula" if verification is None else f"verified by simulation: {verdict}"
    latencies = saved.record.get("latency_s")
    return _Subject(
        sla=sla_of(saved),
        performance=performance_of(saved) if saved.kind == "max-rate" and latencies else None,
        capacity=float(saved.need("qps")),
        capacity_by=by,
        capacity_verdict=verdict,
        where=saved.where,
    )


def _bounds(subject: _Subject, min_qps: float | None, max_utilization: float | None) -> list[Check]:
    from recqueue.validation import check_rate, check_utilization

    checks = []
    if min_qps is not None:
        most = subject.largest_rate()
        checks.append(check_rate(most, min_qps, by=subject.capacity_by, verdict=subject.capacity_verdict))
    if max_utilization is not None:
        if subject.performance is None:
            raise InputError(f"{subject.where}: holds no utilization at a rate to promise; give the SCENARIO")
        checks.append(check_utilization(subject.performance, max_utilization))
    return checks


def _against(subject: _Subject, baseline: str, max_drop: float, max_rise: float) -> list[Check]:
    """Compare with a saved answer of the same kind: its largest rate, or its latency at the same rate."""
    from recqueue.io.answers import performance_of, sla_of
    from recqueue.io.results import Table, read_result
    from recqueue.validation import check_against

    saved = read_result(baseline)
    if isinstance(saved, Table) or saved.kind not in ("evaluate", "simulate", "max-rate", "optimize"):
        raise InputError(f"{baseline}: --against takes the JSON of evaluate, simulate, max-rate or optimize")
    if sla_of(saved) != subject.sla:
        raise InputError(
            f"{baseline}: was asked about {sla_of(saved)}, this about {subject.sla}; compare alike with alike"
        )
    if saved.kind in ("max-rate", "optimize"):
        now, before = subject.largest_rate(), float(saved.need("qps"))
        if before <= 0:
            raise InputError(f"{baseline}: its rate is 0, so nothing can be worse; save a feasible baseline")
        return [check_against("largest rate", (now,) * 3, (before,) * 3, max_drop, unit="queries/s")]
    old, key = performance_of(saved), f"p{subject.sla.percentile:g}"
    new = subject.performance
    if new is None:
        raise InputError(f"{subject.where}: holds no latency at a rate; compare it with a saved max-rate or optimize")
    if abs(new.qps / old.qps - 1) > SAME_RATE:
        raise InputError(f"{baseline}: was at {old.qps:g} queries/s, this is at {new.qps:g}; give --qps {old.qps:g}")
    ends = [(p.latency_s[key], *p.interval_s.get(key, (p.latency_s[key],) * 2)) for p in (new, old)]
    return [check_against(key, ends[0], ends[1], max_rise)]


def _measured(
    subject: _Subject, result: str, settings: tuple[str, ...], file: str, max_error: float | None
) -> list[Check]:
    """Check the measured runs of the scenario's policy at up to its rate, and the errors of all runs."""
    from recqueue.cli.compare import compared
    from recqueue.io.measured import read_measured
    from recqueue.validation import Check, check_measured

    runs = read_measured(file)
    promised = subject.performance.qps if subject.performance else subject.capacity
    policy = subject.scenario.policy if subject.scenario else None
    own = [
        r
        for r in runs
        if promised is None or r.qps <= promised * (1 + SAME_RATE)
        if policy is None
        or r.batch_size is None
        or (r.batch_size, r.offload_threshold) == (policy.batch_size, policy.offload_threshold)
    ]
    checks = [check_measured(r, subject.sla) for r in own]
    if not own:
        text = f"no run of this policy at up to {promised:,.5g} queries/s among {len(runs)} in {file}"
        checks = [Check(name="measured", verdict="undecided", value=0.0, bound=0.0, text=text)]
    if max_error is not None:
        found = compared(
            runs, result, settings=settings, simulated=subject.simulated, queries=subject.queries or 200_000
        )
        verdict, value = found.verdict(max_error, "p95")
        within = f"within {100 * value:.3g} %, at most {100 * max_error:g} %"
        text = f"90 % of {found.spread['p95'].runs} predictions of p95 are {within}"
        checks.append(Check(name="error", verdict=verdict, value=value, bound=max_error, text=text))
    return checks
