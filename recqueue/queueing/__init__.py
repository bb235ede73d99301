"""Queueing mathematics: rates and service laws in, waiting and response distributions out."""

from recqueue.queueing.registry import Model, model, models

__all__ = ["Model", "model", "models"]
