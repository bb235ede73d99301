"""Figures on an Axes that the caller gives; nothing here opens windows or computes results."""

from recqueue.plotting.heatmap import qps_heatmap
from recqueue.plotting.latency import latency_against_qps

__all__ = ["latency_against_qps", "qps_heatmap"]
