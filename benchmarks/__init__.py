"""Timings of the main operations, each against a reference of the same run: ``python -m benchmarks`` or ``make bench``."""
