"""What a queueing model answers: waits and responses as whole distributions, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from recqueue.queueing.distribution import Distribution


@dataclass(frozen=True, eq=False, kw_only=True)
class SteadyState:
    """A queue in steady state, FCFS.

    Attributes
    ----------
    model : str
        Name in the registry.
    arrival_rate : float
        Jobs per second.
    servers : int
        k.
    utilization : float
        Share of the servers that is busy on average.
    wait : Distribution
        From arrival to start of service, as an arriving job sees it.
    response : Distribution
        From arrival to departure.
    """

    model: str
    arrival_rate: float
    servers: int
    utilization: float
    wait: Distribution
    response: Distribution

    @property
    def delay_probability(self) -> float:
        """Share of the jobs that wait."""
        return float(self.wait.sf(0.0))

    @property
    def mean_waiting(self) -> float:
        """Mean number of jobs that wait, by Little's law."""
        return self.arrival_rate * self.wait.mean

    @property
    def mean_present(self) -> float:
        """Mean number of jobs in the system, by Little's law."""
        return self.arrival_rate * self.response.mean
