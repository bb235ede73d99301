"""Provisioning without an optimizer: greedy, in proportion to the stock, and the peak all day.

They keep the same promises with the same machines, hour by hour. Limits on switching do not bind them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from recqueue.optimize.plan_instance import Instance, Ints, survives

MEANING = {
    "greedy": "each model in turn, the largest first, takes the machines that are best for it until it has enough",
    "proportional": "each model takes the types it can run in proportion to the stock until it has enough",
    "peak all day": "the best machines for the highest demand of each model, on all day",
}
Next = Callable[[Ints, Ints], int | None]
"""Stock left of each type and machines taken so far as each column -> the column to take one more of, or None."""


def greedy(instance: Instance) -> tuple[Ints | None, str]:
    """Best machines first: by objective per query, as long as there are any.

    Returns
    -------
    (counts, reason)
        Counts ``(columns, hours)``, or None and where machines ran out (model and hour by number).
    """

    def rule(mine: Ints) -> Next:
        order = mine[np.argsort(_price(instance)[mine] / instance.qps[mine], kind="stable")]
        return lambda left, taken: next((int(c) for c in order if left[instance.machine[c]] > 0), None)

    return _by_hour(instance, rule)


def proportional(instance: Instance) -> tuple[Ints | None, str]:
    """Every type alike: next is the type of which the smallest share of the stock has been taken.

    Of each type the column that carries most. Returns as :func:`greedy`.
    """

    def rule(mine: Ints) -> Next:
        fastest = {int(instance.machine[c]): int(c) for c in mine}  # ascending, so the last is the fastest

        def following(left: Ints, taken: Ints) -> int | None:
            open_ = [c for t, c in fastest.items() if left[t] > 0]
            return min(open_, key=lambda c: (taken[c] + 1) / instance.stock[instance.machine[c]], default=None)

        return following

    return _by_hour(instance, rule)


def peak_all_day(instance: Instance) -> Instance:
    """One hour that has the highest demand of every model, for the same solver; its answer is kept all day."""
    return replace(
        instance,
        demand_qps=instance.demand_qps.max(axis=1, keepdims=True),
        weight=instance.weight * instance.demand_qps.shape[1],
        most_switched=None,
        switch_weight=0.0,
    )


def _price(instance: Instance) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Objective of one machine for one hour of the day, its share of what owning it adds included."""
    return np.asarray(instance.weight + instance.own_weight[instance.machine] / instance.demand_qps.shape[1])


def _by_hour(instance: Instance, rule: Callable[[Ints], Next]) -> tuple[Ints | None, str]:
    hours = [_one_hour(instance.hour(h), h, rule) for h in range(instance.demand_qps.shape[1])]
    for counts, reason in hours:
        if counts is None:
            return None, reason
    return np.column_stack([counts for counts, _ in hours if counts is not None]), ""


def _one_hour(instance: Instance, hour: int, rule: Callable[[Ints], Next]) -> tuple[Ints | None, str]:
    counts, left = np.zeros(len(instance.qps), np.int64), instance.stock.copy()
    for m in _largest_first(instance):
        mine = instance.columns_of(m)
        following = rule(mine)
        alone = replace(
            instance, model=np.zeros(len(mine), np.int64), qps=instance.qps[mine], machine=instance.machine[mine],
            weight=instance.weight[mine], demand_qps=instance.demand_qps[m : m + 1], margin=instance.margin[m : m + 1],
        )  # fmt: skip
        while not survives(alone, counts[mine][:, None])[0, 0]:
            c = following(left, counts)
            if c is None:
                return None, f"{m}:{hour}"
            counts[c] += 1
            left[instance.machine[c]] -= 1
    return counts, ""


def _largest_first(instance: Instance) -> Sequence[int]:
    """Models by what their demand would cost with the machines that are best for each."""
    best = np.full(len(instance.demand_qps), np.inf)
    np.minimum.at(best, instance.model, _price(instance) / instance.qps)
    return [int(m) for m in np.argsort(-best * instance.demand_qps[:, 0], kind="stable")]
