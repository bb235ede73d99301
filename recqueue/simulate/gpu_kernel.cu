// Thousands of independent runs of the FCFS simulator, one thread each. The same source is compiled for the GPU (NVRTC or
// nvcc) and as plain C++ for a machine without one, so what is tested on the CPU is what runs on the GPU.
//
// Time is counted in whole ticks. A free time is kept modulo 2^32 and compared by the sign of a difference, which is exact
// as long as two of them lie less than 2^31 ticks apart; `refresh` lifts those that fall far behind the present, and a run
// whose backlog comes near the limit stops and says so. Arrivals are summed in 64 bits of ticks and 32 bits of a fraction.

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define RQ_FN static __device__ __forceinline__
#define RQ_MEMBER __device__ __forceinline__
#else
#include <math.h>
#include <string.h>
#define RQ_FN static inline
#define RQ_MEMBER inline
#endif

typedef int i32;
typedef unsigned int u32;
typedef unsigned long long u64;

#define RQ_OFFLOAD 0xFFFFFFFFu      // in ItemEntry.fulls: the query goes whole to an accelerator
#define RQ_REFRESH (1u << 29)       // ticks after which stale free times are lifted
#define RQ_BACKLOG_LIMIT (1u << 30) // ticks of latency at which a run gives up

enum Process { EXPONENTIAL = 0, CONSTANT = 1, GAMMA = 2 };
enum Stream { QUERY = 0, GAP = 1, SERVICE_CPU = 2, SERVICE_ACCELERATOR = 3 };

struct AliasEntry { // Walker's alias method: `items` when a random word is below `threshold`, else `other`
    u32 threshold;
    unsigned short items, other;
};

struct ItemEntry { // what a query of that many items asks for
    u32 fulls;      // sub-requests of the full batch size, or RQ_OFFLOAD
    u32 last_ticks; // service of the remainder (0: there is none), or of the whole query on an accelerator
};

struct Job { // one scenario with its policy and rate
    double gap_ticks, gamma_shape;
    u32 process, cores, accelerators, full_ticks;
    u32 alias_offset, alias_count, item_offset, first_bin, factor_offset, unused;
    float cpu_mu, cpu_sigma, accelerator_mu, accelerator_sigma; // of the logarithm of service noise; sigma 0: none
    float rank[4];
};

struct Result {
    u64 latency_ticks, cpu_ticks, accelerator_ticks, span_ticks, items, offloaded_items, sub_requests;
    u32 counted, offloaded, backlogged, unused;
    double quantile_ticks[4];
};

struct Words {
    u32 a, b, c, d;
};

// Philox4x32-10: four random words that are a function of a key and a counter.
RQ_FN Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#if defined(__CUDACC__)
#pragma unroll
#endif
    for (int round = 0; round < 10; ++round) {
        u64 p = (u64)0xD2511F53u * c0, q = (u64)0xCD9E8D57u * c2;
        u32 n0 = (u32)(q >> 32) ^ c1 ^ k0, n2 = (u32)(p >> 32) ^ c3 ^ k1;
        c1 = (u32)q, c3 = (u32)p, c0 = n0, c2 = n2;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    Words w = {c0, c1, c2, c3};
    return w;
}

RQ_FN float uniform(u32 word) { return fmaf((float)word, 2.3283064365386963e-10f, 1.1641532182693481e-10f); } // (0, 1]

struct Pair {
    float a, b;
};

RQ_FN Pair normals(u32 first, u32 second) { // Box and Muller
    float radius = sqrtf(-2.0f * logf(uniform(first))), s, c;
#if defined(__CUDA_ARCH__)
    sincospif(2.0f * uniform(second), &s, &c);
#else
    float angle = 6.283185307179586f * uniform(second);
    s = sinf(angle), c = cosf(angle);
#endif
    Pair pair = {radius * c, radius * s};
    return pair;
}

RQ_FN u32 noisy(u32 ticks, float z, float mu, float sigma) { return (u32)((float)ticks * expf(fmaf(sigma, z, mu)) + 0.5f); }

// Gap over its mean times the shape, gamma distributed (Marsaglia and Tsang; a shape below 1 through shape + 1).
RQ_FN float gamma_gap(float shape, u32 query, u32 replication, u32 k0, u32 k1) {
    float a = shape < 1.0f ? shape + 1.0f : shape, d = a - 1.0f / 3.0f, c = 1.0f / sqrtf(9.0f * d);
    for (u32 attempt = 0;; ++attempt) {
        Words w = philox(query, attempt, replication, GAP, k0, k1);
        float z = normals(w.a, w.b).a, v = 1.0f + c * z;
        if (v <= 0.0f) continue;
        v = v * v * v;
        if (logf(uniform(w.c)) < 0.5f * z * z + d - d * v + d * logf(v))
            return shape < 1.0f ? d * v * powf(uniform(w.d), 1.0f / shape) : d * v;
    }
}

// A thread's words of state, `stride` apart: the lanes of a warp lie beside each other, whatever index each one uses.
struct State {
    u32 *first;
#if defined(RQ_BLOCK) && !defined(RQ_GLOBAL_STATE)
    static const u32 stride = RQ_BLOCK;
#else
    u32 stride;
#endif
    RQ_MEMBER u32 get(u32 i) const { return first[i * stride]; }
    RQ_MEMBER void set(u32 i, u32 value) const { first[i * stride] = value; }
};

RQ_FN bool before(u32 a, u32 b) { return (i32)(a - b) < 0; }

// `gap` ticks pass: free times that are then over become the new present. The order of the entries is kept.
RQ_FN void refresh(const State &state, u32 words, u32 then, u64 gap) {
    for (u32 i = 0; i < words; ++i) {
        i32 left = (i32)(state.get(i) - then);
        if (left < 0 || (u64)left < gap) state.set(i, then + (u32)gap);
    }
}

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
// remainders, which may be shorter, a stack with the earliest on top. Together they hold one entry for each core.
struct Cores {
    u32 cores, head, fulls, others, earliest_full, earliest_other;
};

RQ_FN u32 take(Cores &c, const State &s, u32 now) { // when the next sub-request starts
    bool other = c.others > 0 && (c.fulls == 0 || before(c.earliest_other, c.earliest_full));
    u32 free = other ? c.earliest_other : c.earliest_full;
    if (other) {
        --c.others;
        if (c.others) c.earliest_other = s.get(c.cores + c.others - 1);
    } else {
        --c.fulls;
        c.head = c.head + 1 == c.cores ? 0 : c.head + 1;
        c.earliest_full = s.get(c.head); // meaningless while fulls is 0
    }
    return before(now, free) ? free : now;
}

RQ_FN u32 start_full(Cores &c, const State &s, u32 now, u32 service) {
    u32 finish = take(c, s, now) + service, at = c.head + c.fulls;
    s.set(at >= c.cores ? at - c.cores : at, finish);
    if (c.fulls == 0) c.earliest_full = finish;
    ++c.fulls;
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
    if (i == c.others) c.earliest_other = finish;
    ++c.others;
    return finish;
}

RQ_FN u32 start_offloaded(const State &s, u32 offset, u32 count, u32 now, u32 service) {
    u32 best = 0, free = s.get(offset);
    for (u32 i = 1; i < count; ++i) {
        u32 value = s.get(offset + i);
        if (before(value, free)) free = value, best = i;
    }
    u32 finish = (before(now, free) ? free : now) + service;
    s.set(offset + best, finish);
    return finish;
}

RQ_FN u32 bin_of(u32 ticks, u32 shift) { // equal bins within each power of two, from the bits of the float
    float value = (float)ticks;
#if defined(__CUDA_ARCH__)
    return __float_as_uint(value) >> shift;
#else
    u32 bits;
    memcpy(&bits, &value, 4);
    return bits >> shift;
#endif
}

RQ_FN double bin_start(u32 bin, u32 shift) {
#if defined(__CUDA_ARCH__)
    return (double)__uint_as_float(bin << shift);
#else
    u32 bits = bin << shift;
    float value;
    memcpy(&value, &bits, 4);
    return (double)value;
#endif
}

struct Plan { // the same for all threads of a launch
    u32 threads, replications, first_replication, by_replication;
    u32 queries, warm_up, bins, shift, k0, k1;
};

// Which job and replication a thread runs: neighbours share a job, or else a replication.
RQ_FN u32 job_of(const Plan &p, u32 t) { return p.by_replication ? t % (p.threads / p.replications) : t / p.replications; }
RQ_FN u32 replication_of(const Plan &p, u32 t) {
    return p.first_replication + (p.by_replication ? t / (p.threads / p.replications) : t % p.replications);
}

struct Drawn {
    double gap; // ticks since the query before
    u32 items;
};

RQ_FN Drawn draw(const Job &job, const AliasEntry *alias, u32 query, u32 replication, u32 k0, u32 k1) {
    Words w = philox(query, 0, replication, QUERY, k0, k1);
    Drawn drawn = {job.gap_ticks, 0};
    if (job.process == EXPONENTIAL)
        drawn.gap *= (double)-logf(uniform(w.a));
    else if (job.process == GAMMA)
        drawn.gap *= (double)gamma_gap((float)job.gamma_shape, query, replication, k0, k1) / job.gamma_shape;
    AliasEntry choice = alias[((u64)w.b * job.alias_count) >> 32];
    drawn.items = w.c < choice.threshold ? choice.items : choice.other;
    return drawn;
}

RQ_FN u32 offloaded_ticks(const Job &job, u32 ticks, u32 query, u32 replication, u32 k0, u32 k1) {
    if (job.accelerator_sigma <= 0.0f) return ticks;
    Words n = philox(query, 0, replication, SERVICE_ACCELERATOR, k0, k1);
    return noisy(ticks, normals(n.a, n.b).a, job.accelerator_mu, job.accelerator_sigma);
}

RQ_FN void count_latency(u32 *histogram, const Job &job, const Plan &plan, u32 latency) {
    u32 bin = bin_of(latency, plan.shift);
    bin = bin > job.first_bin ? bin - job.first_bin : 0;
    if (bin >= plan.bins) bin = plan.bins - 1;
#if defined(__CUDA_ARCH__)
    atomicAdd(histogram + bin, 1u); // private to this thread; an atomic because nothing waits for its answer
#else
    histogram[bin] += 1;
#endif
}

// Cores that do not slow each other: a query's whole fate is known when it arrives, so there is one step for each query.
template <bool NOISE>
RQ_FN void run(const Job &job, u32 replication, const Plan &plan, const AliasEntry *aliases, const ItemEntry *entries,
               const State &state, u32 *histogram, Result &result) {
    const u32 cores = job.cores, k0 = plan.k0, k1 = plan.k1, full = job.full_ticks, core_words = NOISE ? cores : 2 * cores;
    const AliasEntry *alias = aliases + job.alias_offset;
    const ItemEntry *entry_of = entries + job.item_offset;
    for (u32 i = 0; i < core_words + job.accelerators; ++i) state.set(i, 0);
    Cores c = {cores, 0, cores, 0, 0, 0};
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

// Quantiles by linear interpolation inside the bin that holds them.
RQ_FN void quantiles(const Job &job, const Plan &plan, const u32 *histogram, Result &result) {
    for (int q = 0; q < 4; ++q) {
        double target = (double)job.rank[q] * result.counted, below = 0;
        u32 bin = 0;
        while (bin + 1 < plan.bins && (below + histogram[bin] < target || histogram[bin] == 0)) below += histogram[bin++];
        double low = bin_start(bin + job.first_bin, plan.shift), high = bin_start(bin + 1 + job.first_bin, plan.shift);
        double share = histogram[bin] ? (target - below) / histogram[bin] : 0.0;
        result.quantile_ticks[q] = low + share * (high - low);
    }
}

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)

#if defined(RQ_GLOBAL_STATE)
#define RQ_STATE {scratch + t, plan.threads}
#else
extern __shared__ u32 rq_shared[];
#define RQ_STATE {rq_shared + threadIdx.x}
#endif

#define RQ_KERNEL(NAME, RUN)                                                                                               \
    extern "C" __global__ void __launch_bounds__(RQ_BLOCK)                                                                 \
        NAME(const Job *jobs, const Plan *shared_plan, const AliasEntry *aliases, const ItemEntry *entries,                \
             const double *factors, u32 *scratch, u32 *histograms, Result *results) {                                      \
        const Plan plan = *shared_plan;                                                                                    \
        const u32 t = blockIdx.x * RQ_BLOCK + threadIdx.x;                                                                 \
        if (t >= plan.threads) return;                                                                                     \
        const Job &job = jobs[job_of(plan, t)];                                                                            \
        const u32 replication = replication_of(plan, t);                                                                   \
        u32 *histogram = histograms + (u64)t * plan.bins;                                                                  \
        const State state = RQ_STATE;                                                                                      \
        RUN;                                                                                                               \
    }

RQ_KERNEL(rq_constant, run<false>(job, replication, plan, aliases, entries, state, histogram, results[t]))
RQ_KERNEL(rq_noisy, run<true>(job, replication, plan, aliases, entries, state, histogram, results[t]))
RQ_KERNEL(rq_contended, run_contended(job, replication, plan, aliases, entries, factors, state, histogram, results[t]))

extern "C" __global__ void rq_quantiles(const Job *jobs, const Plan *shared_plan, const u32 *histograms, Result *results) {
    const Plan plan = *shared_plan;
    u32 t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t < plan.threads) quantiles(jobs[job_of(plan, t)], plan, histograms + (u64)t * plan.bins, results[t]);
}

#else

// kind: 0 constant, 1 noisy, 2 contended
extern "C" void rq_host(const Job *jobs, const Plan *shared_plan, int kind, const AliasEntry *aliases,
                        const ItemEntry *entries, const double *factors, u32 *scratch, u32 *histograms, Result *results) {
    const Plan plan = *shared_plan;
    for (u32 t = 0; t < plan.threads; ++t) {
        const Job &job = jobs[job_of(plan, t)];
        const u32 replication = replication_of(plan, t);
        u32 *histogram = histograms + (u64)t * plan.bins;
        const State state = {scratch, 1};
        if (kind == 0)
            run<false>(job, replication, plan, aliases, entries, state, histogram, results[t]);
        else if (kind == 1)
            run<true>(job, replication, plan, aliases, entries, state, histogram, results[t]);
        else
            run_contended(job, replication, plan, aliases, entries, factors, state, histogram, results[t]);
        quantiles(job, plan, histogram, results[t]);
    }
}

extern "C" void rq_sizes(unsigned int *bytes) { // of what Python lays out
    bytes[0] = sizeof(Job), bytes[1] = sizeof(Plan), bytes[2] = sizeof(Result);
}

#endif
