"""A run in fixed memory, with its peak: ``python -m benchmarks.long_run --sub-requests 1e9 --out FILE``."""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

from benchmarks import scenarios
from benchmarks.scaling import machine
from recqueue.simulate import long_run
from recqueue.simulate.quantiles import RELATIVE_ERROR


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sub-requests", type=float, default=1e8)
    parser.add_argument("--out", type=Path)
    options, where = parser.parse_args(), machine()
    scenario = scenarios.central()
    loaded = peak_mib()
    rows = []
    each = long_run(scenario, qps=scenario.qps or 0.0, queries=100_000).sub_requests / 100_000  # warm-up included
    for target in (options.sub_requests / 100, options.sub_requests / 10, options.sub_requests):
        begin = time.perf_counter()
        queries = int(1.005 * target / each)  # each is an estimate
        run = long_run(scenario, qps=scenario.qps or 0.0, queries=queries)
        seconds = time.perf_counter() - begin
        rows.append(
            {
                "sub_requests": run.sub_requests,
                "queries": run.histogram.count,
                "seconds": seconds,
                "sub_requests_per_s": run.sub_requests / seconds,
                "peak_mib": peak_mib(),
                "p50_s": run.histogram.quantile_s(0.5),
                "p95_s": run.histogram.quantile_s(0.95),
                "p99_s": run.histogram.quantile_s(0.99),
                "cpu_utilization": run.cpu_utilization,
            }
        )
        print(
            f"{run.sub_requests:,} sub-requests in {seconds:.1f} s, {run.sub_requests / seconds / 1e6:.1f} million/s, "
            f"peak memory {rows[-1]['peak_mib']:.0f} MiB, p95 {rows[-1]['p95_s'] * 1e3:.4f} ms"
        )
    record = {"machine": where, "imports_mib": loaded, "relative_error": RELATIVE_ERROR, "rows": rows}
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
