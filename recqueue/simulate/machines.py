"""Compiled state of machines that serve queries first come, first served; each is advanced when somebody looks at it.

Machines meet only in the router, so one of them need not move before a query is sent to it or its state is read: there
is no list of events common to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.serving.policy import Policy
from recqueue.serving.system import Accelerator, System
from recqueue.simulate.heap import sift_down, sift_up

NEVER = np.iinfo(np.int64).max
_SIZE_BITS = 13
"""Bits of a tag that hold the items of a sub-request; the largest query has 4096."""
_SIZE_MASK = (1 << _SIZE_BITS) - 1

MACHINE = np.dtype(
    [
        ("kind", np.int64),
        ("now", np.float64),  # last event on the cores
        ("work", np.float64),  # their clock of work, dw = dt / slowdown[busy]
        ("busy", np.int64),
        ("core_s", np.float64),  # core-seconds busy until `now`
        ("head", np.int64),  # first and last query with sub-requests that have not started; -1 for none
        ("tail", np.int64),
        ("head_left", np.int64),  # items of the first one that have not started
        ("cpu_ns", np.int64),  # mean service of sub-requests not completed; whole numbers, so equal backlogs are equal
        ("device_busy", np.int64),
        ("device_head", np.int64),
        ("device_tail", np.int64),
        ("device_ns", np.int64),
        ("device_s", np.float64),  # device-seconds busy, the running launches until their end
        ("present", np.int64),  # queries not finished
        ("cpu_end", np.float64),  # the next completion on the cores and on the accelerators
        ("device_end", np.float64),
        ("last_end", np.float64),
        ("sub_requests", np.int64),
    ]
)
QUERY = np.dtype(
    [
        ("arrival", np.float64),
        ("started", np.float64),
        ("finish", np.float64),
        ("noise", np.int64),  # place of its next sub-request in the random numbers
        ("next", np.int32),  # behind it in the queue of its machine
        ("machine", np.int32),
        ("items", np.int16),
        ("pending", np.int16),  # sub-requests not completed
    ]
)
KIND = np.dtype(
    [
        ("cores", np.int64),
        ("batch", np.int64),
        ("threshold", np.int64),
        ("devices", np.int64),
        ("fused", np.int64),
        ("fused_query_s", np.float64),
        ("cpu_sigma", np.float64),
        ("device_sigma", np.float64),
    ]
)


class State(NamedTuple):
    """Everything that moves or is looked up while machines serve; arrays that the loops change in place."""

    machine: NDArray[np.void]
    query: NDArray[np.void]
    kind: NDArray[np.void]
    key: NDArray[np.float64]  # (machine, core): heap of the work at which running sub-requests end
    tag: NDArray[np.int64]  # (machine, core): their query and size
    device_end: NDArray[np.float64]  # (machine, device): end of each running launch
    device_first: NDArray[np.int64]  # (machine, device): first query of the launch
    device_count: NDArray[np.int64]  # (machine, device): queries of the launch
    cpu_s: NDArray[np.float64]  # (kind, items of a sub-request)
    slowdown: NDArray[np.float64]  # (kind, busy cores)
    device_s: NDArray[np.float64]  # (kind, items of a launch)
    cpu_ns: NDArray[np.int64]  # (kind, items of a query): mean service of all its sub-requests
    device_ns: NDArray[np.int64]  # (kind, items of a query)
    cpu_z: NDArray[np.float64]  # standard normal numbers behind the service noise; empty without noise
    device_z: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What machines of one kind look up: service times by items, slow-down by busy cores, and their policy."""

    cores: int
    batch: int
    cpu_s: NDArray[np.float64]
    slowdown: NDArray[np.float64]
    cpu_cv: float = 0.0
    threshold: int = NEVER
    devices: int = 0
    fused: int = 1
    fused_query_s: float = 0.0
    device_s: NDArray[np.float64]
    device_cv: float = 0.0


KNOWN = {
    "system": {"name", "cores", "service", "contention", "dispatch_overhead_s", "accelerator", "power"},
    "accelerator": {"name", "service", "count", "max_fused_queries", "fused_query_s", "power"},
}
"""What these loops take into account; anything else about a machine must be left at its default."""


def _check_known(what: System | Accelerator, known: str) -> None:
    """Refuse what would be ignored, now and whatever a machine may get in time."""
    for field in fields(what):
        value = getattr(what, field.name)
        if field.name not in KNOWN[known] and value != field.default:
            raise InputError(
                f"{what.name}: {field.name} {value!r} is not simulated in a fleet or a pipeline; leave it at "
                f"{field.default!r}"
            )


def kind_of(system: System, policy: Policy, max_items: int) -> Kind:
    """Tables of a machine with a policy, for queries of up to ``max_items``.

    Raises
    ------
    InputError
        When the machine has a property that these loops do not know.
    """
    batch = min(policy.batch_size, max_items)
    device, threshold = policy.accelerator_of(system), policy.offload_threshold
    _check_known(system, "system")
    if device is not None:
        _check_known(device, "accelerator")
    if system.service.noise or (device is not None and device.service.noise):
        raise InputError(
            f"{system.name}: a given law of the service noise is not simulated in a fleet or a pipeline; leave 'noise' "
            "out (a log-normal one of 'cv' is)"
        )
    contention = system.contention.of_batch(batch)
    device_s = np.zeros(max_items + 1)
    if device is not None and threshold is not None:
        largest = max_items * device.max_fused_queries
        device_s = np.concatenate((np.zeros(threshold), device.service.seconds_at(np.arange(threshold, largest + 1))))
    return Kind(
        cores=system.cores,
        batch=batch,
        cpu_s=np.concatenate(([0.0], system.service.seconds_at(np.arange(1, batch + 1)) + system.dispatch_overhead_s)),
        slowdown=np.concatenate(([1.0], contention.factor_at(np.arange(1, system.cores + 1, dtype=float)))),
        cpu_cv=system.service.cv,
        threshold=NEVER if device is None or threshold is None else threshold,
        devices=0 if device is None else device.count,
        fused=1 if device is None else device.max_fused_queries,
        fused_query_s=0.0 if device is None else device.fused_query_s,
        device_s=device_s,
        device_cv=0.0 if device is None or threshold is None else device.service.cv,
    )


def _table(rows: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    out = np.zeros((len(rows), max(len(row) for row in rows)))
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
    return out


def parts(kind: Kind, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sub-requests on the cores of queries of these items; 0 of those that go to the accelerator."""
    return np.where(items >= kind.threshold, 0, -(-items // kind.batch))


def new_state(
    kinds: Sequence[Kind],
    kind_of_machine: NDArray[np.int64],
    arrival_s: NDArray[np.float64],
    items: NDArray[np.int64],
    noise: tuple[np.random.Generator, np.random.Generator] | None,
) -> State:
    """Idle machines and the queries that will come to them (arrival times ascending).

    Service noise is log-normal of mean 1; every sub-request has a random number of its own, counted in the order in
    which queries arrive, so with one machine it is the order of their starts.
    """
    machines, n = len(kind_of_machine), len(arrival_s)
    machine, query = np.zeros(machines, MACHINE), np.zeros(n, QUERY)
    machine["kind"] = kind_of_machine
    for name in ("head", "tail", "device_head", "device_tail"):
        machine[name] = -1
    machine["cpu_end"] = machine["device_end"] = np.inf
    machine["last_end"] = -np.inf
    query["arrival"], query["items"], query["machine"], query["finish"] = arrival_s, items, -1, np.inf
    sigmas = [np.sqrt(np.log1p(np.square((k.cpu_cv, k.device_cv)))) for k in kinds]
    kind = np.array(
        [
            (k.cores, k.batch, k.threshold, k.devices, k.fused, k.fused_query_s, *z)
            for k, z in zip(kinds, sigmas, strict=True)
        ],
        KIND,
    )
    shape, devices = (machines, max(k.cores for k in kinds)), (machines, max(1, max(k.devices for k in kinds)))
    sizes = np.arange(int(items.max(initial=1)) + 1)
    cpu_ns, device_ns = [], []
    for k in kinds:
        one = np.rint(k.cpu_s * 1e9).astype(np.int64)
        cpu_ns.append(sizes // k.batch * one[k.batch] + one[sizes % k.batch])
        device_ns.append(np.rint(k.device_s[: len(sizes)] * 1e9).astype(np.int64))
    cpu_z = device_z = np.empty(0)
    if noise is not None and any(k.cpu_cv > 0 for k in kinds):
        most = np.max([parts(k, items) for k in kinds], axis=0)
        cpu_z = noise[0].standard_normal(int(most.sum()))
    if noise is not None and any(k.device_cv > 0 for k in kinds):
        device_z = noise[1].standard_normal(int(np.sum(items >= min(k.threshold for k in kinds))))
    return State(
        machine=machine,
        query=query,
        kind=kind,
        key=np.empty(shape),
        tag=np.empty(shape, np.int64),
        device_end=np.full(devices, np.inf),
        device_first=np.empty(devices, np.int64),
        device_count=np.empty(devices, np.int64),
        cpu_s=_table([k.cpu_s for k in kinds]),
        slowdown=_table([k.slowdown for k in kinds]),
        device_s=_table([k.device_s for k in kinds]),
        cpu_ns=np.array(cpu_ns),
        device_ns=np.array(device_ns),
        cpu_z=cpu_z,
        device_z=device_z,
    )


@njit(cache=True, nogil=True)
def step_cores(s: State, i: int, until: float, j: int, noise: NDArray[np.int64]) -> None:
    """Complete on the cores of machine i what ends by time ``until``; then, if j is not -1, give them query j.

    With b cores busy all sub-requests advance at speed ``1 / slowdown[b]``, so a clock of work, dw = dt / slowdown[b],
    orders their completions for good. The clock moves at events of the cores only, so looking changes no rounding.
    """
    m = s.machine[i]
    k = s.kind[m.kind]
    query, z = s.query, s.cpu_z
    key, tag, service_s, slowdown, ns = s.key[i], s.tag[i], s.cpu_s[m.kind], s.slowdown[m.kind], s.cpu_ns[m.kind]
    cores, batch, sigma = k.cores, k.batch, k.cpu_sigma
    now, work, busy, head, left = m.now, m.work, m.busy, m.head, m.head_left
    while True:
        ends = now + (key[0] - work) * slowdown[busy] if busy > 0 else np.inf
        freed = busy > 0 and ends <= until
        if freed:
            m.core_s += busy * (ends - now)
            now, work = ends, key[0]
            q = query[tag[0] >> _SIZE_BITS]
            m.cpu_ns -= ns[tag[0] & _SIZE_MASK]
            m.sub_requests += 1
            q.pending -= 1
            if q.pending == 0:
                q.finish = now
                m.present -= 1
                m.last_end = max(m.last_end, now)
        elif j >= 0:
            q = query[j]
            m.core_s += busy * (q.arrival - now)
            work += (q.arrival - now) / slowdown[busy]
            now = q.arrival
            q.next = -1
            q.pending = (q.items + batch - 1) // batch
            q.noise = noise[0]
            noise[0] += q.pending
            m.cpu_ns += ns[q.items]
            m.present += 1
            if head < 0:
                head, left = j, np.int64(q.items)
            else:
                query[m.tail].next = j
            m.tail, j = j, -1
        else:
            break
        # The freed core takes the next sub-request, an arrival fills the idle cores.
        while head >= 0 and (freed or busy < cores):
            q = query[head]
            size = min(left, batch)
            service = service_s[size]
            if sigma > 0:
                service *= np.exp(sigma * z[q.noise] - sigma * sigma / 2)
                q.noise += 1
            if left == q.items:
                q.started = now
            label = (head << _SIZE_BITS) + size
            if freed:
                sift_down(key, tag, busy, work + service, label)
                freed = False
            else:
                sift_up(key, tag, busy, work + service, label)
                busy += 1
            left -= size
            if left == 0:
                head = np.int64(q.next)
                if head >= 0:
                    left = np.int64(query[head].items)
        if freed:
            busy -= 1
            sift_down(key, tag, busy, key[busy], tag[busy])
    m.now, m.work, m.busy, m.head, m.head_left = now, work, busy, head, left
    m.cpu_end = ends


@njit(cache=True, nogil=True)
def step_devices(s: State, i: int, until: float, j: int, noise: NDArray[np.int64]) -> None:
    """Complete on the accelerators of machine i what ends by ``until``; then, if j is not -1, give them query j.

    An idle accelerator takes all that waits, up to the most queries that one launch fuses.
    """
    m = s.machine[i]
    k = s.kind[m.kind]
    query, ns = s.query, s.device_ns[m.kind]
    ends, launched, fused = s.device_end[i], s.device_first[i], s.device_count[i]
    while True:
        d = 0
        for e in range(1, k.devices):
            if ends[e] < ends[d]:
                d = e
        if m.device_busy > 0 and ends[d] <= until:
            now = ends[d]
            done = launched[d]
            for _ in range(fused[d]):
                q = query[done]
                q.finish = now
                m.device_ns -= ns[q.items]
                done = np.int64(q.next)
            m.present -= fused[d]
            m.sub_requests += fused[d]
            m.last_end = max(m.last_end, now)
            m.device_busy -= 1
            ends[d] = np.inf
        elif j >= 0:
            q = query[j]
            now = q.arrival
            q.next = -1
            q.noise = noise[1]
            noise[1] += 1
            m.device_ns += ns[q.items]
            m.present += 1
            if m.device_head < 0:
                m.device_head = j
            else:
                query[m.device_tail].next = j
            m.device_tail, j = j, -1
            for e in range(k.devices):  # an idle one, if any
                if ends[e] == np.inf:
                    d = e
        else:
            m.device_end = ends[d]
            break
        if m.device_head >= 0 and ends[d] == np.inf:
            launched[d], fused[d], items = m.device_head, 0, 0
            z = query[m.device_head].noise
            while m.device_head >= 0 and fused[d] < k.fused:
                q = query[m.device_head]
                q.started = now
                items += q.items
                fused[d] += 1
                m.device_head = q.next
            service = s.device_s[m.kind, items] + (fused[d] - 1) * k.fused_query_s
            if k.device_sigma > 0:
                service *= np.exp(k.device_sigma * s.device_z[z] - k.device_sigma * k.device_sigma / 2)
            ends[d] = now + service
            m.device_s += service
            m.device_busy += 1
