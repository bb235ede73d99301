"""Compiled choice of the machines of all models in one hour, which share a stock, by prices of machines.

Prices make the models independent of each other: with a price for each scarce machine, every model takes what is
cheapest for itself, found by branch and bound. The sum of these, less the prices of the stock, is a lower bound
(Lagrange); raising the prices of what is asked for too much makes it better. What the models ask for is then changed,
where it hurts least, until the stock suffices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from recqueue.optimize.plan_kernel import ascending, one_model

Array = Any  # numba's arrays


@njit(cache=True, nogil=True)
def dot(a: Array, b: Array) -> float:
    """Sum of products, whatever the types."""
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True)
def fits(on: Array, stock: Array) -> bool:
    """Whether the stock suffices."""
    over = 0
    for t in range(len(on)):
        over += on[t] > stock[t]
    return over == 0


@njit(cache=True, nogil=True)
def priced(weight: Array, kind: Array, prices: Array) -> Array:
    """Weight of each column and the price of its type."""
    total = np.empty(len(weight))
    for c in range(len(weight)):
        total[c] = weight[c] + prices[kind[c]]
    return total


@njit(cache=True, nogil=True)
def rest(stock: Array, on: Array, mine: Array) -> Array:
    """Machines of each type that a model may have when the others keep theirs."""
    left = np.empty(len(stock), np.int64)
    for t in range(len(stock)):
        left[t] = max(stock[t] - on[t] + mine[t], 0)
    return left


@njit(cache=True, nogil=True)
def all_models(
    start: Array, mu: Array, weight: Array, kind: Array, demand: Array, need: Array, spare: bool, domains: int,
    prices: Array, stock: Array, tolerance: float, most_nodes: int, counts: Array,
) -> float:  # fmt: skip
    """What every model takes at these prices of machines (into ``counts``); the Lagrangian bound."""
    total = -dot(prices, stock)
    for m in range(len(demand)):
        a, b = start[m], start[m + 1]
        left = stock.copy()
        _, low = one_model(
            mu[a:b], priced(weight[a:b], kind[a:b], prices), kind[a:b], left, demand[m], need[m], spare, domains,
            counts[a:b], tolerance, most_nodes,
        )  # fmt: skip
        total += low
    return total


@njit(cache=True, nogil=True)
def take(kind: Array, counts: Array, trial: Array, on: Array) -> None:
    """Replace what a model takes, and what all together have of each type."""
    for c in range(len(kind)):
        on[kind[c]] += trial[c] - counts[c]
        counts[c] = trial[c]


@njit(cache=True, nogil=True)
def copy(source: Array, target: Array) -> None:
    """Values of one array into another."""
    for i in range(len(source)):
        target[i] = source[i]


@njit(cache=True, nogil=True)
def asked(kind: Array, counts: Array, types: int) -> Array:
    """Machines of each type."""
    on = np.zeros(types, np.int64)
    for c in range(len(kind)):
        on[kind[c]] += counts[c]
    return on


@njit(cache=True, nogil=True)
def repair(
    start: Array, mu: Array, weight: Array, kind: Array, demand: Array, need: Array, spare: bool, domains: int,
    prices: Array, stock: Array, tolerance: float, most_nodes: int, counts: Array,
) -> bool:  # fmt: skip
    """Change what models take, where it adds least at these prices, until the stock suffices; then lower the cost.

    Returns
    -------
    bool
        Whether the stock suffices.
    """
    models, types = len(demand), len(stock)
    trial = np.zeros(len(mu), np.int64)
    on = asked(kind, counts, types)
    for _ in range(4 * types):
        if fits(on, stock):
            break
        regret = np.full(models, np.inf)
        for m in range(models):
            a, b = start[m], start[m + 1]
            over = 0
            for c in range(a, b):
                if on[kind[c]] > stock[kind[c]]:
                    over += counts[c]
            if over == 0:
                continue
            price = priced(weight[a:b], kind[a:b], prices)
            left = rest(stock, on, asked(kind[a:b], counts[a:b], types))
            value, _ = one_model(
                mu[a:b], price, kind[a:b], left, demand[m], need[m], spare, domains, trial[a:b], tolerance, most_nodes
            )
            less = 0
            for c in range(a, b):
                if on[kind[c]] > stock[kind[c]]:
                    less += counts[c] - trial[c]
            if np.isfinite(value) and less > 0:
                regret[m] = (value - dot(price, counts[a:b])) / less
        changed = False
        for m in ascending(regret):
            if not np.isfinite(regret[m]) or fits(on, stock):
                break
            a, b = start[m], start[m + 1]
            mine = asked(kind[a:b], counts[a:b], types)
            concerned = False
            for t in range(types):
                concerned |= on[t] > stock[t] and mine[t] > 0
            if not concerned:
                continue
            left = rest(stock, on, mine)
            value, _ = one_model(
                mu[a:b], priced(weight[a:b], kind[a:b], prices), kind[a:b], left, demand[m], need[m], spare, domains,
                trial[a:b], tolerance, most_nodes,
            )  # fmt: skip
            if np.isfinite(value):
                changed = True
                take(kind[a:b], counts[a:b], trial[a:b], on)
        if not changed:
            return False
    if not fits(on, stock):
        return False
    for _ in range(3):
        improved = False
        for m in range(models):
            a, b = start[m], start[m + 1]
            mine = asked(kind[a:b], counts[a:b], types)
            left = rest(stock, on, mine)
            now = dot(weight[a:b], counts[a:b])
            value, _ = one_model(
                mu[a:b], weight[a:b], kind[a:b], left, demand[m], need[m], spare, domains, trial[a:b], tolerance,
                most_nodes,
            )  # fmt: skip
            if value < now * (1 - 1e-9):
                improved = True
                take(kind[a:b], counts[a:b], trial[a:b], on)
        if not improved:
            break
    return True


@njit(cache=True, nogil=True)
def one_hour(
    start: Array, mu: Array, weight: Array, kind: Array, demand: Array, need: Array, spare: bool, domains: int,
    prices: Array, stock: Array, gap: float, rounds: int, tolerance: float, most_nodes: int, best_counts: Array,
) -> tuple[float, float]:  # fmt: skip
    """Machines of all models in one hour (into ``best_counts``), with prices that start as given and end as found.

    Subgradient steps of Polyak's length towards the best value known; a repair every few rounds.

    Returns
    -------
    (value, bound)
        Infinite value when no choice within the stock was found; infinite bound when there is none.
    """
    types = len(stock)
    counts, repaired = np.zeros(len(mu), np.int64), np.zeros(len(mu), np.int64)
    value, bound, best_prices = np.inf, -np.inf, prices.copy()
    length, stalled = 1.0, 0
    for r in range(rounds):
        low = all_models(
            start, mu, weight, kind, demand, need, spare, domains, prices, stock, tolerance, most_nodes, counts
        )
        if np.isinf(low):  # some model finds no machines, whatever the others take
            return np.inf, np.inf
        if low > bound:
            stalled = 0 if low > bound + 1e-5 * abs(bound) else stalled + 1
            bound = low
            copy(prices, best_prices)
        else:
            stalled += 1
        on = asked(kind, counts, types)
        if r % 4 == 0 or fits(on, stock) or r == rounds - 1:
            copy(counts, repaired)
            if repair(
                start, mu, weight, kind, demand, need, spare, domains, prices, stock, tolerance, most_nodes, repaired
            ):
                total = dot(weight, repaired)
                if total < value:
                    value = total
                    copy(repaired, best_counts)
        if np.isfinite(value) and value - bound <= gap * value:
            break
        slope = np.zeros(types)
        for t in range(types):
            if prices[t] > 0 or on[t] > stock[t]:
                slope[t] = on[t] - stock[t]
        square = dot(slope, slope)
        if square == 0:
            break
        if stalled >= 3:
            length, stalled = length / 2, 0
            copy(best_prices, prices)
        target = value if np.isfinite(value) else bound + 0.02 * abs(bound)
        step = length * max(target - low, 1e-4 * abs(low)) / square
        for t in range(types):
            prices[t] = max(prices[t] + step * slope[t], 0.0)
    copy(best_prices, prices)
    return value, bound
