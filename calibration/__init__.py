"""Drivers that measure operator costs, raw measurements, and the fit that writes the packaged profiles."""
