"""What the optimizer answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recqueue.analysis import Limit
from recqueue.optimize.certificate import Certificate
from recqueue.optimize.problem import Objective
from recqueue.optimize.remedies import Infeasibility
from recqueue.optimize.sensitivity import Sensitivity
from recqueue.serving import Performance, Policy, Scenario
from recqueue.serving.performance import Verdict


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A policy somebody would use without the optimizer, and the rate it carries.

    Attributes
    ----------
    policy : Policy or None
        None when no policy of that kind keeps the promise.
    qps : float
        Largest queries per second within the SLA; 0 when there is none.
    method : str
        How the rate was found.
    sub_requests : int
        Sub-requests simulated to find it.
    believed_qps : float or None
        The rate that whoever chose it measured on the way, before the simulator was asked; None where nothing was.
    verification_sub_requests : int
        Sub-requests simulated to confirm it, or the policy that does the same.
    """

    policy: Policy | None
    qps: float
    method: str
    sub_requests: int = 0
    believed_qps: float | None = None
    verification_sub_requests: int = 0


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What the simulator says of the answer, from a run that had no part in choosing the rate.

    Attributes
    ----------
    verdict : {"pass", "fail", "undecided"}
        ``pass`` when the whole interval of the percentile lies within the bound and the run had settled, ``fail`` when
        all of it lies above; nominally 5 % of such runs decide wrongly.
    interval_s : tuple of float
        That interval.
    queries, replications : int
        Size of the deciding run.
    sub_requests : int
        Sub-requests simulated in all runs of the verification.
    steps_back : int
        How often the rate was lowered because the simulator did not confirm it.
    performance : Performance
        The deciding run.
    """

    verdict: Verdict
    interval_s: tuple[float, float]
    queries: int
    replications: int
    sub_requests: int
    steps_back: int
    performance: Performance


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """The policy that carries the most queries under the SLA, and how sure that is.

    Attributes
    ----------
    scenario : Scenario
        The question.
    policy : Policy or None
        None when no policy keeps the promise at any rate.
    qps : float
        The rate to rely on: verified when ``verification`` says so.
    formula_qps : float
        The largest rate by formula alone.
    performance : Performance or None
        By formula, at ``qps``.
    baselines : mapping
        ``static`` and, when verified, ``hill_climb``, ``published_hill_climb`` and ``random_search``.
    verification : Verification or None
        None when it was not asked for.
    lattice : int
        Integer policies: batch sizes times thresholds (never included) times fusion limits.
    evaluations : int
        Evaluations of the formulas.
    excluded : int
        Policies that a bound excludes, or that are the same as another.
    upper_bound_qps : float or None
        No policy could be recommended above this rate; None where something else than a rate was sought.
    certificate : Certificate
        Why.
    limit, reason
        What binds, as in :class:`recqueue.analysis.MaxRate`.
    seconds : float
        Wall-clock time.
    demand_qps : float or None
        Rate that the scenario asked for.
    sensitivity : Sensitivity or None
        Headroom of the policy at the demand, or else at ``qps``; None without a policy or when it was not asked for.
    objective : {"qps", "qps-per-watt", "latency", "headroom"}
        What was sought, as in :class:`recqueue.optimize.problem.Problem`.
    value : float or None
        Of the objective, at ``qps``: queries/s, queries/s per W, seconds, or how many times ``demand_qps`` that is.
    infeasibility : Infeasibility or None
        Why no policy keeps the promise, or none at the demand, and what would help; None when one does, or when it was
        not asked for.
    """

    scenario: Scenario
    policy: Policy | None
    qps: float
    formula_qps: float
    performance: Performance | None
    baselines: Mapping[str, Baseline]
    verification: Verification | None
    lattice: int
    evaluations: int
    excluded: int
    upper_bound_qps: float | None
    certificate: Certificate
    limit: Limit
    reason: str
    seconds: float
    demand_qps: float | None = None
    sensitivity: Sensitivity | None = None
    infeasibility: Infeasibility | None = None
    objective: Objective = "qps"
    value: float | None = None
