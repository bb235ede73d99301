"""The compiled fleet against a slow, literal twin that moves every machine from event to event of the whole fleet."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recqueue.errors import InputError
from recqueue.profiles import Contention, Drift, LatencyCurve
from recqueue.serving import Accelerator, Day, Fleet, MachineGroup, Policy, Router, Scenario, Sla, System
from recqueue.simulate import run_once, spawn
from recqueue.simulate.fleet import route
from recqueue.simulate.machines import kind_of, new_state
from recqueue.simulate.routing import advance_all
from recqueue.simulate.streams import arrival_times_s, query_items
from recqueue.workload import POISSON, sizes_from_pmf

SIZES = sizes_from_pmf([3, 8, 20, 47], [0.4, 0.3, 0.2, 0.1])
CPU = LatencyCurve(items=(1, 50), seconds=(0.001, 0.0157))
SLOWING = Contention(busy=(1, 2, 4), factor=(1.0, 1.2, 1.7))
FAST = LatencyCurve(items=(1, 200), seconds=(0.002, 0.009))
PLAIN = System(name="plain", cores=3, service=CPU)
MIXED = System(
    name="mixed",
    cores=4,
    service=replace(CPU, cv=0.4),
    contention=SLOWING,
    dispatch_overhead_s=0.0007,
    accelerator=Accelerator(name="chip", service=replace(FAST, cv=0.2), count=2),
)
FUSING = replace(MIXED, accelerator=replace(MIXED.accelerator, count=1, max_fused_queries=3))
ROUTERS = [
    Router(choice="random"),
    Router(choice="weighted"),
    Router(choice="round_robin"),
    Router(choice="jsq"),
    Router(choice="jsq", sampled=2),
    Router(choice="least_work"),
    Router(choice="least_work", sampled=3),
]


def fleet(router, groups=None):
    groups = groups or (
        MachineGroup(name="a", system=PLAIN, policy=Policy(5), count=2),
        MachineGroup(name="b", system=MIXED, policy=Policy(8, 20), count=2),
        MachineGroup(name="c", system=FUSING, policy=Policy(30, 8), count=1),
    )
    return Fleet(
        name="f",
        model="m",
        groups=groups,
        router=router,
        day=Day(time_h=(0,), qps=(1,)),
        sizes=SIZES,
        sla=Sla(latency_s=1),
    )


class LiteralMachine:
    """Sub-requests that wait in one list and run in another, and the same for the launches of the accelerators."""

    def __init__(self, kind):
        self.kind = kind
        self.waiting, self.running = [], []  # (query, items, factor), [query, items, remaining work]
        self.queued, self.launched = [], []  # (query, items, factor), [queries, items of each, end]
        self.core_s = self.device_s = 0.0
        self.last = -np.inf

    def next_event(self, now):
        slow = self.kind.slowdown[len(self.running)]
        cores = min((now + left * slow for *_, left in self.running), default=np.inf)
        return min(cores, min((end for *_, end in self.launched), default=np.inf))

    def move(self, now, then):
        """Let time pass without an event in between."""
        slow = self.kind.slowdown[len(self.running)]
        for part in self.running:
            part[2] -= (then - now) / slow
        self.core_s += len(self.running) * (then - now)
        self.device_s += len(self.launched) * (then - now)

    def complete(self, now, twin):
        """Take off what has just ended, the one that is next; then start what can start."""
        k = self.kind
        slow = k.slowdown[len(self.running)]
        part = min(self.running, key=lambda p: p[2], default=None)
        launch = min(self.launched, key=lambda p: p[2], default=None)
        if part is not None and (launch is None or part[2] * slow <= launch[2] - now):
            self.running.remove(part)
            twin.done(part[0], self, now)
        else:
            self.launched.remove(launch)
            for query in launch[0]:
                twin.done(query, self, now)
        self.start(now, twin)

    def start(self, now, twin):
        k = self.kind
        while self.waiting and len(self.running) < k.cores:
            query, items, factor = self.waiting.pop(0)
            twin.started[query] = min(twin.started[query], now)
            self.running.append([query, items, k.cpu_s[items] * factor])
        while self.queued and len(self.launched) < k.devices:
            taken, self.queued = self.queued[: k.fused], self.queued[k.fused :]
            for query, _, _ in taken:
                twin.started[query] = now
            each = [items for _, items, _ in taken]
            service = k.device_s[sum(each)] + (len(each) - 1) * k.fused_query_s
            self.launched.append([[q for q, _, _ in taken], each, now + service * taken[0][2]])

    def present(self):
        unfinished = self.waiting + self.running + self.queued
        return len({p[0] for p in unfinished} | {q for queries, _, _ in self.launched for q in queries})

    def work_per_server(self, items):
        k = self.kind
        if items >= k.threshold:
            sizes = [p[1] for p in self.queued] + [n for _, each, _ in self.launched for n in each]
            return sum(round(k.device_s[n] * 1e9) for n in sizes) / k.devices
        return sum(round(k.cpu_s[p[1]] * 1e9) for p in self.waiting + self.running) / k.cores


class Twin:
    """A fleet run query by query; random numbers of the service by query, in order of arrival."""

    def __init__(self, described, kinds, arrival, items, cpu_z, device_z):
        self.machines = [LiteralMachine(kinds[g]) for g in described.group_of()]
        self.router, self.sizes = described.router, described.sizes
        self.arrival, self.items = arrival, items
        self.z, self.used = (cpu_z, device_z), [0, 0]
        n = len(arrival)
        self.parts, self.finish, self.started = [0] * n, [np.inf] * n, [np.inf] * n
        self.sent_to, self.turn = [-1] * n, 0

    def done(self, query, machine, now):
        self.parts[query] -= 1
        if self.parts[query] == 0:
            self.finish[query] = machine.last = now

    def run_until(self, now, then):
        while True:
            nexts = [m.next_event(now) for m in self.machines]
            event = min(nexts)
            if event > then or event == np.inf:
                break
            for m in self.machines:
                m.move(now, event)
            now = event
            self.machines[int(np.argmin(nexts))].complete(now, self)
        if then < np.inf:
            for m in self.machines:
                m.move(now, then)

    def factors(self, pool, cv, count):
        first = self.used[pool]
        self.used[pool] += count
        if cv == 0:
            return [1.0] * count
        sigma = np.sqrt(np.log1p(cv**2))
        return [np.exp(sigma * z - sigma**2 / 2) for z in self.z[pool][first : first + count]]

    def send(self, query, on, rng):
        i = self.choose(query, on, rng)
        k, items, m = self.machines[i].kind, int(self.items[query]), self.machines[i]
        self.sent_to[query] = i
        if items >= k.threshold:
            self.parts[query] = 1
            m.queued.append((query, items, self.factors(1, k.device_cv, 1)[0]))
        else:
            sizes = [k.batch] * (items // k.batch) + ([items % k.batch] if items % k.batch else [])
            self.parts[query] = len(sizes)
            m.waiting += [(query, n, f) for n, f in zip(sizes, self.factors(0, k.cpu_cv, len(sizes)), strict=True)]
        m.start(self.arrival[query], self)

    def capacity(self, i):
        """Queries/s that a machine can carry, size by size."""
        k, cpu, device = self.machines[i].kind, 0.0, 0.0
        whole = [(n, p) for n, p in enumerate(self.sizes.pmf) if n >= k.threshold]
        for n, p in enumerate(self.sizes.pmf):
            if p > 0 and n < k.threshold:
                cpu += p * sum(k.cpu_s[min(k.batch, n - start)] for start in range(0, n, k.batch))
        if whole:
            share = sum(p for _, p in whole)
            launch = round(k.fused * sum(n * p for n, p in whole) / share)
            full = share * (k.device_s[launch] + (k.fused - 1) * k.fused_query_s) / k.fused
            device = (full if k.fused > 1 else sum(p * k.device_s[n] for n, p in whole)) / k.devices
        return 1 / max(cpu * k.slowdown[k.cores] / k.cores, device)

    def choose(self, query, on, rng):
        r, n = self.router, len(on)
        if r.choice == "random":
            return on[int(rng.random() * n)]
        if r.choice == "weighted":
            capacity = [self.capacity(i) for i in on]
            u = rng.random() * sum(capacity)
            return next(i for a, i in enumerate(on) if u < sum(capacity[: a + 1]))
        if r.choice == "round_robin":
            return on[query % n]
        sampled = r.sampled or len(self.machines)
        looked = list(on)
        if sampled < n:
            for a in range(sampled):
                b = a + int(rng.random() * (n - a))
                on[a], on[b] = on[b], on[a]
            looked = on[:sampled]
        by_work = r.choice == "least_work"
        backlog = [
            self.machines[i].work_per_server(self.items[query]) if by_work else self.machines[i].present()
            for i in looked
        ]
        best = [i for i, b in zip(looked, backlog, strict=True) if b == min(backlog)]
        return best[int(rng.random() * len(best))] if len(best) > 1 and sampled >= n else best[0]

    def day(self, bounds, schedule, rng):
        """(core-seconds, accelerator-seconds) of each machine at each bound."""
        marks, now, query = [], 0.0, 0
        for h, bound in enumerate(bounds):
            self.run_until(now, bound)
            now = bound
            marks.append([(m.core_s, m.device_s) for m in self.machines])
            on = [] if h == len(schedule) else [i for i, s in enumerate(schedule[h]) if s]
            while h < len(schedule) and query < len(self.arrival) and self.arrival[query] < bounds[h + 1]:
                self.run_until(now, self.arrival[query])
                now = self.arrival[query]
                if on:
                    self.send(query, on, rng)
                query += 1
        self.run_until(now, np.inf)
        return np.array(marks).transpose(2, 0, 1)


def inputs(described, queries, load, seed, fused_query_s=0.0005):
    rng = np.random.default_rng(seed)
    kinds = [kind_of(g.system, g.policy, SIZES.max_items) for g in described.groups]
    kinds = [replace(k, fused_query_s=fused_query_s) for k in kinds]
    items = rng.choice(np.arange(SIZES.max_items + 1), size=queries, p=SIZES.pmf)
    arrival = np.cumsum(rng.exponential(1 / load, queries))
    state = new_state(kinds, described.group_of(), arrival, items, (rng, rng))
    return kinds, arrival, items, state


@pytest.mark.parametrize("router", ROUTERS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_router_matches_the_literal_twin(router, seed):
    """The same machine for every query, the same times, while machines are switched on and off between periods."""
    described = fleet(router)
    kinds, arrival, items, state = inputs(described, 400, 2500, seed)
    # nobody is on in the third period, and all of the last one comes after it
    schedule = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 1, 0]], dtype=bool)
    bounds = arrival[-1] * np.array([0.0, 0.4, 0.65, 0.7, 1 + 1e-9])
    first = np.searchsorted(arrival, bounds)
    marks = route(described, kinds, state, bounds, first, schedule, np.random.default_rng(seed + 5))
    advance_all(state, np.inf)

    twin = Twin(described, kinds, arrival, items, state.cpu_z, state.device_z)
    twin_marks = twin.day(bounds, schedule, np.random.default_rng(seed + 5))
    assert twin.sent_to == state.query["machine"].tolist()
    assert len(set(twin.sent_to)) == 6  # every machine, and nobody
    lost = np.array(twin.sent_to) < 0
    assert np.all(np.isinf(state.query["finish"][lost]))
    # times are sums of some hundred floats below 1 s, in another order: 1e-12 would do
    np.testing.assert_allclose(state.query["finish"], twin.finish, rtol=0, atol=1e-11)
    np.testing.assert_allclose(state.query["started"][~lost], np.array(twin.started)[~lost], rtol=0, atol=1e-11)
    np.testing.assert_allclose(marks[:2], twin_marks, rtol=0, atol=1e-9)
    waits = state.query["started"][~lost] - arrival[~lost]
    assert np.mean(waits > 0) > 0.2  # there was something to queue for


@settings(max_examples=30)
@given(data=st.data())
def test_any_small_fleet_matches_the_literal_twin(data):
    """Machines, policies, load, schedule and router drawn at random; nothing is lost and no work is left."""
    draw = data.draw
    groups = []
    for name in "abc"[: draw(st.integers(1, 3), "groups")]:
        chip = Accelerator(
            name="chip",
            service=replace(FAST, cv=draw(st.sampled_from([0.0, 0.3]))),
            count=draw(st.integers(1, 3)),
            max_fused_queries=draw(st.integers(1, 4)),
        )
        system = System(
            name=name,
            cores=draw(st.integers(1, 5)),
            service=replace(CPU, cv=draw(st.sampled_from([0.0, 0.5]))),
            contention=draw(st.sampled_from([Contention(), SLOWING, Contention(busy=(1, 3), factor=(1.0, 0.7))])),
            accelerator=draw(st.sampled_from([None, chip])),
        )
        threshold = draw(st.sampled_from([None, 1, 8, 47])) if system.accelerator else None
        policy = Policy(draw(st.integers(1, 60)), threshold)
        groups.append(MachineGroup(name=name, system=system, policy=policy, count=draw(st.integers(1, 3))))
    choice = draw(st.sampled_from(["random", "weighted", "round_robin", "jsq", "least_work"]))
    sampled = draw(st.sampled_from([None, 1, 2, 4])) if choice in ("jsq", "least_work") else None
    described = fleet(Router(choice=choice, sampled=sampled), tuple(groups))
    seed, rate = draw(st.integers(0, 999)), draw(st.floats(50, 3000))
    kinds, arrival, items, state = inputs(described, 120, rate, seed)
    schedule = np.random.default_rng(seed).random((3, described.machines)) < 0.7
    bounds = arrival[-1] * np.array([0.0, 0.3, 0.6, 1 + 1e-9])
    first = np.searchsorted(arrival, bounds)
    marks = route(described, kinds, state, bounds, first, schedule, np.random.default_rng(seed))
    advance_all(state, np.inf)
    twin = Twin(described, kinds, arrival, items, state.cpu_z, state.device_z)
    twin_marks = twin.day(bounds, schedule, np.random.default_rng(seed))
    assert twin.sent_to == state.query["machine"].tolist()
    np.testing.assert_allclose(state.query["finish"], twin.finish, rtol=0, atol=1e-10)  # sums below 10 s, reordered
    np.testing.assert_allclose(marks[:2], twin_marks, rtol=0, atol=1e-9)
    sent = state.query["machine"] >= 0
    assert np.all(sent == schedule[np.searchsorted(bounds, arrival, side="right") - 1].any(axis=1))
    assert np.all(np.isfinite(state.query["finish"][sent]))
    assert np.all(state.query["started"][sent] >= arrival[sent])
    for name in ("present", "cpu_ns", "device_ns", "busy", "device_busy"):
        assert np.all(state.machine[name] == 0), name


@pytest.mark.parametrize("router", [r for r in ROUTERS if r.sampled is None], ids=str)
@pytest.mark.parametrize("cv", [0.0, 0.4])
def test_a_fleet_of_one_is_the_single_machine_simulator(router, cv):
    """The same random numbers give the same latency to every query, with contention, offload and service noise."""
    system = replace(MIXED, service=replace(CPU, cv=cv))
    policy, rate, n = Policy(8, 20), 600.0, 4000
    scenario = Scenario(name="s", model="m", system=system, sizes=SIZES, sla=Sla(latency_s=1), policy=policy)
    single = run_once(scenario, policy, rate, n, spawn(3, 1)[0])

    described, streams = fleet(router, (MachineGroup(name="a", system=system, policy=policy),)), spawn(3, 1)[0]
    total = n + n // 4
    arrival = arrival_times_s(POISSON, rate, total, streams.arrivals)
    items = query_items(SIZES, total, streams.sizes)
    kinds = [kind_of(system, policy, SIZES.max_items)]
    noise = (streams.service_cpu, streams.service_accelerator)
    state = new_state(kinds, described.group_of(), arrival, items, noise)
    bounds, on = np.array([0.0, arrival[-1]]), np.ones((1, 1), dtype=bool)
    route(described, kinds, state, bounds, np.array([0, total]), on, np.random.default_rng(0))
    advance_all(state, np.inf)
    latency = state.query["finish"] - arrival
    np.testing.assert_allclose(latency[-n:], single.latency_s, rtol=1e-9)  # roundings of event times up to 10 s
    span = state.query["finish"].max()
    assert state.machine["core_s"][0] / (4 * span) == pytest.approx(single.cpu_utilization)
    assert state.machine["device_s"][0] / (2 * span) == pytest.approx(single.accelerator_utilization)
    assert np.mean(state.query["started"] > arrival) > 0.1


def exponential_machines(count, load, queries, seed, sampled, choice="jsq"):
    """Latencies in units of the mean service time, single-server machines with exponential service."""
    one = System(name="one", cores=1, service=LatencyCurve(items=(1,), seconds=(1.0,), cv=1.0))
    described = fleet(
        Router(choice=choice, sampled=sampled), (MachineGroup(name="a", system=one, policy=Policy(1), count=count),)
    )
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / (load * count), queries))
    items = np.ones(queries, np.int64)
    kinds = [kind_of(one, Policy(1), 1)]
    state = new_state(kinds, described.group_of(), arrival, items, (rng, rng))
    sigma = state.kind["cpu_sigma"][0]
    state.cpu_z[:] = (np.log(rng.exponential(size=queries)) + sigma**2 / 2) / sigma  # so that the factor is exponential
    on = np.ones((1, count), dtype=bool)
    route(described, kinds, state, np.array([0.0, arrival[-1]]), np.array([0, queries]), on, rng)
    advance_all(state, np.inf)
    return state.query["finish"] - arrival


@pytest.mark.parametrize("sampled", [2, 3])
def test_power_of_d_choices_has_the_delay_of_the_mean_field_limit(sampled):
    r"""Mitzenmacher: with many M/M/1 machines the mean response is sum_i rho^((d^i - d) / (d - 1))."""
    load, count = 0.8, 300
    limit = sum(load ** ((sampled**i - sampled) / (sampled - 1)) for i in range(1, 12))
    means = [exponential_machines(count, load, 400_000, seed, sampled)[100_000:].mean() for seed in range(4)]
    # 300,000 queries: standard error of a mean below 0.3 %; the limit is approached as 1 / machines, about 0.5 % here
    assert np.mean(means) == pytest.approx(limit, rel=0.015)


def test_shorter_queues_are_worth_it():
    """Mean response: all machines seen < two seen < none seen = M/M/1 with 1 / (1 - rho)."""
    load, n = 0.8, 200_000
    random, two, every = (
        exponential_machines(20, load, n, 1, sampled, choice)[n // 5 :].mean()
        for choice, sampled in (("random", None), ("jsq", 2), ("jsq", None))
    )
    assert every < 0.8 * two < 0.8 * random
    # 160,000 responses over 20 queues with a correlation time of some 1 / (1 - rho)^2 services: standard error 2 %
    assert random == pytest.approx(1 / (1 - load), rel=0.08)


@dataclass(frozen=True, kw_only=True)
class NewerSystem(System):
    dispatch: str = "central"


@dataclass(frozen=True, kw_only=True)
class NewerChip(Accelerator):
    fusion_wait_s: float = 0.0


def test_what_the_loops_do_not_know_is_refused_and_not_ignored():
    system = NewerSystem(name="new", cores=2, service=CPU, accelerator=NewerChip(name="chip", service=FAST))
    assert kind_of(system, Policy(4), 10).cores == 2
    with pytest.raises(InputError, match=r"new: dispatch 'jsq' is not simulated in a fleet.*leave it at 'central'"):
        kind_of(replace(system, dispatch="jsq"), Policy(4), 10)
    with pytest.raises(InputError, match=r"new: drift Drift\(.* is not simulated in a fleet or a pipeline"):
        kind_of(replace(system, drift=Drift(factor=(0.9, 1.1), lasting_s=1.0)), Policy(4), 10)
    waiting = NewerChip(name="chip", service=FAST, fusion_wait_s=0.1, max_fused_queries=2)
    with pytest.raises(InputError, match=r"chip: fusion_wait_s 0\.1 is not simulated"):
        kind_of(replace(system, accelerator=waiting), Policy(4, 2), 10)
