// Quantiles by linear interpolation inside the bin that holds them.
RQ_FN void quantiles(const Job &job, const Plan &plan, const u32 *histogram, Result &result) {
    for (int q = 0; q < 4; ++q) {
        double target = job.rank[q] * result.counted - 1e-6, below = 0; // 0.95 times 200 is the 190th, whatever its rounding
        u32 bin = 0;
        while (bin + 1 < plan.bins && (below + histogram[bin] < target || histogram[bin] == 0)) below += histogram[bin++];
        double low = bin_start(bin + job.first_bin, plan.shift), high = bin_start(bin + 1 + job.first_bin, plan.shift);
        double share = histogram[bin] && target > below ? (target - below) / histogram[bin] : 0.0;
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
