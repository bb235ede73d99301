"""A day of a fleet, simulated: one replication, and statistics over independent ones."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from recqueue.serving.fleet import Day, Fleet, FleetPerformance, HourPerformance
from recqueue.simulate.execution import Crew
from recqueue.simulate.experiment import LEAST_QUERIES, SETTLING_TIMES, check_options
from recqueue.simulate.machines import Kind, State, kind_of, new_state
from recqueue.simulate.routing import LEAST_WORK, RANDOM, ROUND_ROBIN, SHORTEST_QUEUE, advance_all, serve
from recqueue.simulate.statistics import student_interval
from recqueue.simulate.streams import Streams, query_items, spawn, summed_rate, time_at
from recqueue.workload.sizes import QuerySizes

CHOICE = {
    "random": RANDOM,
    "weighted": RANDOM,
    "round_robin": ROUND_ROBIN,
    "jsq": SHORTEST_QUEUE,
    "least_work": LEAST_WORK,
}


def router_stream(seed: int, replication: int) -> np.random.Generator:
    """Generator of the router in one replication, beside the named streams of :func:`recqueue.simulate.spawn`."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(replication, len(Streams._fields))))


def day_arrivals_s(day: Day, hour_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Poisson arrivals over the last hour of the day (as a warm-up) and then the whole day, each hour ``hour_s`` long.

    A unit-rate Poisson process on the expected number of queries is carried over to time, as for ``diurnal`` arrivals;
    here the rate may be 0 for a while. The times start at 0 and ascend.
    """
    inside = day.breaks_h()
    at = np.concatenate((inside[inside >= day.hours - 1] - day.hours, inside[1:])) + 1
    rate, seconds = day.qps_at(at - 1), at * hour_s
    expected = summed_rate(seconds, rate)
    count = rng.poisson(expected[-1])
    steps = np.cumsum(rng.exponential(size=count + 1))
    place = steps[:-1] / steps[-1] * expected[-1]  # ordered uniform numbers
    times = time_at(place, seconds, rate, expected)
    return np.asarray(np.minimum(np.maximum.accumulate(times), seconds[-1]))


def load_per_qps(kind: Kind, sizes: QuerySizes) -> float:
    """Busy share of the busier pool of a machine for each query/s sent to it, all cores busy and launches full."""
    n, p = np.arange(1, sizes.max_items + 1), sizes.pmf[1:]
    local = n < kind.threshold
    work = n // kind.batch * kind.cpu_s[kind.batch] + kind.cpu_s[n % kind.batch]
    cpu = float(p[local] @ work[local]) * float(kind.slowdown[-1]) / kind.cores
    if local.all():
        return cpu
    offloaded = float(p[~local].sum())
    if kind.fused == 1:
        return max(cpu, float(p[~local] @ kind.device_s[n[~local]]) / kind.devices)
    full = round(kind.fused * float(p[~local] @ n[~local]) / offloaded)
    launch_s = float(kind.device_s[full]) + (kind.fused - 1) * kind.fused_query_s
    return max(cpu, offloaded * launch_s / kind.fused / kind.devices)


@dataclass(frozen=True, kw_only=True)
class DayRun:
    """One replication of a day; queries in order of arrival, hours and machines as in the fleet.

    Attributes
    ----------
    latency_s : numpy.ndarray
        Of each query of the day; infinite for those that found no machine on.
    first : numpy.ndarray
        First query of each hour, and their number at the end: shape ``(hours + 1,)``.
    core_s, device_s : numpy.ndarray
        Busy core-seconds and accelerator-seconds of each machine in each hour, shape ``(hours, machines)``.
    drain_s : numpy.ndarray
        Seconds that a machine which is off still works, same shape.
    sub_requests : int
        Completed, those of the warm-up included.
    """

    latency_s: NDArray[np.float64]
    first: NDArray[np.int64]
    core_s: NDArray[np.float64]
    device_s: NDArray[np.float64]
    drain_s: NDArray[np.float64]
    sub_requests: int


def run_day(
    fleet: Fleet, kinds: Sequence[Kind], hour_s: float, streams: Streams, router: np.random.Generator
) -> DayRun:
    """Simulate a day after one hour of warm-up, the last one of the day."""
    hours = fleet.day.hours
    arrival = day_arrivals_s(fleet.day, hour_s, streams.arrivals)
    items = query_items(fleet.sizes, len(arrival), streams.sizes)
    noise = (streams.service_cpu, streams.service_accelerator)
    state = new_state(kinds, fleet.group_of(), arrival, items, noise)
    bounds = hour_s * np.arange(hours + 2, dtype=np.float64)
    first = np.searchsorted(arrival, bounds)
    first[-1] = len(arrival)
    schedule = fleet.schedule()[np.arange(-1, hours)]
    marks = route(fleet, kinds, state, bounds, first, schedule, router)
    core_s, device_s = np.diff(marks[0], axis=0)[1:], np.diff(marks[1], axis=0)[1:]
    drain = np.clip(np.minimum(marks[2][2:], bounds[2:, None]) - bounds[1:-1, None], 0.0, None)
    advance_all(state, np.inf)
    return DayRun(
        latency_s=(state.query["finish"] - state.query["arrival"])[first[1] :],
        first=first[1:] - first[1],
        core_s=core_s,
        device_s=device_s,
        drain_s=np.where(schedule[1:], 0.0, drain),
        sub_requests=int(state.machine["sub_requests"].sum()),
    )


def route(
    fleet: Fleet,
    kinds: Sequence[Kind],
    state: State,
    bounds_s: NDArray[np.float64],
    first: NDArray[np.int64],
    schedule: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Send every query to a machine, period by period; how far each machine is at each bound.

    Parameters
    ----------
    fleet : Fleet
        Whose router decides.
    kinds : sequence of Kind
        Of its groups.
    state : State
        Changed in place.
    bounds_s : numpy.ndarray
        Start of each period and the end of the last one.
    first : numpy.ndarray
        First query of each period, and their number.
    schedule : numpy.ndarray
        Which machine is on, shape ``(periods, machines)``.
    rng : numpy.random.Generator
        Of the router.

    Returns
    -------
    numpy.ndarray
        Core-seconds, accelerator-seconds and last completion (s) of each machine at each bound, shape
        ``(3, periods + 1, machines)``; a machine at work has its last completion still before it, so infinity.
    """
    choice, sampled = CHOICE[fleet.router.choice], fleet.router.sampled or fleet.machines
    capacity = 1 / np.array([load_per_qps(k, fleet.sizes) for k in kinds])[state.machine["kind"]]
    used, marks = np.zeros(2, np.int64), np.empty((3, len(bounds_s), len(schedule[0])))
    for h, bound in enumerate(bounds_s):
        advance_all(state, bound)
        m = state.machine
        marks[0, h] = m["core_s"] + m["busy"] * (bound - m["now"])
        running = np.where(np.isfinite(state.device_end), state.device_end - bound, 0.0)
        marks[1, h] = m["device_s"] - running.sum(axis=1)
        marks[2, h] = np.where(m["present"] > 0, np.inf, m["last_end"])
        if h == len(schedule) or not schedule[h].any():
            continue
        on = np.flatnonzero(schedule[h])
        share = np.cumsum(capacity[on]) / capacity[on].sum() if fleet.router.choice == "weighted" else np.empty(0)
        share[-1:] = 1.0
        serve(state, first[h], first[h + 1], on, choice, sampled, share, first[h], used, rng)
    return marks


def simulate_fleet(
    fleet: Fleet,
    *,
    queries: int = 2_000_000,
    replications: int = 8,
    seed: int = 0,
    workers: int | None = None,
    executor: Executor | None = None,
) -> FleetPerformance:
    """Simulate a day of a fleet; every latency comes with a 95 % confidence interval.

    Rates are kept and time is shortened: ``hour_s`` seconds stand for an hour, as many as the number of queries asked
    for takes. That is right as long as queues settle within them, which is checked. Energy is scaled back to whole
    hours; the draining of machines switched off is not scaled.

    Parameters
    ----------
    fleet : Fleet
        What to simulate.
    queries : int
        Queries of the day over all replications, about.
    replications : int
        Independent repetitions of the day, 3 or more.
    seed : int
        The same seed gives the same numbers, whatever ``workers`` is; two fleets with the same day and sizes see the
        same queries at the same times.
    workers : int, optional
        Threads; all cores by default.
    executor : concurrent.futures.Executor, optional
        Where the replications run instead; it is not shut down.

    Returns
    -------
    FleetPerformance
        Hour by hour.

    Raises
    ------
    InputError
        When an option is out of range.
    """
    hourly = fleet.day.hourly_qps()
    check_options(queries, replications, seed, workers, executor, hours=len(hourly))
    hour_s = min(queries / replications / float(hourly.sum()), 3600.0)
    kinds = [kind_of(g.system, g.policy, fleet.sizes.max_items) for g in fleet.groups]
    streams = spawn(seed, replications)
    routers = [router_stream(seed, r) for r in range(replications)]
    tasks = [partial(run_day, fleet, kinds, hour_s, s, router) for s, router in zip(streams, routers, strict=True)]
    with Crew[DayRun](executor, workers) as crew:
        runs = crew.run_all(tasks)
    return summarize_day(fleet, kinds, hour_s, runs, seed)


def latency_statistics(
    percentile: float, samples: Sequence[NDArray[np.float64]]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Mean and percentiles (50, 95, 99 and the given one) with intervals, from the latencies of each replication."""
    ranks = {f"p{rank:g}": rank for rank in (50, 95, 99, percentile)}
    mean, half = student_interval(np.array([[x.mean(), *np.percentile(x, list(ranks.values()))] for x in samples]))
    names = ["mean", *ranks]
    ends = {k: (max(m - h, 0.0), m + h) for k, m, h in zip(names, mean.tolist(), half.tolist(), strict=True)}
    return dict(zip(names, mean.tolist(), strict=True)), ends


def summarize_day(
    fleet: Fleet, kinds: Sequence[Kind], hour_s: float, runs: Sequence[DayRun], seed: int
) -> FleetPerformance:
    """Statistics over replications, hour by hour."""
    sla, hours = fleet.sla, fleet.day.hours
    of, schedule = fleet.group_of(), fleet.schedule()
    cores = np.array([g.system.cores for g in fleet.groups])[of]
    devices = np.array([g.system.accelerator.count if g.system.accelerator else 1 for g in fleet.groups])[of]
    cpu = np.mean([r.core_s for r in runs], axis=0) / (hour_s * cores)
    device = np.mean([r.device_s for r in runs], axis=0) / (hour_s * devices)
    energy = _energy_j(fleet, hour_s, runs)
    loads = offered_loads(fleet, kinds)
    records = []
    for h in range(hours):
        samples = [r.latency_s[r.first[h] : r.first[h + 1]] for r in runs]
        lost = 0.0 if schedule[h].any() or loads[h] == 0 else 1.0
        fewest = min(len(x) for x in samples)
        latency, ends = latency_statistics(sla.percentile, samples) if fewest and not lost else ({}, {})
        over = np.array([np.mean(x > sla.latency_s) if len(x) and not lost else 0.0 for x in samples])
        late, late_half = map(float, student_interval(over))
        meets, status = _verdict(fleet, h, loads[h], ends.get(f"p{sla.percentile:g}"), fewest, hour_s)
        on = {g.name: int(schedule[h][of == i].sum()) for i, g in enumerate(fleet.groups)}
        busier = np.maximum(cpu[h], device[h])
        records.append(
            HourPerformance(
                hour=h,
                qps=float(fleet.day.hourly_qps()[h]),
                machines_on=on,
                offered_load=float(loads[h]),
                latency_s=latency,
                interval_s=ends,
                late=late,
                late_interval=(max(late - late_half, 0.0), late + late_half),
                lost=lost,
                utilization={
                    g.name: float(busier[schedule[h] & (of == i)].mean()) if on[g.name] else 0.0
                    for i, g in enumerate(fleet.groups)
                },
                power_w=None if energy is None else float(energy[h]) / 3600,
                meets_sla=meets,
                status=status,
            )
        )
    answered = [r.latency_s[np.isfinite(r.latency_s)] for r in runs]
    latency, ends = latency_statistics(sla.percentile, answered) if min(map(len, answered)) else ({}, {})
    total = sum(len(r.latency_s) for r in runs)
    verdicts = {r.meets_sla for r in records}
    return FleetPerformance(
        method=f"discrete-event simulation of {len(runs)} days of {hours} h; {hour_s:.3g} s stand for each hour",
        hours=tuple(records),
        latency_s=latency,
        interval_s=ends,
        late=sum(int(np.sum(x > sla.latency_s)) for x in answered) / total,
        lost=1 - sum(len(x) for x in answered) / total,
        machine_utilization=cpu,
        accelerator_utilization=device,
        energy_kwh=None if energy is None else float(energy.sum()) / 3.6e6,
        machine_hours=float(schedule.sum()),
        meets_sla=False if False in verdicts else None if None in verdicts else True,
        hour_s=hour_s,
        queries=total,
        sub_requests=sum(r.sub_requests for r in runs),
        replications=len(runs),
        seed=seed,
        notes=_notes(records),
    )


def offered_loads(fleet: Fleet, kinds: Sequence[Kind]) -> NDArray[np.float64]:
    """Offered load of each hour at its highest rate; of the most loaded machine where the router fixes the shares."""
    at = fleet.day.breaks_h()
    rate, schedule = fleet.day.qps_at(at), fleet.schedule()
    each = np.array([load_per_qps(k, fleet.sizes) for k in kinds])[fleet.group_of()]
    loads = np.zeros(fleet.day.hours)
    for h, on in enumerate(schedule):
        highest = rate[(at >= h) & (at <= h + 1)].max()
        if highest > 0:
            alike = fleet.router.choice in ("random", "round_robin")
            capacity = 0.0 if not on.any() else on.sum() / each[on].max() if alike else (1 / each[on]).sum()
            loads[h] = highest / capacity if capacity else np.inf
    return loads


def _verdict(
    fleet: Fleet, h: int, load: float, ends: tuple[float, float] | None, fewest: int, hour_s: float
) -> tuple[bool | None, str]:
    """Whether the hour keeps the promise, and a sentence."""
    if load == 0:
        return True, "ok: no queries"
    if np.isinf(load):
        return False, "no machine is on: every query is lost"
    if load >= 1:
        return False, (
            f"overloaded: offered load {load:.3f} at the highest rate of the hour; 1 is all that the machines on can do"
        )
    if fewest < LEAST_QUERIES or ends is None:
        return None, f"only {fewest} queries in a replication; simulate more"
    low, high = ends
    if low > fleet.sla.latency_s:
        return False, "ok"
    # relaxation time of a machine, 2 (1 + SCV of sizes) / (1 - load)^2 of its queries, in seconds
    settling = 2 * (1 + fleet.sizes.scv) / (1 - load) ** 2 * fleet.schedule()[h].sum() / fleet.day.hourly_qps()[h]
    if hour_s < SETTLING_TIMES * settling:
        return None, (
            f"too short to settle at offered load {load:.3f}: {hour_s:.3g} s stand for the hour, "
            f"{SETTLING_TIMES * settling:.3g} s are needed; simulate {SETTLING_TIMES * settling / hour_s:.1f} x as much"
        )
    return (True if high <= fleet.sla.latency_s else None), "ok"


def _energy_j(fleet: Fleet, hour_s: float, runs: Sequence[DayRun]) -> NDArray[np.float64] | None:
    """Mean energy of each hour (J): whole hours for machines that are on, as long as they drain for the others."""
    schedule, of = fleet.schedule(), fleet.group_of()
    core_s, device_s, drain_s = (
        np.mean([getattr(r, n) for r in runs], axis=0) for n in ("core_s", "device_s", "drain_s")
    )
    joules = np.zeros(len(schedule))
    for i, g in enumerate(fleet.groups):
        idle, cpu, device = (g.system.power_w(*u) for u in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
        if idle is None or cpu is None or device is None:
            return None
        mine = of == i
        on = schedule[:, mine]
        scale = np.where(on, 3600 / hour_s, 1.0)
        count = g.system.accelerator.count if g.system.accelerator else 1
        busy = (cpu - idle) * core_s[:, mine] / g.system.cores + (device - idle) * device_s[:, mine] / count
        joules += (idle * np.where(on, 3600.0, drain_s[:, mine]) + scale * busy).sum(axis=1)
    return joules


def _notes(hours: Sequence[HourPerformance]) -> tuple[str, ...]:
    over = [r.hour for r in hours if r.offered_load >= 1 and np.isfinite(r.offered_load)]
    if not over:
        return ()
    return (
        f"hours {', '.join(map(str, over))}: overloaded at their highest rate; a backlog grows in proportion to the "
        "simulated part of the hour, so latencies are too low there and until it is gone",
    )
