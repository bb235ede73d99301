"""Figures on an Axes that the caller gives; nothing here opens windows or computes results."""

from recqueue.plotting.day import latency_by_hour, machines_by_hour
from recqueue.plotting.heatmap import qps_heatmap
from recqueue.plotting.latency import latency_against_qps

__all__ = ["latency_against_qps", "latency_by_hour", "machines_by_hour", "qps_heatmap"]
