"""Compiled search for the cheapest machines of one model, and of all models of one hour that share a stock.

Prices make the models independent of each other: with a price for each scarce machine, every model takes what is
cheapest for itself, found by branch and bound. The sum of these, less the prices of the stock, is a lower bound
(Lagrange); raising the prices of what is asked for too much makes it better. What the models ask for is then changed,
where it hurts least, until the stock suffices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = Any  # numba's arrays
_EPSILON = 1e-9


@njit(cache=True, nogil=True)
def ascending(key: Array) -> Array:
    """Places in ascending order of a short ``key``; quicker to compile than numpy's."""
    order = np.arange(len(key))
    for i in range(1, len(key)):
        k, j = order[i], i - 1
        while j >= 0 and key[order[j]] > key[k]:
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = k
    return order


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
def enough(missing: float, mu: float, domains: int) -> int:
    """Fewest machines of ``mu`` that carry what is missing, after the loss of a domain where there are any."""
    n = int(np.ceil(missing / mu - _EPSILON))
    return n if domains == 0 else n + -(-n // (domains - 1))


@njit(cache=True, nogil=True)
def cover(
    mu: Array,
    price: Array,
    kind: Array,
    left: Array,
    full: float,
    net: float,
    domains: int,
    best: float,
    found: Array,
    tolerance: float,
    most_nodes: int,
) -> tuple[float, float]:
    """Cheapest x with ``mu @ x >= full``, and ``net`` without the fullest domain; the columns ascend in price / mu.

    Depth first, each column from as many as could be needed downwards. A branch ends where even the best ratio of
    the columns left cannot beat ``best``.

    Returns
    -------
    (value, bound)
        The better of ``best`` and what was found (then in ``found``), and a lower bound of all there is.
    """
    n = len(mu)
    share = 1.0 if domains == 0 else (domains - 1.0) / domains
    x, used = np.zeros(n, np.int64), np.zeros(n + 1)
    r_full, r_net = np.zeros(n + 1), np.zeros(n + 1)
    r_full[0], r_net[0] = full, net
    root = max(full, net / share) * price[0] / mu[0] if n else np.inf
    if root >= best * (1 - tolerance):
        return best, root
    nodes, k, descend = 0, 0, True
    while k >= 0:
        if descend:
            most = 0
            if r_full[k] > _EPSILON * full:
                most = enough(r_full[k], mu[k], 0)
            if r_net[k] > _EPSILON * full:
                most = max(most, enough(r_net[k], mu[k], domains))
            x[k] = min(most, left[kind[k]])
            left[kind[k]] -= x[k]
        else:
            if x[k] == 0:
                k -= 1
                continue
            x[k] -= 1
            left[kind[k]] += 1
        nodes += 1
        if nodes > most_nodes:
            for i in range(k + 1):
                left[kind[i]] += x[i]
            return best, root
        used[k + 1] = used[k] + price[k] * x[k]
        lost = 0 if domains == 0 else -(-x[k] // domains)
        r_full[k + 1] = r_full[k] - mu[k] * x[k]
        r_net[k + 1] = r_net[k] - mu[k] * (x[k] - lost)
        descend = False
        if r_full[k + 1] <= _EPSILON * full and r_net[k + 1] <= _EPSILON * full:
            if used[k + 1] < best:
                best = used[k + 1]
                found[:] = 0
                found[: k + 1] = x[: k + 1]
                if best <= root * (1 + tolerance):
                    break
            continue
        if k + 1 < n:
            missing = max(r_full[k + 1], r_net[k + 1] / share)
            if used[k + 1] + missing * price[k + 1] / mu[k + 1] < best * (1 - tolerance):
                k, descend = k + 1, True
                continue
        if domains == 0 or k + 1 == n:  # with fewer of this column it only becomes worse
            left[kind[k]] += x[k]
            x[k] = 0
            k -= 1
    for i in range(k + 1):
        left[kind[i]] += x[i]
    return best, max(root, min(best, best * (1 - tolerance)))


@njit(cache=True, nogil=True)
def one_model(
    mu: Array,
    price: Array,
    kind: Array,
    left: Array,
    demand: float,
    need: float,
    spare: bool,
    domains: int,
    counts: Array,
    tolerance: float,
    most_nodes: int,
) -> tuple[float, float]:
    """Cheapest machines of one model, its columns ascending in ``mu``; as :func:`cover`, infinite where there are none.

    With a machine to spare, every column is tried as the largest in use: the capacity needed then is that column's
    more than the demand.
    """
    n = len(mu)
    counts[:] = 0
    best, bound = np.inf, np.inf
    if demand <= 0:
        return 0.0, 0.0
    lone = spare and domains == 0
    first = n - 1
    if lone:
        first = 0
        while first + 1 < n and demand + mu[first + 1] <= need:
            first += 1
    levels = n - first
    lowest, needs = np.empty(levels), np.empty(levels)
    cheapest = np.inf
    for c in range(first):
        cheapest = min(cheapest, price[c] / mu[c])
    for i in range(levels):
        c = first + i
        cheapest = min(cheapest, price[c] / mu[c])
        needs[i] = max(need, demand + mu[c]) if lone else need
        lowest[i] = needs[i] * cheapest
    found, kinds = np.zeros(n, np.int64), np.zeros(n, np.int64)
    mus, costs, ratio = np.zeros(n), np.zeros(n), np.empty(n)
    for c in range(n):
        ratio[c] = price[c] / mu[c]
    net = demand if domains > 0 else 0.0
    for i in ascending(lowest):
        if lowest[i] >= best * (1 - tolerance):
            bound = min(bound, lowest[i])
            break
        size = first + i + 1
        order = ascending(ratio[:size])
        for k in range(size):
            mus[k], costs[k], kinds[k] = mu[order[k]], price[order[k]], kind[order[k]]
        value, low = cover(
            mus[:size],
            costs[:size],
            kinds[:size],
            left,
            needs[i],
            net,
            domains,
            best,
            found[:size],
            tolerance,
            most_nodes,
        )
        bound = min(bound, low)
        if value < best:
            best = value
            counts[:] = 0
            for k in range(size):
                counts[order[k]] = found[k]
    return best, bound


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
                on += asked(kind[a:b], trial[a:b], types) - mine
                counts[a:b] = trial[a:b]
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
                on += asked(kind[a:b], trial[a:b], types) - mine
                counts[a:b] = trial[a:b]
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
            best_prices[:] = prices
        else:
            stalled += 1
        on = asked(kind, counts, types)
        if r % 4 == 0 or fits(on, stock) or r == rounds - 1:
            repaired[:] = counts
            if repair(
                start, mu, weight, kind, demand, need, spare, domains, prices, stock, tolerance, most_nodes, repaired
            ):
                total = dot(weight, repaired)
                if total < value:
                    value = total
                    best_counts[:] = repaired
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
            prices[:] = best_prices
        target = value if np.isfinite(value) else bound + 0.02 * abs(bound)
        step = length * max(target - low, 1e-4 * abs(low)) / square
        for t in range(types):
            prices[t] = max(prices[t] + step * slope[t], 0.0)
    prices[:] = best_prices
    return value, bound
