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
    double rank[4];
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
