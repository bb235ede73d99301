// The first free core takes a sub-request. Free times form a binary heap when service is noisy.
RQ_FN u32 start_noisy(const State &heap, u32 cores, u32 now, u32 service) {
    u32 free = heap.get(0), finish = (before(now, free) ? free : now) + service, i = 0;
    for (u32 child = 1; child < cores; child = 2 * i + 1) {
        u32 value = heap.get(child);
        if (child + 1 < cores) {
            u32 right = heap.get(child + 1);
            if (before(right, value)) value = right, ++child;
        }
        if (!before(value, finish)) break;
        heap.set(i, value);
        i = child;
    }
    heap.set(i, finish);
    return finish;
}

// Without noise the full sub-requests end in the order in which they start, so their free times form a ring; those of the
// remainders, which may be shorter, a stack with the earliest on top. Together they hold one entry for each core. The two
// earliest ones are kept in registers.
struct Cores {
    u32 cores, head, tail, others, earliest_full, earliest_other;
};

RQ_FN u32 take(Cores &c, const State &s, u32 now) { // when the next sub-request starts; no branch, one load
    bool other = (c.others != 0) & ((c.others == c.cores) | before(c.earliest_other, c.earliest_full));
    u32 free = other ? c.earliest_other : c.earliest_full, next = c.head + 1 == c.cores ? 0 : c.head + 1;
    c.others -= other;
    c.head = other ? c.head : next;
    u32 value = s.get(other ? c.cores + c.others - 1 : next); // meaningless when that was the last entry of its kind
    c.earliest_other = other ? value : c.earliest_other;
    c.earliest_full = other ? c.earliest_full : value;
    return before(now, free) ? free : now;
}

RQ_FN u32 start_full(Cores &c, const State &s, u32 now, u32 service) {
    u32 finish = take(c, s, now) + service;
    s.set(c.tail, finish);
    c.tail = c.tail + 1 == c.cores ? 0 : c.tail + 1;
    c.earliest_full = c.others + 1 == c.cores ? finish : c.earliest_full;
    return finish;
}

RQ_FN u32 start_other(Cores &c, const State &s, u32 now, u32 service) {
    u32 finish = take(c, s, now) + service, i = c.others;
    for (; i > 0; --i) {
        u32 value = s.get(c.cores + i - 1);
        if (!before(value, finish)) break;
        s.set(c.cores + i, value);
    }
    s.set(c.cores + i, finish);
    c.earliest_other = i == c.others ? finish : c.earliest_other;
    ++c.others;
    return finish;
}

// Cores that do not slow each other: a query's whole fate is known when it arrives, so there is one step for each query.
template <bool NOISE>
RQ_FN void run(const Job &job, u32 replication, const Plan &plan, const AliasEntry *aliases, const ItemEntry *entries,
               const State &state, u32 *histogram, Result &result) {
    const u32 cores = job.cores, k0 = plan.k0, k1 = plan.k1, full = job.full_ticks, core_words = NOISE ? cores : 2 * cores;
    const AliasEntry *alias = aliases + job.alias_offset;
    const ItemEntry *entry_of = entries + job.item_offset;
    for (u32 i = 0; i < core_words + job.accelerators; ++i) state.set(i, 0);
    Cores c = {cores, 0, 0, 0, 0, 0};
    u64 now = 0, end = 0, latency_sum = 0, cpu = 0, accelerator = 0, items_sum = 0, offloaded_items = 0, parts = 0;
    u32 fraction = 0, since = 0, offloaded = 0, counted = 0, backlogged = 0;

    for (u32 query = 0; query < plan.queries; ++query) {
        // 1. The query comes.
        Drawn drawn = draw(job, alias, query, replication, k0, k1);
        u64 whole = (u64)drawn.gap;
        u32 sum = fraction + (u32)((drawn.gap - (double)whole) * 4294967296.0);
        whole += sum < fraction;
        fraction = sum;
        if (whole + since >= RQ_REFRESH) {
            refresh(state, core_words + job.accelerators, (u32)now, whole);
            if (!NOISE) {
                c.earliest_full = state.get(c.head);
                if (c.others) c.earliest_other = state.get(cores + c.others - 1);
            }
            since = 0;
        } else {
            since += (u32)whole;
        }
        now += whole;
        const u32 present = (u32)now;

        // 2. Its sub-requests start and end.
        ItemEntry ask = entry_of[drawn.items];
        u32 finish = present;
        if (ask.fulls == RQ_OFFLOAD) {
            u32 service = offloaded_ticks(job, ask.last_ticks, query, replication, k0, k1);
            finish = start_offloaded(state, core_words, job.accelerators, present, service);
            accelerator += service;
            offloaded_items += drawn.items;
            ++offloaded;
            ++parts;
        } else if (NOISE) {
            u32 count = ask.fulls + (ask.last_ticks > 0);
            float z1 = 0, z2 = 0, z3 = 0;
            for (u32 i = 0; i < count; ++i) {
                float z = z1;
                if ((i & 3) == 0) {
                    Words n = philox(query, i >> 2, replication, SERVICE_CPU, k0, k1);
                    Pair x = normals(n.a, n.b), y = normals(n.c, n.d);
                    z = x.a, z1 = x.b, z2 = y.a, z3 = y.b;
                } else {
                    z1 = z2, z2 = z3;
                }
                u32 service = noisy(i < ask.fulls ? full : ask.last_ticks, z, job.cpu_mu, job.cpu_sigma);
                u32 ends = start_noisy(state, cores, present, service);
                if (before(finish, ends)) finish = ends;
                cpu += service;
            }
            parts += count;
        } else {
            for (u32 i = 0; i < ask.fulls; ++i) finish = start_full(c, state, present, full);
            if (ask.last_ticks > 0) {
                u32 ends = start_other(c, state, present, ask.last_ticks);
                if (before(finish, ends)) finish = ends;
            }
            cpu += (u64)full * ask.fulls + ask.last_ticks;
            parts += ask.fulls + (ask.last_ticks > 0);
        }
        items_sum += drawn.items;

        // 3. Its latency.
        u32 latency = finish - present;
        if (now + latency > end) end = now + latency;
        if (query >= plan.warm_up) {
            latency_sum += latency;
            ++counted;
            count_latency(histogram, job, plan, latency);
        }
        if (latency >= RQ_BACKLOG_LIMIT) {
            backlogged = 1;
            break;
        }
    }
    result.latency_ticks = latency_sum, result.cpu_ticks = cpu, result.accelerator_ticks = accelerator;
    result.span_ticks = end, result.items = items_sum, result.offloaded_items = offloaded_items;
    result.sub_requests = parts, result.counted = counted, result.offloaded = offloaded;
    result.backlogged = backlogged, result.unused = 0;
}
