// A thread's words of state, `stride` apart: the lanes of a warp lie beside each other, whatever index each one uses.
struct State {
    u32 *first;
#if defined(RQ_BLOCK) && !defined(RQ_GLOBAL_STATE)
    enum : u32 { stride = RQ_BLOCK };
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
