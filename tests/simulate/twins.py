"""Slow, literal twins of the compiled loops: lists of what waits and what runs, advanced from event to event."""

import numpy as np


def split(items, batch):
    """Sizes of the sub-requests of a query, in order."""
    return [batch] * int(items // batch) + ([int(items % batch)] if items % batch else [])


def literal_cores(
    arrival, items, batch, service, *, noise=(), draws=(), slowdown=None, cores=None, dispatch="central", prefetch=8,
    wakeup=0.0,
):  # fmt: skip
    """Rows start, last start, last end, finish of each query, and core-seconds; see ``event_loop`` for the rules."""
    slowdown = np.ones(cores + 1) if slowdown is None else slowdown
    k, n = len(slowdown) - 1, len(arrival)
    parts = []  # (query, service), in order of arrival
    for q in range(n):
        for size in split(items[q], batch):
            parts.append((q, service[size] * (noise[len(parts)] if len(noise) else 1.0)))
    shared, queues, line = [], [[] for _ in range(k)], list(range(k))
    running = {}  # core -> [part, remaining work]
    started, start, end = [], {}, {}
    now, arrived, come, core_seconds = 0.0, 0, 0, 0.0

    def run(core, part, extra=0.0):
        running[core] = [part, parts[part][1] + extra / slowdown[len(running) + 1]]
        start[part] = now
        started.append(part)

    def place(core, part):
        if core in running:
            queues[core].append(part)
        else:
            run(core, part, wakeup if came else 0.0)

    def held(core):
        return len(queues[core]) + (core in running)

    room = {"central": 1, "round_robin": np.inf, "prefetch": 1 + prefetch}.get(dispatch)

    def pull():
        while shared and line:
            core = line.pop(0)
            place(core, shared.pop(0))
            if held(core) < room:
                line.append(core)

    while arrived < n or running:
        speed = 1 / slowdown[len(running)]
        to_end, core = min(((work / speed, core) for core, (_, work) in running.items()), default=(np.inf, -1))
        to_arrival = arrival[arrived] - now if arrived < n else np.inf
        came = to_end > to_arrival  # who is placed now finds an idle core
        step = min(to_end, to_arrival)
        core_seconds += step * len(running)
        for one in running.values():
            one[1] -= step * speed
        if to_end <= to_arrival:
            now += step
            part, _ = running.pop(core)
            end[part] = now
            if queues[core]:
                run(core, queues[core].pop(0))
            if room is not None and core not in line:
                line.append(core)
        else:
            now = arrival[arrived]
            while come < len(parts) and parts[come][0] == arrived:
                if dispatch == "random":
                    place(int(draws[come] * k), come)
                elif dispatch == "jsq":
                    fewest = min(held(c) for c in range(k))
                    ties = [c for c in range(k) if held(c) == fewest]
                    place(ties[int(draws[come] * len(ties))], come)
                else:
                    shared.append(come)
                come += 1
            arrived += 1
        if room is not None:
            pull()
    out = np.full((4, n), np.nan)
    for q in range(n):
        own = [p for p in started if parts[p][0] == q]
        out[:, q] = start[own[0]], start[own[-1]], end[own[-1]], max(end[p] for p in own)
    return out, core_seconds


def literal_launches(arrival, items, service, *, fused_query_s=0.0, most=1, wait_s=0.0, noise=(), count=1, wakeup=0.0):
    """(launch, finish) of each query, and the queries of each launch."""
    waiting, idle, busy = [], list(range(count)), []  # busy: (end, device)
    timers, freed = [], {}
    start, finish = np.full(len(arrival), np.nan), np.full(len(arrival), np.nan)
    batches, arrived = [], 0
    while arrived < len(arrival) or waiting or busy:
        events = [(end, 0, device) for end, device in busy] + [(t, 1, 0) for t in timers]
        if arrived < len(arrival):
            events.append((arrival[arrived], 2, 0))
        now, kind, device = min(events)
        if kind == 0:
            busy.remove((now, device))
            idle.append(device)
            freed[device] = now
        elif kind == 1:
            timers.remove(now)
        else:
            waiting.append(arrived)
            timers.append(now + wait_s)
            arrived += 1
        while idle and waiting and (len(waiting) >= most or now >= arrival[waiting[0]] + wait_s):
            batch, waiting = waiting[:most], waiting[most:]
            time = service[sum(items[q] for q in batch)] + (len(batch) - 1) * fused_query_s
            time *= noise[len(batches)] if len(noise) else 1.0
            if freed.get(idle[0], 0.0) <= arrival[batch[0]]:
                time += wakeup
            start[batch], finish[batch] = now, now + time
            batches.append(batch)
            busy.append((now + time, idle.pop(0)))
    return start, finish, batches
