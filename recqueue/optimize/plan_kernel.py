"""Compiled search for the cheapest machines of one model: branch and bound over how many of each."""

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
                for i in range(n):
                    found[i] = x[i] if i <= k else 0
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
    for k in range(n):
        counts[k] = 0
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
            for k in range(n):
                counts[k] = 0
            for k in range(size):
                counts[order[k]] = found[k]
    return best, bound
