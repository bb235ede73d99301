"""What the model says of each measured run: computed for it, or the nearest of saved answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from recqueue.errors import InputError, OutOfValidityError
from recqueue.serving import Performance, Policy, Scenario
from recqueue.validation.measured import Measured

SIMULATED_QUERIES = 200_000
"""Queries simulated for each measured run."""


def policy_of(scenario: Scenario, run: Measured) -> Policy:
    """Policy of a run; that of the scenario where the file does not say.

    Raises
    ------
    InputError
        When neither says.
    """
    if run.batch_size is not None:
        return Policy(run.batch_size, run.offload_threshold, run.max_fused_queries)
    if scenario.policy is None:
        raise InputError(
            f"{run.where}: no batch_size in it, and the scenario has no policy; give the columns batch_size and "
            "offload_threshold, or 'policy: {batch_size: 64, offload_threshold: 300}' in the scenario"
        )
    return scenario.policy


def at_run(scenario: Scenario, run: Measured) -> Scenario:
    """The scenario at the rate, policy and fusion of a run."""
    system, device = scenario.system, scenario.system.accelerator
    if device is not None and (run.max_fused_queries or 1) > device.max_fused_queries:
        allowing = dataclasses.replace(device, max_fused_queries=run.max_fused_queries or 1)
        system = dataclasses.replace(system, accelerator=allowing)
    try:
        return dataclasses.replace(scenario, system=system, policy=policy_of(scenario, run), qps=run.qps)
    except InputError as error:
        raise InputError(f"{run.where}: {error}") from None


def predict(
    scenario: Scenario,
    runs: Sequence[Measured],
    *,
    simulated: bool = False,
    queries: int = SIMULATED_QUERIES,
    seed: int = 0,
) -> tuple[Performance | None, ...]:
    """Predict every run, by formula or by simulation.

    Parameters
    ----------
    scenario : Scenario
        System, workload and promise; its own rate is not used, its policy only where a run does not say its own.
    runs : sequence of Measured
        What was measured.
    simulated : bool
        Let the simulator predict.
    queries, seed : int
        Of each simulation.

    Returns
    -------
    tuple of Performance or None
        None where the formulas have no answer at that load.
    """
    from recqueue.analysis import evaluate  # compiled code and scipy, which reading files does without
    from recqueue.simulate import simulate

    found: list[Performance | None] = []
    for run in runs:
        asked = at_run(scenario, run)
        try:
            found.append(simulate(asked, queries=queries, seed=seed) if simulated else evaluate(asked))
        except OutOfValidityError:
            found.append(None)
    return tuple(found)


def nearest(
    saved: Sequence[tuple[Policy | None, Performance]], runs: Sequence[Measured], *, within: float = 0.02
) -> tuple[Performance | None, ...]:
    """For every run the saved answer of the same policy whose rate is nearest.

    Parameters
    ----------
    saved : sequence of (Policy or None, Performance)
        Answers; a policy of None, or a run without one, fits any.
    runs : sequence of Measured
        What was measured.
    within : float
        Largest relative difference of the rates.

    Returns
    -------
    tuple of Performance or None
        None where no answer is near enough.
    """
    found: list[Performance | None] = []
    for run in runs:
        near = [
            (abs(p.qps / run.qps - 1), i)
            for i, (policy, p) in enumerate(saved)
            if _same(policy, run) and abs(p.qps / run.qps - 1) <= within
        ]
        found.append(saved[min(near)[1]][1] if near else None)
    return tuple(found)


def _same(policy: Policy | None, run: Measured) -> bool:
    if policy is None or run.batch_size is None:
        return True
    fused = {f for f in (policy.max_fused_queries, run.max_fused_queries) if f is not None}
    knobs = (policy.batch_size, policy.offload_threshold)
    return knobs == (run.batch_size, run.offload_threshold) and len(fused) < 2
