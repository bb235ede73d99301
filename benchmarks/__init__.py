"""Timings of the main operations, each against a reference of the same run: ``make bench``."""
