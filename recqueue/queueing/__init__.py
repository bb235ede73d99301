"""Queueing mathematics: rates and service laws in, waiting and response distributions out."""

from recqueue.queueing.registry import Model as Model
from recqueue.queueing.registry import model as model
from recqueue.queueing.registry import models as models
