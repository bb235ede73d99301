// Cores that slow each other. With j cores busy all advance at speed 1 / factor[j]; a clock of work that advances at that
// speed orders the completions for good. Arrivals and completions are events, each thread handling one at a time. The
// queries that wait are not stored: a second pass over the same random numbers draws them again when a core takes them.
struct Running { // a binary heap: work at which each running sub-request ends, and the place of its query
    State s;
    u32 cores;
    RQ_MEMBER u32 key(u32 i) const { return s.get(i); }
    RQ_MEMBER void set(u32 i, u32 key, u32 place) const { s.set(i, key), s.set(cores + i, place); }
    RQ_MEMBER void move(u32 to, u32 from) const { set(to, s.get(from), s.get(cores + from)); }
    RQ_MEMBER void down(u32 size, u32 key, u32 place) const {
        u32 i = 0;
        for (u32 child = 1; child < size; child = 2 * i + 1) {
            if (child + 1 < size && before(s.get(child + 1), s.get(child))) ++child;
            if (!before(s.get(child), key)) break;
            move(i, child);
            i = child;
        }
        set(i, key, place);
    }
    RQ_MEMBER void push(u32 size, u32 key, u32 place) const {
        u32 i = size;
        while (i > 0 && before(key, s.get((i - 1) >> 1))) {
            move(i, (i - 1) >> 1);
            i = (i - 1) >> 1;
        }
        set(i, key, place);
    }
};

RQ_FN void run_contended(const Job &job, u32 replication, const Plan &plan, const AliasEntry *aliases,
                         const ItemEntry *entries, const double *factors, const State &state, u32 *histogram,
                         Result &result) {
    const u32 cores = job.cores, k0 = plan.k0, k1 = plan.k1, none = 0xFFFFFFFFu, counts = 0x80000000u;
    const u32 came = 2 * cores, open = came + cores + 1, devices = open + cores + 1; // where each part of the state starts
    const AliasEntry *alias = aliases + job.alias_offset;
    const ItemEntry *entry_of = entries + job.item_offset;
    const double *factor = factors + job.factor_offset;
    Running heap = {state, cores};
    for (u32 i = 0; i < devices + job.accelerators; ++i) state.set(i, 0);
    for (u32 i = 0; i < cores; ++i) state.set(open + i, i + 1); // a list of free places, each naming the next
    state.set(open + cores, none);

    u64 latency_sum = 0, accelerator = 0, items_sum = 0, offloaded_items = 0, parts = 0;
    u32 offloaded = 0, counted = 0, backlogged = 0, since = 0, busy = 0, work = 0, arrived = 0, free_place = 0;
    double now = 0, end = 0, core_ticks = 0, work_fraction = 0; // exact to far less than a tick: 2^53 of them
    u64 before_ticks = 0;
    Drawn next = draw(job, alias, 0, replication, k0, k1);
    double arrival = next.gap;

    u32 head = none, head_place = 0, part = 0, head_parts = 0; // the query whose sub-requests start next; none so far
    double head_arrival = 0;
    ItemEntry head_ask = {0, 0};
    bool seek = true;

    for (;;) {
        // 1. The next event.
        double slow = factor[busy], left = busy ? (double)(i32)(heap.key(0) - work) - work_fraction : 0.0;
        double ends = now + (left > 0 ? left * slow : 0.0);
        bool ended = busy > 0 && (arrived >= plan.queries || ends <= arrival);
        if (!ended && arrived >= plan.queries) break;
        double then = now;
        now = ended ? ends : arrival;
        core_ticks += busy * (now - then);
        u32 latency = 0;
        bool answered = false, counts_here = false, freed = ended;
        if (ended) {
            work = heap.key(0), work_fraction = 0;
            u32 place = state.get(cores), left_open = state.get(open + place) - 1;
            state.set(open + place, left_open);
            if ((left_open & ~counts) == 0) {
                answered = true, counts_here = (left_open & counts) != 0;
                latency = (u32)(u64)(now + 0.5) - state.get(came + place);
                state.set(open + place, free_place);
                free_place = place;
            }
        } else {
            if (busy) {
                double sum = work_fraction + (now - then) / slow, whole = floor(sum);
                work += (u32)whole, work_fraction = sum - whole;
            }
            ItemEntry ask = entry_of[next.items];
            items_sum += next.items;
            if (ask.fulls == RQ_OFFLOAD) {
                u64 ticks = (u64)(now + 0.5), gap = ticks - before_ticks;
                if (since + gap >= RQ_REFRESH) {
                    State rest = state;
                    rest.first += devices * state.stride;
                    refresh(rest, job.accelerators, (u32)before_ticks, gap);
                    since = 0;
                } else {
                    since += (u32)gap;
                }
                before_ticks = ticks;
                u32 service = offloaded_ticks(job, ask.last_ticks, arrived, replication, k0, k1);
                latency = start_offloaded(state, devices, job.accelerators, (u32)ticks, service) - (u32)ticks;
                if (now + latency > end) end = now + latency;
                accelerator += service, offloaded_items += next.items;
                ++offloaded, ++parts;
                answered = true, counts_here = arrived >= plan.warm_up;
            }
            ++arrived;
            if (arrived < plan.queries) {
                next = draw(job, alias, arrived, replication, k0, k1);
                arrival += next.gap;
            }
        }
        if (now > end) end = now;

        // 2. What can start: a freed core takes the next sub-request, an arrival fills the idle cores.
        while (freed || busy < cores) {
            while (seek && head + 1 < arrived) { // the next query that has arrived and stays on the cores
                ++head;
                Drawn drawn = draw(job, alias, head, replication, k0, k1);
                head_arrival += drawn.gap;
                head_ask = entry_of[drawn.items];
                if (head_ask.fulls == RQ_OFFLOAD) continue;
                seek = false, part = 0, head_parts = head_ask.fulls + (head_ask.last_ticks > 0);
                head_place = free_place;
                free_place = state.get(open + head_place);
                state.set(open + head_place, head_parts | (head >= plan.warm_up ? counts : 0));
                state.set(came + head_place, (u32)(u64)(head_arrival + 0.5));
                parts += head_parts;
            }
            if (seek) break;
            u32 service = part < head_ask.fulls ? job.full_ticks : head_ask.last_ticks;
            if (job.cpu_sigma > 0.0f) {
                Words n = philox(head, part >> 2, replication, SERVICE_CPU, k0, k1);
                Pair x = part & 2 ? normals(n.c, n.d) : normals(n.a, n.b);
                service = noisy(service, part & 1 ? x.b : x.a, job.cpu_mu, job.cpu_sigma);
            }
            u32 key = work + (u32)(work_fraction + 0.5) + service;
            if (freed)
                heap.down(busy, key, head_place);
            else
                heap.push(busy++, key, head_place);
            freed = false;
            seek = ++part == head_parts;
        }
        if (freed) {
            --busy;
            if (busy) heap.down(busy, state.get(busy), state.get(cores + busy));
        }

        // 3. A latency.
        if (answered) {
            if (counts_here) {
                latency_sum += latency;
                ++counted;
                count_latency(histogram, job, plan, latency);
            }
            if (latency >= RQ_BACKLOG_LIMIT) {
                backlogged = 1;
                break;
            }
        }
    }
    result.latency_ticks = latency_sum, result.cpu_ticks = (u64)core_ticks, result.accelerator_ticks = accelerator;
    result.span_ticks = (u64)end, result.items = items_sum, result.offloaded_items = offloaded_items;
    result.sub_requests = parts, result.counted = counted, result.offloaded = offloaded;
    result.backlogged = backlogged, result.unused = 0;
}
