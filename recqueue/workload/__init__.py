"""What arrives: query sizes, arrival processes, and the latency targets that queries are held to."""

from recqueue.workload.arrivals import (
    POISSON,
    Arrivals,
    arrivals_label,
    diurnal_arrivals,
    gap_scv,
    index_of_dispersion,
    mmpp_arrivals,
    renewal_arrivals,
    trace_arrivals,
)
from recqueue.workload.distributions import (
    fixed_sizes,
    lognormal_sizes,
    mlperf_sizes,
    normal_sizes,
    production_sizes,
    sizes_from_pmf,
    sizes_from_scipy,
    sizes_from_values,
)
from recqueue.workload.sizes import MAX_ITEMS, QuerySizes
from recqueue.workload.targets import LEVELS, MEDIUM_TARGETS_S, latency_target_s

__all__ = [
    "LEVELS",
    "MAX_ITEMS",
    "MEDIUM_TARGETS_S",
    "POISSON",
    "Arrivals",
    "QuerySizes",
    "arrivals_label",
    "diurnal_arrivals",
    "fixed_sizes",
    "gap_scv",
    "index_of_dispersion",
    "latency_target_s",
    "lognormal_sizes",
    "mlperf_sizes",
    "mmpp_arrivals",
    "normal_sizes",
    "production_sizes",
    "renewal_arrivals",
    "sizes_from_pmf",
    "sizes_from_scipy",
    "sizes_from_values",
    "trace_arrivals",
]
