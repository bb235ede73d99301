"""What people do without the optimizer: how each baseline chooses, and what the simulator makes of its choice."""

from recqueue.optimize.baselines.candidate import Candidate, normal_form
from recqueue.optimize.baselines.clean_climb import hill_climb
from recqueue.optimize.baselines.confirmed import Confirmed, Confirmer, all_baselines, by_formula
from recqueue.optimize.baselines.published import PUBLISHED, REPAIRED, Schedule, published_hill_climb
from recqueue.optimize.baselines.random_search import random_search
from recqueue.optimize.baselines.static import static

__all__ = [
    "PUBLISHED",
    "REPAIRED",
    "Candidate",
    "Confirmed",
    "Confirmer",
    "Schedule",
    "all_baselines",
    "by_formula",
    "hill_climb",
    "normal_form",
    "published_hill_climb",
    "random_search",
    "static",
]
