r"""Exact choice of the machines of a few models in one hour: patterns within a budget, put together one by one.

With prices :math:`\pi_t \ge 0` of machines, and :math:`\ell_m` no more than what model m pays at least, every choice of
one pattern :math:`n_m` for each model that keeps to the stock costs

.. math:: \sum_m w_m = \Big(\sum_m \ell_m - \pi \cdot \text{stock}\Big) + \sum_m (w_m + \pi \cdot n_m - \ell_m)
          + \pi \cdot \Big(\text{stock} - \sum_m n_m\Big)

where the first part is the Lagrangian bound and no other is negative. A choice within a budget of the bound so contains
only patterns that exceed their :math:`\ell_m` by less than the budget: these are listed, and the models are added one
after another to labels (machines used so far, least excess that uses them). The cheapest label that is left is the best
choice of all; when there is none, all choices cost more than the budget allows. Labels are as many as the stock allows
at most, and where that or the patterns are too many, nothing is said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from recqueue.optimize.plan_instance import Floats, Ints
from recqueue.optimize.plan_kernel import ascending, one_model

Array = Any  # numba's arrays
_EPSILON = 1e-9
MOST_PATTERNS = 20_000
"""Of one model."""
MOST_LABELS = 200_000
"""After one model."""
MOST_STATES = 1 << 22
"""Numbers of machines used that are told apart, in all."""


@njit(cache=True, nogil=True)
def suffices(mu: Array, x: Array, demand: float, need: float, spare: bool, domains: int) -> bool:
    """Whether a pattern keeps the promises of its model; one with more machines then does as well."""
    carried, without, largest = 0.0, 0.0, 0.0
    for c in range(len(mu)):
        if x[c] > 0:
            carried += mu[c] * x[c]
            largest = max(largest, mu[c])
            if domains > 0:
                without += mu[c] * (x[c] - -(-x[c] // domains))
    if domains > 0:
        return carried >= need * (1 - _EPSILON) and without >= demand - _EPSILON * need
    full = max(need, demand + largest) if spare else need
    return carried >= full * (1 - _EPSILON)


@njit(cache=True, nogil=True)
def smallest(mu: Array, x: Array, demand: float, need: float, spare: bool, domains: int) -> bool:
    """Whether no machine of a pattern that suffices can be left out."""
    for c in range(len(mu)):
        if x[c] > 0:
            x[c] -= 1
            still = suffices(mu, x, demand, need, spare, domains)
            x[c] += 1
            if still:
                return False
    return True


@njit(cache=True, nogil=True)
def patterns(
    mu: Array, price: Array, kind: Array, stock: Array, demand: float, need: float, spare: bool, domains: int,
    limit: float, found: Array,
) -> int:  # fmt: skip
    """All smallest patterns of cost ``limit`` or less (into rows of ``found``): how many, -1 if there is no room."""
    n, count, k = len(mu), 0, 0
    order = ascending(price / mu)
    x, left, used, carried, without = np.zeros(n, np.int64), stock.copy(), 0.0, 0.0, 0.0
    share = 1.0 if domains == 0 else (domains - 1.0) / domains
    x[order[0]] = -1
    left[kind[order[0]]] += 1
    while k >= 0:
        c = order[k]
        x[c] += 1  # the next number of this column, the columns behind it at 0
        left[kind[c]] -= 1
        used, carried, without = 0.0, 0.0, 0.0
        for i in range(k + 1):
            j = order[i]
            used += price[j] * x[j]
            carried += mu[j] * x[j]
            without += mu[j] * (x[j] - -(-x[j] // domains)) if domains > 0 else 0.0
        over = left[kind[c]] < 0 or used > limit
        if not over and suffices(mu, x, demand, need, spare, domains):
            if smallest(mu, x, demand, need, spare, domains):
                if count == len(found):
                    return -1
                found[count] = x
                count += 1
            over = True  # more of this column would be too much
        if over:
            left[kind[c]] += x[c]
            x[c] = 0
            k -= 1
            continue
        if k + 1 < n:
            missing = max(need - carried, (demand - without) / share if domains > 0 else 0.0)
            after = order[k + 1]
            if used + missing * price[after] / mu[after] <= limit:
                k += 1
                x[after] = -1
                left[kind[after]] += 1
    return count


@njit(cache=True, nogil=True)
def extended(
    used: Array, cost: Array, uses: Array, excess: Array, slack: float, prices: Array, allowed: float, stock: Array,
    radix: Array, place: Array, new_used: Array, new_cost: Array, parent: Array, chosen: Array,
) -> int:  # fmt: skip
    """Add a pattern of one more model to each label: how many labels (into the last four), -1 if there is no room.

    ``slack`` is what the stock costs at the prices less what the models that follow can use of it; ``radix`` numbers
    the machines used (0 for a type that cannot run short), and ``place`` holds -1 for every number, as it does after.
    """
    count, room = 0, len(new_cost)
    state_of = np.zeros(room, np.int64)
    for i in range(len(cost)):
        unused = slack
        for t in range(len(stock)):
            unused -= prices[t] * used[i, t]
        for p in range(len(excess)):
            total, idle, state, fits = cost[i] + excess[p], unused, 0, True
            if total > allowed:
                break
            for t in range(len(stock)):
                both = used[i, t] + uses[p, t]
                idle -= prices[t] * uses[p, t]
                fits &= radix[t] == 0 or both <= stock[t]
                state += radix[t] * both
            if not fits or total + idle > allowed:
                continue
            at = place[state]
            if at < 0:
                if count == room:
                    return -1
                at = count
                count += 1
                place[state] = at
                state_of[at], new_cost[at] = state, np.inf
            if total < new_cost[at]:
                new_cost[at], parent[at], chosen[at] = total, i, p
                for t in range(len(stock)):
                    new_used[at, t] = used[i, t] + uses[p, t]
    for i in range(count):
        place[state_of[i]] = -1
    return count


class TooManyError(Exception):
    """There are too many patterns, labels or states to go through them all."""


def cheapest_within(
    given: tuple[Any, ...], prices: Floats, stock: Ints, budget: float, *, tolerance: float, nodes: int
) -> tuple[float, Ints | None]:
    """Lagrangian bound, and the cheapest choice of all models within a budget of it; None when there is none.

    Parameters
    ----------
    given
        Columns of the hour and what is asked, as the compiled search wants them (``plan_pool.Columns.arguments``).
    prices, stock
        Of each type.
    budget : float
        Above the bound.
    tolerance, nodes
        Of the search for the cheapest machines of one model (``plan_kernel.one_model``).

    Raises
    ------
    TooManyError
        When they cannot all be looked at.
    """
    one: Any = one_model  # compiled functions have no signature
    listed: Any = patterns
    further: Any = extended
    start, mu, weight, kind, demand, need, spare, domains = given
    count, types, price = len(demand), len(stock), weight + prices[kind]
    parts = [slice(start[m], start[m + 1]) for m in range(count)]
    least = np.zeros(count)
    for m, part in enumerate(parts):
        of = mu[part], price[part], kind[part], stock.copy(), demand[m], need[m]
        room = np.zeros(part.stop - part.start, np.int64)
        _, least[m] = one(*of, spare, domains, room, tolerance, nodes)
    bound = float(least.sum() - prices @ stock)
    allowed = budget + _EPSILON * abs(bound)
    rows, uses, excess = [], [], []
    for m, part in enumerate(parts):
        found = np.zeros((MOST_PATTERNS if demand[m] > 0 else 1, part.stop - part.start), np.int64)
        if demand[m] > 0:
            of = mu[part], price[part], kind[part], stock, demand[m], need[m]
            if (number := listed(*of, spare, domains, least[m] + allowed, found)) < 0:
                raise TooManyError(f"more than {MOST_PATTERNS} patterns of a model")
            found = found[:number]
        if len(found) == 0:
            return bound, None
        over = np.maximum(found @ price[part] - least[m], 0.0)
        by = np.argsort(over, kind="stable")
        rows.append(found[by])
        excess.append(over[by])
        uses.append(found[by] @ (kind[part][:, None] == np.arange(types)).astype(np.int64))
    short = np.array([u.max(axis=0) for u in uses]).sum(axis=0) > stock
    sizes = np.where(short, stock + 1, 1)
    if (states := int(np.prod(sizes.astype(float)))) > MOST_STATES:
        raise TooManyError(f"{states} numbers of machines used")
    radix = np.where(short, np.cumprod(sizes) // sizes, 0)
    follow = np.cumsum([float((u @ prices).max()) for u in uses[::-1]])[::-1]
    place = np.full(states, -1, np.int32)
    used, cost, history = np.zeros((1, types), np.int64), np.zeros(1), []
    for m in range(count):
        most = min(MOST_LABELS, len(cost) * len(excess[m]))
        labels = np.zeros((most, types), np.int64), np.zeros(most), np.zeros(most, np.int64), np.zeros(most, np.int64)
        slack = float(prices @ stock) - (float(follow[m + 1]) if m + 1 < count else 0.0)
        number = further(used, cost, uses[m], excess[m], slack, prices, allowed, stock, radix, place, *labels)
        if number < 0:
            raise TooManyError(f"more than {MOST_LABELS} choices to go on with")
        if number == 0:
            return bound, None
        used, cost = labels[0][:number], labels[1][:number]
        history.append((labels[2], labels[3]))
    label = int(np.argmin(cost - used @ prices))  # excess, and what is left of the stock
    counts = np.zeros(len(mu), np.int64)
    for m in reversed(range(count)):
        parent, chosen = history[m]
        counts[parts[m]] = rows[m][chosen[label]]
        label = int(parent[label])
    return bound, counts
