"""Queueing models and optimization for neural recommendation inference."""
