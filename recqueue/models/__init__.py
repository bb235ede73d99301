"""The recommendation models as graphs of operators, with costs as expressions in the batch size."""

from recqueue.models.catalog import get, names
from recqueue.models.model import Model
from recqueue.models.operators import SIZES, Kind, Operator

__all__ = ["SIZES", "Kind", "Model", "Operator", "get", "names"]
