/* The reference that `make bench` compiles: a straightforward event-free FCFS loop over a binary heap.

   k identical cores behind one queue; a query of n items becomes ceil(n / batch) sub-requests. The heap holds the moment at
   which each core is free; a sub-request starts at the later of its arrival and the top of the heap, whose place its end
   takes. heap_loop is given its inputs, heap_run draws them itself with xoshiro256+ (D. Blackman and S. Vigna). */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

static inline void replace_top(double *heap, long k, double end)
{
    long i = 0;
    for (;;) {
        long child = 2 * i + 1;
        if (child >= k)
            break;
        if (child + 1 < k && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= end)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = end;
}

void heap_loop(long queries, const double *arrival, const int64_t *items, const double *noise, long k, long batch,
               const double *service, double *latency)
{
    double *heap = calloc(k, sizeof *heap);
    long used = 0;
    for (long q = 0; q < queries; q++) {
        double now = arrival[q], finish = 0;
        for (long left = items[q]; left > 0; left -= batch) {
            double start = heap[0] > now ? heap[0] : now;
            double s = service[left < batch ? left : batch];
            double end = start + (noise ? s * noise[used] : s);
            used++;
            replace_top(heap, k, end);
            if (end > finish)
                finish = end;
        }
        latency[q] = finish - now;
    }
    free(heap);
}

static inline uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

static inline double uniform(uint64_t *s)
{
    const uint64_t result = s[0] + s[3], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return (result >> 11) * 0x1.0p-53;
}

/* Items by inversion: begin[] says where the search in the distribution function starts. Noise is log-normal of mean 1,
   its normal numbers in pairs by the polar method. Returns the sub-requests. */
long heap_run(uint64_t seed, long queries, double qps, const double *cdf, const int64_t *begin, long steps, double cv,
              long k, long batch, const double *service, double *latency)
{
    uint64_t state[4];
    for (int i = 0; i < 4; i++) { /* splitmix64 */
        uint64_t z = (seed += 0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        state[i] = z ^ (z >> 31);
    }
    const double variance = log1p(cv * cv), sigma = sqrt(variance);
    double *heap = calloc(k, sizeof *heap), now = 0, spare = 0;
    int have_spare = 0;
    long parts = 0;
    for (long q = 0; q < queries; q++) {
        now -= log(1.0 - uniform(state)) / qps;
        double u = uniform(state), finish = 0;
        int64_t items = begin[(long)(u * steps)];
        while (cdf[items] <= u)
            items++;
        for (long left = items; left > 0; left -= batch) {
            double start = heap[0] > now ? heap[0] : now;
            double s = service[left < batch ? left : batch];
            if (cv > 0) {
                double z = spare;
                if (!have_spare) {
                    double x, y, r;
                    do {
                        x = 2 * uniform(state) - 1;
                        y = 2 * uniform(state) - 1;
                        r = x * x + y * y;
                    } while (r >= 1 || r == 0);
                    r = sqrt(-2 * log(r) / r);
                    z = x * r;
                    spare = y * r;
                }
                have_spare = !have_spare;
                s *= exp(sigma * z - variance / 2);
            }
            double end = start + s;
            parts++;
            replace_top(heap, k, end);
            if (end > finish)
                finish = end;
        }
        latency[q] = finish - now;
    }
    free(heap);
    return parts;
}
